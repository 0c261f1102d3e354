"""Tip controller: moves a frame of the (extended) chain to a pose, through the safety gate."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from ideomotor.body.chain import ChainError, KinematicChain
from ideomotor.body.joint_state import JointStateBuffer, JointStateError
from ideomotor.body.transform_tree import TransformError
from ideomotor.body.urdf import description_sha256
from ideomotor.config import value
from ideomotor.errors import IdeomotorError
from ideomotor.planning.held_points import HeldPoints
from ideomotor.planning.inverse_kinematics import InverseKinematics, KinematicsError, Target
from ideomotor.planning.joint_path import Reference
from ideomotor.planning.reward_path import RewardPath, RewardPathPlanner, RewardTask
from ideomotor.planning.tip_control import MotionState, TipControlConfig, TipMotion, Tolerance
from ideomotor.rewards.artefact import LearnedReward
from ideomotor_interfaces.action import MoveTip
from ideomotor_interfaces.msg import BodySchema, DescriptionStatus
from ideomotor_nodes import convert
from ideomotor_nodes.diagnostics import OK, WARN, Report, StreamMonitor, TickMonitor
from ideomotor_nodes.goals import GoalError, GoalServer
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.params import NodeConfig, ParameterError
from ideomotor_nodes.qos import COMMAND, LATCHED
from ideomotor_nodes.reward_outputs import RewardOutputs
from ideomotor_nodes.run import run_node
from ideomotor_nodes.transforms import TransformListener

Result = MoveTip.Result
_FEEDBACK_PERIOD = 0.1  # [s]


@dataclass(frozen=True, kw_only=True)
class TipControllerConfig(NodeConfig, TipControlConfig):
    """Parameters of tip_controller."""

    joints: tuple[str, ...] = value((), "Joints that are commanded: those of the safety gate.")
    ee_link: str = value("", "Link that is moved when a goal names none and nothing extends the chain.")
    base_link: str = value("", "First link of the chain; empty: the root of the description.")
    state_timeout: float = value(0.2, "Joint states older than this are not used [s].", ge=0.01, le=10.0)
    reward: str = value("", "Folder of a learned reward that motions follow; empty: the joints go straight.")
    duration: float = value(0.0, "Duration of motions under a reward [s]; 0: the reward's own.", ge=0.0, le=600.0)


class TipControllerNode(LifecycleNode[TipControllerConfig]):
    """Lifecycle shell around `TipMotion`; plans straight to the nearest configuration, or under a learned reward."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("tip_controller", TipControllerConfig, **node_options)
        self._states = StreamMonitor(max_age=self.config.state_timeout)
        self._ticks = TickMonitor(1.0 / self.config.rate)
        self.add_report("controller", self._report)
        self.add_report("joint_states", lambda: self._states.report(self.now()))
        self.add_report("tick", self._ticks.report)
        self._urdf = ""

    def configure(self) -> None:
        """Load the reward, create topics and the action."""
        for field in ("joints", "ee_link"):
            if not getattr(self.config, field):
                raise ParameterError(f"{field} is empty; give the names of the robot description")
        self._reward = self._load_reward()
        self._urdf, self._tip_link, self._gate_fault = "", "", ""
        self._motion: TipMotion | None = None
        self._commanded: dict[str, float] = {}
        self._buffer = JointStateBuffer()
        self._transforms = TransformListener(self)
        self._command = self.create_lifecycle_publisher(JointTrajectory, "joint_command", COMMAND)
        self._rewarded = RewardOutputs(self, self._reward.keypoint_names if self._reward else ())
        self._status = self.create_publisher(DescriptionStatus, "description_status", LATCHED)
        self.create_subscription(String, "robot_description", self._on_description, LATCHED)
        self.create_subscription(BodySchema, "body_schema", self._on_body_schema, LATCHED)
        self.create_subscription(DiagnosticStatus, "safety_gate/status", self._on_gate_status, LATCHED)
        self.create_sensor_subscription(JointState, "joint_states", self._on_joint_state)
        self._goals = GoalServer(self, MoveTip, "tip_controller/move_tip", self._start)

    def activate(self) -> None:
        """Create the control loop; it runs while there is a goal."""
        self._loop = self.create_timer(1.0 / self.config.rate, self._on_timer, autostart=False)

    def deactivate(self) -> None:
        """End the goal; the gate stops the robot when commands stop."""
        self._finish(Result.CANCELLED, "the node was deactivated")

    def _load_reward(self) -> LearnedReward | None:
        if self.config.reward:
            return LearnedReward.load(self.config.reward, provider="CPUExecutionProvider")  # it is small
        if self.config.duration:
            raise ParameterError(f"duration={self.config.duration} without a reward; expected 0, or a reward")
        return None

    def _chain(self, urdf: str, link: str) -> KinematicChain:
        base_link = self.config.base_link or None
        names = KinematicChain.from_urdf(urdf, ee_link=link, base_link=base_link).joint_names
        passive = [name for name in names if name not in self.config.joints]
        return KinematicChain.from_urdf(urdf, ee_link=link, base_link=base_link, passive=passive)

    def _on_description(self, msg: String) -> None:
        try:
            InverseKinematics(self._chain(msg.data, self.config.ee_link), self.config.limit_margin)
            self._urdf, reason = msg.data, ""
        except IdeomotorError as error:
            reason = str(error)
            self.get_logger().error(f"robot_description refused, the last good one stays: {reason}")
        sha256 = description_sha256(msg.data)
        status = DescriptionStatus(
            consumer=self.get_name(), description_sha256=sha256, accepted=not reason, reason=reason
        )
        self._status.publish(status)

    def _on_body_schema(self, msg: BodySchema) -> None:
        self._tip_link = msg.tip_link

    def _on_gate_status(self, msg: DiagnosticStatus) -> None:
        self._gate_fault = msg.message if msg.level == DiagnosticStatus.ERROR else ""

    def _on_joint_state(self, msg: JointState) -> None:
        try:
            state = convert.joint_state(msg)
        except JointStateError as error:
            self._states.rejected()
            self.get_logger().warning(f"joint state ignored: {error}", throttle_duration_sec=1.0)
            return
        self._buffer.update(state)
        self._states.received(state.stamp, self.now())

    def _start(self, goal: MoveTip.Goal) -> None:
        """Plan the motion; GoalError with the action's code where that cannot be done."""
        if self._gate_fault:
            raise GoalError(Result.HELD_BY_GATE, f"the safety gate holds: {self._gate_fault}")
        if not self._urdf:
            raise GoalError(Result.STALE_STATE, "no robot_description yet")
        config, tolerance = self.config, self._tolerance(goal)
        try:
            chain = self._chain(self._urdf, goal.link or self._tip_link or config.ee_link)
            ik = InverseKinematics(chain, config.limit_margin)
        except (ChainError, KinematicsError) as error:
            raise GoalError(Result.UNKNOWN_LINK, str(error)) from error
        target = Target(self._target_pose(goal.target, chain.base_link), goal.position_only)
        q = self._measured(chain)
        commanded = np.array([self._commanded.get(n, math.inf) for n in chain.actuated_names])
        duration = self._duration(goal, tolerance)
        planner = None if self._reward is None else self._under_reward(self._reward, ik, target, tolerance, duration, q)
        self._motion = TipMotion(ik, target, tolerance, q, config, commanded, planner)
        self._ik, self._feedback_time, self._stepped = ik, 0.0, self.now()
        self._loop.reset()
        self._commanded = {name: self._commanded.get(name, x) for name, x in self._all_joints().items()}

    def _duration(self, goal: MoveTip.Goal, tolerance: Tolerance) -> float:
        """Return how long a motion under the reward takes [s]; 0 without one."""
        if not 0.0 <= goal.duration < math.inf:
            raise GoalError(Result.INVALID_GOAL, f"duration={goal.duration}, expected 0 (the default) or positive")
        if self._reward is None:
            if goal.duration:
                raise GoalError(Result.INVALID_GOAL, f"duration={goal.duration} without a reward, expected 0")
            return 0.0
        duration = float(goal.duration or self.config.duration or self._reward.duration)
        if duration >= tolerance.timeout:
            raise GoalError(Result.INVALID_GOAL, f"timeout={tolerance.timeout} s, a motion takes {duration:.2f} s")
        return duration

    def _under_reward(
        self,
        reward: LearnedReward,
        ik: InverseKinematics,
        target: Target,
        tolerance: Tolerance,
        duration: float,
        q: np.ndarray,
    ) -> RewardPathPlanner:
        try:
            points = HeldPoints.at_links(ik.chain, self._urdf, reward.keypoint_names)
            task = RewardTask(points, reward, duration)
            return RewardPathPlanner(ik, target, tolerance.of_path, self.config.bounds(ik), task, q)
        except (ChainError, KinematicsError) as error:
            raise GoalError(Result.UNKNOWN_LINK, f"reward: {error}") from error

    def _tolerance(self, goal: MoveTip.Goal) -> Tolerance:
        values = {}
        for field in ("position_tolerance", "orientation_tolerance", "timeout"):
            given = getattr(goal, field)
            if not 0.0 <= given < math.inf:
                raise GoalError(Result.INVALID_GOAL, f"{field}={given}, expected 0 (the default) or positive")
            values[field.removesuffix("_tolerance")] = given or getattr(self.config, field)
        return Tolerance(**values)

    def _target_pose(self, target: PoseStamped, base_link: str) -> np.ndarray:
        """Return T_base_target."""
        try:
            pose = convert.matrix(target.pose)
        except TransformError as error:
            raise GoalError(Result.INVALID_GOAL, f"target: {error}") from error
        frame = target.header.frame_id
        try:
            return pose if frame == base_link else self._transforms.lookup(base_link, frame) @ pose
        except TransformError as error:
            raise GoalError(Result.UNKNOWN_FRAME, f"target: {error}") from error

    def _measured(self, chain: KinematicChain) -> np.ndarray:
        age = self._buffer.age(chain.actuated_names, self.now())
        if age > self.config.state_timeout:
            message = f"joint states are {age:.3f} s old, allowed {self.config.state_timeout} s"
            raise GoalError(Result.STALE_STATE, message)
        try:
            return self._buffer.latest(chain.joint_names)
        except JointStateError as error:
            raise GoalError(Result.STALE_STATE, str(error)) from error

    def _all_joints(self) -> dict[str, float]:
        try:
            return dict(zip(self.config.joints, self._buffer.latest(self.config.joints).tolist(), strict=True))
        except JointStateError as error:
            raise GoalError(Result.STALE_STATE, str(error)) from error

    def _on_timer(self) -> None:
        if self._motion is None:
            self._loop.cancel()
            return
        with self._ticks.tick():
            try:
                self._step(self._motion)
            except GoalError as error:
                self._finish(error.error_code, str(error))

    def _step(self, motion: TipMotion) -> None:
        if self._gate_fault:
            raise GoalError(Result.HELD_BY_GATE, f"the safety gate holds: {self._gate_fault}")
        if self._goals.cancel_requested:
            motion.stop("cancelled")
        q, now = self._measured(self._ik.chain), self.now()
        reference = motion.step(q, now - self._stepped)  # a busy machine leaves ticks out
        self._stepped = now
        if reference is not None:
            self._send(reference)
        if isinstance(motion.path, RewardPath):
            self._rewarded.publish(motion.path, q, motion.time)
        if self.now() - self._feedback_time >= _FEEDBACK_PERIOD:
            self._feedback_time = self.now()
            feedback = MoveTip.Feedback(
                position_error=motion.error.position, orientation_error=motion.error.orientation
            )
            self._goals.feedback(feedback)
        if motion.ended:
            if motion.state is MotionState.REACHED:
                self._finish(Result.NONE, "")
            else:
                cancelled = self._goals.cancel_requested
                self._finish(Result.CANCELLED if cancelled else Result.NOT_REACHED, motion.reason)

    def _send(self, reference: Reference) -> None:
        names, joints = self._ik.chain.actuated_names, self.config.joints
        self._commanded |= dict(zip(names, reference.position.tolist(), strict=True))
        velocities = dict.fromkeys(joints, 0.0) | dict(zip(names, reference.velocity.tolist(), strict=True))
        position = np.array([self._commanded[name] for name in joints])
        velocity = np.array([velocities[name] for name in joints])
        stamp = self.get_clock().now().to_msg()
        self._command.publish(convert.joint_command_msg(joints, position, stamp, velocity))

    def _finish(self, error_code: int, message: str) -> None:
        if self._motion is None:
            return
        if error_code == Result.HELD_BY_GATE:
            self._commanded = {}  # the gate may hold elsewhere
        error, self._motion = self._motion.error, None
        self._rewarded.clear()
        result = Result(error_code=error_code, error_msg=message)
        result.position_error, result.orientation_error = error.position, error.orientation
        chain = self._ik.chain
        T = chain.forward(self._buffer.latest(chain.joint_names))
        result.final = convert.pose_stamped_msg(T, self.get_clock().now().to_msg(), chain.base_link)
        self._goals.finish(result)

    def _report(self) -> Report:
        if not self._urdf:
            return Report(WARN, "waiting for robot_description")
        if self._motion is None:
            return Report(OK, "no goal", {"description_sha256": description_sha256(self._urdf)})
        return Report(OK, self._motion.state.value, {"position error [m]": self._motion.error.position})


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(TipControllerNode, args)
