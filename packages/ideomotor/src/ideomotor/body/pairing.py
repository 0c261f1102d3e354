"""Pair colour and depth images by time; the newest pair counts.

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
    """Keeps the newest pair until it is taken, and counts what was lost.

    Args:
        tolerance: largest difference of stamps in a pair [s].
    """

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.dropped = 0  # pairs that a newer one replaced before they were taken
        self.unpaired = 0  # images that never found a partner
        self._colour: deque[tuple[float, T]] = deque()
        self._depth: deque[tuple[float, T]] = deque()
        self._newest: Pair[T] | None = None

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

    def take(self) -> Pair[T] | None:
        """Return the newest pair once, or None."""
        pair, self._newest = self._newest, None
        return pair

    def _add(self, queue: deque[tuple[float, T]], stamp: float, image: T) -> None:
        if queue and stamp <= queue[-1][0]:  # time went back: another run of a simulator or recording
            self._colour.clear()
            self._depth.clear()
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
            self.dropped += self._newest is not None
            self.unpaired += i + j
            self._newest = Pair(stamp, colour, self._depth[j][1])
            for queue, last in ((self._colour, i), (self._depth, j)):
                for _ in range(last + 1):
                    queue.popleft()
            return
