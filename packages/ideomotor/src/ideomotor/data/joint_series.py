"""Measured positions over time, joint by joint: checked for gaps and jumps, resampled, trimmed to the motion."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ideomotor.errors import IdeomotorError

_RESTART = 0.1  # [s] a stamp that goes back by more is not a late message: time started anew
_RESOLUTION = 1e-3  # [rad] or [m] of encoders and stamps: a change so small is no jump, however fast


class JointSeriesError(IdeomotorError):
    """Joint states with a gap, a jump, or of a time that went back."""


@dataclass(frozen=True, eq=False)
class JointSeries:
    """Positions of one joint. Messages that came late are left out, as `JointStateBuffer` does. Arrays are read-only.

    Raises:
        JointSeriesError: time went back, or there is no position.
    """

    name: str
    received: np.ndarray  # (N,) time of receipt, for messages only [s]
    stamp: np.ndarray  # (N,) increasing [s]
    position: np.ndarray  # (N,) [rad] or [m]

    def __post_init__(self) -> None:
        received, stamp, position = (np.array(x, dtype=float) for x in (self.received, self.stamp, self.position))
        if not len(stamp):
            raise JointSeriesError(f"no position of {self.name!r}")
        newest = np.maximum.accumulate(stamp)
        back = _first(newest - stamp > _RESTART)
        if back is not None:
            raise JointSeriesError(
                f"{received[back]:.3f} s: stamps went back from {newest[back]:.3f} to {stamp[back]:.3f} s: simulation "
                "reset, or publishers with different clocks"
            )
        keep = np.concatenate([[True], stamp[1:] > newest[:-1]])
        for field, array in (("received", received), ("stamp", stamp), ("position", position)):
            array = array[keep]
            array.setflags(write=False)
            object.__setattr__(self, field, array)

    def check_gaps(self, max_gap: float) -> None:
        """Refuse a time without a position longer than ``max_gap`` [s].

        Raises:
            JointSeriesError: naming the joint, and the time of receipt at which the gap begins.
        """
        gap = np.diff(self.stamp)
        t = _first(gap > max_gap)
        if t is not None:
            raise JointSeriesError(
                f"{self.received[t]:.3f} s: gap: nothing of {self.name!r} for {gap[t]:.3f} s, allowed {max_gap} s"
            )

    def check_jumps(self, max_speed: float) -> None:
        """Refuse two positions that follow each other faster than ``max_speed`` [rad/s] or [m/s].

        Raises:
            JointSeriesError: naming the joint, and the time of receipt of the second position.
        """
        change, period = np.abs(np.diff(self.position)), np.diff(self.stamp)
        t = _first(change > max_speed * period + _RESOLUTION)
        if t is not None:
            raise JointSeriesError(
                f"{self.received[t + 1]:.3f} s: jump: {self.name!r} from {self.position[t]:.4f} to "
                f"{self.position[t + 1]:.4f} in {period[t]:.4f} s, allowed {max_speed:.3f} a second"
            )


def _first(where: np.ndarray) -> int | None:
    """Return the index of the first true element, shape (N,)."""
    return int(where.argmax()) if where.any() else None


def resampled(series: Sequence[JointSeries], rate: float) -> np.ndarray:
    """Return positions at a constant rate, linearly interpolated, shape (T, n) [rad] or [m].

    They begin when all joints are known, and end with what is known of all; nothing is extrapolated, so T may be 0.

    Args:
        series: one for each joint, (n,).
        rate: of the result [Hz].
    """
    start, end = max(s.stamp[0] for s in series), min(s.stamp[-1] for s in series)
    count = max(int(np.floor((end - start) * rate + 1e-6)) + 1, 0)
    stamp = np.minimum(start + np.arange(count) / rate, end)
    return np.stack([np.interp(stamp, s.stamp, s.position) for s in series], axis=1)


def motion(q: np.ndarray, rate: float, rest_speed: float) -> slice:
    """Return the states from the last one at rest before a motion to the first one at rest after it.

    Args:
        q: joint positions, shape (T, n) [rad] or [m].
        rate: of the states [Hz].
        rest_speed: a joint that moves no faster is at rest [rad/s] or [m/s].

    Returns:
        An empty slice where nothing moves.
    """
    moving = np.nonzero((np.abs(np.diff(q, axis=0)) * rate > rest_speed).any(axis=1))[0]  # steps
    return slice(int(moving[0]), int(moving[-1]) + 2) if len(moving) else slice(0, 0)
