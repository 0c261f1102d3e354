"""What safety_gate does at effort level: every joint state and every command is answered at once, without a timer."""

from collections.abc import Callable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, MultiArrayDimension, MultiArrayLayout, String
from trajectory_msgs.msg import JointTrajectory

from ideomotor.body.joint_state import JointStateError
from ideomotor.errors import IdeomotorError
from ideomotor.safety.effort_gate import EffortGate, EffortGateConfig
from ideomotor.safety.effort_limits import EffortLimits, gravity_of
from ideomotor.safety.gate import CommandError, GateState
from ideomotor_nodes import convert
from ideomotor_nodes.diagnostics import StreamMonitor, TickMonitor
from ideomotor_nodes.lifecycle import LifecycleNode

ANSWERS = "answers"  # label of the layout's dimension whose size and stride are the stamp of the state


def answer_layout(stamp: Time) -> MultiArrayLayout:
    """Return a layout that says which state an effort answers; forward_command_controller does not read it.

    A simulation in lockstep waits for the answer to its last state, and must tell it from a late one to another.
    """
    return MultiArrayLayout(dim=[MultiArrayDimension(label=ANSWERS, size=stamp.sec, stride=stamp.nanosec)])


def answered(layout: MultiArrayLayout) -> tuple[int, int] | None:
    """Return the stamp (sec, nanosec) of `answer_layout`; None if the command does not say."""
    if len(layout.dim) != 1 or layout.dim[0].label != ANSWERS:
        return None
    return layout.dim[0].size, layout.dim[0].stride


class EffortShell:
    """Callbacks around `EffortGate`: a command goes out when it comes in, the hold law when a joint state comes in."""

    def __init__(
        self,
        node: LifecycleNode,  # type: ignore[type-arg]
        config: Any,  # noqa: ANN401 - an EffortGateConfig with joints
        output: Any,  # noqa: ANN401 - a publisher
        monitors: tuple[StreamMonitor, StreamMonitor, TickMonitor],
        changed: Callable[[], None],
    ) -> None:
        self._node, self._output, self._changed = node, output, changed
        self._config: EffortGateConfig = config
        self._joints: tuple[str, ...] = config.joints
        self._states, self._commands, self._ticks = monitors
        self.gate: EffortGate | None = None
        self.joints_known: tuple[str, ...] = ()
        self._names: list[str] = []
        self._order = np.zeros(0, int)
        self._stamp = Time()  # of the newest joint state
        self._told = (GateState.WAITING, "")  # state and reason

    def stop(self) -> None:
        """Forget what was measured and commanded."""
        if self.gate is not None:
            self.gate = EffortGate(self.gate.limits, self._config, self.gate.gravity)

    def on_description(self, msg: String) -> None:
        """Take in limits, and the weight of a robot whose base is fixed."""
        try:
            limits = EffortLimits.from_urdf(msg.data, self._joints)
            gravity = None if self._config.floating_base else gravity_of(msg.data, self._joints)
            if self.gate is None:
                self.gate = EffortGate(limits, self._config, gravity)
            else:
                self.gate.set_limits(limits, gravity)
        except IdeomotorError as error:
            self._node.get_logger().error(f"robot_description ignored, the last good one stays: {error}")
        self._changed()

    def on_odometry(self, msg: Odometry) -> None:
        """Take in the pose of the base."""
        if self.gate is None:
            return
        p, r = msg.pose.pose.position, msg.pose.pose.orientation
        try:
            self.gate.observe_base(p.z, np.array([r.x, r.y, r.z, r.w]), convert.seconds(msg.header.stamp))
        except JointStateError as error:
            self._node.get_logger().warning(f"odometry ignored: {error}", throttle_duration_sec=1.0)

    def on_joint_state(self, msg: JointState) -> None:
        """Check the state; hold the robot unless commands are followed."""
        if self.gate is None or not self._node.is_active:
            return
        now, stamp = self._node.now(), convert.seconds(msg.header.stamp)
        try:
            position, velocity = self._bound(msg)
            self.gate.observe(position, velocity, stamp, max(now, stamp))  # /clock may come after the state
        except JointStateError as error:
            self._states.rejected()
            self._node.get_logger().warning(f"joint state ignored: {error}", throttle_duration_sec=1.0)
            return
        self._states.received(stamp, now)
        self._stamp = msg.header.stamp
        self._send(self.gate.hold(max(now, stamp)), self._stamp)

    def on_command(self, msg: JointTrajectory) -> None:
        """Send the efforts on, within the limits; a command without points, as ros2_control's, ends the commands."""
        if self.gate is None or not self._node.is_active:
            return
        with self._ticks.tick():
            now = max(self._node.now(), convert.seconds(self._stamp))
            try:
                if not msg.points:
                    self.gate.end_commands()
                    self._send(self.gate.hold(now), self._stamp)
                    return
                command = convert.effort_command(msg)
                output = self.gate.command(command, now)
                self._commands.received(command.stamp or now, now)
            except CommandError as error:
                self._commands.rejected()
                self.gate.refuse(str(error), now)
                output = self.gate.hold(now)
            following = self.gate.state is GateState.FOLLOWING
            self._send(output, msg.header.stamp if following else self._stamp)

    def on_timer(self) -> None:
        """Notice that states or commands stopped."""
        if self.gate is not None:
            now = self._node.now()
            self.gate.check(now)
            self._send(self.gate.hold(now), self._stamp)

    def _send(self, effort: np.ndarray | None, stamp: Time) -> None:
        assert self.gate is not None
        if effort is not None:
            self._output.publish(Float64MultiArray(layout=answer_layout(stamp), data=convert.doubles(effort)))
        present = (self.gate.state, self.gate.reason)
        if present != self._told:
            self._told = present
            self._changed()

    def _bound(self, msg: JointState) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and velocities in the order of the joints."""
        if msg.name != self._names:
            self.joints_known = tuple(msg.name)
            missing = [name for name in self._joints if name not in msg.name]
            if missing:
                raise JointStateError(f"joint state lacks {missing}; it has {list(msg.name)}")
            self._names, self._order = list(msg.name), np.array([msg.name.index(name) for name in self._joints])
        if not len(msg.position) == len(msg.velocity) == len(self._names):
            sizes = f"{len(msg.position)} positions and {len(msg.velocity)} velocities"
            raise JointStateError(f"joint state has {len(self._names)} names but {sizes}")
        return np.frombuffer(msg.position)[self._order], np.frombuffer(msg.velocity)[self._order]
