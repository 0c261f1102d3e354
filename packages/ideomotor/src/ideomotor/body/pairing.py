"""Pair colour and depth images by time.

Drivers publish the two as separate messages with equal, or nearly equal, stamps, in any order.
"""

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from ideomotor.errors import IdeomotorError

T = TypeVar("T")

_DEPTH = 8  # messages that may wait for their partner


class PairingError(IdeomotorError):
    """Colour and depth do not come together."""


@dataclass(frozen=True)
class Pair(Generic[T]):
    """Colour and depth of one moment."""

    stamp: float  # of the colour image [s]
    colour: T
    depth: T


class ImagePairing(Generic[T]):
    """Keeps the newest pairs until they are taken, and counts what was lost.

    Args:
        tolerance: largest difference of stamps in a pair [s].
        backlog: how many pairs may wait; the oldest gives way.
    """

    def __init__(self, tolerance: float, backlog: int = 1) -> None:
        self.tolerance = tolerance
        self.dropped = 0  # pairs that gave way to newer ones before they were taken
        self.unpaired = 0  # images that never found a partner
        self._colour: deque[tuple[float, T]] = deque()
        self._depth: deque[tuple[float, T]] = deque()
        self._pairs: deque[Pair[T]] = deque(maxlen=backlog)

    def add_colour(self, stamp: float, image: T) -> None:
        """A colour image arrived.

        Raises:
            PairingError: if depth images arrive but none fits; the image waits on.
        """
        self._add(self._colour, stamp, image)

    def add_depth(self, stamp: float, image: T) -> None:
        """A depth image arrived.

        Raises:
            PairingError: if colour images arrive but none fits; the image waits on.
        """
        self._add(self._depth, stamp, image)

    @property
    def waiting(self) -> int:
        """Number of pairs that can be taken."""
        return len(self._pairs)

    def take(self) -> Pair[T] | None:
        """Return the oldest pair that waits, or None."""
        return self._pairs.popleft() if self._pairs else None

    def _add(self, queue: deque[tuple[float, T]], stamp: float, image: T) -> None:
        if queue and stamp <= queue[-1][0]:  # time went back: another run of a simulator or recording
            self._colour.clear()
            self._depth.clear()
            self._pairs.clear()
        queue.append((stamp, image))
        self._match()
        if len(queue) > _DEPTH:
            queue.popleft()
            self.unpaired += 1
            other = self._depth if queue is self._colour else self._colour
            if other:
                raise PairingError(
                    f"colour and depth do not fit together: newest stamps {self._colour[-1][0]:.3f} s and "
                    f"{self._depth[-1][0]:.3f} s, expected within {self.tolerance} s"
                )
            missing = "depth" if queue is self._colour else "colour"
            raise PairingError(f"no {missing} image arrives; {len(queue)} images wait for one")

    def _match(self) -> None:
        """Form the newest pair there is and forget what is older."""
        for i in reversed(range(len(self._colour))):
            stamp, colour = self._colour[i]
            gaps = [abs(other - stamp) for other, _ in self._depth]
            if not gaps or min(gaps) > self.tolerance:
                continue
            j = gaps.index(min(gaps))
            self.dropped += len(self._pairs) == self._pairs.maxlen
            self.unpaired += i + j
            self._pairs.append(Pair(stamp, colour, self._depth[j][1]))
            for queue, last in ((self._colour, i), (self._depth, j)):
                for _ in range(last + 1):
                    queue.popleft()
            return
