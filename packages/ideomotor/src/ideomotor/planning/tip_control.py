r"""Move the end of a chain to a pose: inverse kinematics once, a smooth joint path, and feedback at its end.

With :math:`q_0, q_1` the present and the wanted configuration and :math:`s` the minimum-jerk profile
(Flash and Hogan 1985):

.. math::
    s(\tau) &= 10 \tau^3 - 15 \tau^4 + 6 \tau^5, \quad \tau = t / T \\
    T &= \max_j \max\Big( \frac{15}{8} \frac{|q_1 - q_0|_j}{v_j},\;
                          \sqrt{\tfrac{10}{\sqrt 3} \frac{|q_1 - q_0|_j}{a}} \Big) \\
    q_{cmd} &= q_0 + s\,(q_1 - q_0) + c, \qquad \dot c = k\,(q_1 - q)\ \text{when}\ t > T

so that :math:`v_j` and :math:`a` bound velocity and acceleration, limits hold on the whole path (they are a box),
there are no local minima on the way, and the integral :math:`c` removes the servo's steady-state error.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from ideomotor.config import Config, value
from ideomotor.planning.inverse_kinematics import InverseKinematics, Solution, Target


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


@dataclass(frozen=True)
class Tolerance:
    """When a target counts as reached."""

    position: float  # [m]
    orientation: float  # [rad]
    timeout: float  # [s]


class MotionState(Enum):
    """How far a motion is."""

    PLANNING = "planning"
    MOVING = "moving"
    SETTLING = "settling"
    STOPPING = "stopping"
    REACHED = "reached"
    NOT_REACHED = "not reached"


@dataclass(frozen=True)
class Reference:
    """What the actuated joints shall do now."""

    position: np.ndarray  # (n_active,) [rad] or [m]
    velocity: np.ndarray  # (n_active,) [rad/s] or [m/s]


@dataclass(frozen=True)
class JointPath:
    """Minimum-jerk path between two configurations."""

    start: np.ndarray  # (n_active,)
    end: np.ndarray  # (n_active,)
    duration: float  # [s]

    @classmethod
    def plan(cls, start: np.ndarray, end: np.ndarray, max_velocity: np.ndarray, max_acceleration: float) -> "JointPath":
        """Return the fastest minimum-jerk path within the bounds, shapes (n_active,)."""
        distance = np.abs(end - start)
        by_velocity = 15.0 / 8.0 * distance / max_velocity
        by_acceleration = np.sqrt(10.0 / np.sqrt(3.0) * distance / max_acceleration)
        return cls(start, end, float(max(by_velocity.max(), by_acceleration.max(), 1e-3)))

    def at(self, time: float) -> Reference:
        """Return position and velocity at ``time`` [s] after the start."""
        tau = min(max(time / self.duration, 0.0), 1.0)
        s = tau**3 * (10.0 - 15.0 * tau + 6.0 * tau**2)
        s_dot = 30.0 * tau**2 * (1.0 - tau) ** 2 / self.duration
        return Reference(self.start + s * (self.end - self.start), s_dot * (self.end - self.start))


@dataclass(frozen=True)
class BrakePath:
    """Stop from a moving reference with constant deceleration, all joints in the same time."""

    start: Reference
    duration: float  # [s]

    def at(self, time: float) -> Reference:
        """Return position and velocity at ``time`` [s] after the start."""
        t = min(max(time, 0.0), self.duration)
        v = self.start.velocity
        return Reference(self.start.position + v * (t - t**2 / (2.0 * self.duration)), v * (1.0 - t / self.duration))


class TipMotion:
    """One motion of the end of the chain to a target; `step` once a period.

    Inverse kinematics runs one start per step, so that no step takes long; nothing is commanded until it is done.

    Args:
        ik: inverse kinematics of the chain.
        target: where its end shall be.
        tolerance: when that is reached.
        q: present configuration, shape (n,) of the chain.
        config: how to move.
        commanded: positions of the actuated joints that were commanded last, shape (n_active,); None: ``q``.

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
    ) -> None:
        self._ik, self._target, self._tolerance, self._config = ik, target, tolerance, config
        self._max_velocity = config.speed * ik.chain.velocity_limit[ik.active]
        rng = np.random.default_rng(config.seed)
        self._starts = ik.starts(q, config.random_starts, rng)[::-1]  # still to be tried, the present one first
        self._solutions: list[Solution] = []
        self._commanded = commanded
        self._correction = np.zeros(len(ik.active))
        self._time = self._elapsed = self._within = self._since_progress = 0.0
        self._best = np.inf
        self.state = MotionState.PLANNING
        self.reason = ""
        self.error = target.error(ik.chain.forward(q))

    def _search(self, q: np.ndarray) -> None:
        """Try one more start of inverse kinematics; after the last one go to the nearest solution."""
        self._solutions.append(self._ik.descend(self._target, q, self._starts.pop()))
        if self._starts:
            return
        tolerance = self._tolerance
        for solution in self._ik.nearest(self._solutions, q):
            # half of the tolerance is for the servo
            if solution.error.within(tolerance.position / 2, tolerance.orientation / 2):
                self._begin(q[self._ik.active], solution.q[self._ik.active])
                return
        best = min((s.error for s in self._solutions), key=lambda e: e.position + 0.3 * e.orientation)
        self.state, self.reason = (
            MotionState.NOT_REACHED,
            f"no configuration reaches {self._target.T_base_target[:3, 3].round(4).tolist()} "
            f"in {self._ik.chain.base_link!r}: the best is {1e3 * best.position:.1f} mm and {best.orientation:.3f} rad "
            f"away, allowed {1e3 * tolerance.position / 2:.1f} mm and {tolerance.orientation / 2:.3f} rad",
        )

    def _begin(self, start: np.ndarray, end: np.ndarray) -> None:
        """Go from ``start`` to ``end``, shapes (n_active,), beginning at the last command."""
        if self._commanded is not None:  # it differs from ``start`` by the servo's steady-state error
            correction = self._commanded - start
            self._correction = np.where(np.abs(correction) <= self._config.max_correction, correction, 0.0)
        self._end = end  # (n_active,) where the target is reached
        self._path: JointPath | BrakePath = self._plan(start)
        self._time, self.state = 0.0, MotionState.MOVING

    def _plan(self, start: np.ndarray) -> JointPath:
        return JointPath.plan(start, self._end, self._max_velocity, self._config.max_acceleration)

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to do."""
        return self.state in (MotionState.REACHED, MotionState.NOT_REACHED)

    def stop(self, reason: str) -> None:
        """Brake; the motion then ends as not reached, for this reason."""
        if self.state is MotionState.PLANNING:
            self.state, self.reason = MotionState.NOT_REACHED, reason
        elif self.state in (MotionState.MOVING, MotionState.SETTLING):
            reference = self._path.at(self._time)
            speed = float(np.abs(reference.velocity).max())
            self._path = BrakePath(reference, max(speed / self._config.max_acceleration, 1e-3))
            self._time, self.state, self.reason = 0.0, MotionState.STOPPING, reason

    def step(self, q: np.ndarray) -> Reference | None:
        """Advance by one period with the measured positions, shape (n,); return what to command now, if anything."""
        period, active = 1.0 / self._config.rate, self._ik.active
        self._time += period
        self._elapsed += period
        self.error = self._target.error(self._ik.chain.forward(q))
        if self.state is MotionState.PLANNING:
            self._search(q)
            return None
        reference = self._path.at(self._time)
        position = np.clip(reference.position + self._correction, self._ik.lower[active], self._ik.upper[active])
        if self.state is MotionState.STOPPING:
            if self._time >= self._path.duration + self._config.settle_time:
                self.state = MotionState.NOT_REACHED
        elif not self.ended:
            if self._time >= self._path.duration:
                self._settle(q, period)
            self._check(position - q[active])
        return Reference(position, reference.velocity)

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
            before, self._end = self._end, solution
            self._path, self._time, self.state = self._plan(before), 0.0, MotionState.MOVING

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
