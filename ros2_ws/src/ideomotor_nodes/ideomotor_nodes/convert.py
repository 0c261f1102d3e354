"""Messages of the standard packages <-> types of the libraries. See convert_body.py for Ideomotor's own messages.

What reads a message is in `ideomotor.data.messages`, which needs no ROS, and is found here, too.
"""

import array
import math
import sys
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, Transform, TransformStamped, Vector3
from sensor_msgs.msg import CameraInfo, Image
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from ideomotor.body.camera import CameraError, Intrinsics
from ideomotor.data.messages import ENCODINGS
from ideomotor.data.messages import depth_image as depth_image
from ideomotor.data.messages import image_array as image_array
from ideomotor.data.messages import intrinsics as intrinsics
from ideomotor.data.messages import joint_state as joint_state
from ideomotor.data.messages import matrix as matrix
from ideomotor.data.messages import matrix_from_transform as matrix_from_transform
from ideomotor.data.messages import rgb_image as rgb_image
from ideomotor.data.messages import seconds as seconds
from ideomotor.safety.effort_gate import EffortCommand
from ideomotor.safety.gate import CommandError, JointCommand

# Time and headers


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
        position=doubles(position),
        velocity=doubles(velocity),
        effort=doubles(effort),
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


def effort_command(msg: JointTrajectory) -> EffortCommand:
    """Return the efforts of a one-point trajectory.

    Raises:
        CommandError: not exactly one point, arrays that do not fit the names, not finite, or more than efforts.
    """
    if len(msg.points) != 1:
        raise CommandError(f"joint command has {len(msg.points)} points, expected 1")
    point = msg.points[0]
    if len(point.positions) or len(point.velocities):
        raise CommandError("joint command has positions or velocities, expected efforts only")
    return EffortCommand(seconds(msg.header.stamp), tuple(msg.joint_names), np.array(point.effort))


def effort_command_msg(names: Sequence[str], effort: np.ndarray, time: float | Time) -> JointTrajectory:
    """Return a one-point trajectory of efforts, shape (n,); ``time`` is the stamp of the state that they answer."""
    return JointTrajectory(
        header=header(time), joint_names=list(names), points=[JointTrajectoryPoint(effort=doubles(effort))]
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
    point = JointTrajectoryPoint(positions=doubles(position), velocities=doubles(velocity))
    point.time_from_start.sec, point.time_from_start.nanosec = divmod(nanoseconds, 10**9)
    return JointTrajectory(header=header(time), joint_names=list(names), points=[point])


def doubles(values: np.ndarray | None) -> "array.array[float]":
    """Return the numbers of a float64[] field; lists would be checked element by element."""
    return array.array("d", [] if values is None else np.asarray(values, dtype=float).tobytes())


# Images


def image_msg(pixels: np.ndarray, encoding: str, time: float | Time, frame_id: str) -> Image:
    """Return an image message; ``pixels`` has the shape and dtype of ``encoding``.

    Raises:
        CameraError: unknown encoding, or shape or dtype do not fit it.
    """
    if encoding not in ENCODINGS:
        raise CameraError(f"image encoding {encoding!r}, expected one of {sorted(ENCODINGS)}")
    dtype, channels = ENCODINGS[encoding]
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
    millimetres = np.rint(np.asarray(depth, dtype=np.float32) * np.float32(1e3))
    valid = (millimetres > 0) & (millimetres <= np.iinfo(np.uint16).max)
    return image_msg(np.where(valid, millimetres, 0).astype(np.uint16), "16UC1", time, frame_id)


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
    """Return the quaternion of a rotation matrix, shape (3, 3).

    Row k below is 4 q_k (x, y, z, w); that of the largest component is taken (Shepperd 1978). scipy's conversion
    takes 50 us, which is much for 200 transforms a second.
    """
    (r00, r01, r02), (r10, r11, r12), (r20, r21, r22) = R.tolist()
    rows = (
        (1.0 + r00 - r11 - r22, r01 + r10, r02 + r20, r21 - r12),
        (r01 + r10, 1.0 - r00 + r11 - r22, r12 + r21, r02 - r20),
        (r02 + r20, r12 + r21, 1.0 - r00 - r11 + r22, r10 - r01),
        (r21 - r12, r02 - r20, r10 - r01, 1.0 + r00 + r11 + r22),
    )
    row = rows[max(range(4), key=lambda k: rows[k][k])]
    norm = math.hypot(*row)
    x, y, z, w = (v / norm for v in row)
    return Quaternion(x=x, y=y, z=z, w=w)
