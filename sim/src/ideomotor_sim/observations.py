"""What a world tells about itself at one moment."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class JointState:
    """State of the robot's joints, by name."""

    stamp: float  # [s]
    names: tuple[str, ...]
    position: np.ndarray  # (n,) [rad] or [m]
    velocity: np.ndarray  # (n,) [rad/s] or [m/s]
    effort: np.ndarray  # (n,) [N m] or [N]


@dataclass(frozen=True)
class Rgbd:
    """One pair of images."""

    stamp: float  # [s]
    rgb: np.ndarray  # (H, W, 3) uint8, with sensor noise
    depth: np.ndarray  # (H, W) float32 [m], with sensor noise, 0 where there is no reading
    depth_exact: np.ndarray  # (H, W) float32 [m], as rendered


@dataclass(frozen=True)
class KeypointTruth:
    """Where the held object's keypoints really are."""

    position_ee: np.ndarray  # (K, 3) [m]
    uv: np.ndarray  # (K, 2) [px], also outside of the image
    depth: np.ndarray  # (K,) [m]
    visible: np.ndarray  # (K,) bool: in the image and hidden by nothing but the object itself
