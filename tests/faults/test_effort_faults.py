"""A falling robot, a stuck joint, a controller that breaks: the gate holds the simulated robot."""

from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from ideomotor_interfaces.srv import ResetSimulation
from ideomotor_nodes import convert
from ideomotor_nodes.qos import COMMAND, LATCHED, STREAM
from tests.graph.conftest import Graph
from tests.graph.test_effort_sim import Start, Stream, seconds, start

__all__ = ["start"]


class Controller:
    """Answers every state with constant efforts, from when they are given."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.effort = graph, None
        self.base, self.status = (
            Stream(graph, Odometry, "odom"),
            Stream(graph, DiagnosticStatus, "safety_gate/status", LATCHED),
        )
        self.joints = Stream(graph, JointState, "joint_states")
        self.commands = graph.helper.create_publisher(JointTrajectory, "joint_command", COMMAND)
        graph.helper.create_subscription(JointState, "joint_states", self.answer, STREAM)
        self.effort: Any = None

    def answer(self, message: JointState) -> None:
        if self.effort is not None:
            point = JointTrajectoryPoint(effort=list(self.effort))
            header = convert.header(message.header.stamp)
            self.commands.publish(JointTrajectory(header=header, joint_names=list(message.name), points=[point]))

    def wait_until_held(self) -> None:
        self.graph.spin_until(lambda: self.status.messages and self.status.last.message == "holding, no command")
        self.wait(0.3)

    def wait(self, duration: float) -> None:
        """Spin for a span of simulated time."""
        self.graph.spin_until(lambda: self.joints.messages)
        end = seconds(self.joints.last) + duration
        self.graph.spin_until(lambda: seconds(self.joints.last) > end, timeout=30.0)

    def wait_for_fault(self, reason: str) -> None:
        self.graph.spin_until(lambda: self.status.last.level == DiagnosticStatus.ERROR, timeout=30.0)
        assert reason in self.status.last.message


def test_a_robot_that_falls_is_damped_until_it_stands_again(graph: Graph, start: Start) -> None:
    controller = Controller(graph)
    start("solo12_effort", gate=True)
    controller.wait_until_held()
    controller.effort = np.zeros(12)  # legs give way
    controller.wait_for_fault("fallen: base")
    controller.wait(1.0)
    assert np.abs(controller.joints.last.velocity).max() < 0.5  # it lies still, whatever is commanded
    refused = graph.call(Trigger, "safety_gate/release", Trigger.Request())
    assert not refused.success
    assert "fallen" in refused.message
    controller.effort = None
    assert graph.call(ResetSimulation, "sim/reset", ResetSimulation.Request(seed=-1)).success
    graph.spin_until(lambda: graph.call(Trigger, "safety_gate/release", Trigger.Request()).success)
    controller.wait(1.0)
    assert controller.base.last.pose.pose.position.z > 0.15


def test_a_stuck_joint_is_a_fault(graph: Graph, start: Start) -> None:
    controller = Controller(graph)
    start("iiwa7_effort", gate=True, joint_friction=60.0)
    controller.wait_until_held()
    controller.effort = np.array([0.0] * 6 + [40.0])  # all that joint 7 has
    controller.wait_for_fault("iiwa_joint_7 is stuck")
    controller.effort = None
    held = np.array(controller.joints.last.position)
    controller.wait(1.0)
    np.testing.assert_allclose(controller.joints.last.position, held, atol=0.02)


def test_a_controller_that_gives_nan_leaves_the_arm_held(graph: Graph, start: Start) -> None:
    controller = Controller(graph)
    start("iiwa7_effort", gate=True)
    controller.wait_until_held()
    held = np.array(controller.joints.last.position)
    controller.effort = np.full(7, np.nan)
    controller.wait_for_fault("not finite")
    controller.wait(1.0)
    np.testing.assert_allclose(controller.joints.last.position, held, atol=0.02)
    assert np.isfinite(controller.joints.last.effort).all()


def test_a_controller_that_stops_in_the_middle_leaves_the_robot_standing(graph: Graph, start: Start) -> None:
    controller = Controller(graph)
    node = start("solo12_effort", gate=True, lockstep=0.3)
    controller.wait_until_held()
    controller.effort = np.array(controller.joints.last.effort)  # what holds it now
    graph.spin_until(lambda: controller.status.last.message == "following commands")
    controller.effort = None
    controller.wait(1.0)
    assert node._unanswered >= 1
    assert controller.status.last.message == "holding, no command"
    assert controller.base.last.pose.pose.position.z > 0.15
