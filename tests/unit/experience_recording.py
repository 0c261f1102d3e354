"""Recordings of experience, made without ROS: a list of messages, to be spoiled, and a function that writes it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import get_types_from_msg

from tests.unit.demonstration_recording import INTERFACES, OWN, START, STORE, Message, message_type, text, write

STORE.register(get_types_from_msg((INTERFACES / "ContactForces.msg").read_text(), OWN + "ContactForces"))
JOINTS, LINKS, RATE, STAMP = ("hip", "knee"), ("left", "right"), 250.0, 5.0
TYPES = {
    "/odom": "nav_msgs/msg/Odometry",
    "/contact_forces": OWN + "ContactForces",
    "/joint_command": "trajectory_msgs/msg/JointTrajectory",
    "/experience": "std_msgs/msg/String",
    "/joint_states": "sensor_msgs/msg/JointState",
}
__all__ = ["JOINTS", "LINKS", "RATE", "START", "TYPES", "Message", "messages", "text", "write_experience"]


def header(step: int, frame: str = "") -> Any:
    nanoseconds = round(1e9 * STAMP) + step * 4_000_000
    time = message_type("builtin_interfaces/msg/Time")(nanoseconds // 10**9, nanoseconds % 10**9)
    return message_type("std_msgs/msg/Header")(time, frame)


def vector(x: float, y: float, z: float) -> Any:
    return message_type("geometry_msgs/msg/Vector3")(float(x), float(y), float(z))


def joint_state(step: int, names: tuple[str, ...] = ("knee", "hip")) -> Any:
    """Return hip at 0.1 t, knee at 0.2 t; velocities 1, 2; efforts 10 + t, 20 + t."""
    position, velocity = {"hip": 0.1 * step, "knee": 0.2 * step}, {"hip": 1.0, "knee": 2.0}
    effort = {"hip": 10.0 + step, "knee": 20.0 + step}
    columns = [np.array([values[name] for name in names]) for values in (position, velocity, effort)]
    return message_type("sensor_msgs/msg/JointState")(header(step), list(names), *columns)


def odometry(step: int) -> Any:
    g = "geometry_msgs/msg/"
    pose = message_type(g + "Pose")(
        message_type(g + "Point")(0.01 * step, 0.0, 0.3), message_type(g + "Quaternion")(0.0, 0.0, 0.6, 0.8)
    )
    twist = message_type(g + "Twist")(vector(2.5, 0.0, 0.1), vector(0.0, 0.3, 0.0))
    return message_type("nav_msgs/msg/Odometry")(
        header(step, "odom"),
        "base_link",
        message_type(g + "PoseWithCovariance")(pose, np.zeros(36)),
        message_type(g + "TwistWithCovariance")(twist, np.zeros(36)),
    )


def contact_forces(step: int) -> Any:
    forces = [vector(0.0, 0.0, step), vector(1.0, 2.0, 3.0)]
    return message_type(OWN + "ContactForces")(header(step, "odom"), ["right", "left"], forces)


def command(step: int, *, ended: bool = False) -> Any:
    point = message_type("trajectory_msgs/msg/JointTrajectoryPoint")(
        np.zeros(0), np.zeros(0), np.zeros(0), np.ones(2), message_type("builtin_interfaces/msg/Duration")(0, 0)
    )
    return message_type("trajectory_msgs/msg/JointTrajectory")(header(step), list(JOINTS), [] if ended else [point])


def messages(steps: int = 20, first: int = 5, last: int = 15, *, ended: bool = True, floating: bool = True) -> Any:
    """Return ``steps`` states; episode "one" commands the states ``first`` to ``last``."""
    result = []
    for step in range(steps):
        time = step / RATE
        if floating:
            result.append(Message("/odom", time, odometry(step)))
            result.append(Message("/contact_forces", time + 1e-5, contact_forces(step)))
        result.append(Message("/joint_states", time + 2e-5, joint_state(step)))
        if step == first:
            result.append(Message("/experience", time + 1e-4, text("one")))
        if first <= step <= last:
            result.append(Message("/joint_command", time + 2e-4, command(step)))
    result.append(Message("/joint_command", (last + 1) / RATE + 1e-4, command(last + 1, ended=True)))
    if ended:  # the mark of the end comes early: what counts are the commands
        result.append(Message("/experience", last / RATE + 3e-4, text("")))
    return sorted(result, key=lambda message: message.time)


def write_experience(folder: Path, content: Iterable[Message]) -> Path:
    return write(folder, content, TYPES)
