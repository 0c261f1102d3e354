"""The action EstimateBodySchema: waving, feedback, cancel and result."""

from typing import TYPE_CHECKING

import numpy as np

from ideomotor.body.excitation import ExcitationConfig, Trajectory, excitation_trajectory
from ideomotor.body.session import Done, Outcome
from ideomotor.errors import IdeomotorError
from ideomotor_interfaces.action import EstimateBodySchema
from ideomotor_nodes import convert, convert_body
from ideomotor_nodes.goals import GoalError, GoalServer

if TYPE_CHECKING:
    from ideomotor_nodes.body_schema import BodySchemaNode

_FEEDBACK_PERIOD = 0.1  # [s]
_SETTLE = 0.2  # [s] after waving, so that the last command was sent before the result
_Result = EstimateBodySchema.Result


class EstimateGoal:
    """One running estimation; create it in `configure`, call `activate` in activate."""

    def __init__(self, node: "BodySchemaNode") -> None:
        self._node = node
        self._server = GoalServer(node, EstimateBodySchema, "body_schema/estimate", self._start)
        self._trajectory: Trajectory | None = None
        self._began = 0.0
        self._no_joint_state = ""

    def activate(self) -> None:
        """Create the timers of feedback and waving; they run while there is a goal."""
        self._wave_timer = self._node.create_timer(1.0 / self._node.config.command_rate, self._wave, autostart=False)
        clock = self._node.steady_clock
        self._feedback_timer = self._node.create_timer(_FEEDBACK_PERIOD, self._feedback, clock=clock, autostart=False)

    def no_joint_state(self, reason: str) -> None:
        """Remember why the newest frame could not be used; empty if it could."""
        self._no_joint_state = reason

    def done(self, done: Done) -> None:
        """Send the result of the running goal."""
        self._trajectory = None
        if not self._server.busy:
            return
        code = getattr(_Result, done.outcome.name)
        if done.outcome is Outcome.NO_KEYPOINTS and self._no_joint_state:
            code, done = _Result.NO_JOINT_STATES, Done(done.outcome, self._no_joint_state)
        node = self._node
        assert node.session is not None
        schema = convert_body.body_schema_msg(node.session, node.config.ee_link, node.get_clock().now().to_msg(), None)
        self._server.finish(_Result(error_code=code, error_msg=done.reason, body_schema=schema))

    def abandon(self, reason: str) -> None:
        """End the running goal, if any."""
        if self._server.busy and self._node.session is not None:
            self._node.carry_out(self._node.session.cancel(self._node.now()))
            self.done(Done(Outcome.CANCELLED, reason))

    def _start(self, goal: EstimateBodySchema.Goal) -> None:
        node = self._node
        self._no_joint_state, self._began, self._trajectory = "", node.now(), None
        if node.session is None:
            raise GoalError(_Result.DESCRIPTION_REJECTED, "no usable robot_description yet")
        node.refine_camera = bool(goal.refine_camera)
        trajectory = self._motion(goal.duration) if goal.wave else None
        duration = goal.duration + _SETTLE if goal.wave else goal.duration
        try:
            effects = node.session.begin(duration, self._began)
        except IdeomotorError as error:
            raise GoalError(_Result.BUSY if node.session.busy else _Result.NOT_OBSERVABLE, str(error)) from error
        self._trajectory = trajectory
        self._wave_timer.reset()
        self._feedback_timer.reset()
        node.carry_out(effects)

    def _motion(self, duration: float) -> Trajectory:
        node = self._node
        assert node.chain is not None
        try:
            q0 = node.joint_states.latest(node.chain.joint_names)
        except IdeomotorError as error:
            raise GoalError(_Result.NO_JOINT_STATES, str(error)) from error
        try:
            config = ExcitationConfig(duration=duration, rate=node.config.command_rate)
            return excitation_trajectory(node.chain, q0, np.random.default_rng(node.config.seed), config)
        except IdeomotorError as error:
            raise GoalError(_Result.NOT_OBSERVABLE, f"cannot wave: {error}") from error

    def _wave(self) -> None:
        if self._trajectory is None or self._node.chain is None:
            self._wave_timer.cancel()
            return
        elapsed = self._node.now() - self._began
        q, names = self._trajectory.at(elapsed), self._node.chain.joint_names
        self._node.commands.publish(convert.joint_command_msg(names, q, self._node.get_clock().now().to_msg()))
        if elapsed > self._trajectory.time[-1]:
            self._trajectory = None

    def _feedback(self) -> None:
        session = self._node.session
        if not self._server.busy or session is None:
            self._feedback_timer.cancel()
            return
        if self._server.cancel_requested:
            self._trajectory = None
            self._node.carry_out(session.cancel(self._node.now()))
            return
        feedback = EstimateBodySchema.Feedback(progress=session.progress(self._node.now()), tip_std=float("inf"))
        if session.estimate is not None:
            estimate = session.estimate
            feedback.frames, feedback.inlier_ratio = estimate.frames, float(estimate.inlier_ratio)
            feedback.tip_std = estimate.tip_std
        self._server.feedback(feedback)
