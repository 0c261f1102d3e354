"""The safety gate at effort level over DDS: commands go through at once, faults hold the robot."""

from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from ideomotor_nodes import convert
from ideomotor_nodes.effort_shell import answered
from ideomotor_nodes.qos import COMMAND, LATCHED, STREAM
from ideomotor_nodes.safety_gate import SafetyGateNode
from tests.graph.conftest import Graph
from tests.graph.sim_clock import SIM_TIME, STEP, SimClock
from tests.graph.test_safety_gate import URDF


class Bench:
    """A gate at effort level, and a robot that says where it is after every step of the clock."""

    def __init__(self, graph: Graph, **parameters: Any) -> None:
        self.graph = graph
        self.clock = SimClock(graph)
        overrides = {"joints": ["a", "b"], "command_interface": "forward_effort"} | parameters
        ours = [Parameter(k, value=v) for k, v in overrides.items()]
        self.node = graph.add(SafetyGateNode(parameter_overrides=[SIM_TIME, *ours]))
        self.position, self.height = np.zeros(2), 0.3
        self.outputs: list[Float64MultiArray] = []
        helper = graph.helper
        self.status = graph.collect(DiagnosticStatus, "safety_gate/status", LATCHED)
        self.description = helper.create_publisher(String, "robot_description", LATCHED)
        self.joint_states = helper.create_publisher(JointState, "joint_states", STREAM)
        self.odometry = helper.create_publisher(Odometry, "odom", STREAM)
        self.commands = helper.create_publisher(JointTrajectory, "joint_command", COMMAND)
        topic = "forward_effort_controller/commands"
        helper.create_subscription(Float64MultiArray, topic, self.outputs.append, STREAM)
        self.timer = helper.create_timer(STEP, self.publish_state)
        assert self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS

    def publish_state(self) -> None:
        stamp = convert.stamp(self.clock.now)
        odometry = Odometry(header=convert.header(stamp, "odom"), child_frame_id="base_link")
        odometry.pose.pose.position.z = self.height
        self.odometry.publish(odometry)
        zero = np.zeros(2)
        self.joint_states.publish(convert.joint_state_msg(["b", "a"], self.position[::-1], stamp, zero, zero))

    def command(self, effort: list[float], names: tuple[str, ...] = ("b", "a")) -> None:
        self.commands.publish(convert.effort_command_msg(names, np.array(effort), self.clock.now))

    def start(self) -> "Bench":
        self.description.publish(String(data=URDF))
        self.graph.spin_until(lambda: self.outputs)
        return self

    def follow(self, effort: list[float]) -> None:
        """Command until it goes out; the order of ``effort`` is b, a."""

        def goes_out() -> bool:
            self.command(effort)
            return list(self.outputs[-1].data) == pytest.approx(effort[::-1])

        self.graph.spin_until(goes_out)

    def state(self) -> tuple[bytes, str]:
        return (self.status[-1].level, self.status[-1].message) if self.status else (b"", "")


def test_commands_go_through_in_the_controllers_order_and_say_what_they_answer(graph: Graph) -> None:
    bench = Bench(graph).start()
    bench.follow([0.4, -0.2])
    bench.timer.cancel()
    graph.spin(0.05)
    before, stamp = len(bench.outputs), convert.stamp(bench.clock.now)
    bench.commands.publish(convert.effort_command_msg(("b", "a"), np.array([0.5, 9.0]), stamp))
    graph.spin_until(lambda: len(bench.outputs) > before)
    assert answered(bench.outputs[before].layout) == (stamp.sec, stamp.nanosec)
    np.testing.assert_allclose(bench.outputs[before].data, [1.0, 0.5])  # a is limited
    assert bench.state() == (DiagnosticStatus.OK, "following commands")


def test_without_commands_every_state_is_answered_with_what_holds_it(graph: Graph) -> None:
    bench = Bench(graph, hold_stiffness=[2.0], hold_damping=[0.0]).start()
    bench.position[:] = [0.01, -0.02]  # not a jump
    graph.spin_until(lambda: list(bench.outputs[-1].data) == pytest.approx([-0.02, 0.04]))
    assert bench.state() == (DiagnosticStatus.OK, "holding, no command")


def test_a_command_without_points_ends_the_commands(graph: Graph) -> None:
    bench = Bench(graph).start()
    bench.follow([0.4, -0.2])
    bench.commands.publish(JointTrajectory(header=convert.header(bench.clock.now), joint_names=["b", "a"]))
    graph.spin_until(lambda: bench.state()[1] == "holding, no command")
    assert bench.state()[0] == DiagnosticStatus.OK
    graph.spin_until(lambda: list(bench.outputs[-1].data) == pytest.approx([0.0, 0.0]))


@pytest.mark.parametrize(
    ("spoiled", "expected"),
    [
        (JointTrajectoryPoint(effort=[float("nan"), 0.0]), "not finite"),
        (JointTrajectoryPoint(effort=[0.0]), "2 names but 1 effort"),
        (JointTrajectoryPoint(positions=[0.0, 0.0], effort=[0.0, 0.0]), "expected efforts only"),
        (JointTrajectoryPoint(positions=[0.0, 0.0]), "expected efforts only"),
    ],
)
def test_a_bad_command_holds_until_released(graph: Graph, spoiled: JointTrajectoryPoint, expected: str) -> None:
    bench = Bench(graph).start()
    bench.follow([0.4, -0.2])
    bench.commands.publish(
        JointTrajectory(header=convert.header(bench.clock.now), joint_names=["b", "a"], points=[spoiled])
    )
    graph.spin_until(lambda: bench.state()[0] == DiagnosticStatus.ERROR)
    assert expected in bench.state()[1]
    for _ in range(10):
        bench.command([0.4, -0.2])
        bench.clock.wait(0.02)
    np.testing.assert_allclose(bench.outputs[-1].data, 0.0, atol=1e-9)
    bench.clock.wait(0.3)
    assert graph.call(Trigger, "safety_gate/release", Trigger.Request()).success
    bench.follow([0.3, 0.3])


def test_states_that_stop_are_a_fault(graph: Graph) -> None:
    bench = Bench(graph).start()
    bench.follow([0.4, -0.2])
    bench.timer.cancel()
    graph.spin_until(lambda: bench.state()[0] == DiagnosticStatus.ERROR)
    assert "joint state is" in bench.state()[1]
    answer = graph.call(Trigger, "safety_gate/release", Trigger.Request())
    assert not answer.success
    bench.timer.reset()
    graph.spin_until(lambda: graph.call(Trigger, "safety_gate/release", Trigger.Request()).success)


def test_a_fall_is_a_fault(graph: Graph) -> None:
    bench = Bench(graph, floating_base=True).start()
    bench.follow([0.4, -0.2])
    bench.height = 0.05
    graph.spin_until(lambda: bench.state()[0] == DiagnosticStatus.ERROR)
    assert "fallen: base 0.050 m high" in bench.state()[1]


def test_a_joint_that_is_missing_or_beyond_its_limit(graph: Graph) -> None:
    bench = Bench(graph).start()
    bench.follow([0.4, -0.2])
    bench.command([0.1], names=("a",))
    graph.spin_until(lambda: "lacks ['b']" in bench.state()[1])
    bench.clock.wait(0.3)
    assert graph.call(Trigger, "safety_gate/release", Trigger.Request()).success
    bench.position[0] = 1.1  # put there by hand
    graph.spin_until(lambda: "a is at 1.100, beyond its limits" in bench.state()[1])


def test_limits_without_effort_are_refused(graph: Graph, capfd: pytest.CaptureFixture[str]) -> None:
    bench = Bench(graph)
    bench.description.publish(String(data=URDF.replace('effort="1"', 'effort="0"')))
    graph.spin(0.3)
    assert not bench.outputs
    assert "effort limits" in capfd.readouterr().err
    bench.start()
