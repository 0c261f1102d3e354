r"""Computed torque with the nominal model of an arm: what one does without learning.

.. math::
    \tau = M(q)\, a + h(q, \dot q)

where the acceleration either follows the same goals as ours, :math:`a = (v^g_{t+1} - v)\, / \,\Delta t`, or is that of
the motion with position and velocity fed back, critically damped.
"""

from collections.abc import Callable

import numpy as np

from benchmarks.forward_model_error.cases import Case
from ideomotor.policies.computed_torque import FREQUENCY, inverse_dynamics
from ideomotor.policies.goals import next_goal
from ideomotor_sim.rollouts import Policy

# [rad/s] that were tried: 10, 20, 30, 40, 50, 60, 80, 100, 120 on seeds 50 to 52, on in steps of 20 to 260 on seed 50.
# The error falls up to 240, where the velocity's feedback takes back nearly twice the error of each step: there is no
# noise here and no delay, and the damping only just remains stable. FREQUENCY takes it back once, as the goal law does.
LARGEST_FREQUENCY = 240.0

Acceleration = Callable[[int, np.ndarray, np.ndarray], np.ndarray]


def laws(case: Case) -> dict[str, Policy]:
    """Return all of them, by what their keys end with."""
    return {
        "computed_torque_goals": goal_law(case),
        "computed_torque": feedback_law(case, FREQUENCY),
        "computed_torque_stiffest": feedback_law(case, LARGEST_FREQUENCY),
    }


def goal_law(case: Case, gain: float | None = None) -> Policy:
    """Return the law that pursues our goals, in one step each."""
    alpha = case.gain if gain is None else gain

    def acceleration(step: int, q: np.ndarray, v: np.ndarray) -> np.ndarray:
        goal, _ = next_goal(case.motion, np.full(len(q), step), q, alpha)
        return (goal - v) * case.motion.rate

    return _law(case, acceleration)


def feedback_law(case: Case, frequency: float) -> Policy:
    """Return the textbook's law: the motion's acceleration, position and velocity fed back."""
    m = case.motion

    def acceleration(step: int, q: np.ndarray, v: np.ndarray) -> np.ndarray:
        feedforward = (m.v[step + 1] - m.v[step]) * m.rate
        return np.asarray(feedforward + frequency**2 * (m.q[step] - q) + 2.0 * frequency * (m.v[step] - v))

    return _law(case, acceleration)


def _law(case: Case, acceleration: Acceleration) -> Policy:
    return lambda step, q, v, _: inverse_dynamics(case.body, q, v, acceleration(step, q, v))
