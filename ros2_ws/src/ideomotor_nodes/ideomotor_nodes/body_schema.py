"""The body schema: keypoints, joint states and camera pose in; extended description, its state and markers out."""

import sys
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import QoSProfile
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from ideomotor.body.camera import CameraError, Intrinsics
from ideomotor.body.chain import KinematicChain
from ideomotor.body.estimator import BodySchemaEstimator, EstimatorConfigs
from ideomotor.body.fit import FitConfig
from ideomotor.body.joint_state import JointStateBuffer, JointStateError
from ideomotor.body.keypoints import KeypointError
from ideomotor.body.session import (
    BodySchemaSession,
    BodyState,
    Changed,
    Done,
    Effect,
    SessionConfig,
    SessionError,
    nominal_description,
)
from ideomotor.body.transaction import SetDescription
from ideomotor.body.urdf import description_sha256
from ideomotor.config import value
from ideomotor.errors import IdeomotorError
from ideomotor_interfaces.msg import DescriptionStatus, KeypointArray
from ideomotor_nodes import convert, convert_body
from ideomotor_nodes.body_schema_goal import EstimateGoal
from ideomotor_nodes.body_schema_outputs import BodySchemaOutputs
from ideomotor_nodes.diagnostics import OK, WARN, Report, StreamMonitor, TickMonitor
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.params import NodeConfig
from ideomotor_nodes.qos import COMMAND, LATCHED, STREAM
from ideomotor_nodes.run import run_node
from ideomotor_nodes.transforms import TransformListener

_TICK = 0.02  # [s] of time-outs
_FRAME_PERIOD = 1 / 30  # [s] in which a frame must be processed
_STATUS = QoSProfile(depth=16, reliability=LATCHED.reliability, durability=LATCHED.durability)  # one a consumer


@dataclass(frozen=True, kw_only=True)
class BodySchemaConfig(NodeConfig, SessionConfig):
    """Parameters of the node."""

    ee_link: str = value("gripper_tcp", "Link that holds the object.")
    tip: str = value("", "Keypoint that is the working point; empty: the last one.")
    description_publisher: str = value("robot_state_publisher", "Node whose parameter robot_description is set.")
    description_consumers: tuple[str, ...] = value((), "Who must confirm a description on description_status.")
    max_gap: float = value(0.1, "Largest gap between the joint states around an image [s].", ge=0.001, le=1.0)
    max_wait: float = value(0.3, "A frame waits so long for joint states that are not older [s].", ge=0.0, le=2.0)
    command_rate: float = value(100.0, "Joint commands a second while waving [Hz].", ge=10.0, le=1000.0)
    seed: int = value(0, "Seed of the waving motion.", ge=0)


class BodySchemaNode(LifecycleNode[BodySchemaConfig]):
    """Feeds `BodySchemaSession` and carries out what it asks for; `EstimateGoal` is the action."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("body_schema", BodySchemaConfig, **node_options)

    def configure(self) -> None:
        """Create all topics; work begins with the robot's description."""
        self.session: BodySchemaSession | None = None
        self.chain: KinematicChain | None = None
        self.joint_states = JointStateBuffer()
        self.refine_camera = False
        self._intrinsics: Intrinsics | None = None
        self._camera_frame = ""
        self._reason = "waiting for robot_description"
        self._own: set[str] = set()  # SHA-256 of the descriptions that we set
        self._keypoints, self._work = StreamMonitor(), TickMonitor(_FRAME_PERIOD)
        self._transforms = TransformListener(self, moving=False)  # the camera stands still
        self._waiting: deque[KeypointArray] = deque(maxlen=256)  # more than max_wait is long
        self._outputs = BodySchemaOutputs(self, self.config.ee_link)
        self.commands = self.create_lifecycle_publisher(JointTrajectory, "joint_command", COMMAND)
        self.create_sensor_subscription(JointStateMsg, "joint_states", self._on_joint_states, depth=100)
        self.create_sensor_subscription(CameraInfo, "camera/color/camera_info", self._on_camera_info)
        self.create_subscription(KeypointArray, "keypoints", self._on_keypoints, STREAM)
        self.create_subscription(String, "robot_description", self._on_description, LATCHED)
        self.create_subscription(DescriptionStatus, "description_status", self._on_status, _STATUS)
        self._set_parameters = self.create_client(SetParameters, f"{self.config.description_publisher}/set_parameters")
        self.create_service(Trigger, "body_schema/retract", self._on_retract)
        self._goal = EstimateGoal(self)
        self.add_report("body schema", self._report)
        self.add_report("frames", self._work.report)
        self.add_report("keypoints", lambda: self._keypoints.report(self.now()))

    def activate(self) -> None:
        """Start the timers."""
        self.create_steady_timer(_TICK, self._on_tick)
        self.create_timer(1.0, self.publish)
        self._goal.activate()

    def deactivate(self) -> None:
        """End the running goal; the arm stays where the last command put it."""
        self._goal.abandon("the node was deactivated")

    # ---- messages in ---------------------------------------------------------------------------------------

    def _on_joint_states(self, msg: JointStateMsg) -> None:
        try:
            self.joint_states.update(convert.joint_state(msg))
        except JointStateError as error:
            self._warn(f"joint_states: {error}")
            return
        self._process_waiting()

    def _on_camera_info(self, msg: CameraInfo) -> None:
        try:
            self._intrinsics = convert.intrinsics(msg)
        except CameraError as error:
            self._intrinsics = None
            self._warn(f"camera/color/camera_info: {error}")

    def _on_description(self, msg: String) -> None:
        sha256 = description_sha256(msg.data)
        if sha256 in self._own or (self.session and sha256 == description_sha256(self.session.transaction.current)):
            return
        try:
            if self.session is not None:
                self.chain = self._load(nominal_description(msg.data, self.config.prefix))
                self.carry_out(self.session.replaced(msg.data, self.now()))
                return
            self._begin(msg.data)
        except IdeomotorError as error:
            self._warn(f"robot_description is not used: {error}")

    def _begin(self, description: str) -> None:
        self.chain = self._load(nominal_description(description, self.config.prefix))
        self.session = BodySchemaSession(
            description, self.config.description_consumers, self._make_estimator, self._load, self.config
        )
        self._reason = "ready"
        if self.session.nominal != description:
            self.get_logger().warning("robot_description has virtual links of an earlier body schema: taking them back")
            self.carry_out(self.session.retract(self.now()))
        self.publish()

    def _on_status(self, msg: DescriptionStatus) -> None:
        if self.session is not None:
            status = msg.consumer, msg.description_sha256, msg.accepted, msg.reason
            self.carry_out(self.session.status(*status, self.now()))

    def _on_keypoints(self, msg: KeypointArray) -> None:
        self._waiting.append(msg)
        self._process_waiting()

    def _process_waiting(self) -> None:
        """Process the frames whose joint states have come; the others wait a little."""
        while self._waiting:
            stamp = convert.seconds(self._waiting[0].header.stamp)
            names = () if self.chain is None else self.chain.joint_names
            # Simulated time may be behind the image: /clock is not read while another frame is processed.
            if self.joint_states.age(names, stamp) > 0.0 and abs(self.now() - stamp) < self.config.max_wait:
                return
            with self._work.tick():
                self._process(self._waiting.popleft())

    def _process(self, msg: KeypointArray) -> None:
        self._keypoints.received(convert.seconds(msg.header.stamp), self.now())
        if not self.is_active or self.session is None or self.chain is None:
            return
        self._camera_frame = msg.header.frame_id
        try:
            keypoints = convert_body.keypoints(msg)
            self._outputs.publish_keypoints(keypoints, self._intrinsics, msg.header)
            q = self.joint_states.position_at(self.chain.joint_names, keypoints.stamp, self.config.max_gap)
            self._goal.no_joint_state("")
            self.carry_out(self.session.observe(q, keypoints, self.now()))
        except JointStateError as error:
            self._goal.no_joint_state(str(error))
            self._skip(str(error))
            return
        except IdeomotorError as error:
            self._skip(str(error))
            return
        self._outputs.publish_frame(self.session, msg.header)

    def _on_tick(self) -> None:
        self._process_waiting()
        if self.session is not None:
            self.carry_out(self.session.tick(self.now()))

    def _on_retract(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Answer when the retraction has begun; its end is seen on body_schema."""
        try:
            if self.session is None or not self.is_active:
                raise SessionError("there is no robot_description yet, or the node is not active")
            effects = self.session.retract(self.now())
        except SessionError as error:
            response.success, response.message = False, str(error)
            return response
        self.carry_out(effects)
        response.success, response.message = True, "retracting; body_schema tells when it is done"
        return response

    # ---- what the session asks for -------------------------------------------------------------------------

    def carry_out(self, effects: tuple[Effect, ...]) -> None:
        """Carry out the session's effects."""
        for effect in effects:
            if isinstance(effect, SetDescription):
                self._set_description(effect.urdf)
            elif isinstance(effect, Changed):
                self._reason = effect.reason
                self.publish()
                self._publish_diagnostics()
            elif isinstance(effect, Done):
                self._goal.done(effect)

    def _set_description(self, urdf: str) -> None:
        assert self.session is not None
        if not self._set_parameters.service_is_ready():
            name = self._set_parameters.srv_name
            self.carry_out(self.session.answered(urdf, False, f"there is no service {name}", self.now()))
            return
        self._own.add(description_sha256(urdf))
        parameter_value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=urdf)
        request = SetParameters.Request(parameters=[Parameter(name="robot_description", value=parameter_value)])
        self._set_parameters.call_async(request).add_done_callback(lambda future: self._on_set(urdf, future))

    def _on_set(self, urdf: str, future: Future) -> None:
        if self.session is None or future.cancelled() or future.result() is None:
            return
        result = future.result().results[0]
        self.carry_out(self.session.answered(urdf, result.successful, result.reason, self.now()))

    def _load(self, urdf: str) -> KinematicChain:
        return KinematicChain.from_urdf(urdf, ee_link=self.config.ee_link)

    def _make_estimator(self, names: tuple[str, ...]) -> BodySchemaEstimator:
        """Return an estimator for the camera as it is now.

        Raises:
            IdeomotorError: no keypoints, intrinsics or camera pose yet.
        """
        assert self.chain is not None
        if not names:
            raise KeypointError("the keypoints message is empty, expected the detector's keypoints")
        if self._intrinsics is None:
            raise CameraError("no usable camera/color/camera_info yet")
        T_base_camera = self._transforms.lookup(self.chain.base_link, self._camera_frame)
        configs = replace(EstimatorConfigs(), fit=FitConfig(refine_camera=self.refine_camera))
        tip, prefix = self.config.tip or names[-1], self.config.prefix
        return BodySchemaEstimator(self.chain, self._intrinsics, T_base_camera, names, tip, configs, prefix)

    # ---- messages out --------------------------------------------------------------------------------------

    def publish(self) -> None:
        """Publish the state."""
        if self.session is None or self.chain is None:
            return
        known = set(self.chain.joint_names) <= set(self.joint_states.names)
        self._outputs.publish_state(self.session, self.joint_states.latest(self.chain.joint_names) if known else None)

    def _skip(self, reason: str) -> None:
        self._keypoints.rejected()
        self._warn(f"frame not used: {reason}")

    def _warn(self, reason: str) -> None:
        self.get_logger().warning(reason, throttle_duration_sec=1.0)

    def _report(self) -> Report:
        state = BodyState.NOMINAL if self.session is None else self.session.state
        level = WARN if self.session is None or state in (BodyState.SLIPPED, BodyState.DROPPED) else OK
        values: dict[str, object] = {"state": state.name}
        if self.session is not None and self.session.estimate is not None:
            estimate = self.session.estimate
            values |= {
                "revision": self.session.transaction.revision,
                "frames": estimate.frames,
                "inlier ratio": estimate.inlier_ratio,
                "tip std [m]": estimate.tip_std,
            }
        return Report(level, f"{state.value}: {self._reason}", values)


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(BodySchemaNode, args)


if __name__ == "__main__":
    sys.exit(main())
