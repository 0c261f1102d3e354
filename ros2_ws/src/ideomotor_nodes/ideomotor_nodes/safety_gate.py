"""Safety gate: joint_command in, the controller's commands out, within the limits of the robot."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from ideomotor.body.joint_state import JointStateBuffer, JointStateError
from ideomotor.config import value
from ideomotor.errors import IdeomotorError
from ideomotor.safety.effort_gate import EffortGate, EffortGateConfig
from ideomotor.safety.gate import (
    CommandError,
    CommandGate,
    GateConfig,
    GateError,
    GateOutput,
    GateState,
    JointLimits,
)
from ideomotor_nodes import convert
from ideomotor_nodes.diagnostics import ERROR, OK, WARN, Report, StreamMonitor, TickMonitor
from ideomotor_nodes.effort_shell import EffortShell
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.params import NodeConfig, ParameterError
from ideomotor_nodes.qos import COMMAND, LATCHED
from ideomotor_nodes.run import run_node

_OUTPUTS: dict[str, tuple[type, str]] = {
    "forward_position": (Float64MultiArray, "forward_position_controller/commands"),
    "forward_velocity": (Float64MultiArray, "forward_velocity_controller/commands"),
    "forward_effort": (Float64MultiArray, "forward_effort_controller/commands"),
    "joint_trajectory": (JointTrajectory, "joint_trajectory_controller/joint_trajectory"),
}
_LEVELS = {GateState.WAITING: WARN, GateState.HOLDING: OK, GateState.FOLLOWING: OK, GateState.FAULT: ERROR}


@dataclass(frozen=True, kw_only=True)
class SafetyGateConfig(NodeConfig, GateConfig, EffortGateConfig):
    """Parameters of safety_gate."""

    joints: tuple[str, ...] = value((), "Joints that the controller moves, in its order.")
    command_interface: str = value("forward_position", "Controller behind the gate.", choices=tuple(_OUTPUTS))


class SafetyGateNode(LifecycleNode[SafetyGateConfig]):
    """Lifecycle shell around `CommandGate`; for efforts see `EffortShell`."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("safety_gate", SafetyGateConfig, **node_options)
        self._states = StreamMonitor(max_age=self.config.state_timeout)
        self._commands = StreamMonitor()
        self._ticks = TickMonitor(1.0 / self.config.rate)
        self.add_report("gate", self._report)
        self.add_report("joint_states", lambda: self._states.report(self.now()))
        self.add_report("joint_command", lambda: self._commands.report(self.now()))
        self.add_report("tick", self._ticks.report)
        self._gate: CommandGate | None = None
        self._efforts: EffortShell | None = None

    def configure(self) -> None:
        """Create the topics; the gate itself is made when the first description arrives."""
        if not self.config.joints:
            raise ParameterError("joints=[] names no joint; give the joints of the controller, in its order")
        self._gate, self._efforts, self._published = None, None, (b"", "")
        self._buffer = JointStateBuffer()
        message_type, topic = _OUTPUTS[self.config.command_interface]
        self._output = self.create_lifecycle_publisher(message_type, topic, COMMAND)
        self._status = self.create_publisher(DiagnosticStatus, "safety_gate/status", LATCHED)
        shell: Any = self
        if self.config.command_interface == "forward_effort":
            monitors = (self._states, self._commands, self._ticks)
            shell = self._efforts = EffortShell(self, self.config, self._output, monitors, self._publish_status)
            if self.config.floating_base:
                self.create_sensor_subscription(Odometry, "odom", shell.on_odometry)
        self.create_subscription(String, "robot_description", shell.on_description, LATCHED)
        self.create_sensor_subscription(JointState, "joint_states", shell.on_joint_state)
        self.create_subscription(JointTrajectory, "joint_command", shell.on_command, COMMAND)
        self.create_service(Trigger, "safety_gate/release", self._on_release)
        self._publish_status()

    def activate(self) -> None:
        """Start the output."""
        if self._efforts is not None:
            self.create_timer(self.config.state_timeout / 2.0, self._efforts.on_timer)
        else:
            self.create_timer(1.0 / self.config.rate, self._on_timer)

    def deactivate(self) -> None:
        """Position controllers hold when nothing comes; a velocity controller needs a last zero.

        An effort controller gets nothing more: the driver's own timeout must brake, no last effort holds a robot.
        """
        if self.config.command_interface == "forward_velocity":
            self._output.publish(Float64MultiArray(data=[0.0] * len(self.config.joints)))
        self._gate = None if self._gate is None else self._make_gate(self._gate.limits)
        if self._efforts is not None:
            self._efforts.stop()

    def _make_gate(self, limits: JointLimits) -> CommandGate:
        return CommandGate(limits, self.config, from_measured=self.config.command_interface == "forward_velocity")

    def on_description(self, msg: String) -> None:
        """Take in the limits of the joints."""
        try:
            limits = JointLimits.from_urdf(msg.data, self.config.joints)
            if self._gate is None:
                self._gate = self._make_gate(limits)
            else:
                self._gate.set_limits(limits)
        except IdeomotorError as error:
            self.get_logger().error(f"robot_description ignored, the last good one stays: {error}")

    def on_joint_state(self, msg: JointState) -> None:
        """Take in the measured positions."""
        try:
            state = convert.joint_state(msg)
        except JointStateError as error:
            self._states.rejected()
            self.get_logger().warning(f"joint state ignored: {error}", throttle_duration_sec=1.0)
            return
        self._buffer.update(state)
        self._states.received(state.stamp, self.now())

    def on_command(self, msg: JointTrajectory) -> None:
        """Take in a command."""
        if self._gate is None or not self.is_active:
            return
        now = self.now()
        try:
            command = convert.joint_command(msg)
        except CommandError as error:
            self._commands.rejected()
            self._gate.refuse(str(error), now)
            return
        self._gate.command(command, now)
        self._commands.received(command.stamp or now, now)

    def _on_release(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            gate = self._present_gate()
            if gate is None:
                raise GateError("no robot_description yet")
            gate.release(self.now())
            response.success, response.message = True, gate.state.value
        except GateError as error:
            response.message = str(error)
        self._publish_status()
        return response

    def _on_timer(self) -> None:
        with self._ticks.tick():
            now, joints = self.now(), self.config.joints
            if self._gate is not None:
                age = self._buffer.age(joints, now)
                if np.isfinite(age):
                    self._gate.observe(self._buffer.latest(joints), now - age)
                output = self._gate.step(now)
                if output is not None:
                    self._output.publish(self._message(output))
            self._publish_status()

    def _message(self, output: GateOutput) -> Float64MultiArray | JointTrajectory:
        if self.config.command_interface == "joint_trajectory":
            period = 1.0 / self.config.rate
            stamp = Time()  # zero: start now, as joint_trajectory_controller reads it
            return convert.joint_command_msg(self.config.joints, output.position, stamp, output.velocity, period)
        velocity = self.config.command_interface == "forward_velocity"
        return Float64MultiArray(data=output.velocity if velocity else output.position)

    def _present_gate(self) -> CommandGate | EffortGate | None:
        return self._gate if self._efforts is None else self._efforts.gate

    def _report(self) -> Report:
        gate = self._present_gate()
        if gate is None:
            return Report(WARN, "waiting for robot_description", {"state": "WAITING"})
        state, known = gate.state, self._buffer.names if self._efforts is None else self._efforts.joints_known
        missing = [] if state is not GateState.WAITING else sorted(set(self.config.joints) - set(known))
        message = gate.reason or (f"{state.value} of {missing}" if missing else state.value)
        return Report(_LEVELS[state], message, {"state": state.name})

    def _publish_status(self) -> None:
        report = self._report()
        if (report.level, report.message) == self._published:
            return
        self._published = (report.level, report.message)
        self._status.publish(report.to_msg("safety_gate", self.get_name()))
        if report.level == ERROR:
            self.get_logger().error(report.message)
        else:
            self.get_logger().info(report.message)


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(SafetyGateNode, args)
