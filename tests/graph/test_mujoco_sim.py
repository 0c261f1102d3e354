"""The simulated robot over DDS: driver topics, clock, commands by name, services."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Pose, PoseArray, PoseStamped
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from ideomotor.body.chain import KinematicChain
from ideomotor.body.urdf import load_urdf
from ideomotor_interfaces.srv import DisplaceObject, ResetSimulation, StepSimulation
from ideomotor_nodes import convert
from ideomotor_nodes.mujoco_sim import MujocoSimNode
from ideomotor_nodes.qos import TF_STATIC
from ideomotor_sim.camera import camera_pose
from tests.graph.conftest import Graph

URDF = "urdf/iiwa7.urdf.xacro"
JOINTS = [f"iiwa_joint_{i}" for i in (7, 6, 5, 4, 3, 2, 1)]  # not the robot's own order
HOME = [0.0, 1.0, 0.0, -1.4, 0.0, 0.6, 0.0]
CAMERA = [1.3, 0.5, 0.8, 0.0, 0.4, -2.5]

Start = Callable[..., MujocoSimNode]


@pytest.fixture
def start(graph: Graph) -> Start:
    """Start a small, fast simulation with changed parameters."""

    def start(**changes: Any) -> MujocoSimNode:
        parameters = {
            "urdf": URDF,
            "joints": JOINTS,
            "initial_positions": HOME,
            "camera_pose": CAMERA,
            "width": 80,
            "height": 60,
            "real_time_factor": 0.0,
        } | changes
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        return graph.start(MujocoSimNode(parameter_overrides=overrides))

    return start


def position(msg: JointState) -> dict[str, float]:
    return dict(zip(msg.name, msg.position, strict=True))


def test_driver_topics_flow(graph: Graph, start: Start) -> None:
    """Rates in simulated time, one stamp for a pair of images, frames, encodings, intrinsics."""
    states = graph.collect(JointState, "joint_states")
    clocks = graph.collect(Clock, "/clock")
    colour = graph.collect(Image, "camera/color/image_raw", qos_profile_sensor_data)
    depth = graph.collect(Image, "camera/depth/image_rect_raw", qos_profile_sensor_data)
    info = graph.collect(CameraInfo, "camera/color/camera_info")
    transforms = graph.collect(TFMessage, "/tf_static", TF_STATIC)
    node = start(real_time_factor=1.0)
    graph.spin_until(lambda: len(colour) > 5 and len(depth) > 5 and info and transforms and len(states) > 20)
    times = np.array([convert.seconds(msg.header.stamp) for msg in states])
    assert np.min(np.diff(times)) == pytest.approx(0.01, abs=1e-6)  # a slow machine may lose some
    frames = np.array([convert.seconds(msg.header.stamp) for msg in colour])
    assert np.min(np.diff(frames)) == pytest.approx(1 / 30, abs=2e-3)
    assert {str(m.header.stamp) for m in colour} & {str(m.header.stamp) for m in depth}
    assert clocks
    assert convert.seconds(clocks[0].clock) >= 1.0
    assert (colour[0].encoding, depth[0].encoding) == ("rgb8", "16UC1")
    assert colour[0].header.frame_id == "camera_color_optical_frame"
    assert convert.intrinsics(info[0]) == node.config.intrinsics
    assert set(states[0].name) == set(JOINTS)
    transform = transforms[0].transforms[0]
    assert (transform.header.frame_id, transform.child_frame_id) == ("base_link", "camera_color_optical_frame")
    assert np.allclose(convert.matrix_from_transform(transform.transform), camera_pose(*CAMERA))
    assert 0.3 < np.nanmedian(convert.depth_image(depth[-1])) < 6.0
    assert convert.rgb_image(colour[-1]).std() > 5.0


def test_forward_commands_are_bound_in_the_order_of_the_parameter(graph: Graph, start: Start) -> None:
    start()
    states = graph.collect(JointState, "joint_states")
    command = graph.publisher(Float64MultiArray, "forward_position_controller/commands")
    target = dict(zip(JOINTS, [0.3, 1.1, -0.2, -1.3, 0.1, 0.5, -0.4], strict=True))
    command.publish(Float64MultiArray(data=list(target.values())))
    graph.spin_until(lambda: states and position(states[-1]) == pytest.approx(target, abs=0.01))
    for bad in ([0.0] * 6, [float("nan")] * 7):
        command.publish(Float64MultiArray(data=bad))
    count = len(states)
    graph.spin_until(lambda: len(states) > count + 50)
    assert position(states[-1]) == pytest.approx(target, abs=0.01)


def test_trajectories_are_followed_by_name(graph: Graph, start: Start) -> None:
    """Half-way through a straight line the arm is half-way; joints not named stay."""
    start()
    states = graph.collect(JointState, "joint_states")
    publisher = graph.publisher(JointTrajectory, "joint_trajectory_controller/joint_trajectory")
    point = JointTrajectoryPoint(positions=[0.4, 0.9])
    point.time_from_start.sec = 1
    graph.spin_until(lambda: states)
    publisher.publish(JointTrajectory(joint_names=["iiwa_joint_1", "iiwa_joint_2"], points=[point]))
    graph.spin_until(lambda: position(states[-1])["iiwa_joint_1"] == pytest.approx(0.4, abs=0.005))
    path = np.array([[position(s)["iiwa_joint_1"], position(s)["iiwa_joint_2"]] for s in states])
    half = path[np.argmin(np.abs(path[:, 0] - 0.2))]
    assert half[1] == pytest.approx(0.75, abs=0.02)
    assert position(states[-1])["iiwa_joint_4"] == pytest.approx(-1.4, abs=0.01)


def test_truth_agrees_with_joint_states(graph: Graph, start: Start) -> None:
    """Seen from the end-effector link, computed with pinocchio from /joint_states, the tip does not move."""
    start(tool="hammer")
    states = graph.collect(JointState, "joint_states")
    tips = graph.collect(PoseStamped, "sim/tip")
    keypoints = graph.collect(PoseArray, "sim/object_keypoints")
    command = graph.publisher(Float64MultiArray, "forward_position_controller/commands")
    command.publish(Float64MultiArray(data=[0.5, 0.8, 0.3, -1.0, 0.2, 0.4, 0.6]))
    graph.spin_until(lambda: len(tips) > 30 and len(states) > 100)
    chain = KinematicChain.from_urdf(load_urdf(URDF), ee_link="gripper_tcp")
    by_stamp = {str(s.header.stamp): s for s in states}
    pairs = [(by_stamp[str(t.header.stamp)], t) for t in tips if str(t.header.stamp) in by_stamp]
    assert len(pairs) > 5
    in_ee = []
    for state, tip in pairs:
        T_base_ee = chain.forward(chain.from_names(position(state)))
        in_ee.append((np.linalg.inv(T_base_ee) @ convert.matrix(tip.pose))[:3, 3])
    assert np.ptp(np.array(in_ee), axis=0).max() < 1e-6
    assert np.linalg.norm(in_ee[0]) > 0.08
    assert keypoints[-1].poses[-1].position is not None
    assert len(keypoints[-1].poses) == 4


def test_pause_step_and_reset(graph: Graph, start: Start) -> None:
    node = start()
    clocks = graph.collect(Clock, "/clock")
    graph.spin_until(lambda: len(clocks) > 3)
    refused = graph.call(StepSimulation, "sim/step", StepSimulation.Request(steps=10))
    assert not refused.success
    assert "pause it" in refused.message
    assert graph.call(SetBool, "sim/pause", SetBool.Request(data=True)).success
    graph.spin(0.2)
    before, count = node._now(), len(clocks)
    graph.spin(0.2)
    assert (node._now(), len(clocks)) == (before, count)
    assert graph.call(StepSimulation, "sim/step", StepSimulation.Request(steps=50)).success
    assert node._now() == pytest.approx(before + 0.1)
    assert graph.call(ResetSimulation, "sim/reset", ResetSimulation.Request(seed=4, tool="l")).success
    assert node._world.tool is not None
    assert node._world.tool.kind == "l"
    assert node._now() >= before  # the clock does not jump back
    unknown = graph.call(ResetSimulation, "sim/reset", ResetSimulation.Request(seed=-1, tool="spoon"))
    assert not unknown.success
    assert "tool='spoon'" in unknown.message
    assert node._world.tool.kind == "l"
    assert graph.call(SetBool, "sim/pause", SetBool.Request(data=False)).success
    count = len(clocks)
    graph.spin_until(lambda: len(clocks) > count)
    times = [convert.seconds(c.clock) for c in clocks]
    assert times == sorted(times)


def test_slip_and_drop(graph: Graph, start: Start) -> None:
    node = start()
    before = node._world.tip_position_ee()
    slip = Pose()
    slip.position.z = 0.03
    assert graph.call(DisplaceObject, "sim/displace_object", DisplaceObject.Request(displacement=slip)).success
    assert node._world.tip_position_ee() - before == pytest.approx(np.array([0.0, 0.0, 0.03]))
    nothing = Pose()
    nothing.orientation.w = 0.0
    bad = graph.call(DisplaceObject, "sim/displace_object", DisplaceObject.Request(displacement=nothing))
    assert not bad.success
    assert "no unit norm" in bad.message
    assert graph.call(DisplaceObject, "sim/displace_object", DisplaceObject.Request(drop=True)).success
    tips = graph.collect(PoseStamped, "sim/tip")
    images = graph.collect(Image, "camera/color/image_raw", qos_profile_sensor_data)
    graph.spin_until(lambda: len(images) > 3)
    assert tips == []


def test_a_wrong_camera_pose_can_be_published(graph: Graph, start: Start) -> None:
    wrong = [1.32, 0.5, 0.8, 0.0, 0.4, -2.45]
    transforms = graph.collect(TFMessage, "/tf_static", TF_STATIC)
    node = start(published_camera_pose=wrong)
    graph.spin_until(lambda: transforms)
    published = convert.matrix_from_transform(transforms[0].transforms[0].transform)
    assert np.allclose(published, camera_pose(*wrong))
    assert np.allclose(node._world.T_base_camera, camera_pose(*CAMERA))


def test_velocity_actuation(graph: Graph, start: Start) -> None:
    start(actuation="velocity")
    states = graph.collect(JointState, "joint_states")
    command = graph.publisher(Float64MultiArray, "forward_velocity_controller/commands")
    command.publish(Float64MultiArray(data=[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3]))
    velocity = lambda: dict(zip(states[-1].name, states[-1].velocity, strict=True))["iiwa_joint_1"]  # noqa: E731
    graph.spin_until(lambda: states and velocity() == pytest.approx(0.3, abs=0.02))


@pytest.mark.parametrize(
    "changes",
    [
        {"urdf": "missing.urdf"},
        {"urdf": ""},
        {"ee_link": "hand"},
        {"tool": "spoon"},
        {"published_camera_pose": [1.0]},
        {"initial_positions": [0.0]},
    ],
)
def test_bad_parameters_fail_to_configure(graph: Graph, changes: dict[str, Any]) -> None:
    parameters = {"urdf": URDF, "joints": JOINTS} | changes
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    node = graph.add(MujocoSimNode(parameter_overrides=overrides))
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
