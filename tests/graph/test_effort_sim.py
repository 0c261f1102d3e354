"""Simulated robots at effort level behind the gate: states with one stamp, held up, in lockstep, reset."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from nav_msgs.msg import Odometry
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool
from tf2_msgs.msg import TFMessage

from ideomotor.body.urdf import load_urdf
from ideomotor_interfaces.msg import ContactForces
from ideomotor_interfaces.srv import ResetSimulation
from ideomotor_nodes import convert
from ideomotor_nodes.effort_shell import answer_layout
from ideomotor_nodes.mujoco_sim import MujocoSimNode
from ideomotor_nodes.qos import COMMAND, LATCHED, STREAM, TF
from ideomotor_nodes.safety_gate import SafetyGateNode
from tests.graph.conftest import Graph

CONFIG = Path("ros2_ws/src/ideomotor_bringup/config")
URDF = {"solo12_effort": "urdf/solo12.urdf.xacro", "iiwa7_effort": "urdf/iiwa7.urdf.xacro"}
COMMANDS = "forward_effort_controller/commands"


def overrides(robot: str, node: str, **changes: Any) -> list[Parameter]:
    given = yaml.safe_load((CONFIG / f"{robot}.yaml").read_text())[node]["ros__parameters"]
    return [Parameter(name, value=value) for name, value in (given | changes).items()]


class Stream:
    """The newest messages of a topic that many pass over."""

    def __init__(self, graph: Graph, kind: type, topic: str, qos: Any = STREAM) -> None:
        self.messages: list[Any] = graph.collect(kind, topic, qos)

    @property
    def last(self) -> Any:
        return self.messages[-1]


Start = Callable[..., MujocoSimNode]


@pytest.fixture
def start(graph: Graph) -> Start:
    """Start a simulation with changed parameters, and the gate if asked for."""

    def start(robot: str = "solo12_effort", *, gate: bool = False, **changes: Any) -> MujocoSimNode:
        settings = {"urdf": URDF[robot], "real_time_factor": 0.0, "lockstep": 5.0} | changes
        node = MujocoSimNode(parameter_overrides=overrides(robot, "mujoco_sim", **settings))
        if gate:
            use_sim_time = Parameter("use_sim_time", value=True)
            graph.start(SafetyGateNode(parameter_overrides=[use_sim_time, *overrides(robot, "safety_gate")]))
            description = graph.helper.create_publisher(String, "robot_description", LATCHED)
            description.publish(String(data=load_urdf(URDF[robot])))
        return graph.start(node)

    return start


def seconds(message: Any) -> float:
    return convert.seconds(message.header.stamp)


def test_one_stamp_for_base_contacts_and_joints(graph: Graph, start: Start) -> None:
    base, contacts = Stream(graph, Odometry, "odom"), Stream(graph, ContactForces, "contact_forces")
    joints, transforms = Stream(graph, JointState, "joint_states"), Stream(graph, TFMessage, "/tf", TF)
    order: list[str] = []
    for kind, topic in ((Odometry, "odom"), (ContactForces, "contact_forces"), (JointState, "joint_states")):
        graph.helper.create_subscription(kind, topic, lambda _, topic=topic: order.append(topic), STREAM)
    node = start(lockstep=0.0, real_time_factor=1.0)
    graph.spin_until(lambda: len(joints.messages) > 40 and len(transforms.messages) > 4)
    stamps = [seconds(m) for m in joints.messages]
    assert np.diff(stamps).min() == pytest.approx(0.004, abs=1e-6)
    for stream in (base, contacts):
        assert {seconds(m) for m in stream.messages} & set(stamps)
    assert base.last.header.frame_id == contacts.last.header.frame_id == "odom"
    assert base.last.child_frame_id == transforms.last.transforms[0].child_frame_id == "base_link"
    assert list(contacts.last.links) == list(node.config.contact_links)
    assert joints.last.name == list(node.config.joints)
    assert len(joints.last.effort) == 12


def test_the_gate_holds_a_standing_robot(graph: Graph, start: Start) -> None:
    """In lockstep, for two seconds of its time; the feet carry its weight."""
    base, contacts = Stream(graph, Odometry, "odom"), Stream(graph, ContactForces, "contact_forces")
    start(gate=True)
    graph.spin_until(lambda: base.messages and seconds(base.last) > 3.0, timeout=40.0)
    assert 0.18 < base.last.pose.pose.position.z < 0.30
    assert abs(base.last.pose.pose.orientation.w) > 0.99
    weight = np.mean([sum(f.z for f in m.forces) for m in contacts.messages[-100:]])
    assert weight == pytest.approx(9.81 * 2.5, rel=0.1)


def test_the_gate_holds_an_arm(graph: Graph, start: Start) -> None:
    """With a payload that the description does not know of."""
    joints = Stream(graph, JointState, "joint_states")
    node = start("iiwa7_effort", gate=True, payload=1.0)
    graph.spin_until(lambda: joints.messages and seconds(joints.last) > 3.0, timeout=40.0)
    moved = np.array(joints.last.position) - node.config.initial_positions
    assert np.abs(moved).max() < 0.1
    assert np.abs(joints.last.velocity).max() < 0.05


def run_echo(graph: Graph, start: Start, delays: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Answer 60 states with a damper that waits before some answers; return stamps and positions."""
    states: list[Any] = []
    publisher = graph.helper.create_publisher(Float64MultiArray, COMMANDS, COMMAND)

    def answer(message: Any) -> None:
        if len(states) < 60:
            states.append(message)
            graph.spin(delays[len(states) % len(delays)])
            effort = 0.3 * np.sin(0.2 * len(states)) - 0.05 * np.array(message.velocity)
            layout = answer_layout(message.header.stamp)
            publisher.publish(Float64MultiArray(layout=layout, data=convert.doubles(effort)))

    graph.helper.create_subscription(JointState, "joint_states", answer, STREAM)
    node = start(paused=True)
    graph.spin_until(lambda: publisher.get_subscription_count() > 0)
    node._commanded = True  # as after a first answer
    assert graph.call(ResetSimulation, "sim/reset", ResetSimulation.Request(seed=-1)).success
    assert graph.call(SetBool, "sim/pause", SetBool.Request(data=False)).success
    graph.spin_until(lambda: len(states) == 60, timeout=30.0)
    stamps = np.array([seconds(m) for m in states])
    return stamps - stamps[0], np.array([list(m.position) for m in states])


def test_in_lockstep_a_run_does_not_depend_on_how_fast_answers_come(graph: Graph, start: Start) -> None:
    stamps, positions = run_echo(graph, start, [0.0])
    graph.nodes[-1].trigger_deactivate()
    graph.nodes[-1].trigger_cleanup()
    slow_stamps, slow_positions = run_echo(graph, start, [0.0, 0.02, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(np.diff(stamps), 0.004, atol=1e-6)
    np.testing.assert_array_equal(positions, slow_positions)
    np.testing.assert_allclose(stamps, slow_stamps, atol=1e-6)
    assert np.ptp(positions, axis=0).max() > 0.02


def test_time_goes_on_if_nobody_answers_any_more(graph: Graph, start: Start) -> None:
    """It begins with the first command: until then the first state comes again and again."""
    joints = Stream(graph, JointState, "joint_states")
    node = start(lockstep=0.2)
    graph.spin_until(lambda: len(joints.messages) > 4)
    assert {seconds(m) for m in joints.messages} == {1.0}
    command = graph.publisher(Float64MultiArray, COMMANDS, COMMAND)
    command.publish(Float64MultiArray(data=[0.0] * 12))
    graph.spin_until(lambda: node._unanswered == 1)
    count = len(joints.messages)
    graph.spin_until(lambda: len(joints.messages) > count + 50)


def test_commands_that_do_not_fit_are_ignored(graph: Graph, start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    joints = Stream(graph, JointState, "joint_states")
    start("iiwa7_effort", lockstep=0.0)
    command = graph.publisher(Float64MultiArray, COMMANDS, COMMAND)
    for bad in ([0.0] * 6, [float("nan")] * 7):
        command.publish(Float64MultiArray(data=bad))
        graph.spin(0.2)
    assert capfd.readouterr().err.count("command ignored") >= 1
    command.publish(Float64MultiArray(data=[500.0] + [0.0] * 6))
    graph.spin_until(lambda: joints.last.effort[0] == pytest.approx(176.0))  # what the motor gives at most


def test_reset_puts_it_back_at_once(graph: Graph, start: Start) -> None:
    """Also while time stands still; a fallen robot stands again."""
    base, joints = Stream(graph, Odometry, "odom"), Stream(graph, JointState, "joint_states")
    node = start(lockstep=0.0)
    graph.spin_until(lambda: base.messages and base.last.pose.pose.position.z < 0.15)  # nobody holds it
    assert graph.call(SetBool, "sim/pause", SetBool.Request(data=True)).success
    before = seconds(base.last)
    assert graph.call(ResetSimulation, "sim/reset", ResetSimulation.Request(seed=-1)).success
    graph.spin_until(lambda: base.last.pose.pose.position.z > 0.2)
    assert seconds(base.last) >= before
    graph.spin_until(lambda: list(joints.last.position) == pytest.approx(list(node.config.initial_positions)))
    assert not np.any(joints.last.velocity)
