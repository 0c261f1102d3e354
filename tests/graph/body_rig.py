"""A robot for the graph tests of the body schema: joints, camera pose and synthetic keypoints; no images."""

import time
from pathlib import Path

import numpy as np
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from ideomotor.body.camera import Intrinsics
from ideomotor.body.chain import KinematicChain
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.urdf import description_sha256, load_urdf
from ideomotor_interfaces.action import EstimateBodySchema
from ideomotor_interfaces.msg import BodySchema, DescriptionStatus, KeypointArray
from ideomotor_nodes import convert, convert_body
from ideomotor_nodes.body_schema import BodySchemaNode
from ideomotor_nodes.qos import COMMAND, LATCHED, SENSOR, STREAM, TF, TF_STATIC
from ideomotor_nodes.robot_state_publisher import RobotStatePublisherNode
from tests.graph.conftest import Graph

EE_LINK, BASE, OPTICAL = "gripper_tcp", "base_link", "camera_color_optical_frame"
CAMERA = Intrinsics(320, 240, 300.0, 300.0, 159.5, 119.5)
NAMES = ("kp_0", "kp_1", "kp_2", "kp_3")
Q0 = np.array([0.0, 0.6, 0.0, -1.4, 0.0, 1.0, 0.0])
URDF = load_urdf(Path(__file__).parents[2] / "urdf" / "iiwa7.urdf.xacro")
REST = np.array([0.0, 0.0, 0.02]) + np.array([0.05, 0.02, 0.2]) * np.arange(1, 5)[:, None] / 4  # (4, 3) in the ee frame
CONSUMER = "tip_controller"


class BodyRig:
    """Plays driver, camera and keypoint detector around a real body_schema and robot_state_publisher."""

    def __init__(self, graph: Graph, *, consumer: bool = False, **parameters: object) -> None:
        self.graph = graph
        self.chain = KinematicChain.from_urdf(URDF, ee_link=EE_LINK)
        self.q = Q0.copy()
        self.rest = REST.copy()
        self.confidence = 0.95
        self.moves_itself = True  # the arm waves whatever is commanded
        self.publish_joints = True
        self.consumer_accepts: bool | None = True  # None: silent
        self.rng = np.random.default_rng(0)
        helper = graph.helper
        self.descriptions = graph.collect(String, "robot_description", LATCHED)
        self.schemas = graph.collect(BodySchema, "body_schema", LATCHED)
        self.commands = graph.collect(JointTrajectory, "joint_command", COMMAND)
        self.frames = graph.collect(TFMessage, "/tf", TF)
        self.statics = graph.collect(TFMessage, "/tf_static", TF_STATIC)
        self.joint_messages = graph.collect(JointState, "joint_states", SENSOR)
        description = Parameter("robot_description", value=URDF)
        self.publisher = graph.start(RobotStatePublisherNode(parameter_overrides=[description]))
        if consumer:
            parameters["description_consumers"] = [CONSUMER]
            self._status = helper.create_publisher(DescriptionStatus, "description_status", LATCHED)
            helper.create_subscription(String, "robot_description", self._confirm, LATCHED)
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node: BodySchemaNode = graph.start(BodySchemaNode(parameter_overrides=overrides))
        self._joints = helper.create_publisher(JointState, "joint_states", STREAM)
        self._keypoints = helper.create_publisher(KeypointArray, "keypoints", STREAM)
        self._camera_info = helper.create_publisher(CameraInfo, "camera/color/camera_info", SENSOR)
        self._tf_static = helper.create_publisher(TFMessage, "/tf_static", TF_STATIC)
        self.T_base_camera = _camera_pose(self.chain.forward(Q0)[:3, 3])
        transform = convert.transform_stamped_msg(self.T_base_camera, helper.get_clock().now().to_msg(), BASE, OPTICAL)
        self._tf_static.publish(TFMessage(transforms=[transform]))
        self._phase = self.rng.uniform(0, 6, size=(2, 7))
        helper.create_timer(0.01, self._on_joints)
        helper.create_timer(1 / 30, self._on_image)
        self._estimate = ActionClient(helper, EstimateBodySchema, "body_schema/estimate")
        graph.spin_until(lambda: self.node.session is not None, what="the session")
        graph.spin_until(lambda: self.node.joint_states.names, what="joint states")
        graph.spin_until(self._estimate.server_is_ready, what="the action server")
        graph.spin_until(lambda: self._keypoints.get_subscription_count() > 0, what="a subscription to keypoints")

    @property
    def state(self) -> int:
        return int(self.schemas[-1].state) if self.schemas else -1

    def begin(self, **goal: object) -> object:
        """Send a goal; return its handle."""
        self.feedback: list[EstimateBodySchema.Feedback] = []
        return self.graph.send_goal(
            self._estimate, EstimateBodySchema.Goal(**goal), lambda m: self.feedback.append(m.feedback)
        )

    def result(self, handle: object, timeout: float = 20.0) -> tuple[int, EstimateBodySchema.Result]:
        """Return status and result of a goal."""
        response = self.graph.result(handle, timeout)
        return response.status, response.result

    def extend(self, duration: float = 1.5) -> EstimateBodySchema.Result:
        status, result = self.result(self.begin(duration=duration))
        assert status == GoalStatus.STATUS_SUCCEEDED, result.error_msg
        return result

    def tip_error(self) -> float:
        """Distance of the tip in the published description from the true one [m]."""
        extended = KinematicChain.from_urdf(self.descriptions[-1].data, ee_link="virtual_kp_3")
        T_ee_tip = np.linalg.inv(self.chain.forward(Q0)) @ extended.forward(Q0)
        return float(np.linalg.norm(T_ee_tip[:3, 3] - self.rest[3]))

    def _now(self) -> float:
        return self.graph.helper.get_clock().now().nanoseconds * 1e-9

    def _on_joints(self) -> None:
        if self.moves_itself:
            t = time.monotonic()
            self.q = Q0 + 0.3 * np.sin(t * np.linspace(1.5, 3.5, 7) + self._phase[0])
        elif self.commands:
            self.q = np.array(self.commands[-1].points[0].positions)
        if self.publish_joints:
            self._joints.publish(convert.joint_state_msg(self.chain.joint_names, self.q, self._now()))

    def _on_image(self) -> None:
        self._camera_info.publish(convert.camera_info_msg(CAMERA, self._now(), OPTICAL))
        T = np.linalg.inv(self.T_base_camera) @ self.chain.forward(self.q)
        p = self.rest @ T[:3, :3].T + T[:3, 3]
        k = len(NAMES)
        uv, depth = CAMERA.project(p) + 0.7 * self.rng.normal(size=(k, 2)), p[:, 2] + 0.003 * self.rng.normal(size=k)
        covariance, variance = np.tile(np.eye(2), (k, 1, 1)), np.full(k, 1.6e-5)
        seen = Keypoints(self._now(), NAMES, uv, covariance, depth, variance, np.full(k, self.confidence))
        self._keypoints.publish(convert_body.keypoints_msg(seen, self._now(), OPTICAL))

    def _confirm(self, msg: String) -> None:
        accepts = self.consumer_accepts or "virtual_" not in msg.data
        if self.consumer_accepts is not None or accepts:
            status = DescriptionStatus(
                consumer=CONSUMER, accepted=accepts, reason="" if accepts else "no solver for it"
            )
            status.description_sha256 = description_sha256(msg.data)
            self._status.publish(status)


def _camera_pose(target: np.ndarray) -> np.ndarray:
    """Return T_base_camera, looking at ``target`` from 1 m in front."""
    eye = target + np.array([1.0, 0.4, 0.3])
    z = (target - eye) / np.linalg.norm(target - eye)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = np.stack([x, np.cross(z, x), z], axis=1), eye
    return T
