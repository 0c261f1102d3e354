"""Recordings: what is written is read, by others too; what is broken is named with its place."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from mcap.exceptions import McapError
from mcap.records import Message
from mcap.stream_reader import StreamReader
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from ideomotor.data.recording import Recording, RecordingError, RecordingWriter, Topic

DEFINITIONS = {
    "example_msgs/msg/Outer": "std_msgs/Header header\nInner[] inner\nfloat64[4] numbers\n",
    "example_msgs/msg/Inner": "string name\ngeometry_msgs/Point[<=3] points\n",
}
STORE = get_typestore(Stores.ROS2_JAZZY)
DOUBLE = STORE.types["std_msgs/msg/Float64"]


def definition(name: str) -> str:
    if name not in DEFINITIONS:
        raise RecordingError(f"no definition of {name!r}")
    return DEFINITIONS[name]


def data(value: float) -> bytes:
    return bytes(STORE.serialize_cdr(DOUBLE(value), "std_msgs/msg/Float64"))


def write(folder: Path, count: int = 200, *, close: bool = True) -> RecordingWriter:
    writer = RecordingWriter(folder, definition)
    writer.add_topic(Topic("/a", "std_msgs/msg/Float64", reliable=False))
    writer.add_topic(Topic("/latched", "std_msgs/msg/Float64", latched=True))
    for i in range(count):
        writer.write("/a" if i % 2 else "/latched", 10**18 + i * 10**7, data(float(i)))
    if close:
        writer.close()
    return writer


def test_what_is_written_is_read_in_order(tmp_path: Path) -> None:
    write(tmp_path / "rec")
    with Recording(tmp_path / "rec") as recording:
        assert {t.name: (t.latched, t.reliable) for t in recording.topics} == {
            "/a": (False, False),
            "/latched": (True, True),
        }
        records = list(recording.records())
        assert recording.start == 10**18
        assert recording.duration == pytest.approx(1.99)
        assert [r.stamp for r in recording.records(["/a"])] == [10**18 + i * 10**7 for i in range(1, 200, 2)]
        assert not list(recording.records(["/nothing"]))
    assert [r.stamp for r in records] == [10**18 + i * 10**7 for i in range(200)]
    assert [r.data for r in records] == [data(float(i)) for i in range(200)]


def test_others_read_it_too(tmp_path: Path) -> None:
    """Also types that ROS 2 itself lacks: the definition travels with the recording."""
    writer = RecordingWriter(tmp_path / "rec", definition)
    writer.add_topic(Topic("/outer", "example_msgs/msg/Outer"))
    types = writer._types
    header = types.types["std_msgs/msg/Header"](types.types["builtin_interfaces/msg/Time"](1, 2), "frame")
    point = types.types["geometry_msgs/msg/Point"](1.0, 2.0, 3.0)
    inner = types.types["example_msgs/msg/Inner"]("name", [point])
    outer = types.types["example_msgs/msg/Outer"](header, [inner], np.arange(4.0))
    writer.write("/outer", 5, bytes(types.serialize_cdr(outer, "example_msgs/msg/Outer")))
    writer.close()
    with AnyReader([tmp_path / "rec"]) as reader:
        ((connection, stamp, raw),) = reader.messages()
        message = reader.deserialize(raw, connection.msgtype)
    assert (stamp, message.inner[0].points[0].y, list(message.numbers)) == (5, 2.0, [0.0, 1.0, 2.0, 3.0])  # type: ignore[attr-defined]


def test_an_existing_recording_is_never_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "rec")
    before = (tmp_path / "rec" / "rec.mcap").read_bytes()
    with pytest.raises(RecordingError, match="exists already"):
        RecordingWriter(tmp_path / "rec", definition)
    assert (tmp_path / "rec" / "rec.mcap").read_bytes() == before


def test_type_without_definition_is_refused(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "rec", definition)
    with pytest.raises(RecordingError, match="no definition of 'nobody_msgs/msg/X'"):
        writer.add_topic(Topic("/x", "nobody_msgs/msg/X"))
    writer.close()


def test_a_crash_loses_only_what_came_after_the_last_flush(tmp_path: Path) -> None:
    writer = write(tmp_path / "rec", 100, close=False)
    writer.flush()
    writer.write("/a", 2 * 10**18, data(7.0))
    crashed = tmp_path / "crashed"  # what a killed process leaves
    shutil.copytree(tmp_path / "rec", crashed)
    writer.close()
    with pytest.raises(RecordingError, match=r"rec\.mcap: truncated at byte \d+ of \d+.*mcap recover"):
        Recording(crashed)
    assert recovered(crashed / "rec.mcap") == [data(float(i)) for i in range(100)]


def recovered(file: Path) -> list[bytes]:
    """Return the messages that the format's reference reader finds up to where the file ends."""
    messages = []
    with file.open("rb") as stream:
        try:
            for record in StreamReader(stream, validate_crcs=True).records:
                if isinstance(record, Message):
                    messages.append(record.data)
        except (McapError, struct.error):
            pass  # the cut
    return messages


def test_what_was_written_before_a_cut_can_be_recovered(tmp_path: Path) -> None:
    writer = write(tmp_path / "rec", 0, close=False)
    for i in range(10):
        writer.write("/a", i, data(float(i)))
        writer.flush()
    writer.close()
    file = tmp_path / "rec" / "rec.mcap"
    assert recovered(file) == [data(float(i)) for i in range(10)]
    raw = file.read_bytes()
    sizes = []
    for size in range(0, len(raw), 101):
        file.write_bytes(raw[:size])
        found = recovered(file)
        assert found == [data(float(i)) for i in range(len(found))]
        sizes.append(len(found))
    assert sizes == sorted(sizes)
    assert set(sizes) == set(range(11))  # no chunk is lost that lies before the cut


def test_images_are_compressed_and_corruption_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    content = [np.full(10**5, i, np.uint8).tobytes() for i in range(10)]
    writer = RecordingWriter(folder, definition)
    writer.add_topic(Topic("/image", "sensor_msgs/msg/Image"))
    for i, image in enumerate(content):
        writer.write("/image", i, image)
    writer.close()
    file = folder / "rec.mcap"
    assert file.stat().st_size < sum(map(len, content)) / 10
    assert recovered(file) == content
    raw = bytearray(file.read_bytes())
    position = raw.index(b"\x28\xb5\x2f\xfd")  # where zstd begins
    raw[position + 100] ^= 1
    file.write_bytes(raw)
    with Recording(folder) as recording, pytest.raises(RecordingError, match=r"rec\.mcap: corrupt"):
        list(recording.records())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_truncated_recordings_are_refused_with_the_position(tmp_path: Path, share: float) -> None:
    write(tmp_path / "rec")
    file = tmp_path / "rec" / "rec.mcap"
    raw = file.read_bytes()
    file.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(RecordingError, match=r"rec\.mcap: .*byte \d+"):
        Recording(tmp_path / "rec")


def test_foreign_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="expected a folder with one"):
        Recording(tmp_path / "nothing")
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec" / "x.mcap").write_bytes(b"SQLite format 3")
    with pytest.raises(RecordingError, match="byte 0 is not the beginning"):
        Recording(tmp_path / "rec")


@pytest.mark.parametrize("seed", range(8))
def test_corrupt_bytes_never_raise_anything_else(tmp_path: Path, seed: int) -> None:
    write(tmp_path / "rec", 50)
    file = tmp_path / "rec" / "rec.mcap"
    raw = bytearray(file.read_bytes())
    rng = np.random.default_rng(seed)
    for position in rng.integers(0, len(raw), 40):
        raw[position] = rng.integers(256)
    file.write_bytes(raw)
    try:
        with Recording(tmp_path / "rec") as recording:
            list(recording.records())
    except RecordingError as error:
        assert "rec.mcap" in str(error)  # noqa: PT017 - not every corruption can be seen
