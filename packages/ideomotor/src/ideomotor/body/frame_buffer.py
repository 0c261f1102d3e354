"""Bounded memory of observations: all of the recent past, and ever fewer of what was before.

An arm at rest shows the same view with the same error of the detector again and again: a few frames of it say as much
as minutes, which would replace all other views and be taken for as many independent measurements.
"""

import numpy as np

from ideomotor.body.fit import Observations
from ideomotor.body.keypoints import Keypoints

AT_REST = 15  # most consecutive frames of one view
SAME_VIEW = 0.005  # largest change of an entry of the ee frame's pose in one view [1] or [m]


class FrameBuffer:
    """Up to ``capacity`` frames. When full, every other frame of the older half is forgotten."""

    def __init__(self, capacity: int, keypoints: int) -> None:
        k = keypoints
        shapes = {
            "stamp": (), "T_camera_ee": (4, 4), "uv": (k, 2), "uv_covariance": (k, 2, 2),
            "depth": (k,), "depth_variance": (k,), "confidence": (k,),
        }  # fmt: skip
        self._arrays = {name: np.zeros((capacity, *shape)) for name, shape in shapes.items()}
        self._capacity, self._count = capacity, 0

    def __len__(self) -> int:
        return self._count

    def append(self, frame: Keypoints, T_camera_ee: np.ndarray) -> None:
        """Add the newest frame."""
        last = self._arrays["T_camera_ee"][max(self._count - AT_REST, 0) : self._count]
        if len(last) == AT_REST and np.abs(last - T_camera_ee).max() < SAME_VIEW:
            self._keep(np.delete(np.arange(self._count), self._count - AT_REST))
        elif self._count == self._capacity:
            half = self._capacity // 2
            self._keep(np.concatenate([np.arange(0, half, 2), np.arange(half, self._count)]))
        self._arrays["T_camera_ee"][self._count] = T_camera_ee
        for name, array in self._arrays.items():
            if name != "T_camera_ee":
                array[self._count] = getattr(frame, name)
        self._count += 1

    def forget_before(self, stamp: float) -> None:
        """Keep only the frames from ``stamp`` [s] on."""
        self._keep(np.nonzero(self._arrays["stamp"][: self._count] >= stamp)[0])

    def observations(self, most: int | None = None) -> Observations:
        """Return all frames, or at most ``most`` evenly chosen ones that include the newest."""
        use = np.arange(self._count)
        if most is not None and self._count > most:
            use = np.unique(np.linspace(0, self._count - 1, most).round().astype(int))
        return Observations(**{name: array[use] for name, array in self._arrays.items()})

    def _keep(self, index: np.ndarray) -> None:
        for array in self._arrays.values():
            array[: len(index)] = array[index]
        self._count = len(index)
