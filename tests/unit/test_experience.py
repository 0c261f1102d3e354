"""Episodes: validated, saved atomically, and read from recordings, whatever became of the recorder."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ideomotor.data.experience import Episode, ExperienceError, load_episode, read_episodes
from ideomotor.data.recording import RecordingError
from ideomotor.data.unfinished import UnfinishedRecording
from tests.unit.experience_recording import JOINTS, LINKS, RATE, messages, text, write_experience


def episode(**changes: Any) -> Episode:
    q = np.tile([0.0, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0, 0.5, -0.5], (4, 1))
    content = {
        "rate": RATE,
        "joints": JOINTS,
        "contact_links": LINKS,
        "q": q,
        "v": np.ones((4, 8)),
        "force": np.ones((4, 6)),
        "effort": np.ones((3, 2)),
        "name": "one",
    }
    return Episode(**(content | changes))


def test_round_trip(tmp_path: Path) -> None:
    saved = episode()
    saved.save(tmp_path / "e.npz")
    loaded = load_episode(tmp_path / "e.npz")
    assert (loaded.rate, loaded.joints, loaded.contact_links, loaded.name) == (RATE, JOINTS, LINKS, "one")
    for field in ("q", "v", "force", "effort"):
        np.testing.assert_array_equal(getattr(loaded, field), getattr(saved, field))
    assert (loaded.steps, loaded.floating_base, loaded.duration) == (3, True, 3 / RATE)
    assert os.listdir(tmp_path) == ["e.npz"]


def test_a_fixed_base_without_contacts(tmp_path: Path) -> None:
    small = episode(q=np.zeros((4, 2)), v=np.zeros((4, 2)), contact_links=(), force=np.zeros((4, 0)))
    small.save(tmp_path / "e.npz")
    assert not load_episode(tmp_path / "e.npz").floating_base
    with pytest.raises(ValueError, match="read-only"):
        small.q[0] = 1.0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"q": np.zeros((3, 9))}, r"q has shape \(3, 9\), expected \(4, 9\)"),
        ({"v": np.ones((4, 9))}, r"v has shape \(4, 9\), expected \(4, 8\)"),
        ({"force": np.ones((4, 3))}, r"force has shape"),
        ({"effort": np.array([[1, 2], [np.nan, 0], [0, 0]])}, r"effort is not finite at step 1: \[nan, 0.0\]"),
        ({"q": np.ones((4, 9))}, "quaternion of state 0 has norm 2.0"),
        ({"rate": 0.0}, "rate=0.0"),
        ({"joints": ("hip", "hip")}, "joints="),
        ({"effort": np.zeros((0, 2)), "q": episode().q[:1], "v": np.ones((1, 8)), "force": np.ones((1, 6))}, "no step"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ExperienceError, match=expected):
        episode(**changes)


def test_files_that_are_no_episodes(tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    for content in (b"", b"nothing", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(ExperienceError, match=r"e\.npz: no episode"):
            load_episode(path)
    with pytest.raises(ExperienceError, match=r"missing\.npz"):
        load_episode(tmp_path / "missing.npz")
    np.savez(path, q=np.zeros(3))
    with pytest.raises(ExperienceError, match=r"e.npz: no episode.*rate"):
        load_episode(path)
    episode().save(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ExperienceError, match=r"e\.npz"):
        load_episode(path)


def test_a_failed_save_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    episode().save(tmp_path / "e.npz")

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="no space"):
        episode(name="two").save(tmp_path / "e.npz")
    assert load_episode(tmp_path / "e.npz").name == "one"
    assert os.listdir(tmp_path) == ["e.npz"]


def test_states_are_those_of_the_commands(tmp_path: Path) -> None:
    """From the state of the first command to the one after the last; efforts are those reported one step later."""
    (read,) = read_episodes(write_experience(tmp_path / "r", messages()), joints=JOINTS, contact_links=LINKS)
    t = np.arange(5, 17)
    assert (read.name, read.rate, read.steps) == ("one", RATE, 11)
    np.testing.assert_allclose(read.q[:, 7:], np.c_[0.1 * t, 0.2 * t])
    np.testing.assert_allclose(read.q[:, 0], 0.01 * t)
    np.testing.assert_allclose(read.q[:, 3:7], [[0.0, 0.0, 0.6, 0.8]] * 12)
    np.testing.assert_allclose(read.v, [[2.5, 0.0, 0.1, 0.0, 0.3, 0.0, 1.0, 2.0]] * 12)
    np.testing.assert_allclose(read.force, np.c_[[[1.0, 2.0, 3.0, 0.0, 0.0]] * 12, t])
    np.testing.assert_allclose(read.effort, np.c_[10.0 + t[1:], 20.0 + t[1:]])


def test_orders_are_those_of_the_robot_unless_given(tmp_path: Path) -> None:
    (read,) = read_episodes(write_experience(tmp_path / "r", messages()))
    assert (read.joints, read.contact_links) == (("knee", "hip"), ("right", "left"))
    (fixed,) = read_episodes(write_experience(tmp_path / "f", messages(floating=False)), joints=JOINTS)
    assert (fixed.q.shape, fixed.force.shape) == ((12, 2), (12, 0))


def test_without_commands_states_count_by_their_time(tmp_path: Path) -> None:
    content = [m for m in messages() if m.topic != "/joint_command"]
    (read,) = read_episodes(write_experience(tmp_path / "r", content), joints=JOINTS)
    np.testing.assert_allclose(read.q[:, 7], 0.1 * np.arange(6, 16))
    unmarked = [m for m in content if m.topic != "/experience"]
    (whole,) = read_episodes(write_experience(tmp_path / "u", unmarked), joints=JOINTS)
    assert whole.steps == 19


def test_an_episode_cut_off_ends_with_its_last_complete_step(tmp_path: Path) -> None:
    cut = messages(steps=12, ended=False)
    cut = [m for m in cut if not (m.topic == "/joint_states" and m.time > 11 / RATE)]  # odom of it was written
    (read,) = read_episodes(write_experience(tmp_path / "r", cut), joints=JOINTS)
    assert read.steps == 5
    assert read.q[-1, 7] == pytest.approx(1.0)
    assert read_episodes(write_experience(tmp_path / "none", messages(steps=6, ended=False))) == []


def without(topic: str, step: int) -> Any:
    return [m for m in messages() if not (m.topic == topic and step / RATE <= m.time < (step + 0.5) / RATE)]


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        (without("/joint_states", 8), {}, r"joint_states, 0.028 s \(stamp 5.0280 s\): 0.0080 s to the next"),
        (without("/odom", 8), {}, r"odom: nothing of the joint state of 0.032 s \(stamp 5.0320 s\)"),
        (without("/contact_forces", 8), {}, "contact_forces: nothing of the joint state of 0.032 s"),
        (messages(), {"joints": ("hip", "ankle")}, r"joint_states lacks \['ankle'\]"),
        (messages(), {"contact_links": ("left", "hand")}, r"contact_forces lacks \['hand'\]"),
        (messages(), {"rate": 100.0}, "0.0040 s to the next one, expected 0.0100 s"),
        (messages(floating=False), {"contact_links": LINKS}, "nothing on contact_forces"),
        ([m for m in messages() if m.topic != "/joint_states"], {}, "no topic joint_states"),
        (messages(steps=6, last=5), {}, "no step in episode 'one'"),
    ],
)
def test_refusals_name_file_topic_and_time(
    tmp_path: Path, content: Any, options: dict[str, Any], expected: str
) -> None:
    folder = write_experience(tmp_path / "r", content)
    with pytest.raises(ExperienceError, match=rf"r\.mcap: .*{expected}"):
        read_episodes(folder, **options)


def test_values_that_are_not_finite_are_refused_with_the_episode(tmp_path: Path) -> None:
    content = messages()
    bad = next(m for m in content if m.topic == "/joint_states" and m.time > 10 / RATE)
    bad.content.effort[0] = np.nan
    with pytest.raises(ExperienceError, match=r"r.mcap: episode 'one' from 0.020 s .*: effort is not finite at step 4"):
        read_episodes(write_experience(tmp_path / "r", content))


def test_several_episodes(tmp_path: Path) -> None:
    content = messages()
    second = messages(steps=40, first=25, last=30)
    later = [m for m in second if m.time >= 20 / RATE]
    for m in later:
        if m.topic == "/experience" and m.content.data:
            m.content = text("two")
    episodes = read_episodes(write_experience(tmp_path / "r", [*content, *later]))
    assert [(e.name, e.steps) for e in episodes] == [("one", 11), ("two", 6)]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_broken_off_file_is_read_as_far_as_it_goes(tmp_path: Path, share: float) -> None:
    """The file of a recorder that was killed has no end, and no metadata beside it."""
    folder = write_experience(tmp_path / "r", messages())
    (folder / "metadata.yaml").unlink()
    file = folder / "r.mcap"
    whole = file.read_bytes()
    (read,) = read_episodes(folder)
    assert read.steps == 11
    file.write_bytes(whole[: int(share * len(whole))])
    with UnfinishedRecording(file) as recording:  # one chunk: all of it, or nothing
        count = len(list(recording.records()))
    assert count in (0, len(messages()))
    file.write_bytes(b"something else")
    with pytest.raises(RecordingError, match="byte 0 is not the beginning"):
        read_episodes(folder)
