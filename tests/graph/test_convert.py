"""Messages <-> library types: round trips, and a named error for what cannot be converted."""

import array
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Pose
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image
from sensor_msgs.msg import JointState as JointStateMsg
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from ideomotor.body.camera import CameraError, Intrinsics
from ideomotor.body.extension import ExtensionError, JointType, VirtualJoint
from ideomotor.body.joint_state import JointStateError
from ideomotor.body.keypoints import KeypointError, Keypoints
from ideomotor.body.transform_tree import TransformError
from ideomotor.safety.gate import CommandError
from ideomotor_nodes import convert, convert_body


@given(st.integers(0, 2**31 - 2), st.integers(0, 10**9 - 1))
def test_time(sec: int, nanosec: int) -> None:
    seconds = convert.seconds(convert.Time(sec=sec, nanosec=nanosec))
    assert abs(convert.seconds(convert.stamp(seconds)) - seconds) < 1e-6


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), max_size=5))
def test_joint_state(rows: list[tuple[float, float]]) -> None:
    names = tuple(f"j{i}" for i in range(len(rows)))
    position, velocity = np.array(rows).reshape(-1, 2).T
    state = convert.joint_state(convert.joint_state_msg(names, position, 1.5, velocity))
    assert (state.names, state.stamp) == (names, 1.5)
    np.testing.assert_array_equal(state.position, position)
    if names:
        np.testing.assert_array_equal(state.velocity, velocity)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ["a", "b"], "position": [1.0]},
        {"name": ["a"]},
        {"name": ["a"], "position": [float("nan")]},
        {"name": ["a"], "position": [1.0], "velocity": [1.0, 2.0]},
        {"name": ["a"], "position": [1.0], "velocity": [float("inf")]},
        {"name": ["a", "a"], "position": [1.0, 1.0]},
        {"position": [1.0]},
    ],
)
def test_bad_joint_states(fields: dict[str, Any]) -> None:
    with pytest.raises(JointStateError):
        convert.joint_state(JointStateMsg(**fields))


def test_joint_command() -> None:
    msg = convert.joint_command_msg(("a", "b"), np.array([1.0, 2.0]), 3.0, np.array([0.1, 0.2]), 0.01)
    assert msg.points[0].time_from_start.nanosec == 10_000_000
    command = convert.joint_command(msg)
    assert (command.stamp, command.names) == (3.0, ("a", "b"))
    np.testing.assert_array_equal(command.position, [1.0, 2.0])  # type: ignore[arg-type]
    np.testing.assert_array_equal(command.velocity, [0.1, 0.2])  # type: ignore[arg-type]
    assert convert.joint_command(convert.joint_command_msg(("a",), None, 0.0, np.ones(1))).position is None


@pytest.mark.parametrize("points", [[], [JointTrajectoryPoint()], [JointTrajectoryPoint(positions=[1.0])] * 2])
def test_bad_joint_commands(points: list[JointTrajectoryPoint]) -> None:
    with pytest.raises(CommandError):
        convert.joint_command(JointTrajectory(joint_names=["a"], points=points))


SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 9))


@settings(max_examples=30)
@given(st.data(), SHAPES, st.sampled_from(["rgb8", "bgr8", "rgba8", "mono8", "16UC1", "32FC1"]), st.integers(0, 5))
def test_images_with_any_step(data: st.DataObject, shape: tuple[int, int], encoding: str, padding: int) -> None:
    dtype, channels = {"rgb8": ("u1", 3), "bgr8": ("u1", 3), "rgba8": ("u1", 4), "mono8": ("u1", 1)}.get(
        encoding, ("u2", 1) if encoding == "16UC1" else ("f4", 1)
    )
    full = shape if channels == 1 else (*shape, channels)
    elements = st.floats(0, 9, width=32) if dtype == "f4" else None
    pixels = data.draw(st_np.arrays(np.dtype(dtype), full, elements=elements))
    msg = convert.image_msg(pixels, encoding, 1.0, "camera")
    assert isinstance(msg.data, array.array)
    np.testing.assert_array_equal(convert.image_array(msg), pixels)
    rows = np.frombuffer(msg.data, np.uint8).reshape(shape[0], -1)
    padded = np.concatenate([rows, np.full((shape[0], padding), 7, np.uint8)], axis=1)
    msg.step, msg.data = msg.step + padding, array.array("B", padded.tobytes())
    np.testing.assert_array_equal(convert.image_array(msg), pixels)


def test_colour_order_and_endianness() -> None:
    rgb = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert convert.rgb_image(convert.image_msg(rgb, "rgb8", 0.0, "")).tolist() == rgb.tolist()
    assert convert.rgb_image(convert.image_msg(rgb[..., ::-1], "bgr8", 0.0, "")).tolist() == rgb.tolist()
    bgra = np.concatenate([rgb[..., ::-1], np.full((2, 2, 1), 255, np.uint8)], axis=2)
    assert convert.rgb_image(convert.image_msg(bgra, "bgra8", 0.0, "")).tolist() == rgb.tolist()
    millimetres = np.array([[1000, 0], [65535, 256]], dtype=np.uint16)
    msg = convert.image_msg(millimetres, "16UC1", 0.0, "")
    big = Image(height=2, width=2, encoding="16UC1", is_bigendian=1, step=4, data=millimetres.astype(">u2").tobytes())
    for m in (msg, big):
        np.testing.assert_allclose(convert.depth_image(m), [[1.0, np.nan], [65.535, 0.256]], rtol=1e-6)


def test_depth_in_metres_and_back() -> None:
    depth = np.array([[0.5, np.nan, 70.0], [np.inf, 1.2345, -1.0]])
    msg = convert.depth_image_msg(depth, 1.0, "camera")
    expected = [[0.5, np.nan, np.nan], [np.nan, 1.234, np.nan]]
    np.testing.assert_allclose(convert.depth_image(msg), expected, atol=1e-3)
    metres = convert.image_msg(depth.astype(np.float32), "32FC1", 1.0, "camera")
    np.testing.assert_allclose(convert.depth_image(metres), [[0.5, np.nan, 70.0], [np.nan, 1.2345, np.nan]], rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoding": "bayer_rggb8"}, "encoding 'bayer_rggb8'"),
        ({"encoding": "16UC1"}, "colour image encoding '16UC1'"),
        ({"data": [0] * 11}, "11 bytes, expected height 2 x step 6"),
        ({"data": []}, "0 bytes"),
        ({"step": 5}, "step 5, expected a step of 6"),
        ({"height": 0, "width": 0, "step": 0, "data": []}, "image 0x0"),
    ],
)
def test_bad_images(fields: dict[str, Any], message: str) -> None:
    good = {"height": 2, "width": 2, "encoding": "rgb8", "step": 6, "data": [0] * 12}
    convert.rgb_image(Image(**good))
    with pytest.raises(CameraError, match=message):
        convert.rgb_image(Image(**(good | fields)))


def test_colour_as_depth_is_refused() -> None:
    with pytest.raises(CameraError, match="depth image encoding 'rgb8'"):
        convert.depth_image(convert.image_msg(np.zeros((2, 2, 3), np.uint8), "rgb8", 0.0, ""))
    with pytest.raises(CameraError, match="rgb8 needs uint8"):
        convert.image_msg(np.zeros((2, 2), np.uint8), "rgb8", 0.0, "")


def test_camera_info() -> None:
    camera = Intrinsics(320, 240, 300.0, 301.0, 159.5, 119.5)
    assert convert.intrinsics(convert.camera_info_msg(camera, 1.0, "camera")) == camera


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m, "k", [0.0] * 9), "not calibrated"),
        (lambda m: setattr(m, "d", [0.1, 0.0, 0.0, 0.0, 0.0]), "rectify"),
        (lambda m: setattr(m, "binning_x", 2), "binned"),
        (lambda m: setattr(m, "width", 0), "image size 0x240"),
        (lambda m: setattr(m, "k", [-1.0] * 9), "focal lengths positive"),
    ],
)
def test_unusable_camera_info(change: Any, message: str) -> None:
    msg: CameraInfo = convert.camera_info_msg(Intrinsics(320, 240, 300.0, 300.0, 160.0, 120.0), 0.0, "")
    change(msg)
    with pytest.raises(CameraError, match=message):
        convert.intrinsics(msg)


@given(st.integers(0, 10**6))
def test_poses(seed: int) -> None:
    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    T[:3, 3] = np.random.default_rng(seed).normal(size=3)
    np.testing.assert_allclose(convert.matrix(convert.pose_msg(T)), T, atol=1e-12)
    stamped = convert.transform_stamped_msg(T, 1.0, "a", "b")
    np.testing.assert_allclose(convert.matrix_from_transform(stamped.transform), T, atol=1e-12)


@pytest.mark.parametrize("axis", [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0.6, 0, -0.8), (0.48, 0.6, 0.64)])
@pytest.mark.parametrize("angle", [np.pi, np.pi - 1e-7, np.pi / 2])
def test_half_turns(axis: tuple[float, float, float], angle: float) -> None:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(angle * np.array(axis)).as_matrix()
    np.testing.assert_allclose(convert.matrix(convert.pose_msg(T)), T, atol=1e-12)


def test_bad_poses() -> None:
    zero = Pose()
    zero.orientation.w = 0.0
    with pytest.raises(TransformError, match="no unit norm"):
        convert.matrix(zero)
    nan = Pose()
    nan.position.x = float("nan")
    with pytest.raises(TransformError, match="not finite"):
        convert.matrix(nan)


def test_keypoints() -> None:
    given_keypoints = Keypoints(
        2.5,
        ("kp_0", "kp_1"),
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        np.array([np.eye(2), 2 * np.eye(2)]),
        np.array([0.5, np.nan]),
        np.array([1e-4, np.nan]),
        np.array([0.9, 0.1]),
    )
    msg = convert_body.keypoints_msg(given_keypoints, 2.5, "camera")
    assert msg.header.frame_id == "camera"
    back = convert_body.keypoints(msg)
    for field in ("uv", "uv_covariance", "depth", "depth_variance", "confidence"):
        np.testing.assert_array_equal(getattr(back, field), getattr(given_keypoints, field))
    assert (back.stamp, back.names) == (2.5, ("kp_0", "kp_1"))
    msg.keypoints[1].name = "kp_0"
    with pytest.raises(KeypointError, match="twice"):
        convert_body.keypoints(msg)


@pytest.mark.parametrize("joint_type", list(JointType))
def test_virtual_joints(joint_type: JointType) -> None:
    fixed = joint_type is JointType.FIXED
    joint = VirtualJoint(
        "joint",
        "ee",
        "tip",
        joint_type,
        np.array([0.1, 0.2, 0.3]),
        np.array([0.3, -0.2, 0.1]),
        np.diag(np.arange(6.0)),
        axis=None if fixed else np.array([0.0, 0.6, 0.8]),
        lower=0.0 if fixed else -1.0,
        upper=0.0 if fixed else 2.0,
        position=0.0 if fixed else 0.5,
    )
    msg = convert_body.virtual_joint_msg(joint)
    back = convert_body.virtual_joint(msg)
    for field in ("name", "parent_link", "child_link", "type", "lower", "upper", "position"):
        assert getattr(back, field) == getattr(joint, field)
    for field in ("xyz", "rpy", "covariance"):
        np.testing.assert_allclose(getattr(back, field), getattr(joint, field), atol=1e-12)
    msg.type = 9
    with pytest.raises(ExtensionError, match="type 9"):
        convert_body.virtual_joint(msg)
