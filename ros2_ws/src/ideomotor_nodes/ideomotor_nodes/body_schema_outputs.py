"""What body_schema publishes: state, markers, the tip's frame, positions of movable virtual joints."""

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from ideomotor.body.camera import Intrinsics
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.session import BodySchemaSession, BodyState
from ideomotor_interfaces.msg import BodySchema
from ideomotor_nodes import convert, convert_body, markers
from ideomotor_nodes.qos import LATCHED, STREAM, TF

TIP_FRAME = "body_schema_tip"  # where the newest image says the tip is; the description's own frame does not jump


class BodySchemaOutputs:
    """The publishers; create it in `configure`."""

    def __init__(self, node: Node, ee_link: str) -> None:
        self._node, self._ee_link = node, ee_link
        self._markers = MarkerArray()
        self._schema = node.create_lifecycle_publisher(BodySchema, "body_schema", LATCHED)
        self._marker_publisher = node.create_lifecycle_publisher(MarkerArray, "body_schema/markers", STREAM)
        self._tf = node.create_lifecycle_publisher(TFMessage, "/tf", TF)
        self._joint_states = node.create_lifecycle_publisher(JointState, "joint_states", STREAM)

    def publish_state(self, session: BodySchemaSession, q: np.ndarray | None) -> None:
        """Publish the state, and the markers of the chain.

        Args:
            session: what is known.
            q: joint positions, shape (n,), from where a helpful motion is suggested; None: none is suggested.
        """
        stamp = self._node.get_clock().now().to_msg()
        self._schema.publish(convert_body.body_schema_msg(session, self._ee_link, stamp, q))
        new = MarkerArray()
        estimate, extension = session.estimate, session.extension
        if extension is not None:
            covariance = np.zeros((6, 6))
            if estimate is not None and estimate.extension is not None and estimate.tip_covariance is not None:
                extension, covariance = estimate.extension, estimate.tip_covariance
            new = markers.extension_markers(extension, covariance[:3, :3])
        self._marker_publisher.publish(markers.replacing(self._markers, new))
        self._markers = new

    def publish_frame(self, session: BodySchemaSession, header: Header) -> None:
        """Publish what follows from one image, with its stamp: the tip's frame, positions of virtual joints."""
        estimate, extension = session.estimate, session.extension
        if session.state is not BodyState.EXTENDED or extension is None or estimate is None:
            return
        if estimate.extension is None:
            return
        T_ee_tip = estimate.extension.link_poses()[estimate.extension.tip_link]
        tip = convert.transform_stamped_msg(T_ee_tip, header.stamp, extension.ee_link, TIP_FRAME)
        self._tf.publish(TFMessage(transforms=[tip]))
        movable = [j.name for j in extension.joints if j.name in estimate.joint_position]
        if movable:
            positions = np.array([estimate.joint_position[name] for name in movable])
            self._joint_states.publish(convert.joint_state_msg(movable, positions, header.stamp))

    def publish_keypoints(self, keypoints: Keypoints, intrinsics: Intrinsics | None, header: Header) -> None:
        """Publish the keypoints' markers if somebody looks."""
        if intrinsics is not None and self._marker_publisher.get_subscription_count():
            self._marker_publisher.publish(markers.keypoint_markers(keypoints, intrinsics, header))
