"""A robot and its controller as the experience recorder sees them."""

import numpy as np
from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from ideomotor_nodes import convert
from ideomotor_nodes.qos import COMMAND, LATCHED, STREAM
from tests.graph.conftest import Graph

JOINTS = ("hip", "knee")


class Rig:
    """Publishes states of which the efforts count up, and the commands that answer them."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.step, self.first = graph, 0, 0
        publisher = graph.helper.create_publisher
        self.description = publisher(String, "robot_description", LATCHED)
        self.description.publish(String(data="<robot/>"))
        self.marks = publisher(String, "experience", LATCHED)
        self.odometry = publisher(Odometry, "odom", STREAM)
        self.states = publisher(JointState, "joint_states", STREAM)
        self.commands = publisher(JointTrajectory, "joint_command", COMMAND)

    def wait_for_recorder(self) -> None:
        """Spin until all topics are subscribed to."""
        publishers = (self.description, self.marks, self.odometry, self.states, self.commands)
        self.graph.spin_until(lambda: all(p.get_subscription_count() for p in publishers))

    def state(self) -> None:
        """Publish the next state."""
        self.step += 1
        stamp = convert.stamp(1.0 + 0.004 * self.step)
        odometry = Odometry(header=convert.header(stamp, "odom"), child_frame_id="base_link")
        self.odometry.publish(odometry)
        zero, effort = np.zeros(2), np.full(2, float(self.step))
        self.states.publish(convert.joint_state_msg(JOINTS, zero, stamp, zero, effort))
        self.graph.executor.spin_once(timeout_sec=0.0)

    def command(self) -> None:
        """Publish the answer to the last state."""
        self.commands.publish(convert.effort_command_msg(JOINTS, np.ones(2), 1.0 + 0.004 * self.step))
        self.graph.executor.spin_once(timeout_sec=0.0)

    def begin(self, name: str, steps: int) -> None:
        """Publish states, the mark of an episode, and ``steps`` steps of it."""
        for _ in range(5):
            self.state()
        self.marks.publish(String(data=name))
        self.first = self.step
        for _ in range(steps):
            self.command()
            self.state()

    def episode(self, name: str, steps: int) -> None:
        """Publish a whole episode, and some states after it."""
        self.begin(name, steps)
        self.marks.publish(String(data=""))
        for _ in range(5):
            self.state()
        self.graph.spin(0.3)  # nobody says when a recorder has taken all
