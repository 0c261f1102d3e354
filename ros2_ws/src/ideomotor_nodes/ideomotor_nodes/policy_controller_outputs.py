"""What policy_controller publishes many times a second: messages are made once."""

import array

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from ideomotor.data.messages import TARGET_FRAMES
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.policy_controller_state import Stamp
from ideomotor_nodes.qos import COMMAND, LATCHED, STREAM, TF

_EVERY = 10  # states between two messages for people


class PolicyOutputs:
    """The publishers; create it in `configure`.

    Args:
        node: that publishes.
        joints: that are commanded, in the order of the efforts.
        floating_base: whether the base moves in the frame ``odom``.
    """

    def __init__(self, node: LifecycleNode, joints: tuple[str, ...], floating_base: bool) -> None:  # type: ignore[type-arg]
        publisher = node.create_lifecycle_publisher
        self._commands = publisher(JointTrajectory, "joint_command", COMMAND)
        self._episode = publisher(String, "experience", LATCHED)
        self._errors = publisher(JointState, "prediction_error", STREAM)
        self._targets = publisher(JointState, "target_joint_states", STREAM)
        self._tf = publisher(TFMessage, "/tf", TF)
        self._point = JointTrajectoryPoint()
        self._command = JointTrajectory(joint_names=list(joints), points=[self._point])
        self._end = JointTrajectory(joint_names=list(joints))
        self._error, self._target = JointState(name=list(joints)), JointState(name=list(joints))
        self._base, self._floating = TransformStamped(), floating_base
        self._n, self._told = len(joints), ""

    def command(self, effort: np.ndarray, stamp: Stamp) -> None:
        """Send efforts (n,) that answer the state of a stamp."""
        self._point.effort = _doubles(effort)
        _set(self._command.header.stamp, stamp)
        self._commands.publish(self._command)

    def end_commands(self, stamp: Stamp) -> None:
        """Say that no more commands come: the gate holds the robot."""
        _set(self._end.header.stamp, stamp)
        self._commands.publish(self._end)

    def episode(self, name: str) -> None:
        """Say which episode runs from now on; empty: none."""
        if name != self._told:
            self._told = name
            self._episode.publish(String(data=name))

    def show(self, step: int, error: np.ndarray, target: np.ndarray | None, stamp: Stamp) -> None:
        """Publish prediction errors (n,) [rad/s] and where the motion is, shape (nq,), for people."""
        if step % _EVERY:
            return
        _set(self._error.header.stamp, stamp)
        self._error.velocity = _doubles(error)
        self._errors.publish(self._error)
        if target is None:
            return
        _set(self._target.header.stamp, stamp)
        self._target.position = _doubles(target[-self._n :])
        self._targets.publish(self._target)
        if self._base.child_frame_id:
            if self._floating:
                t, r = self._base.transform.translation, self._base.transform.rotation
                t.x, t.y, t.z, r.x, r.y, r.z, r.w = target[:7].tolist()
            _set(self._base.header.stamp, stamp)
            self._tf.publish(TFMessage(transforms=[self._base]))

    def set_root(self, link: str) -> None:
        """Say which link is the root of the description: the motion's robot stands at its place, or moves in odom."""
        self._base.header.frame_id = "odom" if self._floating else link
        self._base.child_frame_id = TARGET_FRAMES + link


def _set(time: Time, stamp: Stamp) -> None:
    time.sec, time.nanosec = stamp


def _doubles(values: np.ndarray) -> "array.array[float]":
    return array.array("d", values.tobytes())
