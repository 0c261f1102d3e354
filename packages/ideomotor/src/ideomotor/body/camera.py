"""Pinhole camera: pixels and depths to points and back.

Frames follow REP-103: the camera's optical frame has z forward, x right, y down. Pixel (0, 0) is the
centre of the top-left pixel.
"""

from dataclasses import dataclass

import numpy as np

from ideomotor.errors import IdeomotorError


class CameraError(IdeomotorError):
    """Camera parameters or images that cannot be used."""


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole intrinsics of a rectified image."""

    width: int  # [px]
    height: int  # [px]
    fx: float  # [px]
    fy: float  # [px]
    cx: float  # [px]
    cy: float  # [px]

    def __post_init__(self) -> None:
        if not (self.width > 0 and self.height > 0):
            raise CameraError(f"image size {self.width}x{self.height}, expected positive")
        if not (np.isfinite([self.fx, self.fy, self.cx, self.cy]).all() and self.fx > 0 and self.fy > 0):
            raise CameraError(
                f"fx={self.fx} fy={self.fy} cx={self.cx} cy={self.cy}: expected finite, focal lengths "
                "positive (is camera_info published by a calibrated camera?)"
            )

    def project(self, position_camera: np.ndarray) -> np.ndarray:
        """Return pixels, shape (..., 2), of points in the optical frame, shape (..., 3) [m]."""
        x, y, z = np.moveaxis(np.asarray(position_camera), -1, 0)
        return np.stack([self.fx * x / z + self.cx, self.fy * y / z + self.cy], axis=-1)

    def backproject(self, uv: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Return points in the optical frame, shape (..., 3) [m].

        Args:
            uv: pixels, shape (..., 2).
            depth: distance along the optical z axis, shape (...) [m]; NaN gives a NaN point.
        """
        uv, depth = np.asarray(uv), np.asarray(depth)
        x = (uv[..., 0] - self.cx) / self.fx * depth
        y = (uv[..., 1] - self.cy) / self.fy * depth
        return np.stack([x, y, depth], axis=-1)

    def scaled(self, width: int, height: int) -> "Intrinsics":
        """Return the intrinsics of the same view resized to width x height."""
        sx, sy = width / self.width, height / self.height
        return Intrinsics(
            width, height, self.fx * sx, self.fy * sy, (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5
        )
