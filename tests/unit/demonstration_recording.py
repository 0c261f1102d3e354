"""Recordings of demonstrations, made without ROS: a list of messages, to be spoiled, and a function that writes it.

The robot lifts and turns a bent stick with two keypoints, so that these are known in closed form (`true_keypoints`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from ideomotor.body.extension import BodyExtension, JointType, VirtualJoint
from ideomotor.body.urdf import description_sha256, extend_urdf
from ideomotor.data.recording import RecordingWriter, Topic

INTERFACES = Path(__file__).parents[2] / "ros2_ws" / "src" / "ideomotor_interfaces" / "msg"
OWN = "ideomotor_interfaces/msg/"
STORE = get_typestore(Stores.ROS2_JAZZY)
for _name in ("VirtualJoint", "BodySchema"):
    STORE.register(get_types_from_msg((INTERFACES / f"{_name}.msg").read_text(), OWN + _name))
URDF = """<robot name="r"><link name="base"/><link name="column"/><link name="hand"/>
<joint name="lift" type="prismatic"><parent link="base"/><child link="column"/><axis xyz="0 0 1"/>
  <limit lower="0" upper="2" velocity="1.0" effort="1"/></joint>
<joint name="turn" type="revolute"><parent link="column"/><child link="hand"/><origin xyz="0 0 0.5"/><axis xyz="0 0 1"/>
  <limit lower="-3" upper="3" velocity="2.0" effort="1"/></joint></robot>"""
LINKS = ("virtual_kp_0", "virtual_kp_1")
START, SIMULATED = 10**18, 5.0  # receipt [ns] and stamp [s] of the first message: two clocks
RATE = 100.0  # of the joint states [Hz]
TYPES = {
    "/joint_states": "sensor_msgs/msg/JointState",
    "/robot_description": "std_msgs/msg/String",
    "/body_schema": OWN + "BodySchema",
    "/demonstration": "std_msgs/msg/String",
}


@dataclass
class Message:
    """One message; ``time`` [s] after the first."""

    topic: str
    time: float
    content: Any


def extension(kind: JointType = JointType.FIXED) -> BodyExtension:
    """Return hand -> kp_0 -> kp_1; the last joint may be movable."""
    fixed: dict[str, Any] = {"rpy": np.zeros(3), "covariance": np.zeros((6, 6))}
    moving = {} if kind is JointType.FIXED else {"axis": np.array([0.0, 1.0, 0.0]), "lower": -1.0, "upper": 1.0}
    first = VirtualJoint("virtual_kp_0_joint", "hand", LINKS[0], JointType.FIXED, np.array([0.1, 0.0, 0.0]), **fixed)
    last = VirtualJoint("virtual_kp_1_joint", LINKS[0], LINKS[1], kind, np.array([0.0, 0.0, 0.2]), **fixed, **moving)
    return BodyExtension("hand", (first, last), LINKS[1], LINKS)


EXTENDED = extend_urdf(URDF, extension())


def true_keypoints(q: np.ndarray) -> np.ndarray:
    """Return the keypoints of joint positions (lift, turn), shape (T, 2) -> (T, 2, 3) [m]."""
    lift, turn = q.T
    first = np.stack([0.1 * np.cos(turn), 0.1 * np.sin(turn), 0.5 + lift], axis=1)
    return np.stack([first, first + np.array([0.0, 0.0, 0.2])], axis=1)


def message_type(name: str) -> Any:
    return STORE.types[name]


def text(data: str) -> Any:
    return message_type("std_msgs/msg/String")(data)


def header(stamp: float) -> Any:
    time = message_type("builtin_interfaces/msg/Time")(int(stamp), round(stamp % 1 * 1e9))
    return message_type("std_msgs/msg/Header")(time, "")


def joint_state(stamp: float, **positions: float) -> Any:
    none = np.zeros(0)
    values = np.array(list(positions.values()))
    return message_type("sensor_msgs/msg/JointState")(header(stamp), list(positions), values, none, none)


def pose(position: np.ndarray) -> Any:
    g = "geometry_msgs/msg/"
    return message_type(g + "Pose")(
        message_type(g + "Point")(*map(float, position)), message_type(g + "Quaternion")(0.0, 0.0, 0.0, 1.0)
    )


def body_schema(extended: BodyExtension | None = None, urdf: str = EXTENDED, state: int = 2) -> Any:
    """Return a BodySchema, EXTENDED unless told otherwise."""
    extended = extended or extension()
    kinds = {JointType.FIXED: 0, JointType.REVOLUTE: 1, JointType.PRISMATIC: 2}
    joints = [
        message_type(OWN + "VirtualJoint")(
            name=j.name,
            parent_link=j.parent_link,
            child_link=j.child_link,
            type=kinds[j.type],
            origin=pose(j.xyz),
            axis=message_type("geometry_msgs/msg/Vector3")(*(np.zeros(3) if j.axis is None else j.axis).tolist()),
            lower=j.lower,
            upper=j.upper,
            position=0.0,
            covariance=np.zeros(36),
        )
        for j in extended.joints
    ]
    return message_type(OWN + "BodySchema")(
        header=header(SIMULATED),
        state=state,
        revision=1,
        description_sha256=description_sha256(urdf),
        ee_link="hand",
        tip_link=extended.tip_link,
        joints=joints,
        frames=60,
        inlier_ratio=0.9,
        tip_std=0.002,
        tip_covariance=np.zeros(36),
        camera_covariance=np.zeros(36),
        camera_correction=pose(np.zeros(3)),
        unobserved=[],
        suggestion="",
    )


def minimum_jerk(time: np.ndarray, duration: float) -> np.ndarray:
    """Return a progress from 0 to 1, at rest before 0 and after ``duration`` [s]."""
    tau = np.clip(time / duration, 0.0, 1.0)
    return tau**3 * (10 - 15 * tau + 6 * tau**2)


Q0, Q1 = np.array([0.3, -0.4]), np.array([0.1, 0.8])  # (lift, turn) where a demonstration begins and ends


def positions(time: np.ndarray, duration: float) -> np.ndarray:
    """Return (lift, turn) of a demonstration, shape (T, 2): a second of rest, the motion, rest."""
    return Q0 + minimum_jerk(time - 1.0, duration)[:, None] * (Q1 - Q0)


def turned_then_lowered(time: np.ndarray, duration: float) -> np.ndarray:
    """Return (lift, turn) of another demonstration, shape (T, 2): the turn is over before much is lowered."""
    turn, lift = (minimum_jerk(time - 1.0 - delay * duration, 0.6 * duration) for delay in (0.0, 0.4))
    return Q0 + np.stack([lift, turn], axis=1) * (Q1 - Q0)


def messages(
    durations: Iterable[float] = (2.0,),
    *,
    marked: bool = True,
    path: Callable[[np.ndarray, float], np.ndarray] = positions,
) -> list[Message]:
    """Return the messages of demonstrations named a, b, ..., each with a second of rest before and after it [s]."""
    result = [Message("/robot_description", 0.0, text(EXTENDED)), Message("/body_schema", 0.0, body_schema())]
    begin = 0.1
    for name, duration in zip("abcdefgh", durations, strict=False):
        time = np.arange(0.0, duration + 2.0, 1 / RATE)
        for t, (lift, turn) in zip(time, path(time, duration), strict=True):
            stamp = SIMULATED + begin + t
            result.append(Message("/joint_states", begin + t, joint_state(stamp, turn=turn, finger=0.0, lift=lift)))
        if marked:
            result.append(Message("/demonstration", begin + 0.5, text(name)))
            result.append(Message("/demonstration", begin + duration + 1.5, text("")))
        begin += duration + 2.0
    return sorted(result, key=lambda message: message.time)


def write(folder: Path, content: Iterable[Message], types: dict[str, str] | None = None) -> Path:
    """Write messages to a new recording, and return its folder."""
    content = list(content)
    writer = RecordingWriter(folder, lambda name: (INTERFACES / f"{name.removeprefix(OWN)}.msg").read_text())
    kinds = {**TYPES, **(types or {})}
    for topic in sorted({message.topic for message in content}):
        writer.add_topic(Topic(topic, kinds[topic]))
    for message in sorted(content, key=lambda message: message.time):
        kind = kinds[message.topic]
        cdr = bytes(STORE.serialize_cdr(message.content, kind))
        writer.write(message.topic, START + round(1e9 * message.time), cdr)
    writer.close()
    return folder
