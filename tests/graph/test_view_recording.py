"""`ideomotor view FOLDER`: what a recording holds is shown at its time, forwards and backwards."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nav_msgs.msg import Odometry
from rclpy.serialization import serialize_message
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from ideomotor.body.chain import KinematicChain
from ideomotor.body.extension import BodyExtension, JointType, VirtualJoint
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.urdf import extend_urdf
from ideomotor.data.recording import Recording, RecordingWriter, Topic
from ideomotor.view_recording import Playback
from ideomotor_interfaces.msg import BodySchema
from ideomotor_nodes import convert, convert_body
from ideomotor_nodes.interfaces import message_definition
from tests.graph.body_rig import BASE, CAMERA, EE_LINK, NAMES, OPTICAL, Q0, REST, URDF
from tests.graph.conftest import Graph
from tests.graph.test_viewer import free_port, screenshot, share

START = 1000.0  # [s]
MAGENTA, GREEN = (200, 0, 160), (0, 170, 60)  # of the camera image before and after the extension
CHAIN = KinematicChain.from_urdf(URDF, ee_link=EE_LINK)
T_BASE_CAMERA = np.array([[0.0, 0, -1, 1.7], [1, 0, 0, 0], [0, -1, 0, 0.6], [0, 0, 0, 1]])


def extension() -> BodyExtension:
    """The object of `body_rig`, as the estimator would name it."""
    links, points = [EE_LINK, *(f"virtual_{name}" for name in NAMES)], np.vstack([np.zeros(3), REST])
    fixed = {"type": JointType.FIXED, "rpy": np.zeros(3), "covariance": 1e-6 * np.eye(6)}
    joints = tuple(
        VirtualJoint(
            name=f"{links[k + 1]}_joint",
            parent_link=links[k],
            child_link=links[k + 1],
            xyz=points[k + 1] - points[k],
            **fixed,
        )
        for k in range(4)
    )
    return BodyExtension(EE_LINK, joints, links[-1], tuple(links[1:]))


def write(folder: Path) -> None:
    """Four seconds: joint 1 turns; the chain is extended, and the image turns green, after two."""
    writer = RecordingWriter(folder, message_definition)
    types = {
        "/robot_description": "std_msgs/msg/String",
        "/tf_static": "tf2_msgs/msg/TFMessage",
        "/body_schema": "ideomotor_interfaces/msg/BodySchema",
        "/joint_states": "sensor_msgs/msg/JointState",
        "/odom": "nav_msgs/msg/Odometry",
        "/camera/color/camera_info": "sensor_msgs/msg/CameraInfo",
        "/camera/color/image_raw": "sensor_msgs/msg/Image",
        "/keypoints": "ideomotor_interfaces/msg/KeypointArray",
        "/unknown": "std_msgs/msg/String",
    }
    for name, kind in types.items():
        writer.add_topic(Topic(name, kind, latched=name in ("/robot_description", "/tf_static", "/body_schema")))

    def put(topic: str, after: float, message: Any) -> None:
        writer.write(topic, round(1e9 * (START + after)), serialize_message(message))

    put("/robot_description", 0.0, String(data=URDF))
    static = convert.transform_stamped_msg(T_BASE_CAMERA, START, BASE, OPTICAL)
    put("/tf_static", 0.0, TFMessage(transforms=[static]))
    put("/body_schema", 0.0, BodySchema(state=BodySchema.NOMINAL, ee_link=EE_LINK, tip_link=EE_LINK))
    extended = extension()
    for i in range(80):
        after = 0.05 * i
        q = Q0 + 0.2 * after * np.eye(7)[0]
        if i == 40:
            put("/robot_description", after, String(data=extend_urdf(URDF, extended)))
            joints = [convert_body.virtual_joint_msg(joint) for joint in extended.joints]
            schema = BodySchema(state=BodySchema.EXTENDED, ee_link=EE_LINK, tip_link=extended.tip_link, joints=joints)
            schema.tip_std, schema.tip_covariance = 0.002, (1e-6 * np.eye(6)).ravel()
            put("/body_schema", after, schema)
        stamp = START + after
        put("/joint_states", after, convert.joint_state_msg(CHAIN.joint_names, q, stamp, np.zeros(7), np.zeros(7)))
        base = Odometry()
        base.pose.pose.position.x, base.pose.pose.orientation.w = 0.01 * after, 1.0
        put("/odom", after, base)
        put("/camera/color/camera_info", after, convert.camera_info_msg(CAMERA, stamp, OPTICAL))
        colour = np.full((CAMERA.height, CAMERA.width, 3), GREEN if i >= 40 else MAGENTA, np.uint8)
        put("/camera/color/image_raw", after, convert.image_msg(colour, "rgb8", stamp, OPTICAL))
        put("/keypoints", after, convert_body.keypoints_msg(seen(q, stamp), stamp, OPTICAL))
    put("/unknown", 3.99, String(data="nobody asks for this"))
    writer.close()


def seen(q: np.ndarray, stamp: float) -> Keypoints:
    T_camera_ee = np.linalg.inv(T_BASE_CAMERA) @ CHAIN.forward(q)
    p = REST @ T_camera_ee[:3, :3].T + T_camera_ee[:3, 3]  # (4, 3)
    covariance, variance = np.tile(np.eye(2), (4, 1, 1)), np.full(4, 1e-5)
    return Keypoints(stamp, NAMES, CAMERA.project(p), covariance, p[:, 2], variance, np.full(4, 0.9))


class Shown:
    """Stands for the viewer; keeps what it was told last."""

    def __init__(self) -> None:
        self.last: dict[str, Any] = {}
        self.joints: dict[str, float] = {}
        self.updates = 0

    def set_joint_positions(self, positions: dict[str, float]) -> None:
        self.joints.update(positions)

    def update(self) -> None:
        self.updates += 1

    def __getattr__(self, name: str) -> Any:
        return lambda *values: self.last.__setitem__(name, values)


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    write(tmp_path / "rec")
    with Recording(tmp_path / "rec") as opened:
        yield opened


def now_shown(shown: Shown) -> tuple[tuple[int, ...], float, str, bool]:
    """Return colour of the image, position of joint 1, state of the body schema, and whether the robot is extended."""
    colour = tuple(int(c) for c in shown.last["set_image"][0][0, 0])
    urdf = shown.last["set_description"][0]
    return colour, shown.joints["iiwa_joint_1"], shown.last["set_body"][0].state, "virtual_kp_3" in urdf


def test_everything_is_shown_at_its_time(recording: Recording) -> None:
    shown = Shown()
    playback = Playback(shown, recording)  # type: ignore[arg-type]
    playback.advance(1.02)
    assert now_shown(shown) == (MAGENTA, pytest.approx(0.2), "NOMINAL", False)
    assert shown.last["set_base_pose"][0][0, 3] == pytest.approx(0.01)
    camera, T_base_camera = shown.last["set_camera"]
    assert camera == CAMERA
    np.testing.assert_allclose(T_base_camera, T_BASE_CAMERA, atol=1e-12)
    keypoints, positions = shown.last["compare_keypoints"]
    assert keypoints.stamp == pytest.approx(START + 1.0)
    assert positions["iiwa_joint_1"] == pytest.approx(0.2)
    playback.advance(3.01)
    assert now_shown(shown) == (GREEN, pytest.approx(0.6), "EXTENDED", True)
    body = shown.last["set_body"][0]
    assert body.keypoint_links == tuple(f"virtual_{name}" for name in NAMES)
    assert body.tip_std == pytest.approx(0.002)
    assert shown.updates == 2
    playback.advance(100.0)  # the end is no error


def test_seeking_restores_what_held_at_that_time(recording: Recording) -> None:
    shown = Shown()
    playback = Playback(shown, recording)  # type: ignore[arg-type]
    for seconds, colour, state in ((3.5, GREEN, "EXTENDED"), (0.5, MAGENTA, "NOMINAL"), (2.6, GREEN, "EXTENDED")):
        playback.seek(seconds)
        playback.advance(seconds)
        assert now_shown(shown) == (colour, pytest.approx(0.2 * seconds), state, state == "EXTENDED")


def test_a_message_that_cannot_be_used_is_told_and_the_rest_is_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = RecordingWriter(tmp_path / "rec", message_definition)
    writer.add_topic(Topic("/robot_description", "std_msgs/msg/String", latched=True))
    writer.add_topic(Topic("/joint_states", "sensor_msgs/msg/JointState"))
    writer.write("/robot_description", 1, serialize_message(String(data="<robot")))
    state = convert.joint_state_msg(["a"], np.array([0.5]), 1.0, np.zeros(1), np.zeros(1))
    writer.write("/joint_states", 2, serialize_message(state))
    writer.close()
    shown = Shown()
    with Recording(tmp_path / "rec") as opened:
        Playback(shown, opened).advance(1.0)  # type: ignore[arg-type]
    assert "/robot_description: " in caplog.text
    assert shown.joints == {"a": 0.5}


def test_the_browser_shows_a_recording(graph: Graph, tmp_path: Path) -> None:
    """The command itself, without ROS."""
    write(tmp_path / "rec")
    port = free_port()
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['rclpy', 'mujoco'])); import ideomotor.cli; "
        f"ideomotor.cli.main(['view', {str(tmp_path / 'rec')!r}, '--port', '{port}'])"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any(f"http://127.0.0.1:{port} " in line for line in process.stdout)
            image = screenshot(graph, f"http://127.0.0.1:{port}", tmp_path, 10.0)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20.0) == 0
    panel = image[:, int(0.7 * image.shape[1]) :]
    assert share(panel, MAGENTA) + share(panel, GREEN) > 0.1, "the camera image is not in the panel"
    scene = image[:, : int(0.65 * image.shape[1])].astype(int)
    orange = (scene[..., 0] > 180) & (scene[..., 2] < 80) & (scene[..., 1] > 60) & (scene[..., 1] < 180)
    assert orange.mean() > 0.001, "the robot is not in the scene"


def test_a_truncated_recording_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "rec")
    file = tmp_path / "rec" / "rec.mcap"
    file.write_bytes(file.read_bytes()[:-1000])
    done = subprocess.run(
        [sys.executable, "-c", f"import ideomotor.cli; ideomotor.cli.main(['view', {str(tmp_path / 'rec')!r}])"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "rec.mcap: truncated at byte" in done.stderr
