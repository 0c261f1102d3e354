"""Messages of the standard packages <-> types of the libraries. See convert_body.py for Ideomotor's own messages."""

import array
import sys
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, Transform, TransformStamped, Vector3
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from ideomotor.body.camera import CameraError, Intrinsics
from ideomotor.body.joint_state import JointState, JointStateError
from ideomotor.body.transform_tree import TransformError
from ideomotor.safety.gate import CommandError, JointCommand

_ENCODINGS = {  # encoding -> dtype, channels
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "rgba8": (np.uint8, 4),
    "bgra8": (np.uint8, 4),
    "mono8": (np.uint8, 1),
    "mono16": (np.uint16, 1),
    "16UC1": (np.uint16, 1),
    "32FC1": (np.float32, 1),
}


# Time and headers


def seconds(stamp: Time) -> float:
    """Return a time in seconds (exact to 0.3 us for a time of this century)."""
    return float(stamp.sec + stamp.nanosec * 1e-9)


def stamp(seconds: float) -> Time:
    """Return a time message; seconds are rounded to nanoseconds.

    Raises:
        ValueError: negative or not finite.
    """
    if not 0.0 <= seconds < 2**31:
        raise ValueError(f"time {seconds} s, expected 0 to 2^31")
    nanoseconds = round(seconds * 1e9)
    return Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def header(time: float | Time, frame_id: str = "") -> Header:
    """Return a header; pass on the ``Time`` of a message where its stamp must stay the same to the nanosecond."""
    return Header(stamp=time if isinstance(time, Time) else stamp(time), frame_id=frame_id)


# Joints


def joint_state(msg: JointStateMsg) -> JointState:
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


def joint_state_msg(
    names: Sequence[str],
    position: np.ndarray,
    time: float | Time,
    velocity: np.ndarray | None = None,
    effort: np.ndarray | None = None,
) -> JointStateMsg:
    """Return a joint state message."""
    return JointStateMsg(
        header=header(time),
        name=list(names),
        position=_doubles(position),
        velocity=_doubles(velocity),
        effort=_doubles(effort),
    )


def joint_command(msg: JointTrajectory) -> JointCommand:
    """Return the command of a one-point trajectory.

    Raises:
        CommandError: not exactly one point, or arrays that do not fit the names.
    """
    if len(msg.points) != 1:
        raise CommandError(f"joint command has {len(msg.points)} points, expected 1")
    point = msg.points[0]
    return JointCommand(
        stamp=seconds(msg.header.stamp),
        names=tuple(msg.joint_names),
        position=np.array(point.positions) if len(point.positions) else None,
        velocity=np.array(point.velocities) if len(point.velocities) else None,
    )


def joint_command_msg(
    names: Sequence[str],
    position: np.ndarray | None,
    time: float | Time,
    velocity: np.ndarray | None = None,
    time_from_start: float = 0.0,
) -> JointTrajectory:
    """Return a one-point trajectory; ``time_from_start`` [s]."""
    nanoseconds = round(time_from_start * 1e9)
    point = JointTrajectoryPoint(positions=_doubles(position), velocities=_doubles(velocity))
    point.time_from_start.sec, point.time_from_start.nanosec = divmod(nanoseconds, 10**9)
    return JointTrajectory(header=header(time), joint_names=list(names), points=[point])


def _doubles(values: np.ndarray | None) -> "array.array[float]":
    return array.array("d", [] if values is None else np.asarray(values, dtype=float).tobytes())


# Images


def image_array(msg: Image) -> np.ndarray:
    """Return the pixels as they are, shape (H, W) or (H, W, channels), little or big endian made native.

    Raises:
        CameraError: unknown encoding, or size, step and data do not fit together.
    """
    if msg.encoding not in _ENCODINGS:
        raise CameraError(f"image encoding {msg.encoding!r}, expected one of {sorted(_ENCODINGS)}")
    dtype, channels = np.dtype(_ENCODINGS[msg.encoding][0]), _ENCODINGS[msg.encoding][1]
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


def rgb_image(msg: Image) -> np.ndarray:
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


def depth_image(msg: Image) -> np.ndarray:
    """Return depth, shape (H, W) float32 [m]; NaN where there is none.

    Raises:
        CameraError: not 16UC1 (mm), mono16 or 32FC1 (m), or malformed.
    """
    if msg.encoding not in ("16UC1", "mono16", "32FC1"):
        raise CameraError(f"depth image encoding {msg.encoding!r}, expected 16UC1 (mm) or 32FC1 (m)")
    pixels = image_array(msg)
    depth = pixels if pixels.dtype == np.float32 else pixels.astype(np.float32) * np.float32(1e-3)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))


def image_msg(pixels: np.ndarray, encoding: str, time: float | Time, frame_id: str) -> Image:
    """Return an image message; ``pixels`` has the shape and dtype of ``encoding``.

    Raises:
        CameraError: unknown encoding, or shape or dtype do not fit it.
    """
    if encoding not in _ENCODINGS:
        raise CameraError(f"image encoding {encoding!r}, expected one of {sorted(_ENCODINGS)}")
    dtype, channels = _ENCODINGS[encoding]
    if pixels.dtype != dtype or pixels.shape[2:] != ((channels,) if channels > 1 else ()) or pixels.ndim < 2:
        raise CameraError(f"{encoding} needs {np.dtype(dtype)} with {channels} channels: {pixels.dtype} {pixels.shape}")
    height, width = pixels.shape[:2]
    return Image(
        header=header(time, frame_id),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=width * channels * np.dtype(dtype).itemsize,
        data=array.array("B", np.ascontiguousarray(pixels).tobytes()),  # bytes would be copied element by element
    )


def depth_image_msg(depth: np.ndarray, time: float | Time, frame_id: str) -> Image:
    """Return depth [m], shape (H, W), as 16UC1 in millimetres; 0 where it is NaN or beyond 65.535 m."""
    millimetres = np.rint(np.nan_to_num(np.asarray(depth, dtype=float), posinf=0.0, neginf=0.0) * 1e3)
    valid = (millimetres > 0) & (millimetres <= np.iinfo(np.uint16).max)
    return image_msg(np.where(valid, millimetres, 0).astype(np.uint16), "16UC1", time, frame_id)


def intrinsics(msg: CameraInfo) -> Intrinsics:
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


def camera_info_msg(camera: Intrinsics, time: float | Time, frame_id: str) -> CameraInfo:
    """Return the camera_info of a rectified image."""
    fx, fy, cx, cy = float(camera.fx), float(camera.fy), float(camera.cx), float(camera.cy)
    return CameraInfo(
        header=header(time, frame_id),
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


# Poses


def matrix(pose: Pose) -> np.ndarray:
    """Return the pose as a matrix, shape (4, 4) [m].

    Raises:
        TransformError: not finite, or the quaternion has no unit norm (within 1 %).
    """
    return _matrix(pose.position, pose.orientation)


def matrix_from_transform(transform: Transform) -> np.ndarray:
    """Return the transform as a matrix, shape (4, 4) [m].

    Raises:
        TransformError: not finite, or the quaternion has no unit norm (within 1 %).
    """
    return _matrix(transform.translation, transform.rotation)


def pose_msg(T: np.ndarray) -> Pose:
    """Return a pose message of a matrix, shape (4, 4)."""
    x, y, z = (float(v) for v in T[:3, 3])
    return Pose(position=Point(x=x, y=y, z=z), orientation=quaternion_msg(T[:3, :3]))


def pose_stamped_msg(T: np.ndarray, time: float | Time, frame_id: str) -> PoseStamped:
    """Return a stamped pose of a matrix, shape (4, 4), in ``frame_id``."""
    return PoseStamped(header=header(time, frame_id), pose=pose_msg(T))


def transform_stamped_msg(T: np.ndarray, time: float | Time, parent: str, child: str) -> TransformStamped:
    """Return ``T_parent_child`` as a message for tf."""
    x, y, z = (float(v) for v in T[:3, 3])
    transform = Transform(translation=Vector3(x=x, y=y, z=z), rotation=quaternion_msg(T[:3, :3]))
    return TransformStamped(header=header(time, parent), child_frame_id=child, transform=transform)


def quaternion_msg(R: np.ndarray) -> Quaternion:
    """Return the quaternion of a rotation matrix, shape (3, 3)."""
    x, y, z, w = (float(v) for v in Rotation.from_matrix(R).as_quat())
    return Quaternion(x=x, y=y, z=z, w=w)


def _matrix(position: Point | Vector3, orientation: Quaternion) -> np.ndarray:
    p = np.array([position.x, position.y, position.z])
    quaternion = np.array([orientation.x, orientation.y, orientation.z, orientation.w])
    if not np.isfinite(p).all():
        raise TransformError(f"position {p.tolist()} is not finite")
    if not abs(np.linalg.norm(quaternion) - 1.0) < 0.01:
        raise TransformError(f"quaternion (xyzw) {quaternion.tolist()} has no unit norm")
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_quat(quaternion).as_matrix(), p
    return T
