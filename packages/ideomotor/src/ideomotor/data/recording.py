"""Recordings of topics: MCAP in the layout of rosbag2, written and read without ROS."""

import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

from backports import zstd
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.rosbag2.errors import ReaderError, WriterError
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from ideomotor.errors import IdeomotorError

_MAGIC = b"\x89MCAP0\r\n"
_FOOTER = 0x02  # opcode of the last record
# Level 1 shrinks camera images to 55 % for 2 ms of a core a megabyte; level 3 takes three times that for 2 % more.
_COMPRESSION: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 1,
    zstd.CompressionParameter.checksum_flag: 1,
}
_FOREVER = QosTime(2147483647, 4294967295)


class RecordingError(IdeomotorError):
    """A recording that cannot be written, or is truncated, corrupt or of another kind."""


@dataclass(frozen=True)
class Topic:
    """One recorded topic."""

    name: str
    type: str  # e.g. sensor_msgs/msg/Image
    latched: bool = False  # late subscribers get the last message
    reliable: bool = True


@dataclass(frozen=True)
class Record:
    """One recorded message."""

    topic: str
    stamp: int  # time of receipt [ns]
    data: bytes  # CDR


class RecordingWriter:
    """Writes a new recording.

    Messages are collected in chunks, each compressed with zstd, as by rosbag2's storage preset ``zstd_fast``. `flush`
    hands the chunk to the operating system, so a crash of the process loses what came since the last `flush`, and
    leaves a file without index: `ideomotor.data.unfinished` reads all complete chunks, ``mcap recover`` restores them.

    Args:
        folder: does not exist yet.
        definition: returns the text of a ``.msg`` file for a type name, for types that ROS 2 itself lacks.

    Raises:
        RecordingError: the folder exists, or cannot be made.
    """

    def __init__(self, folder: Path, definition: Callable[[str], str]) -> None:
        self.folder = folder
        self._definition = definition
        self._types = get_typestore(Stores.ROS2_JAZZY)
        self._connections: dict[str, Connection] = {}
        self.counts: dict[str, int] = {}
        try:
            self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            self._writer.open()
        except (WriterError, OSError) as error:
            raise RecordingError(f"recording {folder}: {error}") from error
        assert isinstance(self._writer.storage, McapWriter)
        self._storage = self._writer.storage
        self._storage.compressor = partial(zstd.compress, options=_COMPRESSION)

    def add_topic(self, topic: Topic) -> None:
        """Add a topic before its first message.

        Raises:
            RecordingError: the definition of its type is missing.
        """
        _register(self._types, topic.type, self._definition)
        self._connections[topic.name] = self._writer.add_connection(
            topic.name, topic.type, typestore=self._types, offered_qos_profiles=[_qos(topic)]
        )
        self.counts[topic.name] = 0

    def write(self, topic: str, stamp: int, data: bytes) -> None:
        """Write a message in CDR, received at ``stamp`` [ns]."""
        self._writer.write(self._connections[topic], stamp, data)
        self.counts[topic] += 1

    def flush(self) -> None:
        """Hand everything written so far to the operating system."""
        if self._storage.chunk.bio.tell():
            self._storage.close_chunk()
        self._storage.bio.flush()

    def close(self) -> None:
        """Write index and metadata."""
        self._writer.close()


class Recording:
    """Reads a recording; use it as a context manager.

    Args:
        folder: of rosbag2, with one ``.mcap`` file.

    Raises:
        RecordingError: naming the file, and the position where it is truncated or corrupt.
    """

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.glob("*.mcap")) if folder.is_dir() else []
        if len(files) != 1:
            raise RecordingError(f"recording {folder}: {len(files)} .mcap files there, expected a folder with one")
        self.file = files[0]
        with self.file.open("rb") as file:
            _check_framing(self.file, file)
        try:
            self._reader = Reader(folder)
            self._reader.open()
        except _READ_ERRORS as error:
            raise RecordingError(f"recording {self.file}: {error}") from error
        self.topics = tuple(_topic(connection) for connection in self._reader.connections)
        self.start = self._reader.start_time  # [ns]
        self.duration = 1e-9 * self._reader.duration  # [s]

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def records(self, topics: Collection[str] | None = None, start: int | None = None) -> Iterator[Record]:
        """Yield the messages of all or some topics in the order of their receipt.

        Args:
            topics: their names; None: all.
            start: leave out what was received before this time [ns].

        Raises:
            RecordingError: after the last message that can be read, if the file is corrupt.
        """
        connections = [c for c in self._reader.connections if topics is None or c.topic in topics]
        stamp = self.start
        if not connections:
            return
        try:
            for connection, stamp, data in self._reader.messages(connections, start=start):
                yield Record(connection.topic, stamp, bytes(data))
        except _READ_ERRORS as error:
            after = 1e-9 * (stamp - self.start)
            raise RecordingError(f"recording {self.file}: corrupt {after:.3f} s after its start: {error}") from error

    def message(self, record: Record) -> Any:  # noqa: ANN401 - its type comes from the recording
        """Return the message of a record: an object with the fields of its type, arrays as numpy arrays.

        Raises:
            RecordingError: the recording has no usable definition of the type, or the data do not fit it.
        """
        return decode(record, self.topics, self._types, self.file)

    @cached_property
    def _types(self) -> Typestore:
        """The types, by the definitions that travel with the recording."""
        return recorded_types([(c.msgtype, c.msgdef.data) for c in self._reader.connections], self.file)


def recorded_types(definitions: Iterable[tuple[str, str]], file: Path) -> Typestore:
    """Return the types of (name, definition) pairs that travelled with a recording.

    Raises:
        RecordingError: a definition cannot be read.
    """
    store = get_typestore(Stores.EMPTY)
    for name, definition in definitions:
        try:
            store.register(get_types_from_msg(definition, name))
        except TypesysError as error:
            raise RecordingError(f"recording {file}: definition of {name}: {error}") from error
    return store


def decode(record: Record, topics: Iterable[Topic], types: Typestore, file: Path) -> Any:  # noqa: ANN401
    """Return the message of a record.

    Raises:
        RecordingError: there is no usable definition of its type, or the data do not fit it.
    """
    name = next(topic.type for topic in topics if topic.name == record.topic)
    try:
        return types.deserialize_cdr(record.data, name)
    except (SerdeError, KeyError) as error:
        raise RecordingError(f"recording {file}: {record.topic} is no {name}: {error}") from error


# What rosbags lets through when bytes are not what they should be.
_READ_ERRORS = (
    ReaderError,
    zstd.ZstdError,
    OSError,
    struct.error,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AssertionError,
    EOFError,
)


def is_complete(file: Path) -> bool:
    """Return whether a file ends as an MCAP file does whose recorder was not broken off."""
    if file.stat().st_size < 2 * len(_MAGIC):
        return False
    with file.open("rb") as content:
        content.seek(-len(_MAGIC), 2)
        return content.read() == _MAGIC and file.with_name("metadata.yaml").is_file()


def _check_framing(path: Path, file: BinaryIO) -> None:
    """Walk over the records and say where the file ends too early or makes no sense.

    An MCAP file is: magic, records of (opcode u8, length u64, content), the last one the footer, magic.
    """
    size = path.stat().st_size
    if file.read(len(_MAGIC)) != _MAGIC:
        raise RecordingError(f"recording {path}: byte 0 is not the beginning of an MCAP file")
    position, opcode = len(_MAGIC), 0
    while opcode != _FOOTER:
        head = file.read(9)
        opcode, length = struct.unpack("<BQ", head) if len(head) == 9 else (0, 0)
        if len(head) < 9 or position + 9 + length > size or opcode == 0:
            raise RecordingError(
                f"recording {path}: truncated at byte {position} of {size} (a record ends beyond the file, or the "
                "recorder did not end properly); `mcap recover` restores what is complete"
            )
        position = file.seek(position + 9 + length)
    if file.read() != _MAGIC:
        raise RecordingError(f"recording {path}: byte {position} is not the end of an MCAP file")


def _register(types: Typestore, name: str, definition: Callable[[str], str]) -> None:
    """Add a message type, and those it is made of, to the store."""
    if name in types.fielddefs:
        return
    found = get_types_from_msg(definition(name), name)
    for _, fields in found.values():
        for _, (_, detail) in fields:
            while isinstance(detail, tuple) and isinstance(detail[0], tuple):  # an array of ...
                _, detail = detail[0]
            if isinstance(detail, str):
                _register(types, detail, definition)
    types.register(found)


def _qos(topic: Topic) -> Qos:
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if topic.latched else 10,
        reliability=QosReliability.RELIABLE if topic.reliable else QosReliability.BEST_EFFORT,
        durability=QosDurability.TRANSIENT_LOCAL if topic.latched else QosDurability.VOLATILE,
        deadline=_FOREVER,
        lifespan=_FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_FOREVER,
        avoid_ros_namespace_conventions=False,
    )


def _topic(connection: Connection) -> Topic:
    profiles = getattr(connection.ext, "offered_qos_profiles", [])
    return Topic(
        connection.topic,
        connection.msgtype,
        latched=bool(profiles) and all(p.durability is QosDurability.TRANSIENT_LOCAL for p in profiles),
        reliable=all(p.reliability is not QosReliability.BEST_EFFORT for p in profiles),
    )
