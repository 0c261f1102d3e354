"""Joint states as drivers send them: partial, by name, at different times."""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ideomotor.errors import IdeomotorError

_RESTART = 0.1  # [s] a stamp that goes back by more is not a late message: time started anew


class JointStateError(IdeomotorError):
    """A joint state that cannot be used, or a joint nothing is known of at the time asked for."""


@dataclass(frozen=True)
class JointState:
    """Positions and velocities of some joints at one time. Arrays are read-only."""

    stamp: float  # [s]
    names: tuple[str, ...]  # (n,)
    position: np.ndarray  # (n,) [rad] or [m]
    velocity: np.ndarray | None = None  # (n,) [rad/s] or [m/s]; None where not measured

    def __post_init__(self) -> None:
        n = len(self.names)
        if len(set(self.names)) != n:
            raise JointStateError(f"names {list(self.names)} has a joint twice")
        if not np.isfinite(self.stamp):
            raise JointStateError(f"stamp={self.stamp}, expected finite")
        for field in ("position", "velocity"):
            if field == "velocity" and self.velocity is None:
                continue
            array = np.array(getattr(self, field), dtype=float)
            if array.shape != (n,):
                raise JointStateError(f"{field} has {array.size} elements, expected {n}: {list(self.names)}")
            if not np.isfinite(array).all():
                bad = [name for name, x in zip(self.names, array, strict=True) if not np.isfinite(x)]
                raise JointStateError(f"{field} of {bad} is not finite: {array.tolist()}")
            array.setflags(write=False)
            object.__setattr__(self, field, array)


class JointStateBuffer:
    """Merges partial joint states by name and interpolates positions in time.

    Args:
        duration: how much of the past is kept [s].
    """

    def __init__(self, duration: float = 2.0) -> None:
        self.duration = duration
        self._history: dict[str, deque[tuple[float, float]]] = {}  # name -> (stamp, position), increasing

    @property
    def names(self) -> tuple[str, ...]:
        """Joints heard of so far."""
        return tuple(self._history)

    @property
    def positions(self) -> dict[str, float]:
        """The newest position of every joint heard of [rad] or [m]."""
        return {name: history[-1][1] for name, history in self._history.items()}

    def clear(self) -> None:
        """Forget everything, e.g. after time jumped back."""
        self._history.clear()

    def update(self, state: JointState) -> None:
        """Take in a state. One slightly older than what is known of a joint is ignored for that joint.

        A stamp that goes further back means that time started anew (simulation reset, replay): the past of that
        joint is forgotten.
        """
        for name, position in zip(state.names, state.position.tolist(), strict=True):
            history = self._history.setdefault(name, deque())
            if history and state.stamp < history[-1][0] - _RESTART:
                history.clear()
            if history and state.stamp <= history[-1][0]:
                continue
            history.append((state.stamp, position))
            while history[0][0] < state.stamp - self.duration:
                history.popleft()

    def age(self, names: Sequence[str], now: float) -> float:
        """Return the age of the oldest of the newest positions of ``names`` [s]; inf if one is unknown."""
        return max((now - self._history[n][-1][0] if self._history.get(n) else np.inf for n in names), default=0.0)

    def at_rest(self, names: Sequence[str], duration: float, tolerance: float) -> bool:
        """Whether the positions of ``names`` stayed within ``tolerance`` [rad] or [m] for the newest ``duration`` [s].

        False where nothing is known for so long; ``duration`` must be shorter than what is kept of the past.
        """
        for name in names:
            history = self._history.get(name)
            if not history or history[0][0] > history[-1][0] - duration:
                return False
            recent = [position for stamp, position in history if stamp >= history[-1][0] - duration]
            if max(recent) - min(recent) > tolerance:
                return False
        return True

    def latest(self, names: Sequence[str]) -> np.ndarray:
        """Return the newest positions of ``names``, shape (n,) [rad] or [m].

        Raises:
            JointStateError: nothing was heard of a joint.
        """
        self._check_known(names)
        return np.array([self._history[name][-1][1] for name in names], dtype=float)

    def position_at(self, names: Sequence[str], stamp: float, max_gap: float = 0.1) -> np.ndarray:
        """Return positions at ``stamp`` [s], linearly interpolated, shape (n,) [rad] or [m].

        Args:
            names: joints, in the order wanted.
            stamp: time asked for [s].
            max_gap: how far apart the two measurements around ``stamp`` may be, and how far ``stamp`` may lie
                outside of what was measured, where the nearest measurement stands in [s].

        Raises:
            JointStateError: nothing was heard of a joint, or not around that time.
        """
        self._check_known(names)
        return np.array([self._interpolate(name, stamp, max_gap) for name in names], dtype=float)

    def _check_known(self, names: Sequence[str]) -> None:
        missing = [name for name in names if not self._history.get(name)]
        if missing:
            raise JointStateError(f"no joint state of {missing} yet; heard of {sorted(self._history)}")

    def _interpolate(self, name: str, stamp: float, max_gap: float) -> float:
        history = self._history[name]
        after = bisect_right(history, stamp, key=lambda sample: sample[0])
        if after in (0, len(history)):
            nearest, position = history[0] if after == 0 else history[-1]
            if abs(stamp - nearest) > max_gap:
                raise JointStateError(
                    f"no position of {name!r} at {stamp:.3f} s: the nearest is at {nearest:.3f} s, allowed {max_gap} s"
                )
            return position
        (t0, p0), (t1, p1) = history[after - 1], history[after]
        if t1 - t0 > max_gap:
            raise JointStateError(f"{name!r} was not measured between {t0:.3f} and {t1:.3f} s, allowed {max_gap} s")
        return p0 + (p1 - p0) * (stamp - t0) / (t1 - t0)
