"""The state of a robot at effort level, put together from the messages that carry one stamp."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState

from ideomotor.body.joint_state import JointStateError
from ideomotor_interfaces.msg import ContactForces

Stamp = tuple[int, int]  # s, ns


@dataclass(frozen=True, eq=False)
class RobotState:
    """One state; conventions of `ideomotor.data.experience.Episode`."""

    stamp: Stamp
    q: np.ndarray  # (nq,)
    v: np.ndarray  # (nv,)
    force: np.ndarray  # (3c,)

    @property
    def time(self) -> float:
        """Its stamp [s]."""
        return self.stamp[0] + 1e-9 * self.stamp[1]


class StateAssembler:
    """Takes in joint states and, of a floating base, odometry and contact forces; complete is what has one stamp.

    The methods that take messages return the state that became complete by it, or None. What is not finite, or lacks
    a joint or a link, raises JointStateError.

    Args:
        joints: in the order of the state.
        contact_links: in the order of the state.
        floating_base: whether odometry is part of it.
    """

    def __init__(self, joints: tuple[str, ...], contact_links: tuple[str, ...], floating_base: bool) -> None:
        self._joints, self._links, self._floating = joints, contact_links, floating_base
        self._names: list[str] = []
        self._order = np.zeros(0, int)
        self._joint: tuple[Stamp, np.ndarray, np.ndarray] | None = None  # not part of a state yet
        self._base: tuple[Stamp, np.ndarray, np.ndarray] | None = None
        self._contact: tuple[Stamp, np.ndarray] | None = None
        self._link_names: list[str] = []
        self._link_order: list[int] = []
        self.incomplete = 0  # joint states that never became a state
        self.missing = "joint_states"

    def on_joints(self, msg: JointState) -> RobotState | None:
        """Take in joint positions and velocities."""
        if msg.name != self._names:
            lacking = [name for name in self._joints if name not in msg.name]
            if lacking:
                raise JointStateError(f"joint state lacks {lacking}; it has {list(msg.name)}")
            self._names, self._order = list(msg.name), np.array([msg.name.index(name) for name in self._joints])
        if not len(msg.position) == len(msg.velocity) == len(self._names):
            sizes = f"{len(msg.position)} positions and {len(msg.velocity)} velocities"
            raise JointStateError(f"joint state has {len(self._names)} names but {sizes}")
        if self._joint is not None:
            self.incomplete += 1
        position, velocity = np.frombuffer(msg.position)[self._order], np.frombuffer(msg.velocity)[self._order]
        _check("joint state", position, velocity)
        self._joint = (_stamp(msg), position, velocity)
        return self._complete()

    def on_odometry(self, msg: Odometry) -> RobotState | None:
        """Take in pose and twist of the base."""
        p, r = msg.pose.pose.position, msg.pose.pose.orientation
        linear, angular = msg.twist.twist.linear, msg.twist.twist.angular
        pose = np.array([p.x, p.y, p.z, r.x, r.y, r.z, r.w])
        twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        _check("odometry", pose, twist)
        norm = float(np.sqrt(pose[3:] @ pose[3:]))
        if abs(norm - 1.0) > 0.01:
            raise JointStateError(f"quaternion (xyzw) of the odometry {pose[3:].tolist()} has no unit norm")
        pose[3:] /= norm
        self._base = (_stamp(msg), pose, twist)
        return self._complete()

    def on_contacts(self, msg: ContactForces) -> RobotState | None:
        """Take in the forces on the contact links."""
        if msg.links != self._link_names:
            lacking = [link for link in self._links if link not in msg.links]
            if lacking:
                raise JointStateError(f"contact forces lack {lacking}; they have {list(msg.links)}")
            self._link_names, self._link_order = list(msg.links), [msg.links.index(link) for link in self._links]
        if len(msg.forces) != len(self._link_names):
            raise JointStateError(f"contact forces have {len(msg.links)} links but {len(msg.forces)} forces")
        vectors = [msg.forces[i] for i in self._link_order]
        force = np.array([x for vector in vectors for x in (vector.x, vector.y, vector.z)])
        _check("contact forces", force)
        self._contact = (_stamp(msg), force)
        return self._complete()

    def _complete(self) -> RobotState | None:
        if self._joint is None:
            return None
        stamp, position, velocity = self._joint
        force = np.zeros(0)
        if self._links:
            if self._contact is None or self._contact[0] != stamp:
                self.missing = "contact_forces"
                return None
            force = self._contact[1]
        if self._floating:
            if self._base is None or self._base[0] != stamp:
                self.missing = "odom"
                return None
            position = np.concatenate([self._base[1], position])
            velocity = np.concatenate([self._base[2], velocity])
        self._joint, self.missing = None, "joint_states"
        return RobotState(stamp, position, velocity, force)


def _stamp(msg: Any) -> Stamp:  # noqa: ANN401 - a message with a header
    return msg.header.stamp.sec, msg.header.stamp.nanosec


def _check(what: str, *arrays: np.ndarray) -> None:
    for array in arrays:
        if not np.isfinite(array).all():
            raise JointStateError(f"{what} is not finite: {array.tolist()}")
