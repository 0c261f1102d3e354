r"""The command gate: whatever comes in, what goes out is finite, within limits, and smooth.

With period :math:`h`, commanded position :math:`p` and velocity :math:`v`, target :math:`p^*` and its velocity
:math:`u`, per joint:

.. math::
    v^+ &= \mathrm{clip}\big(u + b(p^* - p),\; \pm v_{max},\; [-b(p - l),\, b(u - p)],\; v \pm a h\big) \\
    p^+ &= p + h\, v^+

where :math:`b(e)` is the fastest velocity from which braking with :math:`a` ends within the distance :math:`e`:

.. math::
    b(e) = \frac{e / h + a h\, n (n + 1) / 2}{n + 1},\quad
    n = \Big\lfloor \tfrac{1}{2}\big(\sqrt{1 + 8 e / (a h^2)} - 1\big) \Big\rfloor .

From a velocity of at most :math:`b(e)` the next one of at most :math:`b(e - h v)` needs no more than :math:`a`:
a joint that can stop before its limit always can.
"""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from enum import Enum

import numpy as np

from ideomotor.body.joint_state import JointStateError
from ideomotor.body.urdf import parse_urdf
from ideomotor.config import Config, value
from ideomotor.errors import IdeomotorError

_CATCH_UP = 10  # periods that one late step makes up for at most
_SETTLED = 1e-3  # [rad] or [m] a target this near is reached


class CommandError(IdeomotorError):
    """A joint command that must not be followed."""


class LimitError(IdeomotorError):
    """The robot description has no usable limits for a joint."""


class GateError(IdeomotorError):
    """The gate cannot be released: the cause of the fault is still there."""


@dataclass(frozen=True, kw_only=True)
class GateTiming(Config):
    """What gates of positions, velocities and efforts have in common."""

    rate: float = value(100.0, "Rate of the output [Hz].", ge=10.0, le=1000.0)
    velocity_scale: float = value(1.0, "Share of the velocity limits that is allowed [1].", ge=0.01, le=1.0)
    command_timeout: float = value(0.2, "A command older than this is not followed [s].", ge=0.01, le=10.0)
    state_timeout: float = value(0.2, "Fault if the joint state is older [s].", ge=0.01, le=10.0)


@dataclass(frozen=True, kw_only=True)
class GateConfig(GateTiming):
    """What the gate lets through."""

    position_margin: float = value(0.01, "Distance kept from the position limits [rad] or [m].", ge=0.0, le=0.5)
    max_acceleration: float = value(10.0, "Largest acceleration [rad/s^2] or [m/s^2].", ge=0.1, le=1000.0)
    max_tracking_error: float = value(
        0.2, "Fault if commanded and measured position differ by more [rad].", ge=0.001, le=3.2
    )


@dataclass(frozen=True)
class JointCommand:
    """Target of all joints, at one time; with both, ``velocity`` is that of the moving target."""

    stamp: float  # [s]; 0: when it arrives
    names: tuple[str, ...]  # (n,)
    position: np.ndarray | None = None  # (n,) [rad] or [m]
    velocity: np.ndarray | None = None  # (n,) [rad/s] or [m/s]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise CommandError(f"joint command names a joint twice: {list(self.names)}")
        if self.position is None and self.velocity is None:
            raise CommandError("joint command has neither positions nor velocities")
        for field in ("position", "velocity"):
            array = getattr(self, field)
            if array is None:
                continue
            array = np.array(array, dtype=float)
            if array.shape != (len(self.names),):
                raise CommandError(f"joint command has {len(self.names)} names but {array.size} {field} values")
            if not np.isfinite(array).all():
                raise CommandError(
                    f"joint command {field} is not finite: {dict(zip(self.names, array.tolist(), strict=True))}"
                )
            array.setflags(write=False)
            object.__setattr__(self, field, array)

    def ordered(self, names: tuple[str, ...]) -> "JointCommand":
        """Return the same command in the order of ``names``.

        Raises:
            CommandError: the command lacks a joint, or has one more.
        """
        if set(names) != set(self.names):
            missing, unknown = sorted(set(names) - set(self.names)), sorted(set(self.names) - set(names))
            raise CommandError(f"joint command lacks {missing} and has unknown {unknown}; expected {list(names)}")
        order = [self.names.index(name) for name in names]
        position = None if self.position is None else self.position[order]
        velocity = None if self.velocity is None else self.velocity[order]
        return JointCommand(self.stamp, names, position, velocity)


@dataclass(frozen=True)
class JointLimits:
    """Limits of the commanded joints."""

    names: tuple[str, ...]  # (n,)
    lower: np.ndarray  # (n,) [rad] or [m]; -inf for continuous joints
    upper: np.ndarray  # (n,) [rad] or [m]; inf for continuous joints
    velocity: np.ndarray  # (n,) [rad/s] or [m/s]

    @classmethod
    def from_urdf(cls, urdf: str, names: tuple[str, ...]) -> "JointLimits":
        """Read the limits of ``names``.

        Raises:
            UrdfError: the URDF is malformed.
            LimitError: a joint is missing, cannot move, or lacks a limit.
        """
        joints = {joint.get("name"): joint for joint in parse_urdf(urdf).findall("joint")}
        missing = [name for name in names if name not in joints]
        if missing:
            raise LimitError(f"the description has no joint {missing}; it has {sorted(map(str, joints))}")
        rows = [_limits(name, joints[name].get("type", ""), joints[name].find("limit")) for name in names]
        lower, upper, velocity = np.array(rows, dtype=float).reshape(-1, 3).T
        return cls(names, lower, upper, velocity)


def _limits(name: str, joint_type: str, limit: ET.Element | None) -> tuple[float, float, float]:
    if joint_type not in ("revolute", "continuous", "prismatic"):
        raise LimitError(f"joint {name!r} is {joint_type}, expected revolute, continuous or prismatic")
    velocity = 0.0 if limit is None else float(limit.get("velocity", 0.0))
    if not velocity > 0.0:
        raise LimitError(f"joint {name!r} has velocity limit {velocity}, expected positive")
    if joint_type == "continuous":
        return -np.inf, np.inf, velocity
    lower, upper = float(limit.get("lower", 0.0)), float(limit.get("upper", 0.0))  # type: ignore[union-attr]
    if not lower < upper:
        raise LimitError(f"joint {name!r} has limits [{lower}, {upper}], expected lower < upper")
    return lower, upper, velocity


class GateState(Enum):
    """What the gate does."""

    WAITING = "waiting for joint states"
    HOLDING = "holding, no command"
    FOLLOWING = "following commands"
    FAULT = "fault, holding until released"


@dataclass(frozen=True)
class GateOutput:
    """What goes to the controller."""

    position: np.ndarray  # (n,) [rad] or [m]
    velocity: np.ndarray  # (n,) [rad/s] or [m/s]


class CommandGate:
    """Follows valid commands within the limits; any fault makes it stop and hold until `release`.

    Args:
        limits: of the joints, in the order of the output.
        config: what is let through.
        from_measured: start every step at the measured positions instead of the commanded ones, for a
            controller that takes velocities.
    """

    def __init__(self, limits: JointLimits, config: GateConfig, *, from_measured: bool = False) -> None:
        self.config = config
        self._from_measured = from_measured
        self.state = GateState.WAITING
        self.reason = ""  # of the last fault
        self.limits = limits
        self.set_limits(limits)
        self._measured: np.ndarray | None = None  # (n,)
        self._measured_stamp = -np.inf
        self._command: JointCommand | None = None
        self._bad_command: tuple[float, str] = (-np.inf, "")  # time, reason of the last refused command
        self._position = np.zeros(0)  # (n,) commanded
        self._velocity = np.zeros(0)  # (n,) commanded
        self._hold: np.ndarray | None = None  # (n,) where to stop; None: as soon as possible
        self._now = -np.inf

    @property
    def names(self) -> tuple[str, ...]:
        """The joints, in the order of the output."""
        return self.limits.names

    def set_limits(self, limits: JointLimits) -> None:
        """Use other limits of the same joints, e.g. of a changed description."""
        if self.state is not GateState.WAITING and limits.names != self.limits.names:
            raise LimitError(f"limits of {list(limits.names)}, expected those of {list(self.limits.names)}")
        margin = self.config.position_margin
        if not (limits.lower + margin < limits.upper - margin).all():
            raise LimitError(f"position_margin={margin} leaves nothing of [{limits.lower}, {limits.upper}]")
        self.limits = limits
        self._lower, self._upper = limits.lower + margin, limits.upper - margin
        self._max_velocity = limits.velocity * self.config.velocity_scale

    def observe(self, position: np.ndarray, stamp: float) -> None:
        """Take in the measured positions, shape (n,) in the order of `names`, of time ``stamp`` [s].

        Raises:
            JointStateError: another shape, or not finite; what was measured before stays.
        """
        measured = np.array(position, dtype=float)
        if measured.shape != (len(self.names),) or not np.isfinite(measured).all():
            raise JointStateError(f"measured {measured.tolist()}, expected finite for {list(self.names)}")
        self._measured, self._measured_stamp = measured, stamp

    def command(self, command: JointCommand, now: float) -> None:
        """Take in a command; one that must not be followed is a fault."""
        try:
            ordered = command.ordered(self.names)
        except CommandError as error:
            self.refuse(str(error), now)
            return
        stamp = command.stamp or now
        age = now - stamp
        if abs(age) > self.config.command_timeout:
            self.refuse(f"joint command is {age:.3f} s old, allowed {self.config.command_timeout} s (same clock?)", now)
            return
        late = self._command is not None and stamp < self._command.stamp
        if self.state in (GateState.HOLDING, GateState.FOLLOWING) and not late:
            self._command = JointCommand(stamp, ordered.names, ordered.position, ordered.velocity)
            self.state = GateState.FOLLOWING

    def refuse(self, reason: str, now: float) -> None:
        """Report a command that could not even be read; a fault."""
        self._bad_command = (now, reason)
        self._fail(reason)

    def release(self, now: float) -> None:
        """Leave the fault and hold where the robot is.

        Raises:
            GateError: the cause is still there; the gate keeps holding.
        """
        if self.state is not GateState.FAULT:
            return
        cause = self._cause_stale(now) or self._cause_tracking()
        if not cause and now - self._bad_command[0] <= self.config.command_timeout:
            cause = self._bad_command[1]
        if cause:
            raise GateError(f"not released: {cause}")
        self.state, self.reason, self._hold = GateState.HOLDING, "", None

    def step(self, now: float) -> GateOutput | None:
        """Return the next output; None before the first joint state.

        A step that comes late makes up for the periods that were missed, so that the robot keeps its speed on a machine
        with other work to do.
        """
        if now < self._now - self.config.command_timeout:  # time started anew: a simulation was reset
            self._measured, self._command, self.state, self.reason = None, None, GateState.WAITING, ""
            self._bad_command, self._hold = (-np.inf, ""), None
        elapsed, self._now = now - self._now, now
        if self.state is GateState.WAITING:
            if self._measured is None or self._cause_stale(now):
                return None
            self._position, self._velocity = self._measured.copy(), np.zeros(len(self._measured))
            self.state = GateState.HOLDING
        elif cause := self._cause_stale(now) or self._cause_tracking():
            self._fail(cause)
            if self._cause_tracking():
                self._hold = self._measured  # do not go on pushing against what is in the way
        if self.state is GateState.FOLLOWING:
            self._check_command_age(now)
        if self._from_measured and self._measured is not None:
            self._position = self._measured.copy()
            elapsed = 0.0  # where the robot is by now was measured
        for _ in range(round(min(max(elapsed * self.config.rate, 1.0), _CATCH_UP))):
            self._advance()
        return GateOutput(self._position.copy(), self._velocity.copy())

    def _advance(self) -> None:
        """Advance position and velocity by one period towards the target."""
        h, a, p, v = 1.0 / self.config.rate, self.config.max_acceleration, self._position, self._velocity
        desired = self._desired_velocity(h, a)  # (n,)
        desired = np.clip(desired, -self._max_velocity, self._max_velocity)
        desired = np.clip(desired, -_braking_velocity(p - self._lower, h, a), _braking_velocity(self._upper - p, h, a))
        self._velocity = np.clip(desired, v - a * h, v + a * h)
        self._position = p + h * self._velocity

    def _desired_velocity(self, h: float, a: float) -> np.ndarray:
        p, command = self._position, self._command
        if self.state is GateState.FOLLOWING and command is not None:
            u = np.zeros_like(p) if command.velocity is None else command.velocity  # (n,)
            if command.position is None:
                return u
            desired: np.ndarray = u + _towards(np.clip(command.position, self._lower, self._upper) - p, h, a)
            return desired
        return np.zeros_like(p) if self._hold is None else _towards(self._hold - p, h, a)

    def _check_command_age(self, now: float) -> None:
        command = self._command
        if command is None or now - command.stamp <= self.config.command_timeout:
            return
        settled = not self._velocity.any() or np.abs(self._velocity).max() < _SETTLED
        if command.position is not None:
            target = np.clip(command.position, self._lower, self._upper)
            settled = settled and np.abs(target - self._position).max() < _SETTLED
        if settled:
            self.state, self._command, self._hold = GateState.HOLDING, None, None
        else:
            self._fail(f"commands stopped {now - command.stamp:.3f} s ago before their target was reached")

    def _cause_stale(self, now: float) -> str:
        age = now - self._measured_stamp
        if age > self.config.state_timeout:
            return f"joint state is {age:.3f} s old, allowed {self.config.state_timeout} s"
        return ""

    def _cause_tracking(self) -> str:
        if self._measured is None:
            return ""
        error = np.abs(self._position - self._measured)  # (n,)
        worst = int(error.argmax())
        if error[worst] <= self.config.max_tracking_error:
            return ""
        return (
            f"{self.names[worst]} is {error[worst]:.3f} from its command {self._position[worst]:.3f}, "
            f"allowed {self.config.max_tracking_error}"
        )

    def _fail(self, reason: str) -> None:
        if self.state in (GateState.WAITING, GateState.FAULT):
            return
        self.state, self.reason, self._command = GateState.FAULT, reason, None
        self._hold = None


def _braking_velocity(distance: np.ndarray, h: float, a: float) -> np.ndarray:
    """b(e): the fastest velocity from which a stop within ``distance`` is possible; 0 for negative ones."""
    e = np.minimum(np.maximum(distance, 0.0), 1e6)
    n = np.floor((np.sqrt(1.0 + 8.0 * e / (a * h * h)) - 1.0) / 2.0)  # full steps of braking
    return (e / h + a * h * n * (n + 1.0) / 2.0) / (n + 1.0)


def _towards(error: np.ndarray, h: float, a: float) -> np.ndarray:
    velocity: np.ndarray = np.sign(error) * _braking_velocity(np.abs(error), h, a)
    return velocity
