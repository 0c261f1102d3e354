"""What a simulated robot at effort level publishes of its state, many times a second: messages are made once."""

import array
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped, Vector3
from nav_msgs.msg import Odometry
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from tf2_msgs.msg import TFMessage

from ideomotor_interfaces.msg import ContactForces
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.qos import STREAM, TF

ODOM = "odom"  # frame in which a floating base moves


class SimState:
    """Publishers of one state; `joint_states`, which a controller answers, comes last. Create it in `configure`.

    Args:
        node: that publishes.
        base_frame: frame of a floating base.
        joints: of the state.
        contact_links: of the state; without any no contact forces are published.
        floating_base: whether there is odometry.
    """

    def __init__(
        self,
        node: LifecycleNode,  # type: ignore[type-arg]
        base_frame: str,
        joints: Sequence[str],
        contact_links: Sequence[str],
        floating_base: bool,
    ) -> None:
        publisher = node.create_lifecycle_publisher
        self._clock = publisher(Clock, "/clock", STREAM)
        self._joint_states = publisher(JointState, "joint_states", STREAM)
        self._odom = publisher(Odometry, "odom", STREAM) if floating_base else None
        self._contacts = publisher(ContactForces, "contact_forces", STREAM) if contact_links else None
        self._tf = publisher(TFMessage, "/tf", TF) if floating_base else None
        self._joint_msg = JointState(name=list(joints))
        self._odom_msg = Odometry(child_frame_id=base_frame)
        self._odom_msg.header.frame_id = ODOM
        self._contact_msg = ContactForces(links=list(contact_links), forces=[Vector3() for _ in contact_links])
        self._contact_msg.header.frame_id = ODOM if floating_base else base_frame
        self._transform = TransformStamped(child_frame_id=base_frame)
        self._transform.header.frame_id = ODOM

    def publish(self, q: np.ndarray, v: np.ndarray, force: np.ndarray, effort: np.ndarray, stamp: Time) -> None:
        """Publish a state: q (nq,), v (nv,), force (3c,) as in `ideomotor_sim.state_layout`, and effort (n,)."""
        n = len(effort)
        self._clock.publish(Clock(clock=stamp))
        if self._odom is not None:
            self._odom.publish(self._odometry(q, v, stamp))
        if self._contacts is not None:
            message, values = self._contact_msg, force.tolist()
            message.header.stamp = stamp
            for i, vector in enumerate(message.forces):
                vector.x, vector.y, vector.z = values[3 * i : 3 * i + 3]
            self._contacts.publish(message)
        joints = self._joint_msg
        joints.header.stamp = stamp
        joints.position, joints.velocity = _doubles(q[len(q) - n :]), _doubles(v[len(v) - n :])
        joints.effort = _doubles(effort)
        self._joint_states.publish(joints)

    def publish_transform(self, q: np.ndarray, stamp: Time) -> None:
        """Publish where a floating base is, for those who look at it."""
        if self._tf is None:
            return
        transform = self._transform.transform
        t, r = transform.translation, transform.rotation
        t.x, t.y, t.z, r.x, r.y, r.z, r.w = q[:7].tolist()
        self._transform.header.stamp = stamp
        self._tf.publish(TFMessage(transforms=[self._transform]))

    def _odometry(self, q: np.ndarray, v: np.ndarray, stamp: Time) -> Odometry:
        message = self._odom_msg
        message.header.stamp = stamp
        p, r = message.pose.pose.position, message.pose.pose.orientation
        linear, angular = message.twist.twist.linear, message.twist.twist.angular
        p.x, p.y, p.z, r.x, r.y, r.z, r.w = q[:7].tolist()
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = v[:6].tolist()
        return message


def _doubles(values: np.ndarray) -> "array.array[float]":
    return array.array("d", values.tobytes())
