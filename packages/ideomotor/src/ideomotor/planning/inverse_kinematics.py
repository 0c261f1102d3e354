r"""Global inverse kinematics: differential IK (pink, a QP per step) run to convergence from several postures.

One step from :math:`q`, with the task error :math:`e(q)` and its Jacobian :math:`J(q)`:

.. math::
    \Delta q = \arg\min_{q_{min} \le q + \Delta q \le q_{max}}
    \|J \Delta q + e\|^2_W + \mu \|e\|^2_W \|\Delta q\|^2 + w_p \|q_{start} - q - \Delta q\|^2

(S. Caron, pink; Levenberg-Marquardt damping :math:`\mu` as in Sugihara 2011). Of the solutions that reach the target,
the one that needs the shortest time from the present configuration is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pink
import pinocchio as pin
from pink.limits import ConfigurationLimit
from pink.tasks import FrameTask, PostureTask

from ideomotor.body.chain import KinematicChain
from ideomotor.errors import IdeomotorError

_STEPS, _POLISH = 60, 20  # steps with and without the posture task
_POSTURE_COST = 1e-3  # against a task cost of 1: stay near the start, without a visible error
_DAMPING = 1e-2
_CONVERGED = 1e-5  # [m], [rad]
_STALLED = 1e-4  # [rad] or [m] smaller steps lead nowhere: the target is out of reach
_LOCKED = 1e-8  # [rad] or [m]; pink takes a narrower range for none at all


class KinematicsError(IdeomotorError):
    """The chain or the target does not suit inverse kinematics."""


@dataclass(frozen=True)
class PoseError:
    """Distance of a frame from its target."""

    position: float  # [m]
    orientation: float  # [rad]; 0 where the orientation does not matter

    def within(self, position_tolerance: float, orientation_tolerance: float) -> bool:
        """Whether both are within their tolerances [m], [rad]."""
        return self.position <= position_tolerance and self.orientation <= orientation_tolerance


@dataclass(frozen=True)
class Target:
    """Where the end of the chain shall be."""

    T_base_target: np.ndarray  # (4, 4) [m]
    position_only: bool = False

    def error(self, T_base_link: np.ndarray) -> PoseError:
        """Return how far a pose, shape (4, 4), is from the target."""
        position = float(np.linalg.norm(self.T_base_target[:3, 3] - T_base_link[:3, 3]))
        if self.position_only:
            return PoseError(position, 0.0)
        return PoseError(position, float(np.linalg.norm(pin.log3(T_base_link[:3, :3].T @ self.T_base_target[:3, :3]))))


@dataclass(frozen=True)
class Solution:
    """A configuration, and how far it is from the target."""

    q: np.ndarray  # (n,) all joints of the chain [rad] or [m]
    error: PoseError


class InverseKinematics:
    """Inverse kinematics of the actuated joints of a chain; the others stay where they are.

    Args:
        chain: the chain; its end is the frame that is placed.
        margin: distance kept from the position limits [rad] or [m].

    Raises:
        KinematicsError: no joint is actuated, or joints mimic others.
    """

    def __init__(self, chain: KinematicChain, margin: float = 0.02) -> None:
        if not chain.actuated_names:
            raise KinematicsError(f"no joint between {chain.base_link!r} and {chain.ee_link!r} is actuated")
        if not np.array_equal(chain.coupling, np.eye(chain.model.nv, chain.n)):
            raise KinematicsError(f"joints between {chain.base_link!r} and {chain.ee_link!r} mimic others")
        self.chain, self.margin = chain, margin
        self.active = np.array([chain.joint_names.index(name) for name in chain.actuated_names])  # (n_active,)
        self.lower = np.where(np.isfinite(chain.lower), chain.lower + margin, -np.inf)  # (n,)
        self.upper = np.where(np.isfinite(chain.upper), chain.upper - margin, np.inf)  # (n,)
        if not (self.lower < self.upper)[self.active].all():
            raise KinematicsError(
                f"a margin of {margin} leaves nothing of {chain.lower.tolist()}, {chain.upper.tolist()}"
            )

    def solve(self, target: Target, q: np.ndarray, starts: int, rng: np.random.Generator) -> list[Solution]:
        """Return the solutions from the present configuration, the middle, and random starts; nearest first.

        Args:
            target: where the end of the chain shall be.
            q: present configuration, shape (n,); joints that are not actuated keep their value.
            starts: number of random starts.
            rng: source of the starts.

        Raises:
            ChainError: ``q`` does not fit the chain.
        """
        return self.nearest([self.descend(target, q, start) for start in self.starts(q, starts, rng)], q)

    def starts(self, q: np.ndarray, count: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Return the present configuration, the middle of the limits, and ``count`` random ones, shapes (n,)."""
        return [q, self.chain.mid, *(self.chain.random(rng) for _ in range(count))]

    def nearest(self, solutions: Sequence[Solution], q: np.ndarray) -> list[Solution]:
        """Return the solutions, those reached from ``q``, shape (n,), in the shortest time first."""
        speed = np.maximum(self.chain.velocity_limit[self.active], 1e-3)
        return sorted(solutions, key=lambda s: float(np.max(np.abs(s.q - q)[self.active] / speed)))

    def descend(self, target: Target, q: np.ndarray, start: np.ndarray) -> Solution:
        """Return where differential IK gets from ``start``, shape (n,), with the joints not actuated as in ``q``."""
        full = np.array(q, dtype=float)
        full[self.active] = np.clip(start, self.lower, self.upper)[self.active]
        configuration = self._configuration(full)
        model = configuration.model
        T_base_root = self.chain.forward(full, self.chain.link_names[0])
        T_root_target = np.linalg.inv(T_base_root) @ target.T_base_target
        frame = FrameTask(self.chain.ee_link, 1.0, 0.0 if target.position_only else 0.3, lm_damping=_DAMPING)
        posture = PostureTask(_POSTURE_COST)
        posture.set_target_from_configuration(configuration)
        limits = [ConfigurationLimit(model, config_limit_gain=1.0)]
        for step in range(_STEPS + _POLISH):
            pose = configuration.get_transform_frame_to_world(self.chain.ee_link)
            R = pose.rotation if target.position_only else T_root_target[:3, :3]
            frame.set_target(pin.SE3(R, T_root_target[:3, 3]))
            if np.abs(frame.compute_error(configuration)[: 3 if target.position_only else 6]).max() < _CONVERGED:
                break
            tasks: Sequence[pink.Task] = [frame, posture] if step < _STEPS else [frame]
            step_q = pink.solve_ik(configuration, tasks, 1.0, "daqp", limits=limits, safety_break=False)  # dt = 1
            configuration.integrate_inplace(step_q, 1.0)
            full[self.active] += step_q[self.active]
            if np.abs(step_q).max() < _STALLED:
                break
        full[self.active] = np.clip(full, self.lower, self.upper)[self.active]
        return Solution(full, target.error(self.chain.forward(full)))

    def _configuration(self, q: np.ndarray) -> pink.Configuration:
        """Return pink's configuration at ``q``, with the limits that hold for it."""
        model = pin.Model(self.chain.model)
        for i, name in enumerate(self.chain.joint_names):
            joint = model.joints[model.getJointId(name)]
            if joint.nq == 1:  # the others have no limits
                lower, upper = (self.lower[i], self.upper[i]) if i in self.active else (q[i] - _LOCKED, q[i] + _LOCKED)
                model.lowerPositionLimit[joint.idx_q], model.upperPositionLimit[joint.idx_q] = lower, upper
        return pink.Configuration(model, model.createData(), self.chain.configuration(q))
