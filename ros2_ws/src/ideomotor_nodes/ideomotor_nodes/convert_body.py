"""Ideomotor's own messages <-> types of the libraries."""

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Vector3
from scipy.spatial.transform import Rotation

from ideomotor.body.extension import VirtualJoint
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.session import BodySchemaSession
from ideomotor.body.urdf import description_sha256
from ideomotor.data.messages import keypoints as keypoints
from ideomotor.data.messages import virtual_joint as virtual_joint
from ideomotor.planning.reward_path import RewardState
from ideomotor_interfaces.msg import BodySchema, Keypoint, KeypointArray
from ideomotor_interfaces.msg import RewardState as RewardStateMsg
from ideomotor_interfaces.msg import VirtualJoint as VirtualJointMsg
from ideomotor_nodes.convert import header, pose_msg


def keypoints_msg(keypoints: Keypoints, time: float | Time, frame_id: str) -> KeypointArray:
    """Return the message; ``time`` is the stamp of the image, ``frame_id`` the camera's optical frame."""
    return KeypointArray(
        header=header(time, frame_id),
        keypoints=[
            Keypoint(
                name=name,
                uv=keypoints.uv[i],
                uv_covariance=keypoints.uv_covariance[i].ravel(),
                depth=float(keypoints.depth[i]),
                depth_variance=float(keypoints.depth_variance[i]),
                confidence=float(keypoints.confidence[i]),
            )
            for i, name in enumerate(keypoints.names)
        ],
    )


def virtual_joint_msg(joint: VirtualJoint) -> VirtualJointMsg:
    """Return the message of a virtual joint."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_euler("xyz", joint.rpy).as_matrix(), joint.xyz
    x, y, z = (0.0, 0.0, 0.0) if joint.axis is None else (float(v) for v in joint.axis)
    return VirtualJointMsg(
        name=joint.name,
        parent_link=joint.parent_link,
        child_link=joint.child_link,
        type=getattr(VirtualJointMsg, joint.type.name),
        origin=pose_msg(T),
        axis=Vector3(x=x, y=y, z=z),
        lower=float(joint.lower),
        upper=float(joint.upper),
        position=float(joint.position),
        covariance=joint.covariance.ravel(),
    )


def body_schema_msg(session: BodySchemaSession, ee_link: str, time: Time, q: np.ndarray | None) -> BodySchema:
    """Return the state of the body schema.

    Args:
        session: what is known.
        ee_link: link that holds the object, and frame of the message.
        time: of the message.
        q: joint positions, shape (n,), from where a helpful motion is suggested; None: none is suggested.
    """
    extension, estimate = session.extension, session.estimate
    msg = BodySchema(
        header=header(time, ee_link),
        state=getattr(BodySchema, session.state.name),
        revision=session.transaction.revision,
        description_sha256=description_sha256(session.transaction.current),
        ee_link=ee_link,
        tip_link=ee_link if extension is None else extension.tip_link,
        joints=[] if extension is None else [virtual_joint_msg(joint) for joint in extension.joints],
        camera_correction=pose_msg(np.eye(4)),
        tip_std=float("inf"),
    )
    if estimate is not None:
        msg.frames, msg.inlier_ratio, msg.tip_std = estimate.frames, float(estimate.inlier_ratio), estimate.tip_std
        if estimate.tip_covariance is not None:
            msg.tip_covariance = estimate.tip_covariance.ravel()
        msg.camera_covariance = estimate.camera_covariance.ravel()
        msg.camera_correction = pose_msg(estimate.T_camera_corrected)
        if estimate.observability is not None:
            msg.unobserved = [direction.name for direction in estimate.observability.unobserved]
        msg.suggestion = "" if q is None else session.suggestion(q)
    return msg


def reward_state_msg(state: RewardState, names: Sequence[str], time: float | Time, base_link: str) -> RewardStateMsg:
    """Return what a reward says of a state; ``names`` are those of the keypoints."""
    return RewardStateMsg(
        header=header(time, base_link),
        keypoints=list(names),
        weights=state.weight.ravel().tolist(),
        progress=state.progress,
        cost=state.cost,
    )
