"""From estimates to a body extension: the chain of virtual joints through the held object, with covariances.

::

    ee --fixed--> kp_0 --fixed--> kp_1 --revolute--> moving --fixed--> kp_2 --fixed--> kp_3 (tip)

The z axis of every keypoint frame points along the segment that ends in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pinocchio as pin

from ideomotor.body.extension import BodyExtension, ExtensionError, JointType, VirtualJoint
from ideomotor.body.fit import Fit, skew
from ideomotor.body.inner_joint import Joint

SHORTEST_SEGMENT = 1e-3  # [m] below it a segment has no direction


@dataclass(frozen=True)
class HeldObject:
    """Everything known about the geometry of the held object, in the end-effector frame."""

    position_ee: np.ndarray  # (K, 3) keypoints, those beyond a joint at joint position zero [m]
    covariance: np.ndarray  # (3 K, 3 K) [m^2]
    joint: Joint | None = None  # joint inside the object

    @classmethod
    def from_fit(cls, fit: Fit, joint: Joint | None = None) -> "HeldObject":
        """Return the object of a rigid fit, or of one whose last keypoints move on ``joint``."""
        k3 = fit.position_ee.size
        position, covariance = fit.position_ee.copy(), fit.covariance[:k3, :k3].copy()
        if joint is not None:
            s = joint.first_moving
            position[s:] = joint.keypoints(np.zeros(1))[0]
            covariance[3 * s :, :], covariance[:, 3 * s :] = 0.0, 0.0
            covariance[3 * s :, 3 * s :] = _moving_covariance(joint)
        return cls(position, covariance, joint)

    def position_at(self, joint_position: float) -> np.ndarray:
        """Return the keypoints with the inner joint at a position [rad] or [m], shape (K, 3) [m]."""
        if self.joint is None:
            return self.position_ee
        moving = self.joint.keypoints(np.array([joint_position]))[0]
        return np.concatenate([self.position_ee[: self.joint.first_moving], moving])

    def keypoint_covariance(self, k: int) -> np.ndarray:
        """Return the position covariance of keypoint ``k`` in the ee frame, shape (3, 3) [m^2]."""
        return self.covariance[3 * k : 3 * k + 3, 3 * k : 3 * k + 3]


def build_extension(
    held: HeldObject,
    keypoint_names: Sequence[str],
    tip: str,
    *,
    ee_link: str,
    joint_position: float = 0.0,
    prefix: str = "virtual_",
) -> BodyExtension:
    """Return the chain ee -> keypoints in order -> tip, with the object's own joint in between.

    Args:
        held: the estimate.
        keypoint_names: names in the detector's order, (K,).
        tip: name of the keypoint that is the working point.
        ee_link: link that holds the object.
        joint_position: of the object's own joint now [rad] or [m].
        prefix: put before the names of all new links and joints.

    Raises:
        ExtensionError: if names do not fit the estimate, or there are none.
    """
    if len(keypoint_names) != len(held.position_ee) or tip not in keypoint_names:
        raise ExtensionError(
            f"keypoint names {list(keypoint_names)} with tip {tip!r} for {len(held.position_ee)} estimated keypoints, "
            "expected one name each and the tip among them"
        )
    links = [f"{prefix}{name}" for name in keypoint_names]
    parent, R_ee_parent, origin, origin_block = ee_link, np.eye(3), np.zeros(3), None
    joints = []
    for k, link in enumerate(links):
        if held.joint is not None and k == held.joint.first_moving:
            joints.append(
                _movable_joint(
                    held.joint, f"{prefix}joint", parent, f"{prefix}moving", R_ee_parent, origin, joint_position
                )
            )
            parent, origin, origin_block = f"{prefix}moving", _joint_origin(held.joint, origin), None
        segment = held.position_ee[k] - origin
        covariance = _segment_covariance(held.covariance, k, origin_block)
        R_ee_child = _turned_along(R_ee_parent, segment)
        joints.append(
            VirtualJoint(
                name=f"{link}_joint",
                parent_link=parent,
                child_link=link,
                type=JointType.FIXED,
                xyz=R_ee_parent.T @ segment,
                rpy=pin.rpy.matrixToRpy(R_ee_parent.T @ R_ee_child),
                covariance=_pose_covariance(R_ee_parent.T @ segment, R_ee_parent.T @ covariance @ R_ee_parent),
            )
        )
        parent, R_ee_parent, origin, origin_block = link, R_ee_child, held.position_ee[k], k
    return BodyExtension(ee_link, tuple(joints), links[list(keypoint_names).index(tip)], tuple(links))


def tip_covariance(held: HeldObject, tip: int) -> np.ndarray:
    """Return the covariance of the tip's pose in the ee frame, (xyz, rotation vector), shape (6, 6).

    The tip's direction is that of the last segment; the turn about it is not defined by points and has zero covariance.
    """
    before = tip - 1 if tip else None
    origin = held.position_ee[before] if before is not None else np.zeros(3)
    segment = held.position_ee[tip] - origin
    selector = np.zeros((6, len(held.covariance)))
    selector[:3, 3 * tip : 3 * tip + 3] = selector[3:, 3 * tip : 3 * tip + 3] = np.eye(3)
    if before is not None:
        selector[3:, 3 * before : 3 * before + 3] = -np.eye(3)
    J = np.zeros((6, 6))
    J[:3, :3], J[3:, 3:] = np.eye(3), _direction_jacobian(segment)
    covariance = J @ selector @ held.covariance @ selector.T @ J.T
    return 0.5 * (covariance + covariance.T)


def _movable_joint(
    joint: Joint, name: str, parent: str, child: str, R_ee_parent: np.ndarray, origin: np.ndarray, position: float
) -> VirtualJoint:
    """Return the object's own joint; its frame has the orientation of its parent."""
    lower, upper = joint.limits
    n = 5 if joint.type is JointType.REVOLUTE else 2
    J = np.zeros((6, n))  # by (turn of the axis, point)
    J[3:, :2] = R_ee_parent.T @ joint.tangent
    if joint.type is JointType.REVOLUTE:
        J[:3, 2:] = R_ee_parent.T
    covariance = J @ joint.covariance[:n, :n] @ J.T
    return VirtualJoint(
        name=name,
        parent_link=parent,
        child_link=child,
        type=joint.type,
        xyz=R_ee_parent.T @ (_joint_origin(joint, origin) - origin),
        rpy=np.zeros(3),
        covariance=0.5 * (covariance + covariance.T),
        axis=R_ee_parent.T @ joint.axis,
        lower=min(lower, position),
        upper=max(upper, position),
        position=position,
    )


def _joint_origin(joint: Joint, origin: np.ndarray) -> np.ndarray:
    """Return where the joint's frame is: on the hinge, or at the last keypoint before a slide."""
    return joint.point if joint.type is JointType.REVOLUTE else origin


def _moving_covariance(joint: Joint) -> np.ndarray:
    """Return the covariance of the moving keypoints at position zero, shape (3 m, 3 m) [m^2]."""
    m = len(joint.body)
    if joint.type is JointType.PRISMATIC:
        return joint.covariance[2:, 2:]
    J = np.hstack([np.tile(np.eye(3), (m, 1)), np.eye(3 * m)])  # point + body
    return J @ joint.covariance[2:, 2:] @ J.T


def _segment_covariance(covariance: np.ndarray, k: int, before: int | None) -> np.ndarray:
    """Return the covariance of keypoint k minus the keypoint before (None: a point taken as known), shape (3, 3)."""
    own = slice(3 * k, 3 * k + 3)
    if before is None:
        return covariance[own, own]
    other = slice(3 * before, 3 * before + 3)
    return covariance[own, own] + covariance[other, other] - covariance[own, other] - covariance[other, own]


def _pose_covariance(segment: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return the covariance of a frame at the end of a segment and turned along it, shape (6, 6)."""
    J = np.vstack([np.eye(3), _direction_jacobian(segment)])
    return J @ covariance @ J.T


def _direction_jacobian(segment: np.ndarray) -> np.ndarray:
    """Return d(rotation vector) / d(segment) = [s]x / |s|^2, shape (3, 3); zero for a segment without direction."""
    length2 = float(segment @ segment)
    return skew(segment) / length2 if length2 > SHORTEST_SEGMENT**2 else np.zeros((3, 3))


def _turned_along(R: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Return R turned by the smallest rotation that brings its z axis along the segment."""
    length = float(np.linalg.norm(segment))
    if length < SHORTEST_SEGMENT:
        return R
    z, d = R[:, 2], segment / length
    v, c = np.cross(z, d), float(z @ d)
    if c < -1 + 1e-9:  # opposite: half a turn about x
        return R @ np.diag([1.0, -1.0, -1.0])
    V = skew(v)
    return (np.eye(3) + V + V @ V / (1 + c)) @ R
