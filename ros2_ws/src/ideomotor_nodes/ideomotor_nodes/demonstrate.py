"""Show a task several times, at a random pace each, as a person would: the tip is placed on a goal.

A client of the other nodes. The motions go to the safety gate as those of tip_controller do, which has no goal then.
The topic ``demonstration`` tells a recorder which one runs; it stays at a name if that one is broken off, so that
nobody takes it for a whole one.
"""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from ideomotor.body.chain import KinematicChain
from ideomotor.config import value
from ideomotor.planning.scripted import (
    PlacingConfig,
    ScriptedMotionError,
    TimedMotion,
    random_goal,
    random_start,
    timed_placing,
)
from ideomotor_interfaces.action import MoveTip
from ideomotor_interfaces.msg import BodySchema
from ideomotor_nodes import convert
from ideomotor_nodes.client import MOTION_TIMEOUT, BodySchemaClient, ClientError, run_client
from ideomotor_nodes.params import NodeConfig, ParameterError, check_overrides, declare_config
from ideomotor_nodes.qos import COMMAND, LATCHED

START_TIMEOUT = 60.0  # [s] for all nodes to come up
HEARD = 1.0  # [s] until everybody has heard the last message
ATTEMPTS = 10  # starts that are tried for one demonstration
SERVO_ERROR = 0.1  # [rad] or [m] a command farther from where the joint is was for something else


@dataclass(frozen=True, kw_only=True)
class DemonstrateConfig(NodeConfig, PlacingConfig):
    """Parameters of the scripted demonstrations."""

    joints: tuple[str, ...] = value((), "Joints that are commanded: those of the safety gate.")
    estimate: bool = value(True, "Estimate the held object first; false: it is in the body schema already.")
    estimation_duration: float = value(3.0, "How long to look at the object while waving it [s].", ge=0.5, le=60.0)
    count: int = value(5, "Number of demonstrations.", ge=1, le=1000)
    seed: int = value(0, "Seed of starts, goal, paths and paces.", ge=0, le=2**31)
    min_duration: float = value(2.5, "Shortest demonstration [s].", ge=0.5, le=120.0)
    max_duration: float = value(8.0, "Longest demonstration [s].", ge=0.5, le=120.0)
    spread: float = value(0.2, "Largest change of a joint to a start or to the goal [rad] or [m].", ge=0.01, le=1.0)
    rate: float = value(100.0, "Rate of the commands [Hz].", ge=10.0, le=1000.0)
    rest: float = value(0.5, "Rest that is recorded before and after a motion [s].", ge=0.0, le=10.0)


class Demonstrate(BodySchemaClient):
    """Shows the same placing, from random starts."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("demonstrate", **node_options)
        self.config = declare_config(self, DemonstrateConfig)
        check_overrides(self)
        self._rng = np.random.default_rng(self.config.seed)
        self._commanded: dict[str, float] = {}
        self._gate_fault = ""
        self._name = self.create_publisher(String, "demonstration", LATCHED)
        self._command = self.create_publisher(JointTrajectory, "joint_command", COMMAND)
        self.create_subscription(JointTrajectory, "joint_command", self._on_command, COMMAND)
        self.create_subscription(DiagnosticStatus, "safety_gate/status", self._on_gate_status, LATCHED)

    def run(self) -> bool:
        """Show all demonstrations; return true.

        Raises:
            ClientError: a node is missing, the object could not be estimated, or a motion could not be completed.
            ParameterError: the parameters do not fit together, or the robot.
            ScriptedMotionError: there is no goal or no start within the spread.
        """
        config = self.config
        if not config.min_duration <= config.max_duration:
            raise ParameterError(f"min_duration={config.min_duration} is above max_duration={config.max_duration}")
        self._name.publish(String())
        durations = self._durations()
        chain, q = self._chain_and_working_configuration()
        goal = random_goal(chain, q, self._rng, spread=config.spread, config=config)
        for i, duration in enumerate(durations):
            name = f"placing_{i:02d}"
            motion = self._go_to_start(chain, q, goal, duration)
            self._name.publish(String(data=name))
            self.wait(config.rest)
            self._perform(chain, motion)
            self.wait(config.rest)
            self._name.publish(String())
            sys.stdout.write(f"{name}: {duration:.2f} s\n")
            sys.stdout.flush()
        self.wait(HEARD)  # else a recorder would miss the end of the last one
        return True

    def _durations(self) -> np.ndarray:
        """Return a random duration of each demonstration [s]; all parts of the range have their share."""
        count, shortest, longest = self.config.count, self.config.min_duration, self.config.max_duration
        share = (self._rng.permutation(count) + self._rng.uniform(size=count)) / count
        return shortest + share * (longest - shortest)

    def _chain_and_working_configuration(self) -> tuple[KinematicChain, np.ndarray]:
        """Return the extended chain, and the joint positions before the object was waved."""
        if self.config.estimate:
            self.wait_for_robot(START_TIMEOUT)
            positions = self.joint_states.positions
            schema = self.estimate(self.config.estimation_duration)
        else:
            schema = self.known_schema(START_TIMEOUT)
            positions = self.joint_states.positions
        if any(joint.type != joint.FIXED for joint in schema.joints):
            raise ClientError("the held object has a joint of its own; placing is shown with a rigid one")
        chain = self._checked_chain(schema)
        return chain, chain.from_names(positions)

    def _checked_chain(self, schema: BodySchema) -> KinematicChain:
        chain = self.extended_chain(schema)
        missing = [name for name in chain.joint_names if name not in self.config.joints]
        if missing:
            raise ParameterError(f"joints={list(self.config.joints)} lacks {missing} of the chain to {chain.ee_link!r}")
        return chain

    def _go_to_start(self, chain: KinematicChain, q: np.ndarray, goal: np.ndarray, duration: float) -> TimedMotion:
        """Move the tip to a random start, and return the motion from there."""
        config, reason = self.config, ""
        for _ in range(ATTEMPTS):
            q_start = random_start(chain, q, goal, self._rng, spread=config.spread, config=config)
            result = self.move_tip_to_pose(chain.forward(q_start), chain.base_link, chain.ee_link)
            if result.error_code == MoveTip.Result.NOT_REACHED:
                reason = result.error_msg
                continue
            if result.error_code != MoveTip.Result.NONE:
                raise ClientError(f"moving to the start failed (code {result.error_code}): {result.error_msg}")
            self.wait_until_at_rest(chain)
            try:  # inverse kinematics may have chosen another posture for the same pose
                measured = self.joint_states.latest(chain.joint_names)
                return timed_placing(chain, measured, goal, duration, config.rate, rng=self._rng, config=config)
            except ScriptedMotionError as error:
                reason = str(error)
        raise ClientError(
            f"no start for a demonstration of {duration:.2f} s in {ATTEMPTS} attempts; the last: {reason}"
        )

    def _perform(self, chain: KinematicChain, motion: TimedMotion) -> None:
        """Send the motion, state by state, as displacements of what is commanded now."""
        joints = self.config.joints
        position, velocity = self._last_command(), np.zeros(len(joints))
        column = [joints.index(name) for name in chain.joint_names]
        step = 0

        def send() -> None:
            nonlocal step
            if step < len(motion.position):
                command = position.copy()
                command[column] += motion.position[step] - motion.position[0]
                velocity[column] = motion.velocity[step]
                stamp = self.get_clock().now().to_msg()
                self._command.publish(convert.joint_command_msg(joints, command, stamp, velocity))
                step += 1

        timer = self.create_timer(1.0 / self.config.rate, send)
        try:
            timeout = MOTION_TIMEOUT + len(motion.position) / self.config.rate
            self.wait_for(lambda: bool(self._gate_fault) or step == len(motion.position), "end of the motion", timeout)
        finally:
            self.destroy_timer(timer)
        self.wait_until_at_rest(chain)
        if self._gate_fault:
            raise ClientError(f"the safety gate holds: {self._gate_fault}")

    def _last_command(self) -> np.ndarray:
        """Return what holds the joints where they are; it differs from that by the servo's steady-state error."""
        measured = self.joint_states.latest(self.config.joints)
        commanded = np.array([self._commanded.get(name, np.inf) for name in self.config.joints])
        return np.where(np.abs(commanded - measured) <= SERVO_ERROR, commanded, measured)

    def _on_command(self, msg: JointTrajectory) -> None:
        if msg.points and len(msg.points[0].positions) == len(msg.joint_names):
            self._commanded |= dict(zip(msg.joint_names, msg.points[0].positions, strict=True))

    def _on_gate_status(self, msg: DiagnosticStatus) -> None:
        self._gate_fault = msg.message if msg.level == DiagnosticStatus.ERROR else ""


def main(args: list[str] | None = None) -> int:
    """Show the demonstrations; 0 if all were shown, 1 if not, 2 for bad parameters."""
    return run_client(Demonstrate, args)
