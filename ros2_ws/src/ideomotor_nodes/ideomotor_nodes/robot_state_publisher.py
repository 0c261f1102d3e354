"""Robot state publisher: the description, and the frames of its links; for machines without ROS's own."""

import math
from dataclasses import dataclass
from typing import Any

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from ideomotor.body.joint_state import JointState as State
from ideomotor.body.joint_state import JointStateError
from ideomotor.body.link_transforms import LinkTransform, LinkTransforms
from ideomotor.body.urdf import UrdfError
from ideomotor.config import value
from ideomotor_nodes import convert
from ideomotor_nodes.diagnostics import StreamMonitor
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.params import NodeConfig
from ideomotor_nodes.qos import LATCHED, TF, TF_STATIC
from ideomotor_nodes.run import run_node

_DESCRIPTION = "robot_description"
_ALMOST = 0.99  # stamps are rounded


@dataclass(frozen=True, kw_only=True)
class RobotStatePublisherConfig(NodeConfig):
    """Parameters of robot_state_publisher; names and defaults are those of ROS's own."""

    frame_prefix: str = value("", "What the names of the links' frames begin with.")
    publish_frequency: float = value(20.0, "Most transforms of a joint a second [Hz].", ge=0.1, le=1000.0)


class RobotStatePublisherNode(LifecycleNode[RobotStatePublisherConfig]):
    """Lifecycle shell around `LinkTransforms`; its parameter robot_description may change at any time."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__(
            "robot_state_publisher", RobotStatePublisherConfig, live_parameters=(_DESCRIPTION,), **node_options
        )
        self._states = StreamMonitor()
        self.add_report("joint_states", lambda: self._states.report(self.now()))
        self.add_on_set_parameters_callback(self._check)
        self.declare_parameter(
            _DESCRIPTION, "", ParameterDescriptor(description="URDF text; published when it is set.")
        )
        self.add_post_set_parameters_callback(self._apply)

    def configure(self) -> None:
        """Create the topics."""
        self._robot: LinkTransforms | None = None
        self._published: dict[str, float] = {}  # stamp of each joint's newest transform [s]
        self._description = self.create_publisher(String, _DESCRIPTION, LATCHED)
        self._tf = self.create_lifecycle_publisher(TFMessage, "/tf", TF)
        self._tf_static = self.create_publisher(TFMessage, "/tf_static", TF_STATIC)
        self.create_sensor_subscription(JointState, "joint_states", self._on_joint_state)
        self._configured = True
        self._publish(self.get_parameter(_DESCRIPTION).value)

    def cleanup(self) -> None:
        """Publish nothing any more."""
        self._configured = False

    _configured = False

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == _DESCRIPTION and parameter.value:
                try:
                    LinkTransforms(parameter.value)
                except UrdfError as error:
                    return SetParametersResult(successful=False, reason=f"{_DESCRIPTION}: {error}")
        return SetParametersResult(successful=True)

    def _apply(self, parameters: list[Parameter]) -> None:
        for parameter in parameters:
            if parameter.name == _DESCRIPTION and self._configured:
                self._publish(parameter.value)

    def _publish(self, urdf: str) -> None:
        if not urdf:
            self.get_logger().info(f"{_DESCRIPTION} is empty: nothing is published until it is set")
            return
        self._robot, self._published = LinkTransforms(urdf), {}
        self._description.publish(String(data=urdf))
        stamp = self.get_clock().now().to_msg()
        self._tf_static.publish(TFMessage(transforms=[self._message(t, stamp) for t in self._robot.static]))

    def _on_joint_state(self, msg: JointState) -> None:
        try:
            state = convert.joint_state(msg)
        except JointStateError as error:
            self._states.rejected()
            self.get_logger().warning(f"joint state ignored: {error}", throttle_duration_sec=1.0)
            return
        self._states.received(state.stamp, self.now())
        if self._robot is None or not self._is_due(state):
            return
        positions = dict(zip(state.names, state.position.tolist(), strict=True))
        transforms = [self._message(t, msg.header.stamp) for t in self._robot.moving(positions)]
        if transforms:
            self._tf.publish(TFMessage(transforms=transforms))

    def _message(self, t: LinkTransform, stamp: Time) -> TransformStamped:
        prefix = self.config.frame_prefix
        return convert.transform_stamped_msg(t.T_parent_child, stamp, prefix + t.parent, prefix + t.child)

    def _is_due(self, state: State) -> bool:
        """Whether a joint of this state was not published for a period; time that runs backwards starts anew."""
        ages = [state.stamp - self._published.get(name, -math.inf) for name in state.names]
        due = any(not 0.0 <= age < _ALMOST / self.config.publish_frequency for age in ages)
        if due:
            self._published |= dict.fromkeys(state.names, state.stamp)
        return due


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(RobotStatePublisherNode, args)
