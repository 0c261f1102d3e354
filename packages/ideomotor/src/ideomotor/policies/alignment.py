"""Where a motion begins on a robot that stands somewhere else, heading elsewhere: moved along the floor and turned."""

from dataclasses import dataclass, replace

import numpy as np

from ideomotor.data.experience import Episode
from ideomotor.policies.motion import Motion


@dataclass(frozen=True)
class Alignment:
    """Moves what was measured in the frame ``odom`` into that of a motion; heights and tilts stay."""

    cos: float
    sin: float
    half: tuple[float, float]  # quaternion z, w of the turn
    origin: np.ndarray  # (2,) [m] of the robot when it started
    target: np.ndarray  # (2,) [m] of the motion's first state

    @classmethod
    def of(cls, start: np.ndarray, motion: Motion) -> "Alignment":
        """Return that of a robot with a floating base whose run begins at ``start``, shape (nq,)."""
        turn = _heading(motion.q[0]) - _heading(start)
        half = float(np.sin(turn / 2.0)), float(np.cos(turn / 2.0))
        return cls(float(np.cos(turn)), float(np.sin(turn)), half, start[:2].copy(), motion.q[0, :2].copy())

    def inverse(self) -> "Alignment":
        """Return what moves from the motion's frame into ``odom``."""
        z, w = self.half
        return Alignment(self.cos, -self.sin, (-z, w), self.target, self.origin)

    def apply(self, q: np.ndarray, force: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return configurations (N, nq) and contact forces (N, 3c) along the axes of the motion's frame."""
        moved, turned, (z, w) = q.copy(), force.copy(), self.half
        moved[:, :2] = self._turn(q[:, :2] - self.origin) + self.target
        qx, qy, qz, qw = q[:, 3:7].T
        moved[:, 3:7] = np.stack([w * qx - z * qy, w * qy + z * qx, w * qz + z * qw, w * qw - z * qz], axis=1)
        vectors = turned.reshape(len(force), -1, 3)
        vectors[..., :2] = self._turn(vectors[..., :2])
        return moved, turned

    def _turn(self, vectors: np.ndarray) -> np.ndarray:
        x, y = vectors[..., 0], vectors[..., 1]
        return np.stack([self.cos * x - self.sin * y, self.sin * x + self.cos * y], axis=-1)


def aligned(episode: Episode, motion: Motion) -> Episode:
    """Return an episode in the motion's frame, its first state where the motion begins; an arm's as it is."""
    if not episode.floating_base:
        return episode
    q, force = Alignment.of(episode.q[0], motion).apply(episode.q, episode.force)
    return replace(episode, q=q, force=force)


def _heading(q: np.ndarray) -> float:
    x, y, z, w = q[3:7]
    return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))
