"""Markers of keypoints, of the extended chain, and of a motion under a reward."""

from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import Point
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from ideomotor.body.camera import Intrinsics
from ideomotor.body.chain import KinematicChain
from ideomotor.body.extension import BodyExtension, JointType, VirtualJoint
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.urdf import load_urdf
from ideomotor.planning.held_points import HeldPoints
from ideomotor.planning.joint_path import SplinePath
from ideomotor.planning.reward_path import RewardPath, RewardState, RewardTask
from ideomotor.rewards.weights import Uniform
from ideomotor_nodes.markers import AXIS_LENGTH, extension_markers, keypoint_markers, replacing, reward_markers

INTRINSICS = Intrinsics(320, 240, 300.0, 310.0, 160.0, 120.0)


def keypoints(depth: tuple[float, float], confidence: tuple[float, float]) -> Keypoints:
    return Keypoints(
        stamp=1.0,
        names=("a", "b"),
        uv=np.array([[100.0, 110.0], [200.0, 130.0]]),
        uv_covariance=np.tile(np.diag([4.0, 1.0]), (2, 1, 1)),
        depth=np.array(depth),
        depth_variance=np.full(2, 1e-4),
        confidence=np.array(confidence),
    )


def extension(kind: JointType = JointType.REVOLUTE, position: float = 0.0) -> BodyExtension:
    fixed = VirtualJoint("v0", "ee", "k0", JointType.FIXED, np.array([0, 0, 0.1]), np.zeros(3), np.eye(6) * 1e-6)
    axis = None if kind is JointType.FIXED else np.array([0.0, 1.0, 0.0])
    hinge = VirtualJoint(
        "v1", "k0", "k1", kind, np.array([0.1, 0, 0]), np.zeros(3), np.eye(6) * 1e-6, axis, -1.0, 1.0, position
    )
    tip = VirtualJoint("v2", "k1", "tip", JointType.FIXED, np.array([0, 0, 0.2]), np.zeros(3), np.eye(6) * 1e-6)
    return BodyExtension("ee", (fixed, hinge, tip), "tip", ("k0", "k1", "tip"))


def array(point: Point) -> np.ndarray:
    return np.array([point.x, point.y, point.z])


def test_ellipsoids_have_the_covariance_of_the_keypoints() -> None:
    """Pose and scale of the sphere give the covariance back: R diag((scale / 2 / sigma)^2) R^T."""
    seen = keypoints((0.6, 0.7), (0.9, 0.9))
    markers = keypoint_markers(seen, INTRINSICS, Header(frame_id="optical"))
    clouds = [m for m in markers.markers if m.ns == "keypoint_covariances"]
    for i, cloud in enumerate(clouds):
        q = cloud.pose.orientation
        R = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
        radii = np.array([cloud.scale.x, cloud.scale.y, cloud.scale.z]) / 4
        assert np.allclose(R @ np.diag(radii**2) @ R.T, seen.covariance_camera(INTRINSICS)[i], atol=3e-7)
        assert np.allclose(array(cloud.pose.position), seen.position_camera(INTRINSICS)[i])
        assert cloud.header.frame_id == "optical"


@pytest.mark.parametrize(("depth", "confidence"), [(float("nan"), 0.9), (0.7, 0.1)])
def test_what_is_not_seen_is_taken_away(depth: float, confidence: float) -> None:
    markers = keypoint_markers(keypoints((0.6, depth), (0.9, confidence)), INTRINSICS, Header())
    assert {m.id: m.action for m in markers.markers} == {0: Marker.ADD, 1: Marker.DELETE}


def test_the_chain_ends_at_the_tip_of_the_posed_extension() -> None:
    markers = extension_markers(extension(position=np.pi / 2), np.eye(3) * 1e-6)
    lines = next(m for m in markers.markers if m.ns == "chain")
    assert np.allclose(array(lines.points[-1]), [0.3, 0.0, 0.1])  # the hinge turned z into x
    assert lines.header.frame_id == "ee"
    label = next(m for m in markers.markers if m.ns == "tip_label")
    assert "1.0 mm" in label.text


@pytest.mark.parametrize(("kind", "axes"), [(JointType.FIXED, 0), (JointType.REVOLUTE, 1), (JointType.PRISMATIC, 1)])
def test_movable_joints_show_their_axis(kind: JointType, axes: int) -> None:
    markers = extension_markers(extension(kind), np.eye(3) * 1e-6)
    arrows = [m for m in markers.markers if m.ns == "chain_axes"]
    assert len(arrows) == axes
    for arrow in arrows:
        direction = array(arrow.points[1]) - array(arrow.points[0])
        assert np.allclose(direction / np.linalg.norm(direction), [0.0, 1.0, 0.0])


def test_replacing_takes_away_what_is_gone() -> None:
    old = extension_markers(extension(JointType.REVOLUTE), np.eye(3) * 1e-6)
    new = extension_markers(extension(JointType.FIXED), np.eye(3) * 1e-6)
    deleted = [m for m in replacing(old, new).markers if m.action == Marker.DELETE]
    assert [(m.ns, m.id) for m in deleted] == [("chain_axes", 1)]


def test_arrows_of_a_reward_are_as_long_as_its_weights() -> None:
    """Along the axes of the base frame, from the keypoints; the lines are the planned paths."""
    urdf = load_urdf(Path(__file__).parents[2] / "urdf" / "iiwa7.urdf.xacro")
    chain = KinematicChain.from_urdf(urdf, ee_link="gripper_tcp")
    rng = np.random.default_rng(0)
    task = RewardTask(HeldPoints(chain, np.zeros((2, 3))), Uniform(), 1.0)
    joints = SplinePath.through(np.zeros((6, 7)), 1.0)
    planned, weight = rng.normal(size=(6, 2, 3)), rng.uniform(0.1, 3.0, (5, 2, 3))
    path = RewardPath(task, planned[-1], joints, planned, weight)
    state = RewardState(rng.normal(size=(2, 3)), rng.uniform(0.1, 3.0, (2, 3)), 0.4, 1.0)
    markers = reward_markers(path, state, Header(frame_id="base_link")).markers
    assert len({(m.ns, m.id) for m in markers}) == len(markers) == 8
    assert {m.header.frame_id for m in markers} == {"base_link"}
    for m in markers:
        if m.ns == "reward_path":
            assert m.type == Marker.LINE_STRIP
            np.testing.assert_allclose([array(p) for p in m.points], planned[:, m.id])
        else:
            k, axis = divmod(m.id, 3)
            start, end = map(array, m.points)
            np.testing.assert_allclose(start, state.keypoints[k])
            length = AXIS_LENGTH * state.weight[k, axis] / weight.max()
            np.testing.assert_allclose(end - start, length * np.eye(3)[axis], atol=1e-12)
