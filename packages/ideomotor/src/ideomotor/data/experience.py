"""Experience: what a robot at effort level did, step by step, from recordings and in files.

A recording holds one episode, or several, told apart by the topic ``experience`` (std_msgs/String: the name of the one
that runs, empty when none runs). The states are those of ``joint_states``, and of ``odom`` and ``contact_forces`` with
the same stamp; commands are stamped with the state that they answer, and an episode begins with the state of its
first command and ends with the one after its last.
"""

import struct
import zipfile
import zlib
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from ideomotor.data.recording import Record, Recording
from ideomotor.data.unfinished import UnfinishedRecording, open_recording
from ideomotor.errors import IdeomotorError

_BASE = 7  # numbers of a floating base's pose: x y z, quaternion x y z w
_JOINTS, _ODOM, _CONTACTS, _COMMANDS, _MARKS = (
    "joint_states",
    "odom",
    "contact_forces",
    "joint_command",
    "experience",
)
_TYPES = {
    _JOINTS: "sensor_msgs/msg/JointState",
    _ODOM: "nav_msgs/msg/Odometry",
    _CONTACTS: "ideomotor_interfaces/msg/ContactForces",
    _COMMANDS: "trajectory_msgs/msg/JointTrajectory",
    _MARKS: "std_msgs/msg/String",
}
# What numpy, zipfile and zlib raise at files that are not theirs, cut off or altered.
UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
_GAP = 1.5  # periods between two states that are still one step


class ExperienceError(IdeomotorError):
    """An episode that cannot be learned from, or that a recording does not really contain."""


@dataclass(frozen=True, eq=False)
class Episode:
    """States and efforts at a constant rate, T steps. Arrays are read-only.

    With a floating base nq = 7 + n and nv = 6 + n, else both are n.

    Raises:
        ExperienceError: shapes do not fit, a value is not finite, a quaternion has no unit norm, or there is no step.
    """

    rate: float  # [Hz]
    joints: tuple[str, ...]  # (n,)
    contact_links: tuple[str, ...]  # (c,)
    q: np.ndarray  # (T+1, nq) base position [m] and quaternion x y z w, joint positions [rad] or [m]
    v: np.ndarray  # (T+1, nv) linear, angular velocity of the base in its own frame [m/s, rad/s], joint velocities
    force: np.ndarray  # (T+1, 3c) of the ground on each contact link, along the world axes [N]
    effort: np.ndarray  # (T, n) of the joints, held from one state to the next [N m] or [N]
    name: str = ""

    def __post_init__(self) -> None:
        for field in ("joints", "contact_links"):
            names = tuple(getattr(self, field))
            if len(set(names)) < len(names) or (field == "joints" and not names):
                raise ExperienceError(f"{field}={list(names)}, expected each once, and at least one joint")
            object.__setattr__(self, field, names)
        if not (np.isfinite(self.rate) and self.rate > 0.0):
            raise ExperienceError(f"rate={self.rate}, expected a positive number [Hz]")
        T, n = len(np.atleast_1d(self.effort)), len(self.joints)
        base = _BASE if np.shape(self.q)[1:] != (n,) else 0
        nq, nv, nf = n + base, n + max(base - 1, 0), 3 * len(self.contact_links)
        for field, shape in {"q": (T + 1, nq), "v": (T + 1, nv), "force": (T + 1, nf), "effort": (T, n)}.items():
            self._check(field, shape)
        if T < 1:
            raise ExperienceError(f"episode {self.name!r} has no step, expected at least one")
        if self.floating_base:
            norm = np.linalg.norm(self.q[:, 3:7], axis=1)
            worst = int(np.abs(norm - 1.0).argmax())
            if abs(norm[worst] - 1.0) > 1e-6:
                raise ExperienceError(f"quaternion of state {worst} has norm {norm[worst]}, expected 1")

    def _check(self, field: str, shape: tuple[int, int]) -> None:
        array = np.array(getattr(self, field), dtype=float)
        if array.shape != shape:
            raise ExperienceError(f"{field} has shape {array.shape}, expected {shape}")
        if not np.isfinite(array).all():
            t = int(np.nonzero(~np.isfinite(array))[0][0])
            raise ExperienceError(f"{field} is not finite at step {t}: {array[t].tolist()}")
        array.setflags(write=False)
        object.__setattr__(self, field, array)

    @property
    def floating_base(self) -> bool:
        """Whether the robot's base moves freely."""
        return self.q.shape[1] > len(self.joints)

    @property
    def steps(self) -> int:
        """T, number of steps between states."""
        return len(self.effort)

    @property
    def duration(self) -> float:
        """From the first state to the last [s]."""
        return self.steps / self.rate

    def save(self, path: Path) -> None:
        """Write a file that `load_episode` reads; it is there completely, or as it was.

        Raises:
            OSError: the folder cannot be written.
        """
        unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            with unfinished.open("wb") as file:
                content: dict[str, Any] = {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}
                np.savez_compressed(file, **content)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def load_episode(path: Path) -> Episode:
    """Return an episode that was saved.

    Raises:
        ExperienceError: naming the file, if it is no such file, or holds no valid episode.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            content: dict[str, Any] = {f.name: file[f.name] for f in fields(Episode)}
    except UNREADABLE as error:
        raise ExperienceError(f"{path}: no episode: {error}") from error
    try:
        content |= {key: tuple(content[key].tolist()) for key in ("joints", "contact_links")}
        return Episode(**content | {"rate": float(content["rate"]), "name": str(content["name"])})
    except (ExperienceError, TypeError, ValueError) as error:
        raise ExperienceError(f"{path}: {error}") from error


def read_episodes(
    folder: Path,
    *,
    joints: tuple[str, ...] | None = None,
    contact_links: tuple[str, ...] | None = None,
    rate: float | None = None,
) -> list[Episode]:
    """Return the episodes of a recording in the order of their time.

    An episode that the recording's end cut off is returned up to its last complete step; one without a complete step is
    left out. A recording without the topic ``experience`` is one episode.

    Args:
        folder: of rosbag2 with one ``.mcap`` file, of a recorder that ended properly or was killed.
        joints: order of the joints; None: that of the first joint state.
        contact_links: order of the links; None: that of the first contact forces, none if there are none.
        rate: of the states [Hz]; None: as recorded (median).

    Raises:
        ExperienceError: naming file, topic and time of what is missing or wrong.
        RecordingError: there is no recording, or it is corrupt.
    """
    with open_recording(folder) as recording:
        recorded = _Recorded(recording)
        episodes = [recorded.episode(part, joints, contact_links, rate) for part in recorded.parts()]
    return [episode for episode in episodes if episode is not None]


@dataclass(frozen=True)
class _Part:
    """One episode within a recording."""

    name: str
    begin: int  # time of its messages [ns]
    end: int  # [ns]
    ended: bool


class _Recorded:
    """What of a recording episodes are made of: messages by stamp [ns], each stamp once."""

    def __init__(self, recording: Recording | UnfinishedRecording) -> None:
        self.file, self._recording = recording.file, recording
        topics = {topic: name for name in _TYPES for topic in self._topics(name)}
        if _JOINTS not in topics.values():
            raise ExperienceError(f"{self.file}: no topic {_JOINTS}; it has {sorted(t.name for t in recording.topics)}")
        self._streams: dict[str, dict[int, tuple[int, Any]]] = {name: {} for name in topics.values()}
        self._marks: list[tuple[int, str]] = []
        self._end = recording.start
        for record in recording.records(topics):
            self._take(topics[record.topic], record)

    def _topics(self, name: str) -> list[str]:
        """Return the topic of this name, whatever its namespace."""
        topics = [topic for topic in self._recording.topics if topic.name.split("/")[-1] == name]
        if len(topics) > 1:
            raise ExperienceError(f"{self.file}: {[t.name for t in topics]}: expected one {name}, of one robot")
        for topic in topics:
            if topic.type != _TYPES[name]:
                raise ExperienceError(f"{self.file}: {topic.name} is {topic.type}, expected {_TYPES[name]}")
        return [topic.name for topic in topics]

    def _take(self, name: str, record: Record) -> None:
        self._end = record.stamp
        message = self._recording.message(record)
        if name == _MARKS:
            self._marks.append((record.stamp, str(message.data)))
        elif name != _COMMANDS or message.points:  # one without points ends the commands
            stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            self._streams[name].setdefault(stamp, (record.stamp, message))

    def parts(self) -> list[_Part]:
        """Return the episodes, as the marks divide the recording."""
        if _MARKS not in self._streams:
            return [_Part("", self._recording.start, self._end, ended=False)]
        marks = [*self._marks, (self._end, "")]
        parts = [(name, begin, end) for (begin, name), (end, _) in pairwise(marks) if name]
        last = len(self._marks)
        ended = [i + 1 < last for i, (_, name) in enumerate(self._marks) if name]
        return [_Part(*part, ended=e) for part, e in zip(parts, ended, strict=True)]

    def episode(
        self,
        part: _Part,
        joints: tuple[str, ...] | None,
        contact_links: tuple[str, ...] | None,
        rate: float | None,
    ) -> Episode | None:
        """Return an episode; None if it was cut off before the end of its first step."""
        stamps = self._stamps(part)
        if len(stamps) < 2:
            if part.ended:
                raise ExperienceError(f"{self.file}: {_JOINTS}: no step in episode {part.name!r}")
            return None
        period = float(np.median(np.diff(stamps))) if rate is None else 1e9 / rate  # [ns]
        self._check_gaps(stamps, period)
        messages = {name: [self._streams[name][s][1] for s in stamps] for name in (_JOINTS, *self._others())}
        joints = joints or tuple(messages[_JOINTS][0].name)
        rows = [self._joints(message, joints) for message in messages[_JOINTS]]
        q, v, effort = (np.array(column) for column in zip(*rows, strict=True))  # (T+1, n) each
        if _ODOM in messages:
            base_q, base_v = zip(*map(self._base, messages[_ODOM]), strict=True)
            q, v = np.hstack([base_q, q]), np.hstack([base_v, v])
        links, forces = self._forces(messages.get(_CONTACTS, []), contact_links, len(stamps))
        try:
            return Episode(1e9 / period, joints, links, q, v, forces, effort[1:], part.name)
        except ExperienceError as error:
            at = self._after(stamps[0])
            raise ExperienceError(f"{self.file}: episode {part.name!r} from {at}: {error}") from error

    def _others(self) -> list[str]:
        return [name for name in (_ODOM, _CONTACTS) if self._streams.get(name)]

    def _stamps(self, part: _Part) -> list[int]:
        """Return the stamps of an episode's states: of its commands, and one more; without commands by their time."""
        within = {
            name: sorted(s for s, (time, _) in stream.items() if part.begin <= time <= part.end)
            for name, stream in self._streams.items()
        }
        states = sorted(self._streams[_JOINTS])
        commands = within.get(_COMMANDS, [])
        if commands:
            last = next((s for s in states if s > commands[-1]), commands[-1])
            stamps = [s for s in states if commands[0] <= s <= last]
        else:
            stamps = within[_JOINTS]
        for name in self._others():
            missing = [s for s in stamps if s not in self._streams[name]]
            if missing and (part.ended or missing != stamps[-len(missing) :]):
                raise ExperienceError(f"{self.file}: {name}: nothing of the joint state of {self._after(missing[0])}")
            stamps = stamps[: len(stamps) - len(missing)]
        return stamps

    def _after(self, stamp: int) -> str:
        """Return when the joint state of a stamp was recorded, and its stamp, for messages."""
        time = self._streams[_JOINTS][stamp][0]
        return f"{1e-9 * (time - self._recording.start):.3f} s (stamp {1e-9 * stamp:.4f} s)"

    def _check_gaps(self, stamps: list[int], period: float) -> None:
        for first, second in pairwise(stamps):
            gap = second - first
            if not period / _GAP <= gap <= period * _GAP:
                raise ExperienceError(
                    f"{self.file}: {_JOINTS}, {self._after(first)}: {1e-9 * gap:.4f} s to the next one, expected "
                    f"{1e-9 * period:.4f} s"
                )

    def _joints(self, message: Any, joints: tuple[str, ...]) -> tuple[np.ndarray, ...]:  # noqa: ANN401
        names = list(message.name)
        if missing := [name for name in joints if name not in names]:
            raise ExperienceError(f"{self.file}: {_JOINTS} lacks {missing}; it has {names}")
        order = [names.index(name) for name in joints]
        for field in ("position", "velocity", "effort"):
            if len(getattr(message, field)) != len(names):
                size = len(getattr(message, field))
                raise ExperienceError(f"{self.file}: {_JOINTS} has {len(names)} names but {size} {field} values")
        return message.position[order], message.velocity[order], message.effort[order]

    def _base(self, message: Any) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401
        """Return pose (7,) and twist (6,) of the base; the quaternion's norm is made 1 if it is so within 1 %."""
        p, r = message.pose.pose.position, message.pose.pose.orientation
        linear, angular = message.twist.twist.linear, message.twist.twist.angular
        quaternion = np.array([r.x, r.y, r.z, r.w])
        norm = np.linalg.norm(quaternion)
        if not abs(norm - 1.0) < 0.01:
            raise ExperienceError(f"{self.file}: {_ODOM}: quaternion (xyzw) {quaternion.tolist()} has no unit norm")
        twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        return np.array([p.x, p.y, p.z, *(quaternion / norm)]), twist

    def _forces(
        self, messages: list[Any], links: tuple[str, ...] | None, count: int
    ) -> tuple[tuple[str, ...], np.ndarray]:
        """Return links (c,) and forces (count, 3c) [N]."""
        if links is None:
            links = tuple(messages[0].links) if messages else ()
        if links and not messages:
            raise ExperienceError(f"{self.file}: nothing on {_CONTACTS}, expected forces on {list(links)}")
        rows = np.zeros((count, 3 * len(links)))
        for row, message in zip(rows, messages, strict=bool(messages)):
            forces = dict(zip(message.links, message.forces, strict=False))
            if missing := [link for link in links if link not in forces]:
                raise ExperienceError(f"{self.file}: {_CONTACTS} lacks {missing}; it has {list(message.links)}")
            row[:] = [x for link in links for x in (forces[link].x, forces[link].y, forces[link].z)]
        return links, rows
