"""From a recorded bag to a data set to fine-tune on."""

from pathlib import Path

import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from ideomotor.body.chain import KinematicChain
from ideomotor.data.recording import RecordingError, RecordingWriter, Topic
from ideomotor_learn.body.dataset import DataSetError, load_dataset
from ideomotor_learn.body.recording import COLOUR, DEPTH, INFO, JOINTS, convert

NAMES = ("kp_0", "kp_1")
TF = "tf2_msgs/msg/TFMessage"
STORE = get_typestore(Stores.ROS2_JAZZY)
URDF = """<robot name="r"><link name="base"/><link name="hand"/>
<joint name="turn" type="revolute"><parent link="base"/><child link="hand"/><origin xyz="0 0 0.5"/><axis xyz="0 0 1"/>
<limit lower="-3" upper="3" velocity="1" effort="1"/></joint></robot>"""


def stamp(t: float) -> object:
    return STORE.types["builtin_interfaces/msg/Time"](sec=int(t), nanosec=round((t % 1) * 1e9))


def header(t: float, frame: str = "camera") -> object:
    return STORE.types["std_msgs/msg/Header"](stamp=stamp(t), frame_id=frame)


def image(t: float, array: np.ndarray, encoding: str) -> object:
    h, w = array.shape[:2]
    data = np.frombuffer(array.tobytes(), np.uint8)
    return STORE.types["sensor_msgs/msg/Image"](header(t), h, w, encoding, 0, len(data) // h, data)


def camera_info(t: float) -> object:
    none = np.zeros(0)
    roi = STORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    k = np.array([50.0, 0, 3.5, 0, 51.0, 2.5, 0, 0, 1])
    return STORE.types["sensor_msgs/msg/CameraInfo"](
        header(t), 6, 8, "plumb_bob", none, k, np.eye(3).ravel(), np.zeros(12), 0, 0, roi
    )


def static() -> object:
    g = "geometry_msgs/msg/"
    rotation = STORE.types[g + "Quaternion"](0.0, 0.0, np.sin(0.2), np.cos(0.2))
    transform = STORE.types[g + "Transform"](STORE.types[g + "Vector3"](1.0, 0.2, 0.3), rotation)
    return STORE.types[TF]([STORE.types[g + "TransformStamped"](header(0.0, "base"), "camera", transform)])


def write(folder: Path, *, depth_encoding: str = "16UC1", with_static: bool = True) -> None:
    """Five images at 10 Hz while the joint turns at 0.5 rad/s; joint states at 50 Hz."""
    writer = RecordingWriter(folder, lambda name: "geometry_msgs/TransformStamped[] transforms\n")
    if TF not in STORE.types:
        STORE.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms\n", TF))
    types = {COLOUR: "Image", DEPTH: "Image", INFO: "CameraInfo", JOINTS: "JointState"}
    full = {name: f"sensor_msgs/msg/{kind}" for name, kind in types.items()} | {"tf_static": TF}
    for name, kind in full.items():
        writer.add_topic(Topic("/" + name, kind))

    def put(name: str, t: float, message: object) -> None:
        writer.write("/" + name, round(t * 1e9), bytes(STORE.serialize_cdr(message, full[name])))

    if with_static:
        put("tf_static", 0.0, static())
    put(INFO, 0.0, camera_info(0.0))
    for i in range(25):
        t, empty = 1 + i / 50, np.zeros(0)
        joints = STORE.types["sensor_msgs/msg/JointState"](header(t), ["turn"], np.array([0.5 * (t - 1)]), empty, empty)
        put(JOINTS, t, joints)
        if i % 5 == 2:
            depth = np.full((6, 8), 700 + i, np.uint16)
            metres = np.where(depth > 0, depth * 1e-3, np.nan).astype(np.float32)
            put(COLOUR, t, image(t, np.full((6, 8, 3), i, np.uint8), "rgb8"))
            put(DEPTH, t + 0.001, image(t + 0.001, depth if depth_encoding == "16UC1" else metres, depth_encoding))
    writer.close()


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_images_get_the_grippers_pose_at_their_time(tmp_path: Path, encoding: str) -> None:
    write(tmp_path / "bag", depth_encoding=encoding)
    assert convert(tmp_path / "bag", URDF, "hand", NAMES, tmp_path / "data") == 5
    data = load_dataset(tmp_path / "data")
    assert data.names == NAMES
    np.testing.assert_allclose(data.intrinsics[0], [50, 51, 3.5, 2.5])
    chain = KinematicChain.from_urdf(URDF, ee_link="hand")
    T_base_camera = np.eye(4)
    T_base_camera[:3, :3] = [[np.cos(0.4), -np.sin(0.4), 0], [np.sin(0.4), np.cos(0.4), 0], [0, 0, 1]]
    T_base_camera[:3, 3] = [1.0, 0.2, 0.3]
    for n, i in enumerate(range(2, 25, 5)):
        assert (data.sample(n).rgb == i).all()
        assert (data.sample(n).depth == 700 + i).all()
        expected = np.linalg.inv(T_base_camera) @ chain.forward(np.array([0.5 * i / 50]))
        np.testing.assert_allclose(data.T_camera_ee[n], expected, atol=1e-6)


def test_a_camera_without_a_place_is_named(tmp_path: Path) -> None:
    write(tmp_path / "bag", with_static=False)
    with pytest.raises(DataSetError, match="tf_static: no frame 'camera'"):
        convert(tmp_path / "bag", URDF, "hand", NAMES, tmp_path / "data")


def test_a_robot_that_was_not_recorded_is_named(tmp_path: Path) -> None:
    write(tmp_path / "bag")
    other = URDF.replace('"turn"', '"elbow"')
    with pytest.raises(DataSetError, match="elbow"):
        convert(tmp_path / "bag", other, "hand", NAMES, tmp_path / "data")


def test_no_recording(tmp_path: Path) -> None:
    with pytest.raises(RecordingError):
        convert(tmp_path, URDF, "hand", NAMES, tmp_path / "data")
