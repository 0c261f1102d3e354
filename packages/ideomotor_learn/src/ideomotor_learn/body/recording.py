"""From a recording of a robot's topics (rosbag2, MCAP) to a data set that a detector can be fine-tuned on."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ideomotor.body.chain import KinematicChain
from ideomotor.body.joint_state import JointStateBuffer, JointStateError
from ideomotor.body.transform_tree import TransformError, TransformTree
from ideomotor.data import messages
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
    static: TransformTree = field(default_factory=TransformTree)
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
        IdeomotorError: if one of its messages cannot be used.
        DataSetError: naming the topic or frame that is missing.
    """
    streams = _read(bag)
    chain = KinematicChain.from_urdf(urdf, ee_link=ee_link)
    if streams.intrinsics is None or not streams.colour or not streams.depth:
        raise DataSetError(f"{bag}: it needs {COLOUR}, {DEPTH} and {INFO}")
    try:
        T_camera_base = streams.static.lookup(streams.camera_frame, chain.base_link)
    except TransformError as error:
        raise DataSetError(f"{bag}: {STATIC}: {error}") from error
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
    streams = _Streams()
    with Recording(bag) as recording:
        names = [topic.name for topic in recording.topics if topic.name.endswith((COLOUR, DEPTH, INFO, JOINTS, STATIC))]
        for record in recording.records(names):
            topic, message = record.topic, recording.message(record)
            if topic.endswith(STATIC):
                for t in message.transforms:
                    pose = messages.matrix_from_transform(t.transform)
                    streams.static.set(t.header.frame_id.lstrip("/"), t.child_frame_id.lstrip("/"), pose)
            elif topic.endswith(JOINTS):
                streams.joints.update(messages.joint_state(message))
            elif topic.endswith(COLOUR):
                streams.colour[messages.seconds(message.header.stamp)] = messages.rgb_image(message)
                streams.camera_frame = message.header.frame_id
            elif topic.endswith(DEPTH):
                metres = np.nan_to_num(messages.depth_image(message))
                streams.depth[messages.seconds(message.header.stamp)] = (
                    np.rint(1e3 * metres).clip(0, 65535).astype(np.uint16)
                )
            else:
                camera = messages.intrinsics(message)
                streams.intrinsics = np.array([camera.fx, camera.fy, camera.cx, camera.cy])
    return streams
