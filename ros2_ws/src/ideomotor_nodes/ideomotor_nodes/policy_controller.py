"""Policy controller: runs learned controllers at the rate of the robot's states, through the safety gate."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from ideomotor.body.joint_state import JointStateError
from ideomotor.body.urdf import parse_urdf, root_link
from ideomotor.config import value
from ideomotor.dynamics.rigid_body import RigidBody, RobotStructure
from ideomotor.errors import IdeomotorError
from ideomotor.policies.execution import ExecutionConfig
from ideomotor_interfaces.msg import ContactForces
from ideomotor_nodes.diagnostics import OK, STALE, WARN, Report, StreamMonitor
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.params import NodeConfig, ParameterError
from ideomotor_nodes.policy_controller_goal import RunGoal
from ideomotor_nodes.policy_controller_state import RobotState, StateAssembler
from ideomotor_nodes.policy_controller_ticks import AnswerMonitor
from ideomotor_nodes.qos import LATCHED
from ideomotor_nodes.run import run_node

_NEWEST = 1  # messages that wait: an answer to an older state is of no use


@dataclass(frozen=True, kw_only=True)
class PolicyControllerConfig(NodeConfig, ExecutionConfig):
    """Parameters of policy_controller."""

    joints: tuple[str, ...] = value((), "Joints that are commanded: those of the safety gate.")
    contact_links: tuple[str, ...] = value((), "Links whose forces come on `contact_forces`.")
    floating_base: bool = value(False, "The base moves freely; its pose and twist come on `odom`.")
    rotor_inertia: tuple[float, ...] = value((), "Of every joint, seen through its gear [kg m^2]; empty: none.")
    rate: float = value(250.0, "Of the states [Hz].", ge=1.0, le=2000.0)
    state_timeout: float = value(
        0.1, "A run ends when nothing new is known of the robot for so long [s].", ge=0.01, le=60.0
    )
    start_tolerance: float = value(
        0.1, "How far a joint may be from the motion's first state at the start [rad].", ge=1e-3, le=3.2
    )
    base_tolerance: float = value(
        0.03,
        "How far the height of a floating base may be from it [m], and its tilt ten times that [rad].",
        ge=1e-3,
        le=1.0,
    )
    approach_speed: float = value(0.5, "Fastest joint on an arm's way to the start [rad/s].", ge=0.01, le=10.0)
    approach_tolerance: float = value(
        0.005, "How far a joint may be from the start when an arm is there [rad].", ge=1e-4, le=0.5
    )
    realtime_priority: int = value(
        0,
        "Priority of the node's threads under SCHED_FIFO, where that is permitted; 0: an ordinary process.",
        ge=0,
        le=98,
    )
    settle_time: float = value(6.0, "Longest time for that after the way [s].", ge=0.1, le=60.0)


class PolicyControllerNode(LifecycleNode[PolicyControllerConfig]):
    """Lifecycle shell: puts states together, and answers them while there is a goal (`RunGoal`)."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("policy_controller", PolicyControllerConfig, **node_options)
        self.ticks = AnswerMonitor(1.0 / self.config.rate)
        self._states = StreamMonitor()
        self._goal: RunGoal | None = None
        self.add_report("run", lambda: Report(OK, "not configured") if self._goal is None else self._goal.report())
        self.add_report("states", self._state_report)
        self.add_report("tick", self.ticks.report)
        self.gate_fault, self.urdf = "", ""
        self.body: RigidBody | None = None

    def configure(self) -> None:
        """Create the topics and the action."""
        c = self.config
        if not c.joints:
            raise ParameterError("joints=[] names no joint; give those of the safety gate")
        self.structure = RobotStructure(
            joints=c.joints,
            floating_base=c.floating_base,
            contact_links=c.contact_links,
            rotor_inertia=c.rotor_inertia,
        )
        self.assembler = StateAssembler(c.joints, c.contact_links, c.floating_base)
        self.state: RobotState | None = None  # the newest
        self._came = 0.0  # when [s]
        self._goal = RunGoal(self)
        self.create_subscription(String, "robot_description", self._on_description, LATCHED)
        self.create_subscription(DiagnosticStatus, "safety_gate/status", self._on_gate_status, LATCHED)
        # In the order in which they are published: they are taken in this order where all are there.
        if c.floating_base:
            self.create_sensor_subscription(Odometry, "odom", self._on_odometry, depth=_NEWEST)
        if c.contact_links:
            self.create_sensor_subscription(ContactForces, "contact_forces", self._on_contacts, depth=_NEWEST)
        on_joints: Any = self._on_joints
        self.create_sensor_subscription(JointState, "joint_states", on_joints, depth=_NEWEST)

    def activate(self) -> None:
        """Watch over what comes in."""
        assert self._goal is not None
        if self.config.realtime_priority:
            self._schedule(self.config.realtime_priority)
        self._goal.activate()

    def deactivate(self) -> None:
        """End the goal; the gate holds the robot."""
        if self._goal is not None:
            self._goal.abandon("the node was deactivated")

    @property
    def state_age(self) -> float:
        """Time since the newest state came [s]."""
        return time.monotonic() - self._came

    def _on_description(self, msg: String) -> None:
        try:
            self.body, self.urdf = RigidBody(msg.data, self.structure), msg.data
            if self._goal is not None:
                self._goal.out.set_root(root_link(parse_urdf(msg.data)))
        except IdeomotorError as error:
            self.get_logger().error(f"robot_description refused, the last good one stays: {error}")

    def _on_gate_status(self, msg: DiagnosticStatus) -> None:
        self.gate_fault = msg.message if msg.level == DiagnosticStatus.ERROR else ""
        if self._goal is not None and self.is_active:
            self._goal.on_gate()

    def _on_joints(self, msg: JointState, info: dict[str, Any]) -> None:
        self._arrived = info["received_timestamp"]
        self._take(self.assembler.on_joints, msg)

    def _on_odometry(self, msg: Odometry) -> None:
        self._take(self.assembler.on_odometry, msg)

    def _on_contacts(self, msg: ContactForces) -> None:
        self._take(self.assembler.on_contacts, msg)

    def _take(self, take: Any, msg: Any) -> None:  # noqa: ANN401
        try:
            state = take(msg)
        except JointStateError as error:
            self._states.rejected()
            self.get_logger().warning(f"state ignored: {error}", throttle_duration_sec=1.0)
            return
        if state is None:
            return
        self.state, self._came = state, time.monotonic()
        self._states.received(self._came, self._came)
        if self._goal is not None and self.is_active:
            self._goal.on_state(state, self._arrived)

    def _state_report(self) -> Report:
        report = self._states.report(time.monotonic())
        if self.state is None:
            return Report(STALE, f"no state yet: nothing on {self.assembler.missing} that fits", report.values)
        incomplete = self.assembler.incomplete
        values = dict(report.values) | {"incomplete": incomplete}
        if incomplete and self.assembler.missing != "joint_states":
            return Report(WARN, f"joint states without {self.assembler.missing} of their stamp: not answered", values)
        return Report(report.level, report.message, values)

    def _schedule(self, priority: int) -> None:
        """Put all threads of the process under SCHED_FIFO: those of DDS, too, which take messages in and wake the node.

        Without the permission (rtprio) the node goes on as an ordinary process, as ros2_control's manager does.
        """
        try:
            for thread in Path("/proc/self/task").iterdir():
                os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(priority))
        except OSError as error:
            self.get_logger().warning(f"realtime_priority={priority}: {error}; going on as an ordinary process")


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(PolicyControllerNode, args)


if __name__ == "__main__":
    sys.exit(main())
