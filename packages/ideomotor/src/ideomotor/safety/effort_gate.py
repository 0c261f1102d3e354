r"""The gate of a robot at effort level: what goes out is finite and within limits; any fault makes it hold the robot.

Commands go through when they arrive, clamped to the effort limits :math:`\bar\tau` and to a rate of change,

.. math:: \tau^+ = \mathrm{clip}(\tau^*, \; \pm\bar\tau, \; \tau \pm r \bar\tau h),

with the time :math:`h` since the last output, and what was left of a period before it; so within any time :math:`t`
after an output it changes by at most :math:`r \bar\tau` times :math:`t` and a period, however many commands come.

Without commands, and after a fault, the robot is held where it was:

.. math:: \tau^* = K (q_{hold} - q) - D v + g(q),

with the weight g of the nominal robot where its base is fixed. A robot that fell is only damped,
:math:`\tau^* = -D v`; one whose state is not known any more gets :math:`g` of its last state, or nothing.
"""

from dataclasses import dataclass

import numpy as np

from ideomotor.body.joint_state import JointStateError
from ideomotor.config import ConfigError, value
from ideomotor.safety.effort_limits import EffortLimits, Gravity
from ideomotor.safety.gate import CommandError, GateError, GateState, GateTiming

_MAX_PERIODS = 10.0  # between two outputs, for the rate of change
_JUMP = 5.0  # times the velocity limit: the robot was put elsewhere (a simulation that was reset)
_RESOLUTION = 0.02  # [rad] or [m] a change so small is no jump, and so little beyond a limit no fault
_RESTING = 0.01  # share of the velocity limit below which a joint does not move


@dataclass(frozen=True, kw_only=True)
class EffortGateConfig(GateTiming):
    """What the gate of efforts lets through."""

    effort_scale: float = value(1.0, "Share of the effort limits that is allowed [1].", ge=0.01, le=1.0)
    max_effort_rate: float = value(100.0, "Effort limits that the effort may change by a second [1/s].", ge=1.0, le=1e4)
    hold_stiffness: tuple[float, ...] = value(
        (50.0,), "Stiffness when holding, of each joint or one for all [N m/rad]."
    )
    hold_damping: tuple[float, ...] = value(
        (2.0,), "Damping when holding or fallen, of each joint or one for all [N m s/rad]."
    )
    stuck_time: float = value(
        0.3, "Fault if a joint rests at nearly its largest effort for so long [s]; 0: never.", ge=0.0, le=60.0
    )
    floating_base: bool = value(False, "The base moves freely; its pose comes on `odom`.")
    min_base_height: float = value(0.12, "Fault, a fall, if the base is lower [m].", ge=-10.0, le=10.0)
    max_base_height: float = value(0.6, "Fault, a fall, if the base is higher [m].", ge=-10.0, le=10.0)
    max_base_tilt: float = value(0.8, "Fault, a fall, if the base leans more [rad].", ge=0.01, le=3.2)


@dataclass(frozen=True)
class EffortCommand:
    """Efforts of all joints.

    Raises:
        CommandError: a joint is named twice, the number of efforts is another, or one is not finite.
    """

    stamp: float  # of the state that it answers [s]; 0: when it arrives
    names: tuple[str, ...]  # (n,)
    effort: np.ndarray  # (n,) [N m] or [N]

    def __post_init__(self) -> None:
        effort = np.asarray(self.effort, dtype=float)
        if len(set(self.names)) != len(self.names):
            raise CommandError(f"joint command names a joint twice: {list(self.names)}")
        if effort.shape != (len(self.names),):
            raise CommandError(f"joint command has {len(self.names)} names but {effort.size} effort values")
        if not np.isfinite(effort).all():
            raise CommandError(
                f"joint command effort is not finite: {dict(zip(self.names, effort.tolist(), strict=True))}"
            )
        object.__setattr__(self, "effort", effort)


class EffortGate:
    """Lets valid efforts through; any fault makes it hold the robot until `release`.

    Args:
        limits: of the joints, in the order of the output.
        config: what is let through.
        gravity: of positions (n,), efforts (n,) that hold the robot's weight; None where the base moves.

    Raises:
        ConfigError: a hold gain has neither one nor n numbers, or a negative one.
    """

    def __init__(self, limits: EffortLimits, config: EffortGateConfig, gravity: Gravity | None = None) -> None:
        self.config, self.state, self.reason = config, GateState.WAITING, ""
        self._stiffness, self._damping = (self._gains(config, f, limits) for f in ("hold_stiffness", "hold_damping"))
        self.set_limits(limits, gravity)
        n = len(limits.effort)
        self._position, self._velocity, self._stamp = np.zeros(n), np.zeros(n), -np.inf
        self._base: tuple[float, float] | None = None  # height [m], tilt [rad]
        self._base_stamp = -np.inf
        self._hold = np.zeros(n)
        self._output, self._output_time = np.zeros(n), -np.inf
        self._unused = np.zeros(n)  # periods in which each joint's effort might have changed and did not
        self._command_stamp, self._command_time = -np.inf, -np.inf
        self._bad_command: tuple[float, str] = (-np.inf, "")  # time, reason of the last refused command
        self._fallen, self._now = False, -np.inf
        self._moved = np.full(n, np.inf)  # when each joint last moved or was not pushed hard [s]

    @staticmethod
    def _gains(config: EffortGateConfig, field: str, limits: EffortLimits) -> np.ndarray:
        gains = np.array(getattr(config, field), dtype=float)
        n = len(limits.effort)
        if gains.size not in (1, n) or not (np.isfinite(gains) & (gains >= 0.0)).all():
            raise ConfigError(f"{field}={gains.tolist()}, expected one number or {n}, none negative")
        return np.broadcast_to(gains, (n,))

    @property
    def names(self) -> tuple[str, ...]:
        """The joints, in the order of the output."""
        return self.limits.joint.names

    def set_limits(self, limits: EffortLimits, gravity: Gravity | None = None) -> None:
        """Use other limits of the same joints, e.g. of a changed description."""
        self.limits, self.gravity = limits, gravity
        self._max_effort = self.config.effort_scale * limits.effort
        self._max_velocity = self.config.velocity_scale * limits.joint.velocity

    # --- what comes in ----------------------------------------------------------------------------------------

    def observe_base(self, height: float, quaternion: np.ndarray, stamp: float) -> None:
        """Take in the pose of the base: height [m], quaternion x y z w (4,), of time ``stamp`` [s].

        Raises:
            JointStateError: not finite, or no unit norm; what was measured before stays.
        """
        x, y, z, w = (float(c) for c in quaternion)
        norm = x * x + y * y + z * z + w * w
        if not (np.isfinite(height) and abs(norm - 1.0) < 0.02):
            raise JointStateError(f"base height {height}, quaternion {[x, y, z, w]}, expected finite, of unit norm")
        upright = 1.0 - 2.0 * (x * x + y * y) / norm  # z of the base's own z axis
        self._base, self._base_stamp = (float(height), float(np.arccos(min(max(upright, -1.0), 1.0)))), stamp

    def observe(self, position: np.ndarray, velocity: np.ndarray, stamp: float, now: float) -> None:
        """Take in positions and velocities, shape (n,) in the order of `names`, of time ``stamp`` [s]; check them.

        Raises:
            JointStateError: another shape, or not finite; what was measured before stays.
        """
        measured = np.array([position, velocity], dtype=float)
        if measured.shape != (2, len(self.names)) or not np.isfinite(measured).all():
            raise JointStateError(f"measured {measured.tolist()}, expected finite for {list(self.names)}")
        if now < self._now - self.config.command_timeout:  # time started anew
            self._restart()
        self._now = max(now, self._now)
        jumped, unheld = self._jumped(measured[0], stamp), self._cause_stale(now)
        self._position, self._velocity, self._stamp = measured[0], measured[1], stamp
        self._watch_motion(now)
        if jumped or unheld:  # what it moved while only its weight was held is not pulled back
            self._hold = np.clip(self._position, self.limits.joint.lower, self.limits.joint.upper)
        self.check(now)
        if jumped and self.state is GateState.FOLLOWING:
            self._fail(f"{jumped} jumped: nothing moves so fast")

    def command(self, command: EffortCommand, now: float) -> np.ndarray | None:
        """Return the efforts (n,) that go out for a command now, those that hold if it is a fault; None: nothing."""
        if set(self.names) != set(command.names):
            missing, unknown = (
                sorted(set(self.names) - set(command.names)),
                sorted(set(command.names) - set(self.names)),
            )
            self.refuse(f"joint command lacks {missing} and has unknown {unknown}; expected {list(self.names)}", now)
            return self.hold(now)
        stamp = command.stamp or now
        age = now - stamp
        if abs(age) > self.config.command_timeout:
            self.refuse(f"joint command is {age:.3f} s old, allowed {self.config.command_timeout} s (same clock?)", now)
            return self.hold(now)
        self.check(now)
        if self.state not in (GateState.HOLDING, GateState.FOLLOWING) or stamp < self._command_stamp:
            return None
        self.state, self._command_stamp, self._command_time = GateState.FOLLOWING, stamp, now
        order = [command.names.index(name) for name in self.names]
        return self._limited(command.effort[order], now)

    def end_commands(self) -> None:
        """Hold the robot where it is: who commanded it is done."""
        if self.state is GateState.FOLLOWING:
            self._begin_holding()

    def refuse(self, reason: str, now: float) -> None:
        """Report a command that could not even be read; a fault."""
        self._bad_command = (now, reason)
        self._fail(reason)

    # --- what goes out without a command ------------------------------------------------------------------------

    def hold(self, now: float) -> np.ndarray | None:
        """Return the efforts (n,) that hold the robot; None while commands are followed, and before the first state."""
        if self.state not in (GateState.HOLDING, GateState.FAULT):
            return None
        effort = np.zeros(len(self.names)) if self.gravity is None else self.gravity(self._position)
        if not self._cause_stale(now):
            with np.errstate(over="ignore", invalid="ignore"):  # of absurd states: what goes out is limited
                spring = self._stiffness * (self._hold - self._position) - self._damping * self._velocity
                effort = -self._damping * self._velocity if self._fallen else effort + spring
                effort = np.nan_to_num(effort, nan=0.0)
        return self._limited(effort, now)

    def check(self, now: float) -> None:
        """Find faults, and commands that stopped: then the robot is held."""
        if self.state is GateState.WAITING:
            if not self._cause_stale(now):
                self._begin_holding()
            return
        if cause := self._cause_stale(now) or self._cause_limits() or self._cause_stuck(now):
            self._fail(cause)
        if fall := self._cause_fall():
            self._fail(fall)
            self._fallen = True
        if self.state is GateState.FOLLOWING and now - self._command_time > self.config.command_timeout:
            self._begin_holding()

    def release(self, now: float) -> None:
        """Leave the fault and hold where the robot is.

        Raises:
            GateError: the cause is still there; the gate keeps holding.
        """
        if self.state is not GateState.FAULT:
            return
        cause = self._cause_stale(now) or self._cause_fall() or self._cause_limits() or self._cause_stuck(now)
        if not cause and now - self._bad_command[0] <= self.config.command_timeout:
            cause = self._bad_command[1]
        if cause:
            raise GateError(f"not released: {cause}")
        self._moved = np.full(len(self.names), now)
        self._begin_holding()

    # --- internals ----------------------------------------------------------------------------------------------

    def _limited(self, effort: np.ndarray, now: float) -> np.ndarray:
        """Return efforts (n,) within the limits, and note them as the last output."""
        bound = self._max_effort
        elapsed = min(max((now - self._output_time) * self.config.rate, 0.0), _MAX_PERIODS)
        # what was not used is kept, up to a period: an output that comes early may change as much as one in time
        periods = np.minimum(self._unused + elapsed, max(elapsed, 1.0))  # (n,)
        a_period = self.config.max_effort_rate * bound / self.config.rate  # (n,) change in one [N m] or [N]
        change = a_period * periods
        upper, lower = np.minimum(bound, self._output + change), np.maximum(-bound, self._output - change)
        output = np.minimum(np.maximum(effort, lower), upper)
        self._unused = np.maximum(periods - np.abs(output - self._output) / a_period, 0.0)
        self._output, self._output_time = output, now
        return output.copy()

    def _begin_holding(self) -> None:
        self.state, self.reason, self._fallen = GateState.HOLDING, "", False
        self._hold = np.clip(self._position, self.limits.joint.lower, self.limits.joint.upper)

    def _fail(self, reason: str) -> None:
        if self.state in (GateState.WAITING, GateState.FAULT):
            return
        self._begin_holding()
        self.state, self.reason = GateState.FAULT, reason

    def _restart(self) -> None:
        self.state, self.reason, self._base_stamp = GateState.WAITING, "", -np.inf
        self._command_stamp = self._output_time = self._now = -np.inf
        self._bad_command = (-np.inf, "")
        self._moved = np.full(len(self.names), np.inf)

    def _jumped(self, position: np.ndarray, stamp: float) -> str:
        """Return the joint that moved faster than it can since the last state, empty if none."""
        if self.state is GateState.WAITING or not np.isfinite(self._stamp):
            return ""
        with np.errstate(over="ignore"):
            change = np.abs(position - self._position)
        allowed = _JUMP * self.limits.joint.velocity * max(stamp - self._stamp, 1.0 / self.config.rate) + _RESOLUTION
        return str(self.names[int((change - allowed).argmax())]) if (change > allowed).any() else ""

    def _watch_motion(self, now: float) -> None:
        """Note for each joint when it moved last, or was not pushed with nearly all it has."""
        resting = np.abs(self._velocity) < _RESTING * self.limits.joint.velocity
        self._moved = np.where(resting & self._pushed(), np.minimum(self._moved, now), now)

    def _pushed(self) -> np.ndarray:
        """Return whether the last output to each joint was nearly all it has, (n,)."""
        pushed: np.ndarray = np.abs(self._output) > 0.95 * self._max_effort
        return pushed

    def _cause_stale(self, now: float) -> str:
        allowed = self.config.state_timeout
        if (age := now - self._stamp) > allowed:
            return f"joint state is {age:.3f} s old, allowed {allowed} s"
        if self.config.floating_base and (age := now - self._base_stamp) > allowed:
            return f"odometry is {age:.3f} s old, allowed {allowed} s"
        return ""

    def _cause_limits(self) -> str:
        joint, q, v = self.limits.joint, self._position, self._velocity
        beyond = np.maximum(joint.lower - q, q - joint.upper)
        worst = int(beyond.argmax())
        if beyond[worst] > _RESOLUTION:  # an end stop gives way a little
            span = f"[{joint.lower[worst]:.3f}, {joint.upper[worst]:.3f}]"
            return f"{self.names[worst]} is at {q[worst]:.3f}, beyond its limits {span}"
        excess = np.abs(v) - self._max_velocity
        worst = int(excess.argmax())
        if excess[worst] > 0.0:
            return f"{self.names[worst]} moves at {v[worst]:.3f}, allowed {self._max_velocity[worst]:.3f}"
        return ""

    def _cause_stuck(self, now: float) -> str:
        waited = np.where(self._pushed(), now - self._moved, 0.0)
        worst = int(waited.argmax())
        if self.config.stuck_time == 0.0 or waited[worst] <= self.config.stuck_time:
            return ""
        return f"{self.names[worst]} is stuck: {self._output[worst]:.3f} for {waited[worst]:.2f} s do not move it"

    def _cause_fall(self) -> str:
        if not self.config.floating_base or self._base is None:
            return ""
        (height, tilt), c = self._base, self.config
        if not c.min_base_height <= height <= c.max_base_height:
            return f"fallen: base {height:.3f} m high, expected {c.min_base_height} to {c.max_base_height} m"
        return f"fallen: base leans {tilt:.2f} rad, allowed {c.max_base_tilt}" if tilt > c.max_base_tilt else ""
