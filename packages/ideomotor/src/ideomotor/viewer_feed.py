"""Messages into the viewer: of a running graph (`ideomotor_nodes.viewer`) or of a recording (`view_recording`)."""

import numpy as np

from ideomotor.body.camera import Intrinsics
from ideomotor.body.joint_state import JointStateBuffer, JointStateError
from ideomotor.body.transform_tree import TransformError, TransformTree
from ideomotor.body.urdf import parse_urdf, root_link
from ideomotor.data import messages
from ideomotor.data.messages import Message
from ideomotor.viewer import Viewer
from ideomotor.viewer_content import BodyView

_MAX_GAP = 0.1  # [s] between joint states


class ViewerFeed:
    """One method a topic; `update` shows what came since the last one.

    A message that cannot be used raises an `IdeomotorError` that says why, and what is shown stays.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._description, self._root = "", ""  # text, and its root link, the frame of the camera's pose
        self._transforms = TransformTree()
        self._joint_states = JointStateBuffer()
        self._camera: tuple[Intrinsics, str] | None = None  # intrinsics and frame, until they are shown
        self._image: Message | None = None  # decoded when it is shown: most are not

    def description(self, urdf: str) -> None:
        """Show another robot; the one that is shown is not drawn again."""
        if urdf != self._description:
            self._viewer.set_description(urdf)
            self._description, self._root = urdf, root_link(parse_urdf(urdf))

    def transforms(self, msg: Message) -> None:
        """Take in tf2_msgs/TFMessage; of /tf_static only, as the camera stands still."""
        wrong: TransformError | None = None
        for transform in msg.transforms:
            parent, child = transform.header.frame_id.lstrip("/"), transform.child_frame_id.lstrip("/")
            try:
                self._transforms.set(parent, child, messages.matrix_from_transform(transform.transform))
            except TransformError as error:  # the others may be right
                wrong = error
        if wrong is not None:
            raise wrong

    def joint_states(self, msg: Message) -> None:
        """Take in sensor_msgs/JointState."""
        state = messages.joint_state(msg)
        self._joint_states.update(state)
        self._viewer.set_joint_positions(dict(zip(state.names, state.position.tolist(), strict=True)))

    def odometry(self, msg: Message) -> None:
        """Take in nav_msgs/Odometry of a floating base."""
        self._viewer.set_base_pose(messages.matrix(msg.pose.pose))

    def target_joint_states(self, msg: Message) -> None:
        """Take in sensor_msgs/JointState of the target motion."""
        state = messages.joint_state(msg)
        self._viewer.set_target_joint_positions(dict(zip(state.names, state.position.tolist(), strict=True)))

    def moving_transforms(self, msg: Message) -> None:
        """Take in tf2_msgs/TFMessage of /tf: where the root link of the target motion's robot is."""
        for transform in msg.transforms:
            if transform.child_frame_id == messages.TARGET_FRAMES + self._root:
                self._viewer.set_target_pose(messages.matrix_from_transform(transform.transform))

    def camera_info(self, msg: Message) -> None:
        """Take in sensor_msgs/CameraInfo."""
        self._camera = messages.intrinsics(msg), msg.header.frame_id

    def image(self, msg: Message) -> None:
        """Take in sensor_msgs/Image, in colour."""
        self._image = msg

    def keypoints(self, msg: Message) -> None:
        """Take in KeypointArray, and compare it with the chain."""
        keypoints = messages.keypoints(msg)
        self._viewer.set_keypoints(keypoints)
        positions = self._positions(keypoints.stamp)
        if positions is not None:
            self._viewer.compare_keypoints(keypoints, positions)

    def body_schema(self, msg: Message) -> None:
        """Take in BodySchema."""
        self._viewer.set_body(body_view(msg))
        if np.isfinite(msg.tip_std) and len(msg.joints):
            self._viewer.add_error("tip_std", messages.seconds(msg.header.stamp), 1e3 * msg.tip_std)

    def true_tip(self, msg: Message) -> None:
        """Take in geometry_msgs/PoseStamped of the simulator, and compare it with the chain's tip."""
        stamp, tip = messages.seconds(msg.header.stamp), messages.matrix(msg.pose)[:3, 3]
        positions = self._positions(stamp)
        if positions is not None:
            self._viewer.compare_tip(stamp, tip, positions)

    def update(self) -> None:
        """Send what changed to the browser."""
        try:
            image, self._image = self._image, None
            if image is not None:
                self._viewer.set_image(messages.rgb_image(image))
            if self._camera is not None and self._root:
                camera, frame = self._camera
                self._viewer.set_camera(camera, self._transforms.lookup(self._root, frame))
                self._camera = None
        finally:
            self._viewer.update()

    def _positions(self, stamp: float) -> dict[str, float] | None:
        """Return the joint positions at a time; None where they were not measured around it."""
        names = self._joint_states.names
        try:
            return dict(zip(names, self._joint_states.position_at(names, stamp, _MAX_GAP).tolist(), strict=True))
        except JointStateError:
            return None


def body_view(msg: Message) -> BodyView:
    """Return what the viewer says about a BodySchema message.

    Raises:
        IdeomotorError: if a joint or the state is none.
    """
    joints = [messages.virtual_joint(joint) for joint in msg.joints]
    lines = tuple(
        f"`{j.name}` {j.type.value}, {1e3 * float(np.linalg.norm(j.xyz)):.0f} mm"
        + ("" if j.axis is None else f", at {j.position:.3f}")
        for j in joints
    )
    return BodyView(
        state=messages.body_state(msg).name,
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
