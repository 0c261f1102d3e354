"""The viewer in the browser: robot, target motion, chain, keypoints, camera and errors of the running graph."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from ideomotor.body.urdf import description_sha256
from ideomotor.errors import IdeomotorError
from ideomotor.robot_visual import ament_shares
from ideomotor.viewer import Viewer, ViewerConfig
from ideomotor.viewer_feed import ViewerFeed
from ideomotor_interfaces.msg import BodySchema, DescriptionStatus, KeypointArray
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.params import NodeConfig
from ideomotor_nodes.qos import LATCHED, SENSOR, STREAM, TF, TF_STATIC
from ideomotor_nodes.run import run_node


@dataclass(frozen=True, kw_only=True)
class ViewerNodeConfig(NodeConfig, ViewerConfig):
    """Parameters of the node."""


class ViewerNode(LifecycleNode[ViewerNodeConfig]):
    """Feeds `Viewer`; subscriptions store, a timer shows."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("viewer", ViewerNodeConfig, **node_options)
        # Here, not in configure: a port in use is a wrong parameter, and ends the node with exit code 2.
        self.viewer = Viewer(self.config, ament_shares())

    def configure(self) -> None:
        """Subscribe."""
        self._feed = feed = ViewerFeed(self.viewer)
        self._status = self.create_publisher(DescriptionStatus, "description_status", LATCHED)
        self.create_subscription(String, "robot_description", self._on_description, LATCHED)
        for message_type, topic, take, qos in (
            (TFMessage, "/tf_static", feed.transforms, TF_STATIC),
            (TFMessage, "/tf", feed.moving_transforms, TF),
            (JointStateMsg, "target_joint_states", feed.target_joint_states, STREAM),
            (BodySchema, "body_schema", feed.body_schema, LATCHED),
            (KeypointArray, "keypoints", feed.keypoints, STREAM),
            (PoseStamped, "sim/tip", feed.true_tip, SENSOR),
        ):
            self.create_subscription(message_type, topic, self._warned(topic, take), qos)
        self.create_sensor_subscription(
            JointStateMsg, "joint_states", self._warned("joint_states", feed.joint_states), depth=100
        )
        self.create_sensor_subscription(Odometry, "odom", self._warned("odom", feed.odometry))
        self.create_sensor_subscription(Image, "camera/color/image_raw", feed.image)
        info = "camera/color/camera_info"
        self.create_sensor_subscription(CameraInfo, info, self._warned(info, feed.camera_info))

    def activate(self) -> None:
        """Start showing."""
        self.create_steady_timer(1.0 / self.config.rate, self._on_timer)
        self.get_logger().info(f"the robot is shown at {self.viewer.url}")

    def destroy_node(self) -> None:
        """Close the port."""
        self.viewer.close()
        super().destroy_node()

    def _on_description(self, msg: String) -> None:
        status = DescriptionStatus(
            consumer=self.get_name(), description_sha256=description_sha256(msg.data), accepted=True
        )
        try:
            self._feed.description(msg.data)
        except IdeomotorError as error:
            status.accepted, status.reason = False, str(error)
            self._warn(f"robot_description is not shown: {error}")
        self._status.publish(status)

    def _on_timer(self) -> None:
        try:
            self._feed.update()
        except IdeomotorError as error:
            self._warn(f"camera: {error}")

    def _warned(self, topic: str, take: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return a callback that says what is wrong with a message instead of ending the node."""

        def on_message(msg: Any) -> None:  # noqa: ANN401
            try:
                take(msg)
            except IdeomotorError as error:
                self._warn(f"{topic}: {error}")

        return on_message

    def _warn(self, reason: str) -> None:
        self.get_logger().warning(reason, throttle_duration_sec=5.0)


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(ViewerNode, args)


if __name__ == "__main__":
    sys.exit(main())
