"""The viewer in the browser: robot, chain, keypoints, camera and errors of the running graph."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CameraInfo, Image
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import String

from ideomotor.body.camera import CameraError, Intrinsics
from ideomotor.body.joint_state import JointStateBuffer, JointStateError
from ideomotor.body.session import BodyState
from ideomotor.body.transform_tree import TransformError
from ideomotor.body.urdf import description_sha256
from ideomotor.config import value
from ideomotor.errors import IdeomotorError
from ideomotor.viewer import Viewer, ViewerConfig
from ideomotor.viewer_content import BodyView
from ideomotor_interfaces.msg import BodySchema, DescriptionStatus, KeypointArray
from ideomotor_nodes import convert, convert_body
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.params import NodeConfig
from ideomotor_nodes.qos import LATCHED, SENSOR, STREAM
from ideomotor_nodes.run import run_node
from ideomotor_nodes.transforms import TransformListener

_MAX_GAP = 0.1  # [s] between joint states
_STATES = {getattr(BodySchema, state.name): state.name for state in BodyState}


@dataclass(frozen=True, kw_only=True)
class ViewerNodeConfig(NodeConfig, ViewerConfig):
    """Parameters of the node."""

    base_frame: str = value("base_link", "Frame of the robot's root link.")


class ViewerNode(LifecycleNode[ViewerNodeConfig]):
    """Feeds `Viewer`; subscriptions store, a timer shows."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("viewer", ViewerNodeConfig, **node_options)
        # Here, not in configure: a port in use is a wrong parameter, and ends the node with exit code 2.
        shares = [Path(prefix) / "share" for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if prefix]
        self.viewer = Viewer(self.config, tuple(shares))

    def configure(self) -> None:
        """Subscribe."""
        self._joint_states = JointStateBuffer()
        self._image: Image | None = None
        self._intrinsics: Intrinsics | None = None
        self._camera_frame = ""
        self._transforms = TransformListener(self, moving=False)  # the camera stands still
        self._status = self.create_publisher(DescriptionStatus, "description_status", LATCHED)
        self.create_subscription(String, "robot_description", self._on_description, LATCHED)
        self.create_subscription(BodySchema, "body_schema", self._on_body_schema, LATCHED)
        self.create_subscription(KeypointArray, "keypoints", self._on_keypoints, STREAM)
        self.create_sensor_subscription(JointStateMsg, "joint_states", self._on_joint_states, depth=100)
        self.create_sensor_subscription(Image, "camera/color/image_raw", self._on_image)
        self.create_sensor_subscription(CameraInfo, "camera/color/camera_info", self._on_camera_info)
        self.create_subscription(PoseStamped, "sim/tip", self._on_true_tip, SENSOR)

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
            self.viewer.set_description(msg.data)
        except IdeomotorError as error:
            status.accepted, status.reason = False, str(error)
            self._warn(f"robot_description is not shown: {error}")
        self._status.publish(status)

    def _on_joint_states(self, msg: JointStateMsg) -> None:
        try:
            state = convert.joint_state(msg)
        except JointStateError as error:
            self._warn(f"joint_states: {error}")
            return
        self._joint_states.update(state)
        self.viewer.set_joint_positions(dict(zip(state.names, state.position.tolist(), strict=True)))

    def _on_camera_info(self, msg: CameraInfo) -> None:
        try:
            self._intrinsics, self._camera_frame = convert.intrinsics(msg), msg.header.frame_id
        except CameraError as error:
            self._warn(f"camera/color/camera_info: {error}")

    def _on_image(self, msg: Image) -> None:
        self._image = msg

    def _on_keypoints(self, msg: KeypointArray) -> None:
        try:
            keypoints = convert_body.keypoints(msg)
            self.viewer.set_keypoints(keypoints)
            self.viewer.compare_keypoints(keypoints, self._positions(keypoints.stamp))
        except JointStateError:
            return  # no joint states around that time: nothing to compare with
        except IdeomotorError as error:
            self._warn(f"keypoints: {error}")

    def _on_true_tip(self, msg: PoseStamped) -> None:
        try:
            stamp = convert.seconds(msg.header.stamp)
            self.viewer.compare_tip(stamp, convert.matrix(msg.pose)[:3, 3], self._positions(stamp))
        except JointStateError:
            return
        except IdeomotorError as error:
            self._warn(f"sim/tip: {error}")

    def _on_body_schema(self, msg: BodySchema) -> None:
        try:
            self.viewer.set_body(_body_view(msg))
        except IdeomotorError as error:
            self._warn(f"body_schema: {error}")
        if np.isfinite(msg.tip_std) and msg.joints:
            self.viewer.add_error("tip_std", convert.seconds(msg.header.stamp), 1e3 * msg.tip_std)

    def _on_timer(self) -> None:
        image, self._image = self._image, None
        try:
            if self._intrinsics is not None:
                pose = self._transforms.lookup(self.config.base_frame, self._camera_frame)
                self.viewer.set_camera(self._intrinsics, pose)
                self._intrinsics = None  # until the next camera_info
            if image is not None:
                self.viewer.set_image(convert.rgb_image(image))
        except (TransformError, CameraError) as error:
            self._warn(f"camera: {error}")
        self.viewer.update()

    def _positions(self, stamp: float) -> dict[str, float]:
        names = self._joint_states.names
        return dict(zip(names, self._joint_states.position_at(names, stamp, _MAX_GAP).tolist(), strict=True))

    def _warn(self, reason: str) -> None:
        self.get_logger().warning(reason, throttle_duration_sec=5.0)


def _body_view(msg: BodySchema) -> BodyView:
    joints = [convert_body.virtual_joint(joint) for joint in msg.joints]
    lines = tuple(
        f"`{j.name}` {j.type.value}, {1e3 * float(np.linalg.norm(j.xyz)):.0f} mm"
        + ("" if j.axis is None else f", at {j.position:.3f}")
        for j in joints
    )
    return BodyView(
        state=_STATES[msg.state],
        ee_link=msg.ee_link,
        tip_link=msg.tip_link,
        tip_covariance=np.array(msg.tip_covariance).reshape(6, 6)[:3, :3],
        frames=msg.frames,
        inlier_ratio=msg.inlier_ratio,
        tip_std=msg.tip_std,
        joints=lines,
        keypoint_links=tuple(j.child_link for j in joints if j.axis is None),
        unobserved=tuple(msg.unobserved),
        suggestion=msg.suggestion,
    )


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(ViewerNode, args)


if __name__ == "__main__":
    sys.exit(main())
