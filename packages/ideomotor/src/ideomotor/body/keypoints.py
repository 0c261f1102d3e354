"""Keypoints of a held object, seen in one RGB-D image."""

from dataclasses import dataclass

import numpy as np

from ideomotor.body.camera import Intrinsics
from ideomotor.errors import IdeomotorError


class KeypointError(IdeomotorError):
    """A keypoint array has the wrong shape or impossible values."""


@dataclass(frozen=True)
class Keypoints:
    """K keypoints of one image. Arrays are read-only; order follows ``names``."""

    stamp: float  # time the image was taken [s]
    names: tuple[str, ...]  # (K,)
    uv: np.ndarray  # (K, 2) [px]
    uv_covariance: np.ndarray  # (K, 2, 2) [px^2]
    depth: np.ndarray  # (K,) along the optical z axis [m]; NaN where there is none
    depth_variance: np.ndarray  # (K,) [m^2]
    confidence: np.ndarray  # (K,) probability in [0, 1] that the keypoint is on the object and visible

    def __post_init__(self) -> None:
        k = len(self.names)
        shapes = {"uv": (k, 2), "uv_covariance": (k, 2, 2), "depth": (k,), "depth_variance": (k,), "confidence": (k,)}
        for name, shape in shapes.items():
            array = np.array(getattr(self, name), dtype=float)
            if array.shape != shape:
                raise KeypointError(f"{name} has shape {array.shape}, expected {shape} for {k} names")
            if name not in ("depth", "depth_variance") and not np.isfinite(array).all():
                raise KeypointError(f"{name} is not finite: {array.tolist()}")
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def position_camera(self, intrinsics: Intrinsics) -> np.ndarray:
        """Return 3-D positions in the optical frame, shape (K, 3) [m]; NaN where depth is."""
        return intrinsics.backproject(self.uv, self.depth)

    def covariance_camera(self, intrinsics: Intrinsics) -> np.ndarray:
        r"""Return position covariances in the optical frame, shape (K, 3, 3) [m^2].

        First order, with :math:`p = (x d, y d, d)`, :math:`(x, y)` the normalised pixel:
        :math:`\Sigma_p = J \, \mathrm{diag}(\Sigma_{uv}, \sigma_d^2) \, J^T`.
        """
        k = len(self.names)
        J = np.zeros((k, 3, 3))
        J[:, 0, 0], J[:, 1, 1] = self.depth / intrinsics.fx, self.depth / intrinsics.fy
        J[:, :, 2] = intrinsics.backproject(self.uv, np.ones(k))
        sigma = np.zeros((k, 3, 3))
        sigma[:, :2, :2], sigma[:, 2, 2] = self.uv_covariance, self.depth_variance
        return J @ sigma @ J.transpose(0, 2, 1)
