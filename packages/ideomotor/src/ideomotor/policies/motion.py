"""Target motions: what a controller shall make the robot do, state by state."""

from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np

from ideomotor.data.experience import UNREADABLE
from ideomotor.errors import IdeomotorError

_ARRAYS = ("q", "v", "force")


class MotionError(IdeomotorError):
    """A target motion that cannot be read, or is none."""


@dataclass(frozen=True, eq=False)
class Motion:
    """States to pass through at a constant rate, T steps; conventions of `ideomotor.data.experience.Episode`.

    Raises:
        MotionError: shapes do not fit, or a value is not finite.
    """

    rate: float  # [Hz]
    joints: tuple[str, ...]  # (n,)
    contact_links: tuple[str, ...]  # (c,)
    q: np.ndarray  # (T+1, nq)
    v: np.ndarray  # (T+1, nv)
    force: np.ndarray  # (T+1, 3c) of the ground on each contact link, world axes [N]

    def __post_init__(self) -> None:
        if not (np.isfinite(self.rate) and self.rate > 0.0):
            raise MotionError(f"rate={self.rate}, expected a positive rate [Hz]")
        for name in _ARRAYS:  # copies: the caller's arrays stay writable
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=float))
        if self.q.ndim != 2 or len(self.q) < 2 or self.q.shape[1] not in (len(self.joints), len(self.joints) + 7):
            raise MotionError(
                f"q has shape {self.q.shape}, expected (T+1, {len(self.joints)}), 7 more if the base floats"
            )
        nv = self.q.shape[1] - self.floating_base
        for name, width in (("v", nv), ("force", 3 * len(self.contact_links))):
            if getattr(self, name).shape != (len(self.q), width):
                raise MotionError(f"{name} has shape {getattr(self, name).shape}, expected {(len(self.q), width)}")
        for name in _ARRAYS:
            if not np.isfinite(getattr(self, name)).all():
                raise MotionError(
                    f"{name} is not finite at step {int(np.argwhere(~np.isfinite(getattr(self, name)))[0, 0])}"
                )
            getattr(self, name).setflags(write=False)
        if self.floating_base:
            norm = np.linalg.norm(self.q[:, 3:7], axis=1)
            worst = int(np.abs(norm - 1.0).argmax())
            if abs(norm[worst] - 1.0) > 1e-6:
                raise MotionError(f"quaternion of state {worst} has norm {norm[worst]}, expected 1")

    @property
    def floating_base(self) -> bool:
        """Whether the robot's base floats."""
        return self.q.shape[1] == len(self.joints) + 7

    @property
    def steps(self) -> int:
        """How many steps it has, T."""
        return len(self.q) - 1

    @property
    def duration(self) -> float:
        """How long it takes [s]."""
        return self.steps / self.rate

    def save(self, path: Path) -> None:
        """Write it to an ``.npz`` file, whole or not at all."""
        temporary = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            with temporary.open("wb") as file:
                np.savez_compressed(
                    file,
                    rate=np.float64(self.rate),
                    joints=np.array(self.joints, dtype=str),
                    contact_links=np.array(self.contact_links, dtype=str),
                    q=self.q,
                    v=self.v,
                    force=self.force,
                )
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def load_motion(path: Path | str) -> Motion:
    """Read a motion that `Motion.save` wrote.

    Raises:
        MotionError: the file cannot be read, lacks an array, or holds no motion.
    """
    try:
        with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            links = tuple(file["contact_links"].tolist())
            return Motion(float(file["rate"]), tuple(file["joints"].tolist()), links, *(file[n] for n in _ARRAYS))
    except (*UNREADABLE, MotionError) as error:
        raise MotionError(f"{path} is no target motion: {error}") from error


def reach(
    joints: tuple[str, ...], start: np.ndarray, end: np.ndarray, *, duration: float = 0.8, rate: float = 250.0
) -> Motion:
    """Return the straight motion between two postures (n,) of a fixed-base arm, with minimal jerk."""
    s = np.linspace(0.0, 1.0, round(duration * rate) + 1)[:, None]
    position = s**3 * (10.0 - 15.0 * s + 6.0 * s * s)
    velocity = 30.0 * s * s * (1.0 - s) ** 2 / duration
    q, v = start + position * (end - start), velocity * (end - start)
    return Motion(rate, joints, (), q, v, np.zeros((len(q), 0)))


def swing(
    joints: tuple[str, ...],
    centre: np.ndarray,
    amplitude: np.ndarray,
    cycles: np.ndarray,
    phase: np.ndarray,
    *,
    duration: float = 0.8,
    rate: float = 250.0,
) -> Motion:
    """Return sine waves from rest at a posture (n,): amplitude [rad], cycles and phase [rad] of each joint."""
    t = np.linspace(0.0, duration, round(duration * rate) + 1)[:, None]
    w, rise = 2.0 * np.pi * cycles / duration, 0.19 * duration
    wave = amplitude * (np.sin(w * t + phase) - np.sin(phase))
    fade = np.exp(-((t / rise) ** 2))
    v = (1.0 - fade) * amplitude * w * np.cos(w * t + phase) + 2.0 * t / rise**2 * fade * wave
    return Motion(rate, joints, (), centre + (1.0 - fade) * wave, v, np.zeros((len(t), 0)))
