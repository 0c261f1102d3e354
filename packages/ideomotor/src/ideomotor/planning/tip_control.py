r"""Move the end of a chain to a pose: a joint path that was planned once, and feedback at its end.

With :math:`p(t)` the path, :math:`T` its duration, and :math:`q_1 = p(T)` the configuration at the target:

.. math::
    q_{cmd} = p(t) + c, \qquad \dot c = k\,(q_1 - q)\ \text{when}\ t > T

so that the integral :math:`c` removes the servo's steady-state error. What plans the path is given: straight to the
nearest configuration (`path_planner`), or under a learned reward (`reward_path`).
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from ideomotor.config import Config, value
from ideomotor.planning.inverse_kinematics import InverseKinematics, PoseError, Target
from ideomotor.planning.joint_path import Bounds, BrakePath, Reference, TimedPath
from ideomotor.planning.joint_path import JointPath as JointPath
from ideomotor.planning.path_planner import NearestPosture, NoPathError, PathPlanner

_MOST_PERIODS = 5.0  # that a step may make up for


@dataclass(frozen=True, kw_only=True)
class TipControlConfig(Config):
    """How the tip is moved."""

    rate: float = value(100.0, "Rate of the commands [Hz].", ge=10.0, le=1000.0)
    speed: float = value(0.5, "Share of the joints' velocity limits that is used [1].", ge=0.01, le=1.0)
    max_acceleration: float = value(3.0, "Largest joint acceleration [rad/s^2] or [m/s^2].", ge=0.1, le=100.0)
    limit_margin: float = value(0.02, "Distance kept from the position limits [rad] or [m].", ge=0.0, le=0.5)
    position_tolerance: float = value(0.001, "Default tolerance of the position [m].", ge=1e-5, le=0.1)
    orientation_tolerance: float = value(0.01, "Default tolerance of the orientation [rad].", ge=1e-4, le=1.0)
    timeout: float = value(20.0, "Default time for a goal [s].", ge=0.1, le=600.0)
    random_starts: int = value(8, "Random postures from which inverse kinematics starts.", ge=0, le=100)
    seed: int = value(0, "Seed of the random postures.", ge=0, le=2**31 - 1)
    settle_time: float = value(0.2, "The error must be within its tolerance for this long [s].", ge=0.0, le=5.0)
    stuck_time: float = value(3.0, "Give up when the error has not shrunk for this long [s].", ge=0.2, le=60.0)
    correction_gain: float = value(3.0, "Gain k of the feedback at the end [1/s].", ge=0.0, le=20.0)
    max_correction: float = value(0.1, "Largest correction of a joint [rad] or [m].", ge=0.0, le=0.5)
    max_tracking_error: float = value(0.15, "Give up if a joint is farther from its command [rad].", ge=0.01, le=1.0)

    def bounds(self, ik: InverseKinematics) -> Bounds:
        """Return what the joints may do on the way."""
        return Bounds(self.speed * ik.chain.velocity_limit[ik.active], self.max_acceleration)


@dataclass(frozen=True)
class Tolerance:
    """When a target counts as reached."""

    position: float  # [m]
    orientation: float  # [rad]
    timeout: float  # [s]

    @property
    def of_path(self) -> PoseError:
        """How far from the target a planned path may end: the other half is for the servo."""
        return PoseError(self.position / 2, self.orientation / 2)


class MotionState(Enum):
    """How far a motion is."""

    PLANNING = "planning"
    MOVING = "moving"
    SETTLING = "settling"
    STOPPING = "stopping"
    REACHED = "reached"
    NOT_REACHED = "not reached"


class TipMotion:
    """One motion of the end of the chain to a target; `step` once a period.

    The path is planned a little a step, so that no step takes long; nothing is commanded until it is there.

    Args:
        ik: inverse kinematics of the chain.
        target: where its end shall be.
        tolerance: when that is reached.
        q: present configuration, shape (n,) of the chain.
        config: how to move.
        commanded: positions of the actuated joints that were commanded last, shape (n_active,); None: ``q``.
        planner: plans the way to the target; None: `NearestPosture`, from the starts that ``config`` says.

    Attributes:
        state: how far it is.
        path: the path that is being followed; None while it is planned.
        time: since its start [s].
        error: the last measured one.
        reason: why the target was not reached.

    Raises:
        ChainError: ``q`` does not fit the chain.
    """

    def __init__(
        self,
        ik: InverseKinematics,
        target: Target,
        tolerance: Tolerance,
        q: np.ndarray,
        config: TipControlConfig,
        commanded: np.ndarray | None = None,
        planner: PathPlanner | None = None,
    ) -> None:
        self._ik, self._target, self._tolerance, self._config = ik, target, tolerance, config
        if planner is None:
            starts = ik.starts(q, config.random_starts, np.random.default_rng(config.seed))
            planner = NearestPosture(ik, target, tolerance.of_path, config.bounds(ik), starts)
        self._planner = planner
        self._commanded = commanded
        self._correction = np.zeros(len(ik.active))
        self._elapsed = self._within = self._since_progress = 0.0
        self._best = np.inf
        self.state = MotionState.PLANNING
        self.path: TimedPath | None = None
        self.time = 0.0
        self.reason = ""
        self.error = target.error(ik.chain.forward(q))

    def _begin(self, path: TimedPath) -> None:
        """Follow a path, beginning at the last command."""
        start = path.at(0.0).position
        if self._commanded is not None:  # it differs from ``start`` by the servo's steady-state error
            correction = self._commanded - start
            self._correction = np.where(np.abs(correction) <= self._config.max_correction, correction, 0.0)
        self._end = path.at(path.duration).position  # (n_active,) where the target is reached
        self._follow(path, MotionState.MOVING)

    def _follow(self, path: TimedPath, state: MotionState) -> None:
        self.path, self.time, self.state = path, 0.0, state

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to do."""
        return self.state in (MotionState.REACHED, MotionState.NOT_REACHED)

    def stop(self, reason: str) -> None:
        """Brake; the motion then ends as not reached, for this reason."""
        if self.state is MotionState.PLANNING:
            self.state, self.reason = MotionState.NOT_REACHED, reason
        elif self.path is not None and self.state in (MotionState.MOVING, MotionState.SETTLING):
            reference = self.path.at(self.time)
            speed = float(np.abs(reference.velocity).max())
            self.reason = reason
            self._follow(BrakePath(reference, max(speed / self._config.max_acceleration, 1e-3)), MotionState.STOPPING)

    def step(self, q: np.ndarray, elapsed: float | None = None) -> Reference | None:
        """Advance, and return what to command now, if anything.

        Args:
            q: measured positions, shape (n,).
            elapsed: since the step before [s], of which no more than `_MOST_PERIODS` count: a late step makes up for
                what was left out, but the command does not jump. None: one period.
        """
        period, active = 1.0 / self._config.rate, self._ik.active
        if elapsed is not None:
            period = min(max(elapsed, 0.0), _MOST_PERIODS * period)
        self.time += period
        self._elapsed += period
        self.error = self._target.error(self._ik.chain.forward(q))
        if self.path is None:
            if not self.ended:
                self._plan(q)
            return None
        reference = self.path.at(self.time)
        position = np.clip(reference.position + self._correction, self._ik.lower[active], self._ik.upper[active])
        if self.state is MotionState.STOPPING:
            if self.time >= self.path.duration + self._config.settle_time:
                self.state = MotionState.NOT_REACHED
        elif not self.ended:
            if self.time >= self.path.duration:
                self._settle(q, period)
            self._check(position - q[active])
        return Reference(position, reference.velocity)

    def _plan(self, q: np.ndarray) -> None:
        """Plan on; begin when the path is there."""
        try:
            path = self._planner.step(q)
        except NoPathError as error:
            self.state, self.reason = MotionState.NOT_REACHED, str(error)
            return
        if path is not None:
            self._begin(path)

    def _settle(self, q: np.ndarray, period: float) -> None:
        """At the end of the path: correct what remains, and decide whether the target is reached."""
        config, active = self._config, self._ik.active
        self.state = MotionState.SETTLING
        within = self.error.within(self._tolerance.position, self._tolerance.orientation)
        self._within = self._within + period if within else 0.0
        if self._within >= config.settle_time:
            self.state = MotionState.REACHED
            return
        step = config.correction_gain * (self._end - q[active]) * period
        self._correction = np.clip(self._correction + step, -config.max_correction, config.max_correction)
        badness = self.error.position / self._tolerance.position + self.error.orientation / self._tolerance.orientation
        self._since_progress += period
        if badness < 0.9 * self._best:
            self._best, self._since_progress = badness, 0.0
        if self._since_progress > config.settle_time and not within:
            self._follow_passive_joints(q)

    def _follow_passive_joints(self, q: np.ndarray) -> None:
        """Where joints that no motor moves have moved on the way, go to the configuration that fits them."""
        if len(self._ik.active) == self._ik.chain.n:
            return
        start = q.copy()
        start[self._ik.active] = self._end
        solution = self._ik.descend(self._target, q, start).q[self._ik.active]
        if np.abs(solution - self._end).max() > 1e-4:
            bounds = self._config.bounds(self._ik)
            path = JointPath.plan(self._end, solution, bounds.velocity, bounds.acceleration)
            self._end = solution
            self._follow(path, MotionState.MOVING)

    def _check(self, tracking: np.ndarray) -> None:
        if self.state is MotionState.REACHED:
            return
        worst = int(np.abs(tracking).argmax())
        if abs(tracking[worst]) > self._config.max_tracking_error:
            name = self._ik.chain.actuated_names[worst]
            self._give_up(f"joint {name!r} is {abs(tracking[worst]):.3f} from its command: it does not follow")
        elif self._elapsed > self._tolerance.timeout:
            self._give_up(f"timeout of {self._tolerance.timeout} s")
        elif self._since_progress > self._config.stuck_time:
            self._give_up(f"no progress for {self._config.stuck_time} s")

    def _give_up(self, reason: str) -> None:
        self.stop(
            f"{reason}; {1e3 * self.error.position:.2f} mm and {self.error.orientation:.4f} rad from the target, "
            f"allowed {1e3 * self._tolerance.position:.2f} mm and {self._tolerance.orientation:.4f} rad"
        )
