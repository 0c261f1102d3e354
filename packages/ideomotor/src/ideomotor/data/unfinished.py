"""Recordings whose recorder was killed: what had reached the disk, record by record.

An MCAP file without its end has no index, which rosbags and rosbag2 need. Its records are complete up to the last
flush: schemas, channels and messages, most of them in compressed chunks. Here they are read in the order in which they
were written, up to the first record that is cut off or spoiled.
"""

import struct
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from backports import zstd
from rosbags.typesys.store import Typestore

from ideomotor.data.recording import Record, Recording, RecordingError, Topic, decode, is_complete, recorded_types

_MAGIC = b"\x89MCAP0\r\n"
_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F  # opcodes


def open_recording(folder: Path) -> "Recording | UnfinishedRecording":
    """Return a reader of a recording, whether its recorder ended properly or was killed.

    Raises:
        RecordingError: there is no recording in the folder, or its file is corrupt.
    """
    files = sorted(folder.glob("*.mcap")) if folder.is_dir() else []
    if len(files) == 1 and not is_complete(files[0]):
        return UnfinishedRecording(files[0])
    return Recording(folder)


class UnfinishedRecording:
    """Reads what is complete of a file that was broken off; use it as `Recording`.

    Args:
        file: ``.mcap``.

    Raises:
        RecordingError: it is not the beginning of an MCAP file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._schemas: dict[int, tuple[str, str]] = {}  # id -> type, definition
        self._channels: dict[int, Topic] = {}  # id -> topic
        self._records: list[Record] = []
        content = file.read_bytes()
        if not content.startswith(_MAGIC):
            raise RecordingError(f"recording {file}: byte 0 is not the beginning of an MCAP file")
        self._read(memoryview(content)[len(_MAGIC) :])
        self._records.sort(key=lambda record: record.stamp)
        self.topics = tuple(self._channels.values())
        self.start = self._records[0].stamp if self._records else 0  # [ns]
        self.duration = 1e-9 * (self._records[-1].stamp - self.start) if self._records else 0.0  # [s]

    def __enter__(self) -> "UnfinishedRecording":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing: the file is read at once."""

    def records(self, topics: Collection[str] | None = None, start: int | None = None) -> Iterator[Record]:
        """Yield the messages of all or some topics in the order of their time.

        Args:
            topics: their names; None: all.
            start: leave out what is of before this time [ns].
        """
        for record in self._records:
            if (topics is None or record.topic in topics) and (start is None or record.stamp >= start):
                yield record

    def message(self, record: Record) -> Any:  # noqa: ANN401 - its type comes from the recording
        """Return the message of a record: an object with the fields of its type, arrays as numpy arrays.

        Raises:
            RecordingError: the recording has no usable definition of the type, or the data do not fit it.
        """
        return decode(record, self.topics, self._types, self.file)

    @cached_property
    def _types(self) -> Typestore:
        """The types, by the definitions that travel with the recording."""
        return recorded_types(self._schemas.values(), self.file)

    def _read(self, content: memoryview) -> None:
        """Take in records, each (opcode u8, length u64, content), up to the first that is not complete."""
        position = 0
        while position + 9 <= len(content):
            opcode, length = struct.unpack_from("<BQ", content, position)
            position += 9
            if position + length > len(content) or opcode in (0, _DATA_END):
                return
            body = content[position : position + length]
            position += length
            try:
                self._take(opcode, body)
            except (struct.error, UnicodeDecodeError, KeyError, zstd.ZstdError):
                return  # spoiled: the disk had not all of it

    def _take(self, opcode: int, body: memoryview) -> None:
        if opcode == _SCHEMA:
            name, position = _text(body, 2)
            _, position = _text(body, position)  # encoding
            self._schemas[_number(body)] = (name, _text(body, position)[0])
        elif opcode == _CHANNEL:
            kind = self._schemas[_number(body, 2)][0]
            self._channels[_number(body)] = Topic(_text(body, 4)[0], kind)
        elif opcode == _MESSAGE:
            (stamp,) = struct.unpack_from("<Q", body, 6)  # after channel u16, sequence u32; publish time u64 follows
            self._records.append(Record(self._channels[_number(body)].name, stamp, bytes(body[22:])))
        elif opcode == _CHUNK:
            compression, position = _text(body, 28)  # after start, end, size u64, checksum u32
            records = body[position + 8 :]
            self._read(memoryview(zstd.decompress(records)) if compression == "zstd" else records)


def _number(body: memoryview, position: int = 0) -> int:
    return int(struct.unpack_from("<H", body, position)[0])


def _text(body: memoryview, position: int) -> tuple[str, int]:
    """Return a text of (length u32, bytes), and the position behind it."""
    (length,) = struct.unpack_from("<I", body, position)
    end = position + 4 + length
    return bytes(body[position + 4 : end]).decode(), end
