"""The action RunPolicy: to the motion's first state, along it, and held at its end, whatever that is."""

import gc
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ideomotor.artefacts import ArtefactError
from ideomotor.dynamics.rigid_body import RigidBody
from ideomotor.dynamics.rotations import relative_quaternion, rotation_vector
from ideomotor.inference import InferenceError
from ideomotor.policies.alignment import Alignment
from ideomotor.policies.computed_torque import ComputedTorque
from ideomotor.policies.execution import Execution
from ideomotor.policies.learned import LearnedController
from ideomotor.policies.motion import Motion
from ideomotor.policies.posture import Approach, PostureHold
from ideomotor_interfaces.action import RunPolicy
from ideomotor_nodes.diagnostics import OK, WARN, Report
from ideomotor_nodes.goals import GoalError, GoalServer
from ideomotor_nodes.policy_controller_outputs import PolicyOutputs
from ideomotor_nodes.policy_controller_state import RobotState

if TYPE_CHECKING:
    from ideomotor_nodes.policy_controller import PolicyControllerNode

_FEEDBACK_EVERY = 25  # steps
_SOON = 0.02  # [s] from a goal to its first step, unless a state comes first
_Result = RunPolicy.Result


class RunGoal:
    """One running goal; create it in `configure`."""

    def __init__(self, node: "PolicyControllerNode") -> None:
        self._node, self._ticks = node, node.ticks
        self._server = GoalServer(node, RunPolicy, "policy_controller/run", self._start)
        c = node.config
        self.out = PolicyOutputs(node, c.joints, c.floating_base)
        self._execution: Execution | None = None
        self._approach: Approach | None = None
        self._prepared: tuple[Execution, LearnedController | PostureHold, RigidBody] | None = None
        self._episode, self._last, self._told = "", 0.0, ""

    def activate(self) -> None:
        """Create the timers."""
        node = self._node
        node.create_steady_timer(node.config.state_timeout / 2.0, self.on_timer)
        self._soon = node.create_timer(_SOON, self._begin, clock=node.steady_clock, autostart=False)

    def abandon(self, reason: str) -> None:
        """End the running goal, if any."""
        self._finish(_Result.CANCELLED, reason)

    def report(self) -> Report:
        """Return what is going on, and the prediction error of each joint."""
        if self._execution is None:
            return Report(OK, self._told or "no goal")
        errors = zip(self._node.config.joints, self._execution.prediction_error.tolist(), strict=True)
        values: dict[str, object] = {f"prediction error of {joint} [rad/s]": error for joint, error in errors}
        if self._approach is not None:
            return Report(OK, "on the way to the start", values)
        step, slow = self._execution.count, self._execution.config.slow_threshold
        worst = float(self._execution.prediction_error.max())
        text = f"step {step} of {self._execution.steps}"
        return Report(WARN if 0.0 < slow < worst else OK, text, values)

    # --- the start --------------------------------------------------------------------------------------------

    def _start(self, goal: RunPolicy.Goal) -> None:
        """Begin; GoalError with the action's code where that cannot be done."""
        node = self._node
        if node.gate_fault:
            raise GoalError(_Result.GATE_FAULT, f"the safety gate holds: {node.gate_fault}")
        if node.body is None:
            raise GoalError(_Result.NO_STATE, "no robot_description that fits yet")
        controller = self._controller(goal, node.body)
        self._prepared = self._execute(goal, controller, node.body), controller, node.body
        self._episode = goal.episode
        self._soon.reset()

    def _begin(self) -> None:
        """Begin with the newest state: what had come when the goal came has been taken by now."""
        self._soon.cancel()
        node, prepared, self._prepared = self._node, self._prepared, None
        if prepared is None:
            return
        state, age = node.state, node.state_age
        if state is None or age > node.config.state_timeout:
            what = "no state yet" if state is None else f"the newest state is {age:.3f} s old"
            self._finish(_Result.NO_STATE, f"{what}: nothing on {node.assembler.missing} that fits")
            return
        execution, controller, body = prepared
        try:
            self._approach = self._way(execution.motion, controller, body, state)
        except GoalError as error:
            self._finish(error.error_code, str(error))
            return
        self._execution, self._last = execution, -math.inf
        self._ticks.restart()
        gc.collect()
        gc.disable()  # searching for garbage takes longer than a tick may
        if self._approach is not None:  # or a simulation that stands still until the run begins would stand for ever
            self._server.feedback(RunPolicy.Feedback())
        self.on_state(state, time.time_ns())

    def _controller(self, goal: RunPolicy.Goal, body: RigidBody) -> LearnedController | PostureHold:
        node = self._node
        if not goal.artefact:
            posture = np.array(goal.posture)
            if posture.shape != (body.n,) or not np.isfinite(posture).all():
                n = body.n
                raise GoalError(_Result.INVALID_GOAL, f"neither artefact nor posture of {n} joints: {posture.tolist()}")
            return PostureHold(body, _neutral(posture, body))
        if goal.computed_torque and node.config.floating_base:
            raise GoalError(_Result.INVALID_GOAL, "computed_torque=True, expected an arm")
        kind = ComputedTorque if goal.computed_torque else LearnedController
        try:
            controller = kind.load(Path(goal.artefact), node.urdf, provider="CPUExecutionProvider")
        except (ArtefactError, InferenceError) as error:
            raise GoalError(_Result.BAD_ARTEFACT, str(error)) from error
        there, here = controller.structure, node.structure
        for field in ("joints", "floating_base", "contact_links"):
            if getattr(there, field) != getattr(here, field):
                text = f"{field} is {getattr(there, field)}, this robot has {getattr(here, field)}"
                raise GoalError(_Result.BAD_ARTEFACT, f"{goal.artefact}: {text}")
        if abs(controller.rate - node.config.rate) > 0.01 * node.config.rate:
            text = f"rate is {controller.rate} Hz, the states come at {node.config.rate} Hz"
            raise GoalError(_Result.BAD_ARTEFACT, f"{goal.artefact}: {text}")
        return controller

    def _execute(self, goal: RunPolicy.Goal, controller: LearnedController | PostureHold, body: RigidBody) -> Execution:
        rate = self._node.config.rate
        for field, most in (("duration", 3600.0), ("noise", 1.0)):
            if not 0.0 <= getattr(goal, field) <= most:
                raise GoalError(_Result.INVALID_GOAL, f"{field}={getattr(goal, field)}, expected 0 to {most}")
        steps = round(goal.duration * rate)
        if isinstance(controller, LearnedController):
            steps = min(steps, controller.motion.steps) if steps else controller.motion.steps
        if steps < 1:
            raise GoalError(_Result.INVALID_GOAL, f"duration={goal.duration} s, expected at least one period to hold")
        limit, noise = body.effort_limit, goal.noise
        config = self._node.config
        return Execution(controller, config, steps=steps, rate=rate, noise=noise, limit=limit, seed=goal.seed)

    def _way(
        self,
        motion: Motion | None,
        controller: LearnedController | PostureHold,
        body: RigidBody,
        state: RobotState,
    ) -> Approach | None:
        """Return the way to the start, None if the robot is there; GoalError if it cannot get there by itself."""
        c, n = self._node.config, body.n
        goal = controller.posture if isinstance(controller, PostureHold) else controller.motion.q[0, -n:]
        position = state.q[-n:]
        if not c.floating_base:
            way = Approach(
                body, position, goal, speed=c.approach_speed, period=1.0 / c.rate, tolerance=c.approach_tolerance
            )
            return (
                None if way.arrived(position, state.v) or _is_at(way, position, state.v, c.approach_tolerance) else way
            )
        self._check_joints(position, goal, c.start_tolerance)
        if motion is not None:
            q, _ = Alignment.of(state.q, motion).apply(state.q[None], state.force[None])
            height = float(q[0, 2] - motion.q[0, 2])
            tilt = float(np.linalg.norm(rotation_vector(relative_quaternion(motion.q[0, 3:7], q[0, 3:7]))))
            if abs(height) > c.base_tolerance or tilt > 10.0 * c.base_tolerance:
                text = f"base is {height:+.3f} m and {tilt:.3f} rad from the motion's first state"
                raise GoalError(
                    _Result.NOT_AT_START, f"{text}, allowed {c.base_tolerance} m, {10.0 * c.base_tolerance} rad"
                )
        return None

    def _check_joints(self, position: np.ndarray, goal: np.ndarray, tolerance: float) -> None:
        distance = np.abs(position - goal)
        worst = int(distance.argmax())
        if distance[worst] > tolerance:
            text = f"{self._node.config.joints[worst]} is {distance[worst]:.3f} rad from the motion's first state"
            raise GoalError(_Result.NOT_AT_START, f"{text}, allowed {tolerance} rad")

    # --- the run ----------------------------------------------------------------------------------------------

    def on_state(self, state: RobotState, arrived: int) -> None:
        """Answer a state; ``arrived`` is when it came [ns since 1970]."""
        if self._prepared is not None:
            self._begin()
            return
        if self._execution is None or state.time <= self._last:
            return
        if self._server.cancel_requested:
            self._finish(_Result.CANCELLED, "cancelled")
            return
        if self._approach is not None:
            self._go_to_start(state)
            return
        self._step(self._execution, state, arrived)

    def _go_to_start(self, state: RobotState) -> None:
        way, n = self._approach, len(self._node.config.joints)
        assert way is not None
        assert self._execution is not None
        q, v = state.q[-n:], state.v[-n:]
        if way.arrived(q, v):
            self._approach = None
            self.on_state(state, time.time_ns())
            return
        if way.time > way.duration + self._node.config.settle_time:
            distance = np.abs(q - way.goal)
            worst = int(distance.argmax())
            text = f"{self._node.config.joints[worst]} is still {distance[worst]:.4f} rad from the motion's first state"
            self._finish(_Result.NOT_AT_START, f"{text}, or moves at {np.abs(v).max():.3f} rad/s")
            return
        self._last = state.time
        self.out.command(way.effort(q, v), state.stamp)

    def _step(self, execution: Execution, state: RobotState, arrived: int) -> None:
        gap = state.time - self._last
        periods = max(1, round(gap * self._node.config.rate)) if execution.count else 1
        if periods > 1:
            self._ticks.unanswered(periods - 1)
        self._last = state.time
        execution.observe(state.q, state.v, state.force, periods=periods)
        if execution.finished or execution.exceeds:
            self._end(execution)
            return
        effort = execution.effort()
        if not np.isfinite(effort).all():
            self._finish(_Result.NOT_FINITE, f"the controller gave {effort.tolist()} at step {execution.count - 1}")
            return
        if execution.count == 1:
            self.out.episode(self._episode)
        self.out.command(effort, state.stamp)
        self._ticks.answered(1e-9 * (time.time_ns() - arrived))
        execution.predict()  # while the command is on its way
        step, error = execution.count - 1, execution.prediction_error
        if not np.isfinite(error).all():
            self._finish(_Result.NOT_FINITE, f"the forward model gave {error.tolist()} at step {step}")
            return
        self.out.show(step, error, execution.target(), state.stamp)
        if step % _FEEDBACK_EVERY == 0:
            self._server.feedback(RunPolicy.Feedback(step=step, prediction_error=float(error.max())))

    def _end(self, execution: Execution) -> None:
        if not execution.exceeds:
            self._finish(_Result.NONE, "")
            return
        worst = int(execution.prediction_error.argmax())
        error, joint = execution.prediction_error[worst], self._node.config.joints[worst]
        limit = execution.config.hold_threshold
        self._finish(
            _Result.PREDICTION_ERROR,
            f"{joint} is {error:.3f} rad/s from what the forward model predicts, allowed {limit}",
        )

    def on_gate(self) -> None:
        """End when the gate holds the robot."""
        running = self._execution is not None or self._prepared is not None
        if running and self._node.gate_fault:
            self._finish(_Result.GATE_FAULT, f"the safety gate holds: {self._node.gate_fault}")

    def on_timer(self) -> None:
        """End when nothing comes any more, or the client wants it."""
        if self._execution is None:
            return
        if self._server.cancel_requested:
            self._finish(_Result.CANCELLED, "cancelled")
        elif self._node.state_age > self._node.config.state_timeout:
            text = f"no new state for {self._node.state_age:.3f} s: nothing on {self._node.assembler.missing} that fits"
            self._finish(_Result.NO_STATE, text)

    def _finish(self, code: int, message: str) -> None:
        """End the goal, if any; the gate holds the robot from now on."""
        execution, state = self._execution, self._node.state
        result = _Result(error_code=code, error_msg=message)
        if execution is not None and state is not None:
            self.out.end_commands(state.stamp)
            self.out.episode("")
            summary = execution.summary()
            for field in ("steps", "position_error", "max_prediction_error", "displacement_ratio", "contact_agreement"):
                setattr(result, field, getattr(summary, field))
            result.base_height = np.array(summary.base_height)
            result.missed_deadlines, result.tick_p99 = self._ticks.missed, self._ticks.p99
            gc.enable()
            self._told = message or f"ran {summary.steps} steps"
            ticks = f"ticks p99 {1e3 * self._ticks.p99:.2f} ms, {self._ticks.missed} states not answered in time"
            self._node.get_logger().info(f"{self._told}; {ticks}")
        self._execution = self._approach = self._prepared = None
        self._server.finish(result)


def _is_at(way: Approach, q: np.ndarray, v: np.ndarray, tolerance: float) -> bool:
    return bool(np.abs(q - way.goal).max() <= tolerance and np.abs(v).max() <= 0.01)


def _neutral(posture: np.ndarray, body: RigidBody) -> np.ndarray:
    """Return a configuration (nq,) with these joint positions (n,), its base upright."""
    base = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])[: body.nq - body.n]
    return np.concatenate([base, posture])
