"""From a recording of a robot's topics (rosbag2, MCAP) to a data set that a detector can be fine-tuned on."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from ideomotor.body.chain import KinematicChain
from ideomotor.body.joint_state import JointState, JointStateBuffer, JointStateError
from ideomotor.data.recording import Recording
from ideomotor_learn.body.dataset import DataSetError, write_recording

COLOUR, DEPTH, INFO = "camera/color/image_raw", "camera/depth/image_rect_raw", "camera/color/camera_info"
JOINTS, STATIC = "joint_states", "tf_static"
TOLERANCE = 0.005  # [s] between the stamps of colour and depth


@dataclass
class _Streams:
    """What a recording holds, decoded."""

    joints: JointStateBuffer = field(default_factory=lambda: JointStateBuffer(duration=np.inf))
    colour: dict[float, np.ndarray] = field(default_factory=dict)  # stamp [s] -> (H, W, 3) uint8
    depth: dict[float, np.ndarray] = field(default_factory=dict)  # stamp [s] -> (H, W) uint16 [mm]
    static: dict[str, tuple[str, np.ndarray]] = field(default_factory=dict)  # child -> parent, T_parent_child
    intrinsics: np.ndarray | None = None  # (4,) fx, fy, cx, cy [px]
    camera_frame: str = ""


def convert(bag: Path, urdf: str, ee_link: str, names: tuple[str, ...], out: Path) -> int:
    """Write the recording's images with the gripper's pose at their times as a data set; return their number.

    Args:
        bag: folder of the recording.
        urdf: text of the robot's description.
        ee_link: link the object is held by.
        names: of the detector's keypoints.
        out: folder to write.

    Raises:
        RecordingError: if the recording cannot be read.
        DataSetError: naming the topic or frame that is missing.
    """
    streams = _read(bag)
    chain = KinematicChain.from_urdf(urdf, ee_link=ee_link)
    if streams.intrinsics is None or not streams.colour or not streams.depth:
        raise DataSetError(f"{bag}: it needs {COLOUR}, {DEPTH} and {INFO}")
    T_camera_base = np.linalg.inv(_static_pose(bag, streams, chain.base_link))
    rows = []
    for stamp, rgb in sorted(streams.colour.items()):
        partner = min(streams.depth, key=lambda t: abs(t - stamp))
        if abs(partner - stamp) > TOLERANCE:
            continue
        try:
            q = streams.joints.position_at(chain.joint_names, stamp)
        except JointStateError:
            continue  # images before the first joint state
        rows.append((rgb, streams.depth[partner], T_camera_base @ chain.forward(q), q))
    if not rows:
        raise DataSetError(
            f"{bag}: no image with a depth image and joint states of {list(chain.joint_names)} at its time"
        )
    rgb, depth, T_camera_ee, q = (np.stack(column) for column in zip(*rows, strict=True))
    write_recording(
        out,
        names,
        rgb=rgb,
        depth=depth,
        intrinsics=streams.intrinsics,
        T_camera_ee=T_camera_ee,
        joint_position=q,
    )
    return len(rows)


def _read(bag: Path) -> _Streams:
    store, streams = get_typestore(Stores.ROS2_JAZZY), _Streams()
    with Recording(bag) as recording:
        types = {topic.name: topic.type for topic in recording.topics}
        for record in recording.records():
            topic = record.topic
            if not topic.endswith((COLOUR, DEPTH, INFO, JOINTS, STATIC)):
                continue
            message: Any = store.deserialize_cdr(record.data, types[topic])
            if topic.endswith(STATIC):
                streams.static.update(_transforms(message))
                continue
            stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
            if topic.endswith(JOINTS):
                streams.joints.update(JointState(stamp, tuple(message.name), np.asarray(message.position)))
            elif topic.endswith(COLOUR):
                streams.colour[stamp] = _image(message)
                streams.camera_frame = message.header.frame_id
            elif topic.endswith(DEPTH):
                streams.depth[stamp] = _image(message)
            else:
                streams.intrinsics = np.asarray(message.k)[[0, 4, 2, 5]]
    return streams


def _image(message: Any) -> np.ndarray:  # noqa: ANN401 - a deserialised message
    """Return (H, W, 3) uint8 colour or (H, W) uint16 depth [mm]."""
    h, w = message.height, message.width
    row = np.asarray(message.data, np.uint8).reshape(h, message.step)
    if message.encoding in ("rgb8", "bgr8"):
        rgb = row[:, : 3 * w].reshape(h, w, 3)
        return rgb if message.encoding == "rgb8" else rgb[..., ::-1]
    if message.encoding == "16UC1":
        return np.ascontiguousarray(row[:, : 2 * w]).view(np.uint16)
    if message.encoding == "32FC1":
        metres = np.ascontiguousarray(row[:, : 4 * w]).view(np.float32)
        return np.rint(1000 * np.nan_to_num(metres, posinf=0.0, neginf=0.0)).clip(0, 65535).astype(np.uint16)
    raise DataSetError(f"encoding {message.encoding!r}, expected rgb8, bgr8, 16UC1 or 32FC1")


def _transforms(message: Any) -> Iterator[tuple[str, tuple[str, np.ndarray]]]:  # noqa: ANN401
    for t in message.transforms:
        p, r, T = t.transform.translation, t.transform.rotation, np.eye(4)
        T[:3, :3] = Rotation.from_quat([r.x, r.y, r.z, r.w]).as_matrix()
        T[:3, 3] = [p.x, p.y, p.z]
        yield t.child_frame_id, (t.header.frame_id, T)


def _static_pose(bag: Path, streams: _Streams, base: str) -> np.ndarray:
    """Return T_base_camera, composed of static transforms."""
    frame, T = streams.camera_frame, np.eye(4)
    while frame != base:
        if frame not in streams.static:
            raise DataSetError(f"{bag}: {STATIC} leads from {streams.camera_frame!r} to {frame!r}, not to {base!r}")
        frame, T_parent = streams.static[frame]
        T = T_parent @ T
    return T
