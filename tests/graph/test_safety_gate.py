"""The safety gate over DDS: commands become controller commands, bad ones a hold until released."""

from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from ideomotor_nodes import convert
from ideomotor_nodes.qos import LATCHED
from ideomotor_nodes.safety_gate import SafetyGateNode
from tests.graph.conftest import Graph
from tests.graph.sim_clock import SIM_TIME, SimClock

URDF = """<robot name="r"><link name="l0"/><link name="l1"/><link name="l2"/>
<joint name="a" type="revolute"><parent link="l0"/><child link="l1"/><axis xyz="0 0 1"/>
  <limit lower="-1" upper="1" velocity="2" effort="1"/></joint>
<joint name="b" type="revolute"><parent link="l1"/><child link="l2"/><axis xyz="0 0 1"/>
  <limit lower="-2" upper="2" velocity="2" effort="1"/></joint></robot>"""


class Bench:
    """A gate, and a robot that does what the controller is told and says where it is (in another joint order)."""

    def __init__(self, graph: Graph, **parameters: Any) -> None:
        self.graph = graph
        self.clock = SimClock(graph)
        overrides = {"joints": ["a", "b"], "position_margin": 0.0} | parameters
        ours = [Parameter(k, value=v) for k, v in overrides.items()]
        self.node = graph.add(SafetyGateNode(parameter_overrides=[SIM_TIME, *ours]))
        interface = overrides.get("command_interface", "forward_position")
        self.position, self.interface = np.zeros(2), interface
        self.outputs: list[Any] = []
        helper = graph.helper
        self.status = graph.collect(DiagnosticStatus, "safety_gate/status", LATCHED)
        self.description = helper.create_publisher(String, "robot_description", LATCHED)
        self.joint_states = helper.create_publisher(JointState, "joint_states", 10)
        self.commands = helper.create_publisher(JointTrajectory, "joint_command", 1)
        if interface == "joint_trajectory":
            helper.create_subscription(JointTrajectory, "joint_trajectory_controller/joint_trajectory", self.moved, 10)
        else:
            helper.create_subscription(Float64MultiArray, f"{interface}_controller/commands", self.moved, 10)
        self.timer = helper.create_timer(0.01, self.publish_state)
        assert self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS

    def moved(self, msg: Any) -> None:
        self.outputs.append(msg)
        if self.interface == "joint_trajectory":
            self.position = np.array(msg.points[0].positions)
        elif self.interface == "forward_position":
            self.position = np.array(msg.data)
        else:
            self.position = self.position + 0.01 * np.array(msg.data)

    def publish_state(self) -> None:
        msg = JointState(name=["b", "a"], position=self.position[::-1].tolist())
        msg.header.stamp = convert.stamp(self.clock.now)
        self.joint_states.publish(msg)

    def command(self, position: list[float], names: tuple[str, ...] = ("b", "a")) -> None:
        msg = JointTrajectory(joint_names=list(names), points=[JointTrajectoryPoint(positions=position)])
        msg.header.stamp = convert.stamp(self.clock.now)
        self.commands.publish(msg)

    def start(self) -> "Bench":
        self.description.publish(String(data=URDF))
        self.graph.spin_until(lambda: self.outputs)
        return self

    def follow(self, position: list[float]) -> None:
        """Command until the robot is there; the order of ``position`` is b, a."""

        def there() -> bool:
            self.command(position)
            return bool(np.abs(self.position[::-1] - position).max() < 1e-3)

        self.graph.spin_until(there)

    def state(self) -> tuple[bytes, str]:
        return (self.status[-1].level, self.status[-1].message) if self.status else (b"", "")


def test_joints_are_bound_by_name_and_the_output_is_in_the_controllers_order(graph: Graph) -> None:
    bench = Bench(graph).start()
    began = bench.clock.now
    bench.follow([0.4, -0.2])  # b, a
    np.testing.assert_allclose(bench.outputs[-1].data, [-0.2, 0.4], atol=1e-3)  # a, b
    steps = np.diff([list(m.data) for m in bench.outputs], axis=0)
    assert bench.clock.now - began >= 0.4 / 2.0  # at 2 rad/s at most
    assert np.abs(steps).max() < 0.1  # a ramp; late steps make up for what was missed


def test_it_waits_for_a_description_and_for_joint_states(graph: Graph) -> None:
    bench = Bench(graph)
    bench.timer.cancel()
    graph.spin_until(lambda: bench.state()[1] == "waiting for robot_description")
    bench.description.publish(String(data=URDF))
    graph.spin_until(lambda: bench.state()[1] == "waiting for joint states of ['a', 'b']")
    assert not bench.outputs
    bench.timer.reset()
    graph.spin_until(lambda: bench.state() == (DiagnosticStatus.OK, "holding, no command"))


def test_fault_is_latched_reported_and_released(graph: Graph) -> None:
    bench = Bench(graph).start()
    bench.follow([0.1, 0.1])
    bench.command([float("nan"), 0.0])
    graph.spin_until(lambda: bench.state()[0] == DiagnosticStatus.ERROR)
    assert "not finite" in bench.state()[1]
    held = list(bench.outputs[-1].data)
    for _ in range(20):
        bench.command([0.5, 0.5])
        bench.clock.wait(0.02)
    np.testing.assert_allclose(bench.outputs[-1].data, held, atol=0.05)
    assert bench.state()[0] == DiagnosticStatus.ERROR
    late = graph.collect(DiagnosticStatus, "safety_gate/status", LATCHED)
    graph.spin_until(lambda: late)
    assert late[-1].level == DiagnosticStatus.ERROR
    assert graph.call(Trigger, "safety_gate/release", Trigger.Request()).success
    bench.follow([0.2, 0.2])


def test_release_is_refused_while_the_cause_is_there(graph: Graph) -> None:
    bench = Bench(graph).start()
    bench.timer.cancel()
    graph.spin_until(lambda: bench.state()[0] == DiagnosticStatus.ERROR)
    assert "joint state is" in bench.state()[1]
    answer = graph.call(Trigger, "safety_gate/release", Trigger.Request())
    assert not answer.success
    assert "joint state is" in answer.message
    bench.timer.reset()
    graph.spin_until(lambda: graph.call(Trigger, "safety_gate/release", Trigger.Request()).success)


def test_bad_description_keeps_the_last_good_one(graph: Graph, capfd: pytest.CaptureFixture[str]) -> None:
    bench = Bench(graph).start()
    for bad in ("<robot", URDF.replace('name="b"', 'name="c"'), ""):
        bench.description.publish(String(data=bad))
        graph.spin(0.1)
    bench.follow([1.5, 0.1])
    assert capfd.readouterr().err.count("the last good one stays") == 3


def test_new_limits_of_a_changed_description_hold(graph: Graph) -> None:
    bench = Bench(graph).start()
    bench.description.publish(String(data=URDF.replace('lower="-2" upper="2"', 'lower="-0.3" upper="0.3"')))
    graph.spin(0.1)
    bench.follow([0.3, 0.0])
    for _ in range(20):
        bench.command([1.0, 0.0])
        bench.clock.wait(0.02)
    assert bench.position[1] == pytest.approx(0.3, abs=1e-6)


def test_joint_trajectory_interface(graph: Graph) -> None:
    bench = Bench(graph, command_interface="joint_trajectory").start()
    bench.follow([0.2, 0.1])
    msg = bench.outputs[-1]
    assert msg.joint_names == ["a", "b"]
    assert msg.points[0].time_from_start.nanosec == 10_000_000


def test_velocity_interface_ends_with_zero(graph: Graph) -> None:
    bench = Bench(graph, command_interface="forward_velocity").start()
    bench.follow([0.2, 0.1])
    graph.spin_until(lambda: (bench.command([0.9, 0.9]), abs(bench.outputs[-1].data[0]) > 0.1)[1])
    bench.node.trigger_deactivate()
    graph.spin_until(lambda: list(bench.outputs[-1].data) == [0.0, 0.0])


def test_without_joints_it_does_not_configure(graph: Graph, capfd: pytest.CaptureFixture[str]) -> None:
    node = graph.add(SafetyGateNode())
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "joints=[] names no joint" in capfd.readouterr().err
