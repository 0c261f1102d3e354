"""Demonstrations: what the keypoints of a held object did while somebody showed a task, from recordings.

A recording holds one demonstration, or several, told apart by the topic ``demonstration`` (std_msgs/String: the name of
the one that runs, empty when none runs). Keypoints come from the measured joints by forward kinematics of the extended
chain. A recording that misses something is refused with file, topic and time; nothing is left out silently.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from ideomotor.body.chain import KinematicChain
from ideomotor.body.extension import JointType
from ideomotor.body.joint_state import JointStateError
from ideomotor.body.session import BodyState
from ideomotor.body.urdf import description_sha256
from ideomotor.data import messages
from ideomotor.data.joint_series import JointSeries, JointSeriesError, motion, resampled
from ideomotor.data.recording import Record, Recording
from ideomotor.errors import IdeomotorError

MIN_STATES = 5
_JOINTS, _DESCRIPTION, _SCHEMA, _MARKS = "joint_states", "robot_description", "body_schema", "demonstration"
_TYPES = {
    _JOINTS: "sensor_msgs/msg/JointState",
    _DESCRIPTION: "std_msgs/msg/String",
    _SCHEMA: "ideomotor_interfaces/msg/BodySchema",
    _MARKS: "std_msgs/msg/String",
}
_NEEDED = (_JOINTS, _DESCRIPTION, _SCHEMA)
_LATE = 1.0  # [s] a recorder may hear of one topic so much later than of another
_JUMP = 1.5  # of the velocity limit; nothing real is faster

X = TypeVar("X")


class DemonstrationError(IdeomotorError):
    """A demonstration that cannot be learned from, or that a recording does not really contain."""


@dataclass(frozen=True, eq=False)
class Demonstration:
    """States of one demonstration, from rest to rest. Arrays are read-only.

    Raises:
        DemonstrationError: shapes do not fit, a value is not finite, stamps do not increase, or too few states.
    """

    source: str  # file, and which part of it, for messages
    stamp: np.ndarray  # (T,) [s], from 0
    chain: KinematicChain  # that showed it: from the frame of the keypoints to the tip of the held object
    q: np.ndarray  # (T, n) [rad] or [m]
    keypoint_names: tuple[str, ...]  # links of the extended description
    keypoints_base: np.ndarray  # (T, K, 3) [m]

    def __post_init__(self) -> None:
        T, n, k = np.size(self.stamp), self.chain.n, len(self.keypoint_names)
        for name, shape in {"stamp": (T,), "q": (T, n), "keypoints_base": (T, k, 3)}.items():
            array = np.array(getattr(self, name), dtype=float)
            if array.shape != shape:
                raise DemonstrationError(f"{self.source}: {name} has shape {array.shape}, expected {shape}")
            if not np.isfinite(array).all():
                t = int(np.nonzero(~np.isfinite(array))[0][0])
                raise DemonstrationError(f"{self.source}: {name} is not finite at state {t}: {array[t].tolist()}")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        names = self.keypoint_names
        if not names or len(set(names)) < len(names):
            raise DemonstrationError(f"{self.source}: keypoint_names={list(names)}, expected at least one, each once")
        if T < MIN_STATES:
            raise DemonstrationError(f"{self.source}: too short: {T} states, expected at least {MIN_STATES}")
        if self.stamp[0] != 0.0 or not (np.diff(self.stamp) > 0.0).all():
            raise DemonstrationError(f"{self.source}: stamps {self.stamp.tolist()}, expected increasing from 0")

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the joints, in the order of ``q``."""
        return self.chain.joint_names

    @property
    def duration(self) -> float:
        """From the first state to the last [s]."""
        return float(self.stamp[-1])

    @property
    def keypoints_ee(self) -> np.ndarray:
        """Where the keypoints are on the held object, shape (K, 3) in the chain's ``ee_link`` [m]."""
        T_base_ee = self.chain.forward(self.q[0])
        keypoints: np.ndarray = (self.keypoints_base[0] - T_base_ee[:3, 3]) @ T_base_ee[:3, :3]
        return keypoints

    @property
    def goal(self) -> np.ndarray:
        """Keypoints at the end, shape (K, 3) in the base frame [m]."""
        goal: np.ndarray = self.keypoints_base[-1]
        return goal

    @property
    def relative(self) -> np.ndarray:
        """Keypoints relative to the goal, shape (T, K, 3) along the base axes [m]."""
        relative: np.ndarray = self.keypoints_base - self.goal
        return relative

    @property
    def steps(self) -> int:
        """Number of steps between states."""
        return len(self.stamp) - 1


def read_demonstrations(
    folder: Path,
    *,
    rate: float,
    base_link: str | None = None,
    max_gap: float = 0.2,
    rest_speed: float = 0.005,
    exclude: Collection[str] = (),
) -> list[Demonstration]:
    """Return the demonstrations of a recording, or of a folder of recordings, in the order of names and times.

    Args:
        folder: of rosbag2 with one ``.mcap`` file, or a folder whose folders are such recordings.
        rate: of the states [Hz].
        base_link: frame of the keypoints; the root link of the description if None.
        max_gap: longest time without a joint state [s].
        rest_speed: a joint that moves no faster is at rest [rad/s] or [m/s]; rest at both ends is left out.
        exclude: demonstrations to leave out: RECORDING/NAME, or RECORDING if that is not divided; RECORDING is the
            name of its folder.

    Raises:
        DemonstrationError: naming file, topic and time of what is missing or wrong.
        RecordingError: a recording is truncated or corrupt.
    """
    if not (rate > 0.0 and max_gap > 0.0 and rest_speed >= 0.0):
        raise DemonstrationError(f"rate={rate}, max_gap={max_gap}, rest_speed={rest_speed}, expected positive numbers")
    options = _Options(rate, base_link, max_gap, rest_speed)
    demonstrations: list[Demonstration] = []
    names: set[str] = set()
    for recording_folder in _recording_folders(folder):
        with Recording(recording_folder) as recording:
            recorded = _Recorded(recording)
            for part in recorded.parts():
                names.add(part.name)
                if part.name not in exclude:
                    demonstrations.append(_demonstration(recorded, part, options))
    unknown = sorted(set(exclude) - names)
    if unknown:
        raise DemonstrationError(f"{folder}: exclude={unknown}: not among the demonstrations {sorted(names)}")
    return demonstrations


def _recording_folders(folder: Path) -> list[Path]:
    """Return the folder itself if it is a recording, else those in it: each must be one."""
    if not folder.is_dir():
        raise DemonstrationError(f"{folder}: no such folder, expected a recording or a folder of recordings")
    if list(folder.glob("*.mcap")):
        return [folder]
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise DemonstrationError(f"{folder}: no recording there, expected one .mcap file or folders that have one")
    return folders


@dataclass(frozen=True)
class _Options:
    """See `read_demonstrations`."""

    rate: float
    base_link: str | None
    max_gap: float
    rest_speed: float


@dataclass(frozen=True)
class _Part:
    """One demonstration within a recording."""

    name: str
    source: str  # for messages
    begin: int  # time of receipt [ns]
    end: int  # time of receipt [ns]
    ended: bool = True


@dataclass(frozen=True)
class _Schema:
    """What of a body schema must not change while a demonstration runs."""

    state: BodyState
    description_sha256: str
    tip_link: str
    joints: tuple[tuple[str, JointType, str], ...]  # name, type, child link

    @classmethod
    def from_message(cls, msg: messages.Message) -> "_Schema":
        """Return what counts of a BodySchema message."""
        joints = tuple((j.name, j.type, j.child_link) for j in map(messages.virtual_joint, msg.joints))
        return cls(messages.body_state(msg), msg.description_sha256, msg.tip_link, joints)

    @property
    def keypoint_links(self) -> tuple[str, ...]:
        """The links of the keypoints."""
        return tuple(link for _, _, link in self.joints)


class _Recorded:
    """What of a recording demonstrations are made of."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.file = recording.file
        self.topics = {topic: name for name in _TYPES for topic in self._topics(name)}
        missing = [name for name in _NEEDED if name not in self.topics.values()]
        if missing:
            raise DemonstrationError(
                f"{self.file}: no topic {', '.join(missing)}; it has {sorted(t.name for t in recording.topics)}"
            )
        self._records: dict[str, list[Record]] = {name: [] for name in _TYPES}
        for record in recording.records(self.topics):
            self._records[self.topics[record.topic]].append(record)
        silent = [name for name in _NEEDED if not self._records[name]]
        if silent:
            raise DemonstrationError(f"{self.file}: no message on {', '.join(silent)}")

    def _topics(self, name: str) -> list[str]:
        """Return the topic of this name, whatever its namespace."""
        topics = [topic for topic in self._recording.topics if topic.name.split("/")[-1] == name]
        if len(topics) > 1:
            raise DemonstrationError(f"{self.file}: {[t.name for t in topics]}: expected one {name}, of one robot")
        for topic in topics:
            if topic.type != _TYPES[name]:
                raise DemonstrationError(f"{self.file}: {topic.name} is {topic.type}, expected {_TYPES[name]}")
        return [topic.name for topic in topics]

    def after(self, stamp: int) -> float:
        """Return a time of receipt [ns] as seconds after the recording's start."""
        return 1e-9 * (stamp - self._recording.start)

    def message(self, record: Record) -> messages.Message:
        """Return the message of a record."""
        return self._recording.message(record)

    def parts(self) -> list[_Part]:
        """Return the demonstrations that the recording is divided into; itself if it is not divided."""
        folder, end = self.file.parent.name, self._recording.start + round(1e9 * self._recording.duration)
        if _MARKS not in self.topics.values():
            return [_Part(folder, str(self.file), self._records[_JOINTS][0].stamp, end)]
        parts: list[_Part] = []
        running, begin = "", 0
        for record in self._records[_MARKS]:
            name = self.message(record).data
            if name != running:
                if running:
                    parts.append(_Part(f"{folder}/{running}", f"{self.file}: {running}", begin, record.stamp))
                running, begin = name, record.stamp
        if running:
            parts.append(_Part(f"{folder}/{running}", f"{self.file}: {running}", begin, end, ended=False))
        names = [part.name for part in parts]
        if not names or len(set(names)) < len(names):
            raise DemonstrationError(f"{self.file}: {_MARKS} has {names}, expected at least one name, each once")
        return parts

    def in_force(self, topic: str, part: _Part, read: Callable[[messages.Message], X]) -> X:
        """Return what ``read`` makes of the newest message of a latched topic when a part begins.

        Raises:
            DemonstrationError: there is none, it is malformed, or it changes while the part runs.
        """
        records = self._records[topic]
        before = sum(record.stamp <= part.begin for record in records)
        first, *others = records[max(before - 1, 0) :]
        if first.stamp > part.begin + 1e9 * _LATE:
            raise DemonstrationError(f"{part.source}: {topic}, {self.after(first.stamp):.3f} s: comes too late")
        values: list[X] = []
        for record in [first, *(r for r in others if r.stamp <= part.end)]:
            after = self.after(record.stamp)
            try:
                values.append(read(self.message(record)))
            except IdeomotorError as error:
                raise DemonstrationError(f"{part.source}: {topic}, {after:.3f} s: {error}") from error
            if values[-1] != values[0]:
                raise DemonstrationError(f"{part.source}: {topic}, {after:.3f} s: changed during the demonstration")
        return values[0]

    def joint_series(self, part: _Part, chain: KinematicChain) -> list[JointSeries]:
        """Return what was measured of the joints of a chain during a part.

        Raises:
            DemonstrationError: a joint is missing, a message is malformed, or time went back.
        """
        samples: dict[str, list[tuple[float, float, float]]] = {}
        for record in self._records[_JOINTS]:
            if not part.begin <= record.stamp <= part.end:
                continue
            received = self.after(record.stamp)
            try:
                state = messages.joint_state(self.message(record))
            except JointStateError as error:
                raise DemonstrationError(f"{part.source}: {_JOINTS}, {received:.3f} s: {error}") from error
            for name, position in zip(state.names, state.position.tolist(), strict=True):
                samples.setdefault(name, []).append((received, state.stamp, position))
        missing = [name for name in chain.joint_names if name not in samples]
        if missing:
            raise DemonstrationError(f"{part.source}: {_JOINTS} lacks {missing}; it has {sorted(samples)}")
        series = []
        try:
            for name, limit in zip(chain.joint_names, chain.upper, strict=True):
                received, stamp, position = np.array(samples[name]).T
                turns = not np.isfinite(limit)  # a joint without limits may be reported within one turn
                series.append(JointSeries(name, received, stamp, np.unwrap(position) if turns else position))
            return series
        except JointSeriesError as error:
            raise DemonstrationError(f"{part.source}: {_JOINTS}, {error}") from error


def _demonstration(recorded: _Recorded, part: _Part, options: _Options) -> Demonstration:
    """Return one demonstration of a recording."""
    if not part.ended:
        raise DemonstrationError(
            f"{part.source}: {_MARKS}, {recorded.after(part.begin):.3f} s: it begins and never ends; it "
            "or the recording was broken off"
        )
    urdf = recorded.in_force(_DESCRIPTION, part, lambda msg: str(msg.data))
    schema = recorded.in_force(_SCHEMA, part, _Schema.from_message)
    try:
        _check_extension(urdf, schema)
        chain = KinematicChain.from_urdf(urdf, ee_link=schema.tip_link, base_link=options.base_link)
    except IdeomotorError as error:
        raise DemonstrationError(f"{part.source}: {error}") from error
    series = recorded.joint_series(part, chain)
    _check_series(recorded, part, series, chain.velocity_limit, options.max_gap)
    q = resampled(series, options.rate)
    q = q[motion(q, options.rate, options.rest_speed)]
    if not len(q):
        raise DemonstrationError(f"{part.source}: too short: no joint is faster than {options.rest_speed}")
    keypoints = [chain.forward_batch(q, link)[:, :3, 3] for link in schema.keypoint_links]  # K x (T, 3)
    return Demonstration(
        source=part.source,
        stamp=np.arange(len(q)) / options.rate,
        chain=chain,
        q=q,
        keypoint_names=schema.keypoint_links,
        keypoints_base=np.stack(keypoints, axis=1),
    )


def _check_extension(urdf: str, schema: _Schema) -> None:
    """Refuse a body schema that gives no keypoints rigidly held by the robot of the description."""
    if schema.state is not BodyState.EXTENDED:
        raise DemonstrationError(f"{_SCHEMA} is {schema.state.name}, expected EXTENDED: estimate the object first")
    if schema.description_sha256 != description_sha256(urdf):
        raise DemonstrationError(
            f"{_SCHEMA} belongs to the {_DESCRIPTION} with SHA-256 {schema.description_sha256[:12]}..., the recorded "
            f"one has {description_sha256(urdf)[:12]}..."
        )
    movable = [f"{name!r} ({kind.value})" for name, kind, _ in schema.joints if kind is not JointType.FIXED]
    if movable:
        raise DemonstrationError(
            f"the held object has a joint of its own, {', '.join(movable)}: where its keypoints are to be is no "
            "matter of the robot's joints alone; demonstrate with a rigid object"
        )


def _check_series(
    recorded: _Recorded, part: _Part, series: list[JointSeries], velocity_limit: np.ndarray, max_gap: float
) -> None:
    """Refuse gaps, also at both ends, and jumps."""
    try:
        for one, limit in zip(series, velocity_limit.tolist(), strict=True):
            one.check_gaps(max_gap)
            one.check_jumps(_JUMP * limit)
    except JointSeriesError as error:
        raise DemonstrationError(f"{part.source}: {_JOINTS}, {error}") from error
    begin, end = recorded.after(part.begin), recorded.after(part.end)
    for one in series:
        for gap, time in ((one.received[0] - begin, begin), (end - one.received[-1], one.received[-1])):
            if gap > max(max_gap, _LATE):
                raise DemonstrationError(
                    f"{part.source}: {_JOINTS}, {time:.3f} s: gap: nothing of {one.name!r} for {gap:.3f} s"
                )
