"""What the body schema adds to a robot: virtual joints that continue the chain through a held object."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
import pinocchio as pin

from ideomotor.errors import IdeomotorError


class ExtensionError(IdeomotorError):
    """A body extension that cannot be built or attached."""


class JointType(str, Enum):
    """URDF joint types that the body schema can identify."""

    FIXED = "fixed"
    REVOLUTE = "revolute"
    PRISMATIC = "prismatic"


@dataclass(frozen=True)
class VirtualJoint:
    """One virtual joint, with URDF's meaning of every field.

    ``T_parent_child(q) = Trans(xyz) Rot(rpy) M(axis, q)`` with M a rotation about, or a translation
    along, ``axis`` (expressed in the joint frame); identity for a fixed joint.
    """

    name: str
    parent_link: str
    child_link: str
    type: JointType
    xyz: np.ndarray  # (3,) origin in the parent frame [m]
    rpy: np.ndarray  # (3,) fixed-axis roll, pitch, yaw of the origin [rad]
    covariance: np.ndarray  # (6, 6) of (xyz [m], rotation vector [rad]), in the parent frame
    axis: np.ndarray | None = None  # (3,) unit vector; None for fixed
    lower: float = 0.0  # [rad] or [m]
    upper: float = 0.0  # [rad] or [m]
    position: float = 0.0  # newest estimate of the joint position [rad] or [m]

    def __post_init__(self) -> None:
        for name, shape in {"xyz": (3,), "rpy": (3,), "covariance": (6, 6)}.items():
            array = np.array(getattr(self, name), dtype=float)
            if array.shape != shape or not np.isfinite(array).all():
                raise ExtensionError(f"{self.name}.{name}: {array.tolist()}, expected finite, shape {shape}")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if (self.axis is None) != (self.type is JointType.FIXED):
            raise ExtensionError(f"{self.name}: axis={self.axis} does not fit a {self.type.value} joint")
        if self.axis is not None:
            axis = np.array(self.axis, dtype=float)
            if axis.shape != (3,) or not abs(np.linalg.norm(axis) - 1.0) < 1e-6:
                raise ExtensionError(f"{self.name}.axis={axis.tolist()}, expected a unit vector of 3")
            if not -np.inf < self.lower <= self.upper < np.inf:
                raise ExtensionError(f"{self.name}: lower={self.lower}, upper={self.upper}, expected finite, in order")
            axis.setflags(write=False)
            object.__setattr__(self, "axis", axis)

    def transform(self) -> np.ndarray:
        """Return ``T_parent_child`` at ``position``, shape (4, 4)."""
        T = np.eye(4)
        T[:3, 3], T[:3, :3] = self.xyz, pin.rpy.rpyToMatrix(self.rpy)
        motion = np.eye(4)
        if self.axis is not None and self.type is JointType.REVOLUTE:
            motion[:3, :3] = pin.exp3(self.position * self.axis)
        elif self.axis is not None:
            motion[:3, 3] = self.position * self.axis
        return T @ motion


@dataclass(frozen=True)
class BodyExtension:
    """A tree of virtual joints below ``ee_link``, and the link that is the tip."""

    ee_link: str
    joints: tuple[VirtualJoint, ...]  # parents before children
    tip_link: str
    keypoint_links: tuple[str, ...]  # link of each keypoint, in the detector's order

    def __post_init__(self) -> None:
        known = {self.ee_link}
        for joint in self.joints:
            if joint.parent_link not in known:
                raise ExtensionError(f"{joint.name}: parent {joint.parent_link!r} is not among {sorted(known)}")
            if joint.child_link in known:
                raise ExtensionError(f"{joint.name}: child {joint.child_link!r} exists already")
            known.add(joint.child_link)
        for link in (self.tip_link, *self.keypoint_links):
            if link not in known:
                raise ExtensionError(f"link {link!r} is not among {sorted(known)}")

    def link_poses(self) -> dict[str, np.ndarray]:
        """Return the pose of every link of the extension in ``ee_link``, shape (4, 4), at the joints' ``position``."""
        poses = {self.ee_link: np.eye(4)}
        for joint in self.joints:
            poses[joint.child_link] = poses[joint.parent_link] @ joint.transform()
        return poses
