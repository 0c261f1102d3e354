"""An arm that holds a stick it knows, for tests of demonstrations: gate, tip controller, a servo, and `demonstrate`."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rclpy.parameter import Parameter
from std_msgs.msg import Float64MultiArray, String

from ideomotor.body.extension import BodyExtension, JointType, VirtualJoint
from ideomotor.body.urdf import description_sha256, extend_urdf
from ideomotor_interfaces.msg import BodySchema
from ideomotor_nodes import convert_body
from ideomotor_nodes.qos import LATCHED
from ideomotor_nodes.recorder import RecorderNode
from tests.graph.conftest import Graph
from tests.graph.test_tip_controller import JOINTS, URDF, Bench

TOPICS = ["demonstration", "joint_states", "robot_description", "body_schema"]
LINKS = ("virtual_kp_0", "virtual_kp_1")


def stick() -> BodyExtension:
    """Return gripper -> kp_0 -> kp_1."""
    joints = [
        VirtualJoint(f"{link}_joint", parent, link, JointType.FIXED, xyz, np.zeros(3), np.zeros((6, 6)))
        for parent, link, xyz in (
            ("gripper_tcp", LINKS[0], np.array([0.0, 0.01, 0.05])),
            (LINKS[0], LINKS[1], np.array([0.02, 0.0, 0.1])),
        )
    ]
    return BodyExtension("gripper_tcp", tuple(joints), LINKS[-1], LINKS)


EXTENDED = extend_urdf(URDF, stick())


class DemonstrationRig(Bench):
    """The bench of the tip controller with an extended arm; `show` runs `demonstrate` as a process."""

    def __init__(self, graph: Graph, node_command: Callable[..., list[str]], log: Path) -> None:
        super().__init__(graph, description=False)
        self._command, self.log = node_command, log
        self.outputs = graph.collect(Float64MultiArray, "forward_position_controller/commands")
        self.names = graph.collect(String, "demonstration", LATCHED)
        self.schema = graph.helper.create_publisher(BodySchema, "body_schema", LATCHED)
        self.describe(EXTENDED)
        self.publish_schema(BodySchema.EXTENDED)
        graph.spin_until(lambda: self.gate._gate is not None and self.gate._gate.state.name == "HOLDING")

    def publish_schema(self, state: int, extension: BodyExtension | None = None) -> None:
        extension = extension or stick()
        self.schema.publish(
            BodySchema(
                state=state,
                description_sha256=description_sha256(EXTENDED),
                ee_link=extension.ee_link,
                tip_link=extension.tip_link,
                joints=[convert_body.virtual_joint_msg(joint) for joint in extension.joints],
            )
        )

    def record(self, folder: Path) -> RecorderNode:
        """Record from now on, until the node that is returned is deactivated."""
        parameters = [Parameter("folder", value=str(folder)), Parameter("topics", value=TOPICS)]
        recorder = self.graph.start(RecorderNode(parameter_overrides=parameters))
        latched = ("/robot_description", "/body_schema")
        self.graph.spin_until(lambda: all(recorder._writer.counts.get(topic) for topic in latched))
        return recorder

    def show(self, **parameters: object) -> "subprocess.Popen[bytes]":
        """Start `demonstrate`; what it says goes to the log."""
        given = {"joints": JOINTS, "estimate": False, "use_sim_time": True, "rest": 0.2} | parameters
        with self.log.open("w") as file:
            return subprocess.Popen(self._command("demonstrate", **given), stdout=file, stderr=subprocess.STDOUT)

    def wait(self, process: "subprocess.Popen[bytes]", timeout: float = 100.0) -> int:
        """Spin until the process has ended, and return its exit code."""
        try:
            self.graph.spin_until(lambda: process.poll() is not None, timeout, "the end of demonstrate")
        finally:
            process.kill()
        return process.wait()
