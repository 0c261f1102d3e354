"""Messages -> types of the libraries. ROS is not needed: a message is any object with the fields of its definition.

Messages come from topics (rclpy, `ideomotor_nodes`) or from recordings (rosbags, `ideomotor.data.recording`).
"""

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ideomotor.body.camera import CameraError, Intrinsics
from ideomotor.body.extension import ExtensionError, JointType, VirtualJoint
from ideomotor.body.joint_state import JointState, JointStateError
from ideomotor.body.keypoints import KeypointError, Keypoints
from ideomotor.body.session import BodyState
from ideomotor.body.transform_tree import TransformError
from ideomotor.errors import IdeomotorError

Message = Any  # documented by the name of its type

TARGET_FRAMES = "target/"  # prefix of the frames of the robot that does the target motion

ENCODINGS = {  # encoding -> dtype, channels
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "rgba8": (np.uint8, 4),
    "bgra8": (np.uint8, 4),
    "mono8": (np.uint8, 1),
    "mono16": (np.uint16, 1),
    "16UC1": (np.uint16, 1),
    "32FC1": (np.float32, 1),
}


class MessageError(IdeomotorError):
    """A message with a value that its definition does not know."""


def seconds(stamp: Message) -> float:
    """Return a time in seconds (exact to 0.3 us for a time of this century)."""
    return float(stamp.sec + stamp.nanosec * 1e-9)


def joint_state(msg: Message) -> JointState:
    """Return the joint state; effort is not read.

    Raises:
        JointStateError: arrays of different lengths, a joint twice, no positions, or not finite.
    """
    for field in ("position", "velocity", "effort"):
        size = len(getattr(msg, field))
        if size != len(msg.name) and not (size == 0 and field != "position"):
            raise JointStateError(f"joint state has {len(msg.name)} names {list(msg.name)} but {size} {field} values")
    velocity = np.array(msg.velocity) if len(msg.velocity) else None
    return JointState(seconds(msg.header.stamp), tuple(msg.name), np.array(msg.position), velocity)


# Images


def image_array(msg: Message) -> np.ndarray:
    """Return the pixels as they are, shape (H, W) or (H, W, channels), little or big endian made native.

    Raises:
        CameraError: unknown encoding, or size, step and data do not fit together.
    """
    if msg.encoding not in ENCODINGS:
        raise CameraError(f"image encoding {msg.encoding!r}, expected one of {sorted(ENCODINGS)}")
    dtype, channels = np.dtype(ENCODINGS[msg.encoding][0]), ENCODINGS[msg.encoding][1]
    row = msg.width * channels * dtype.itemsize
    if not (msg.height > 0 and msg.width > 0 and msg.step >= row):
        raise CameraError(
            f"image {msg.width}x{msg.height} {msg.encoding} with step {msg.step}, expected a step of {row} or more"
        )
    if len(msg.data) != msg.height * msg.step:
        raise CameraError(f"image has {len(msg.data)} bytes, expected height {msg.height} x step {msg.step}")
    rows = np.frombuffer(memoryview(msg.data), dtype=np.uint8).reshape(msg.height, msg.step)[:, :row]
    pixels = np.ascontiguousarray(rows).view(dtype.newbyteorder(">" if msg.is_bigendian else "<")).astype(dtype)
    return pixels.reshape((msg.height, msg.width, channels) if channels > 1 else (msg.height, msg.width))


def rgb_image(msg: Message) -> np.ndarray:
    """Return a colour image as RGB, shape (H, W, 3) uint8.

    Raises:
        CameraError: not a colour or mono8 image, or malformed.
    """
    if msg.encoding not in ("rgb8", "bgr8", "rgba8", "bgra8", "mono8"):
        raise CameraError(f"colour image encoding {msg.encoding!r}, expected rgb8, bgr8, rgba8, bgra8 or mono8")
    pixels = image_array(msg)
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, 2::-1] if msg.encoding.startswith("bgr") else pixels[:, :, :3])


def depth_image(msg: Message) -> np.ndarray:
    """Return depth, shape (H, W) float32 [m]; NaN where there is none.

    Raises:
        CameraError: not 16UC1 (mm), mono16 or 32FC1 (m), or malformed.
    """
    if msg.encoding not in ("16UC1", "mono16", "32FC1"):
        raise CameraError(f"depth image encoding {msg.encoding!r}, expected 16UC1 (mm) or 32FC1 (m)")
    pixels = image_array(msg)
    depth = pixels if pixels.dtype == np.float32 else pixels.astype(np.float32) * np.float32(1e-3)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))


def intrinsics(msg: Message) -> Intrinsics:
    """Return the intrinsics of a rectified image.

    Raises:
        CameraError: K is zero (a camera without calibration), the image is distorted, or cropped or binned.
    """
    if not any(msg.k):
        raise CameraError("camera_info has K = 0: the camera is not calibrated; see camera_calibration")
    if any(abs(d) > 1e-6 for d in msg.d):
        raise CameraError(f"camera_info has distortion D={list(msg.d)}: rectify the image first, see image_proc")
    if msg.binning_x > 1 or msg.binning_y > 1 or msg.roi.x_offset or msg.roi.y_offset:
        raise CameraError(f"camera_info is binned {msg.binning_x}x{msg.binning_y} or cropped {msg.roi}: not supported")
    return Intrinsics(msg.width, msg.height, fx=msg.k[0], fy=msg.k[4], cx=msg.k[2], cy=msg.k[5])


# Poses


def matrix(pose: Message) -> np.ndarray:
    """Return the pose as a matrix, shape (4, 4) [m].

    Raises:
        TransformError: not finite, or the quaternion has no unit norm (within 1 %).
    """
    return _matrix(pose.position, pose.orientation)


def matrix_from_transform(transform: Message) -> np.ndarray:
    """Return the transform as a matrix, shape (4, 4) [m].

    Raises:
        TransformError: not finite, or the quaternion has no unit norm (within 1 %).
    """
    return _matrix(transform.translation, transform.rotation)


def _matrix(position: Message, orientation: Message) -> np.ndarray:
    p = np.array([position.x, position.y, position.z])
    quaternion = np.array([orientation.x, orientation.y, orientation.z, orientation.w])
    if not np.isfinite(p).all():
        raise TransformError(f"position {p.tolist()} is not finite")
    if not abs(np.linalg.norm(quaternion) - 1.0) < 0.01:
        raise TransformError(f"quaternion (xyzw) {quaternion.tolist()} has no unit norm")
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_quat(quaternion).as_matrix(), p
    return T


# Ideomotor's own


def body_state(msg: Message) -> BodyState:
    """Return the state of a BodySchema message.

    Raises:
        MessageError: unknown state.
    """
    states = {getattr(type(msg), state.name): state for state in BodyState}  # the message's constants
    if msg.state not in states:
        raise MessageError(f"body schema has state {msg.state}, expected one of {sorted(states)}")
    return states[msg.state]


def keypoints(msg: Message) -> Keypoints:
    """Return the keypoints of an image.

    Raises:
        KeypointError: a name twice, or a value is not finite where it must be.
    """
    names = tuple(k.name for k in msg.keypoints)
    if len(set(names)) != len(names):
        raise KeypointError(f"keypoint names {list(names)}: one is there twice")
    k = len(names)
    return Keypoints(
        stamp=seconds(msg.header.stamp),
        names=names,
        uv=np.array([k.uv for k in msg.keypoints]).reshape(k, 2),
        uv_covariance=np.array([k.uv_covariance for k in msg.keypoints]).reshape(k, 2, 2),
        depth=np.array([k.depth for k in msg.keypoints]),
        depth_variance=np.array([k.depth_variance for k in msg.keypoints]),
        confidence=np.array([k.confidence for k in msg.keypoints]),
    )


def virtual_joint(msg: Message) -> VirtualJoint:
    """Return the virtual joint.

    Raises:
        ExtensionError: unknown type, or values that do not fit it.
        TransformError: the origin is no pose.
    """
    types = {getattr(type(msg), joint_type.name): joint_type for joint_type in JointType}  # the message's constants
    if msg.type not in types:
        raise ExtensionError(f"{msg.name}: type {msg.type}, expected one of {sorted(types)}")
    T = matrix(msg.origin)
    joint_type = types[msg.type]
    return VirtualJoint(
        name=msg.name,
        parent_link=msg.parent_link,
        child_link=msg.child_link,
        type=joint_type,
        xyz=T[:3, 3],
        rpy=Rotation.from_matrix(T[:3, :3]).as_euler("xyz"),
        covariance=np.array(msg.covariance).reshape(6, 6),
        axis=None if joint_type is JointType.FIXED else np.array([msg.axis.x, msg.axis.y, msg.axis.z]),
        lower=msg.lower,
        upper=msg.upper,
        position=msg.position,
    )
