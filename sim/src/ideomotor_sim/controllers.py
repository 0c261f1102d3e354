"""What stands between a controller's topics and the world: following trajectories, and keeping pace with the clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ideomotor_sim.errors import SimulationError


@dataclass(frozen=True)
class JointTrajectory:
    """Way points of some joints, by name, as joint_trajectory_controller takes them."""

    names: tuple[str, ...]
    time: np.ndarray  # (N,) after the start, increasing [s]
    position: np.ndarray  # (N, n) [rad] or [m]
    velocity: np.ndarray | None = None  # (N, n); None: straight lines between the way points

    def __post_init__(self) -> None:
        shape = (len(self.time), len(self.names))
        if not self.names or not len(self.time):
            raise SimulationError(f"trajectory of joints {list(self.names)} with {len(self.time)} points is empty")
        for name in ("position", "velocity"):
            array = getattr(self, name)
            if array is not None and (array.shape != shape or not np.isfinite(array).all()):
                raise SimulationError(f"trajectory {name} has shape {array.shape}, expected finite, {shape}")
        if not (np.isfinite(self.time).all() and self.time[0] >= 0.0 and (np.diff(self.time) > 0.0).all()):
            raise SimulationError(f"trajectory times {self.time.tolist()}, expected increasing from 0 or more")


class TrajectoryFollower:
    r"""Interpolates from where the arm is to the way points, linearly, or with cubics where velocities are given.

    On a segment of length h, with s = (t - t_0) / h (cubic Hermite):

    .. math::
        q(s) = (2s^3 - 3s^2 + 1) q_0 + (s^3 - 2s^2 + s) h \dot q_0 + (-2s^3 + 3s^2) q_1 + (s^3 - s^2) h \dot q_1
    """

    def __init__(self, trajectory: JointTrajectory, start: float, position: Mapping[str, float]) -> None:
        """Start at ``start`` [s] from the present ``position`` of the joints, at rest.

        Raises:
            SimulationError: if a joint of the trajectory is unknown.
        """
        unknown = [name for name in trajectory.names if name not in position]
        if unknown:
            raise SimulationError(f"trajectory names unknown joints {unknown}; the robot has {list(position)}")
        self._trajectory, self._start = trajectory, start
        now = np.array([position[name] for name in trajectory.names])
        # The first segment leads from here to the first way point, unless that one is due at once.
        lead = 1 if trajectory.time[0] > 0.0 else 0
        rest = np.zeros((lead, len(now)))
        self._time = np.concatenate([np.zeros(lead), trajectory.time])
        self._position = np.concatenate([now[None][:lead], trajectory.position])
        self._velocity = None if trajectory.velocity is None else np.concatenate([rest, trajectory.velocity])

    def done(self, time: float) -> bool:
        """Whether the last way point is reached."""
        return bool(time - self._start >= self._time[-1])

    def at(self, time: float) -> dict[str, float]:
        """Return the joint positions by name at ``time`` [s]; the ends hold."""
        t = float(np.clip(time - self._start, self._time[0], self._time[-1]))
        i = int(np.clip(np.searchsorted(self._time, t, side="right") - 1, 0, max(len(self._time) - 2, 0)))
        j = min(i + 1, len(self._time) - 1)
        h = self._time[j] - self._time[i]
        s = 0.0 if h == 0.0 else (t - self._time[i]) / h
        q0, q1 = self._position[i], self._position[j]
        if self._velocity is None:
            q = (1.0 - s) * q0 + s * q1  # (n,)
        else:
            v0, v1 = h * self._velocity[i], h * self._velocity[j]
            q = (2 * s**3 - 3 * s**2 + 1) * q0 + (s**3 - 2 * s**2 + s) * v0
            q = q + (-2 * s**3 + 3 * s**2) * q1 + (s**3 - s**2) * v1
        return dict(zip(self._trajectory.names, q.tolist(), strict=True))


class Pacer:
    """How far simulated time may run, so that it passes ``factor`` times as fast as real time.

    When the simulation cannot keep up, it runs slower than asked for, and does not try to catch up later.
    """

    def __init__(self, factor: float, max_lag: float = 0.1) -> None:
        self._factor, self._max_lag = factor, max_lag  # [s]
        self._simulated: float | None = None
        self._real = 0.0

    def restart(self) -> None:
        """Forget the past (after a pause or a reset)."""
        self._simulated = None

    def target(self, simulated: float, real: float, chunk: float) -> float:
        """Return the simulated time to advance to [s].

        Args:
            simulated: present simulated time [s].
            real: present real time [s].
            chunk: how far to go at once when running as fast as possible (factor 0) [s].
        """
        if self._factor == 0.0:
            return simulated + chunk
        if self._simulated is None or self._due(real) - simulated > self._max_lag:
            self._simulated, self._real = simulated, real
        return max(self._due(real), simulated)

    def _due(self, real: float) -> float:
        return (self._simulated or 0.0) + self._factor * (real - self._real)


class Rhythm:
    """Events at a fixed rate in simulated time."""

    def __init__(self, rate: float) -> None:
        self._period, self._count = 1.0 / rate, 0

    @property
    def next(self) -> float:
        """Time of the next event [s]."""
        return self._count * self._period

    def is_due(self, time: float) -> bool:
        """Whether an event is due at ``time`` [s]; if so, it counts as having happened."""
        if time < self.next - 1e-9:
            return False
        self._count += 1
        return True


def forward_command(names: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Bind the numbers of a forward_command_controller to its joints, in their order.

    Raises:
        SimulationError: if there are not as many numbers as joints.
    """
    if len(names) != len(values):
        raise SimulationError(f"command has {len(values)} values, expected {len(names)} for {list(names)}")
    return dict(zip(names, values, strict=True))
