r"""Computed torque with the nominal model of an arm, along the motion of a learned controller: to compare with.

.. math:: \tau = M(q)\,\left(\dot v^* + \omega^2 (q^* - q) + 2\omega (v^* - v)\right) + h(q, v)
"""

import numpy as np

from ideomotor.dynamics.rigid_body import RigidBody
from ideomotor.policies.learned import LearnedController

FREQUENCY = 120.0  # [rad/s] takes the error in velocity back in one step at 250 Hz; benchmarks have stiffer ones, too


class ComputedTorque(LearnedController):
    """A learned controller's motion and forward model, and a law that was not learned."""

    def effort(self, step: int | np.ndarray, q: np.ndarray, v: np.ndarray, force: np.ndarray) -> np.ndarray:
        """Return the efforts of N arms; see `LearnedController.effort`."""
        m, steps = self.motion, np.broadcast_to(np.asarray(step), (len(q),))
        now, after = np.minimum(steps, m.steps), np.minimum(steps + 1, m.steps)
        feedback = FREQUENCY**2 * (m.q[now] - q) + 2.0 * FREQUENCY * (m.v[now] - v)
        return inverse_dynamics(self.body, q, v, (m.v[after] - m.v[now]) * m.rate + feedback)

    def effort_towards(
        self, wanted: np.ndarray, wanted_force: np.ndarray, q: np.ndarray, v: np.ndarray, force: np.ndarray
    ) -> np.ndarray:
        """Return the efforts that give N arms the wanted velocity (N, nv) within a step."""
        return inverse_dynamics(self.body, q, v, (wanted - v) * self.rate)


def inverse_dynamics(body: RigidBody, q: np.ndarray, v: np.ndarray, acceleration: np.ndarray) -> np.ndarray:
    """Return the efforts (N, n) for accelerations (N, n) of N arms by their nominal model, within the limits."""
    rows = zip(q, v, acceleration, strict=True)
    effort = np.array([body.mass_matrix(position) @ a + body.bias(position, speed) for position, speed, a in rows])
    return np.clip(effort, -body.effort_limit, body.effort_limit)
