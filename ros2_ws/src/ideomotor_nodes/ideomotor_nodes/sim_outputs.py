"""What the simulated robot publishes: the topics of a driver and a camera, /clock, and ground truth under sim/."""

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseArray, PoseStamped
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from tf2_msgs.msg import TFMessage

from ideomotor.body.camera import Intrinsics
from ideomotor_nodes import convert
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.qos import STREAM, TF_STATIC

OVERVIEW_FRAME = "overview_optical_frame"


class SimJoints:
    """Time, and joints that are commanded positions or velocities; for efforts see `SimState`."""

    def __init__(self, node: LifecycleNode) -> None:  # type: ignore[type-arg]
        self._clock = node.create_lifecycle_publisher(Clock, "/clock", STREAM)
        self._joint_states = node.create_lifecycle_publisher(JointState, "joint_states", STREAM)

    def publish(self, message: JointState) -> None:
        """Publish the time and a joint state of this time."""
        self._clock.publish(Clock(clock=message.header.stamp))
        self._joint_states.publish(message)


class SimOutputs:
    """The publishers of mujoco_sim that do not say where the joints are; create it in `configure`."""

    def __init__(self, node: LifecycleNode, base_frame: str, camera_frame: str) -> None:  # type: ignore[type-arg]
        self._base_frame, self._camera_frame = base_frame, camera_frame
        publisher = node.create_lifecycle_publisher
        self._colour = publisher(Image, "camera/color/image_raw", STREAM)
        self._depth = publisher(Image, "camera/depth/image_rect_raw", STREAM)
        self._camera_info = publisher(CameraInfo, "camera/color/camera_info", STREAM)
        self._tf_static = publisher(TFMessage, "/tf_static", TF_STATIC)
        self._tip = publisher(PoseStamped, "sim/tip", STREAM)
        self._object_pose = publisher(PoseStamped, "sim/object_pose", STREAM)
        self._keypoints = publisher(PoseArray, "sim/object_keypoints", STREAM)
        self._overview = publisher(Image, "sim/overview/image_raw", STREAM)
        self._overview_info = publisher(CameraInfo, "sim/overview/camera_info", STREAM)

    def camera_poses(self, T_base_camera: np.ndarray, T_base_overview: np.ndarray, stamp: Time) -> None:
        """Publish the poses of both optical frames, shape (4, 4) each."""
        poses = {self._camera_frame: T_base_camera, OVERVIEW_FRAME: T_base_overview}
        frames = [convert.transform_stamped_msg(T, stamp, self._base_frame, name) for name, T in poses.items()]
        self._tf_static.publish(TFMessage(transforms=frames))

    @property
    def overview_wanted(self) -> bool:
        """Whether anybody looks at the picture for people; it takes time to render."""
        return bool(self._overview.get_subscription_count())

    def overview(self, rgb: np.ndarray, intrinsics: Intrinsics, stamp: Time) -> None:
        """Publish the picture for people, shape (H, W, 3) uint8."""
        self._overview_info.publish(convert.camera_info_msg(intrinsics, stamp, OVERVIEW_FRAME))
        self._overview.publish(convert.image_msg(rgb, "rgb8", stamp, OVERVIEW_FRAME))

    def images(self, rgb: np.ndarray, depth: np.ndarray, intrinsics: Intrinsics, stamp: Time) -> None:
        """Publish colour, shape (H, W, 3) uint8, and depth, shape (H, W) [m]."""
        colour_msg = convert.image_msg(rgb, "rgb8", stamp, self._camera_frame)
        depth_msg = convert.depth_image_msg(depth, stamp, self._camera_frame)
        self._camera_info.publish(convert.camera_info_msg(intrinsics, stamp, self._camera_frame))
        self._colour.publish(colour_msg)
        self._depth.publish(depth_msg)

    def truth(self, T_base_tool: np.ndarray, keypoints_base: np.ndarray, stamp: Time) -> None:
        """Publish pose (4, 4) and keypoints (K, 3) [m] of the object, the last the tip, if anybody asks."""
        if not any(p.get_subscription_count() for p in (self._object_pose, self._tip, self._keypoints)):
            return
        poses = [_at(T_base_tool, position) for position in keypoints_base]
        self._object_pose.publish(convert.pose_stamped_msg(T_base_tool, stamp, self._base_frame))
        self._tip.publish(convert.pose_stamped_msg(poses[-1], stamp, self._base_frame))
        header = convert.header(stamp, self._base_frame)
        self._keypoints.publish(PoseArray(header=header, poses=[convert.pose_msg(pose) for pose in poses]))


def _at(T: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Return the pose ``T`` moved to ``position``."""
    moved = T.copy()
    moved[:3, 3] = position
    return moved
