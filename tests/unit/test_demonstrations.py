"""Demonstrations from recordings: what was shown is what is read, and what cannot be is refused with its place."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ideomotor.body.extension import JointType
from ideomotor.body.urdf import extend_urdf
from ideomotor.data.demonstrations import DemonstrationError, read_demonstrations
from ideomotor.data.recording import RecordingError
from tests.unit.demonstration_recording import (
    EXTENDED,
    LINKS,
    Q0,
    Q1,
    TYPES,
    URDF,
    Message,
    body_schema,
    extension,
    joint_state,
    messages,
    positions,
    text,
    true_keypoints,
    write,
)


def test_what_was_shown_is_what_is_read(tmp_path: Path) -> None:
    """Two demonstrations of different length in one recording; keypoints as by hand, rest at both ends left out."""
    write(tmp_path / "rec", messages((1.5, 3.0)))
    rate = 20.0
    demonstrations = read_demonstrations(tmp_path / "rec", rate=rate)
    assert [d.source for d in demonstrations] == [f"{tmp_path}/rec/rec.mcap: {name}" for name in "ab"]
    for demonstration, duration in zip(demonstrations, (1.5, 3.0), strict=True):
        assert demonstration.joint_names == ("lift", "turn")  # the chain's order, not that of the messages
        assert demonstration.keypoint_names == LINKS
        assert demonstration.duration == pytest.approx(demonstration.steps / rate)
        assert 0.8 * duration * rate < demonstration.steps <= duration * rate + 2
        np.testing.assert_allclose(np.diff(demonstration.stamp), 1 / rate)
        np.testing.assert_allclose(demonstration.q[[0, -1]], [Q0, Q1], atol=1e-3)
        np.testing.assert_allclose(demonstration.keypoints_base, true_keypoints(demonstration.q), atol=1e-12)
        np.testing.assert_allclose(demonstration.goal, true_keypoints(Q1[None])[0], atol=1e-3)
        assert demonstration.chain.ee_link == LINKS[-1]  # the tip
        np.testing.assert_allclose(demonstration.keypoints_ee, [[0.0, 0.0, -0.2], [0.0, 0.0, 0.0]], atol=1e-12)
        np.testing.assert_array_equal(demonstration.relative[-1], 0.0)
        time = np.interp(0.5 * (Q0[1] + Q1[1]), demonstration.q[:, 1], demonstration.stamp)
        shown = positions(demonstration.stamp - time + 1.0 + 0.5 * duration, duration)
        np.testing.assert_allclose(demonstration.q, shown, atol=2e-3)  # at the pace it was shown


def test_a_recording_that_is_not_divided_is_one_demonstration(tmp_path: Path) -> None:
    write(tmp_path / "rec", messages((2.0,), marked=False))
    (demonstration,) = read_demonstrations(tmp_path / "rec", rate=20.0)
    assert demonstration.source == f"{tmp_path}/rec/rec.mcap"
    np.testing.assert_allclose(demonstration.q[[0, -1]], [Q0, Q1], atol=1e-3)


def test_a_folder_of_recordings(tmp_path: Path) -> None:
    for name, durations in {"y": (1.0, 2.0), "x": (3.0,)}.items():
        write(tmp_path / name, messages(durations))
    demonstrations = read_demonstrations(tmp_path, rate=10.0)
    assert [d.source.rpartition("/")[2] for d in demonstrations] == ["x.mcap: a", "y.mcap: a", "y.mcap: b"]
    assert demonstrations[0].steps > demonstrations[2].steps > demonstrations[1].steps
    left = read_demonstrations(tmp_path, rate=10.0, exclude=["y/a"])
    assert [d.source.rpartition("/")[2] for d in left] == ["x.mcap: a", "y.mcap: b"]
    with pytest.raises(DemonstrationError, match=r"exclude=\['y/c'\]: not among .*'x/a', 'y/a', 'y/b'"):
        read_demonstrations(tmp_path, rate=10.0, exclude=["y/c"])


def test_base_link(tmp_path: Path) -> None:
    write(tmp_path / "rec", messages())
    (root,) = read_demonstrations(tmp_path, rate=10.0)
    (column,) = read_demonstrations(tmp_path, rate=10.0, base_link="column")
    assert column.joint_names == ("turn",)
    np.testing.assert_allclose(column.goal[:, 2], [0.5, 0.7])
    with pytest.raises(DemonstrationError, match=r"rec\.mcap: a: base_link='nothing' is not among the links"):
        read_demonstrations(tmp_path, rate=10.0, base_link="nothing")
    assert root.joint_names == ("lift", "turn")


def test_latched_topics_may_be_heard_of_a_moment_later(tmp_path: Path) -> None:
    """A recorder finds topics in any order; what is latched did not change before its first message."""
    content = messages((2.0,), marked=False)
    for message in content[:2]:
        assert message.topic != "/joint_states"
        message.time = 0.9
    write(tmp_path / "rec", content)
    assert len(read_demonstrations(tmp_path / "rec", rate=10.0)) == 1


def test_joints_in_messages_of_their_own(tmp_path: Path) -> None:
    """As two drivers send them, with other stamps: each is interpolated by its own."""
    content = []
    for message in messages():
        if message.topic != "/joint_states":
            content.append(message)
            continue
        stamp = message.content.header.stamp.sec + 1e-9 * message.content.header.stamp.nanosec
        turn, _, lift = message.content.position
        content.append(Message(message.topic, message.time, joint_state(stamp, lift=lift)))
        later = 0.003 if round(100 * message.time) % 2 else 0.0  # every other one
        if later:
            content.append(Message(message.topic, message.time + later, joint_state(stamp, turn=turn)))
    write(tmp_path / "split", content)
    write(tmp_path / "whole", messages())
    split, whole = read_demonstrations(tmp_path, rate=20.0)
    assert abs(split.steps - whole.steps) <= 1
    np.testing.assert_allclose(split.q[-1], whole.q[-1], atol=1e-3)


def test_a_joint_without_limits_may_be_reported_within_one_turn(tmp_path: Path) -> None:
    """It turns on where the driver's numbers jump from pi to -pi."""
    endless = URDF.replace('name="turn" type="revolute"', 'name="turn" type="continuous"')
    urdf = extend_urdf(endless, extension())
    content = replaced("/robot_description", text(urdf))(replaced("/body_schema", body_schema(urdf=urdf))(messages()))
    for message in content:
        if message.topic == "/joint_states":
            turn = message.content.position[0] + 3.0
            message.content.position[0] = (turn + np.pi) % (2 * np.pi) - np.pi
    write(tmp_path / "rec", content)
    (demonstration,) = read_demonstrations(tmp_path, rate=20.0)
    np.testing.assert_allclose(demonstration.q[[0, -1], 1], [Q0[1] + 3.0, Q1[1] + 3.0], atol=1e-3)
    np.testing.assert_allclose(demonstration.keypoints_base, true_keypoints(demonstration.q), atol=1e-12)


Spoil = Callable[[list[Message]], list[Message]]


def only(topic: str) -> Callable[[Message], bool]:
    return lambda message: message.topic == topic


def without(topic: str) -> Spoil:
    return lambda content: [m for m in content if m.topic != topic]


def without_joints_between(begin: float, end: float) -> Spoil:
    return lambda content: [m for m in content if m.topic != "/joint_states" or not begin <= m.time <= end]


def with_joint_states(change: Callable[[Message], None], begin: float, end: float) -> Spoil:
    """Change the joint states of a time."""

    def spoil(content: list[Message]) -> list[Message]:
        for message in content:
            if message.topic == "/joint_states" and begin <= message.time <= end:
                change(message)
        return content

    return spoil


def set_lift(value: float) -> Callable[[Message], None]:
    return lambda message: message.content.position.__setitem__(2, value)


def set_seconds(value: int) -> Callable[[Message], None]:
    return lambda message: setattr(message.content.header.stamp, "sec", value)


def drop_lift(message: Message) -> None:
    message.content = joint_state(5.0 + message.time, turn=message.content.position[0])


def added(*extra: Message) -> Spoil:
    return lambda content: [*content, *extra]


def replaced(topic: str, content: object) -> Spoil:
    return lambda messages: [*(m for m in messages if m.topic != topic), Message(topic, 0.0, content)]


HINGED = extension(JointType.REVOLUTE)
REFUSED: dict[str, tuple[Spoil, str]] = {
    "no joints": (without("/joint_states"), r"rec\.mcap: no topic joint_states; it has \['/body_schema', "),
    "no description": (without("/robot_description"), r"rec\.mcap: no topic robot_description"),
    "no schema": (without("/body_schema"), r"rec\.mcap: no topic body_schema"),
    "joint missing": (
        with_joint_states(drop_lift, 0.0, 99.0),
        r"rec\.mcap: a: joint_states lacks \['lift'\]; it has \['turn'\]",
    ),
    "joint lost": (
        with_joint_states(drop_lift, 2.0, 3.0),
        r"rec\.mcap: a: joint_states, (1\.990|2\.000) s: gap: nothing of 'lift' for 1\.0\d\d s, allowed 0\.2 s",
    ),
    "gap": (
        without_joints_between(2.0, 2.3),
        r"rec\.mcap: a: joint_states, 1\.9\d0 s: gap: nothing of 'lift' for 0\.3\d0 s, allowed 0\.2 s",
    ),
    "no joints at the end": (
        without_joints_between(2.0, 99.0),
        r"rec\.mcap: a: joint_states, 1\.9\d0 s: gap: nothing of 'lift' for 1\.6\d\d s",
    ),
    "no joints at the beginning": (
        without_joints_between(0.0, 2.0),
        r"rec\.mcap: a: joint_states, 0\.600 s: gap: nothing of 'lift' for 1\.4\d\d s",
    ),
    "jump": (
        with_joint_states(set_lift(1.0), 2.0, 2.0),
        r"rec\.mcap: a: joint_states, 2\.0\d0 s: jump: 'lift' from 0\.\d+ to 1\.0000 in 0\.0100 s, allowed 1\.500",
    ),
    "nan": (
        with_joint_states(set_lift(np.nan), 2.0, 2.0),
        r"rec\.mcap: a: joint_states, 2\.000 s: position of \['lift'\] is not finite",
    ),
    "time anew": (
        with_joint_states(set_seconds(0), 2.5, 3.0),
        r"rec\.mcap: a: joint_states, 2\.\d+ s: stamps went back from 7\.\d+ to 0\.\d+ s",
    ),
    "too short": (
        with_joint_states(lambda m: m.content.position.__setitem__(slice(None), 0.5), 0.0, 99.0),
        r"rec\.mcap: a: too short: no joint is faster than 0\.005",
    ),
    "description changed": (
        added(Message("/robot_description", 2.0, text(URDF))),
        r"rec\.mcap: a: robot_description, 2\.000 s: changed during the demonstration",
    ),
    "slipped": (
        added(Message("/body_schema", 2.0, body_schema(state=3))),
        r"rec\.mcap: a: body_schema, 2\.000 s: changed during the demonstration",
    ),
    "not extended": (
        replaced("/body_schema", body_schema(state=1)),
        r"rec\.mcap: a: body_schema is ESTIMATING, expected EXTENDED",
    ),
    "unknown state": (
        replaced("/body_schema", body_schema(state=9)),
        r"rec\.mcap: a: body_schema, 0\.000 s: body schema has state 9",
    ),
    "another description": (
        replaced("/robot_description", text(URDF)),
        r"rec\.mcap: a: body_schema belongs to the robot_description with SHA-256 [0-9a-f]{12}",
    ),
    "broken description": (
        lambda content: replaced("/body_schema", body_schema(urdf="<robot"))(
            replaced("/robot_description", text("<robot"))(content)
        ),
        r"rec\.mcap: a: URDF line 1",
    ),
    "object with a joint": (
        lambda content: replaced("/body_schema", body_schema(HINGED, extend_urdf(URDF, HINGED)))(
            replaced("/robot_description", text(extend_urdf(URDF, HINGED)))(content)
        ),
        r"rec\.mcap: a: the held object has a joint of its own, 'virtual_kp_1_joint' \(revolute\)",
    ),
    "description too late": (
        lambda content: [*without("/robot_description")(content), Message("/robot_description", 2.0, text(EXTENDED))],
        r"rec\.mcap: a: robot_description, 2\.000 s: comes too late",
    ),
    "no end": (
        lambda content: [m for m in content if m.topic != "/demonstration" or m.content.data],
        r"rec\.mcap: a: demonstration, 0\.600 s: it begins and never ends",
    ),
    "no name": (
        lambda content: [m for m in content if m.topic != "/demonstration" or not m.content.data],
        r"rec\.mcap: demonstration has \[\], expected at least one name",
    ),
    "a name twice": (
        added(Message("/demonstration", 3.8, text("a")), Message("/demonstration", 3.9, text(""))),
        r"rec\.mcap: demonstration has \['rec/a', 'rec/a'\], expected at least one name, each once",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_learned_from_is_refused_with_its_place(tmp_path: Path, case: str) -> None:
    spoil, message = REFUSED[case]
    write(tmp_path / "rec", spoil(messages()))
    with pytest.raises(DemonstrationError, match=message):
        read_demonstrations(tmp_path / "rec", rate=20.0)


def test_what_happens_between_demonstrations_does_not_matter(tmp_path: Path) -> None:
    """The arm is moved to the next start, the object is estimated anew: that is no part of what is shown."""
    content = with_joint_states(set_lift(np.nan), 3.75, 4.4)(messages((2.0, 2.0)))
    content += [
        Message("/body_schema", 3.8, body_schema(state=1)),
        Message("/body_schema", 4.3, body_schema()),
        Message("/robot_description", 3.9, text(URDF)),
        Message("/robot_description", 4.2, text(EXTENDED)),
    ]
    write(tmp_path / "rec", content)
    assert len(read_demonstrations(tmp_path / "rec", rate=20.0)) == 2


def test_one_bad_demonstration_makes_the_folder_unreadable_until_it_is_excluded(tmp_path: Path) -> None:
    write(tmp_path / "good", messages())
    write(tmp_path / "bad", without_joints_between(6.0, 6.5)(messages((2.0, 2.0))))
    with pytest.raises(DemonstrationError, match=r"bad\.mcap: b: joint_states, 5\.9\d0 s: gap"):
        read_demonstrations(tmp_path, rate=20.0)
    assert len(read_demonstrations(tmp_path, rate=20.0, exclude=["bad/b"])) == 2


def test_a_demonstration_that_was_broken_off_can_be_excluded(tmp_path: Path) -> None:
    content = messages((2.0, 2.0))
    del content[max(i for i, message in enumerate(content) if message.topic == "/demonstration")]
    write(tmp_path / "rec", content)
    with pytest.raises(DemonstrationError, match="never ends"):
        read_demonstrations(tmp_path, rate=20.0)
    assert len(read_demonstrations(tmp_path, rate=20.0, exclude=["rec/b"])) == 1


def test_too_few_states(tmp_path: Path) -> None:
    write(tmp_path / "rec", messages((1.0,)))
    with pytest.raises(DemonstrationError, match=r"rec\.mcap: a: too short: [1-4] states, expected at least 5"):
        read_demonstrations(tmp_path / "rec", rate=2.0)


def test_another_type_and_two_robots_are_refused(tmp_path: Path) -> None:
    content = [m for m in messages() if m.topic != "/joint_states"]
    write(
        tmp_path / "type",
        [*content, Message("/joint_states", 1.0, text("x"))],
        {"/joint_states": "std_msgs/msg/String"},
    )
    with pytest.raises(DemonstrationError, match=r"/joint_states is std_msgs/msg/String, expected sensor_msgs"):
        read_demonstrations(tmp_path / "type", rate=20.0)
    kind = {"/left/joint_states": "sensor_msgs/msg/JointState"}
    write(tmp_path / "two", [*messages(), Message("/left/joint_states", 1.0, joint_state(6.0, lift=0.0))], kind)
    with pytest.raises(DemonstrationError, match=r"\['/joint_states', '/left/joint_states'\]: expected one"):
        read_demonstrations(tmp_path / "two", rate=20.0)


def test_a_namespace_takes_all_topics_with_it(tmp_path: Path) -> None:
    content = messages()
    for message in content:
        message.topic = "/left" + message.topic
    write(tmp_path / "rec", content, {"/left" + topic: kind for topic, kind in TYPES.items()})
    assert len(read_demonstrations(tmp_path / "rec", rate=20.0)) == 1


def test_folders_that_are_no_recordings(tmp_path: Path) -> None:
    with pytest.raises(DemonstrationError, match="no such folder"):
        read_demonstrations(tmp_path / "nothing", rate=20.0)
    with pytest.raises(DemonstrationError, match="no recording there"):
        read_demonstrations(tmp_path, rate=20.0)
    write(tmp_path / "rec", messages())
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordingError, match=r"empty: 0 \.mcap files there"):
        read_demonstrations(tmp_path, rate=20.0)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_truncated_recording_is_refused_by_name(tmp_path: Path, share: float) -> None:
    write(tmp_path / "good", messages())
    file = write(tmp_path / "rec", messages()) / "rec.mcap"
    raw = file.read_bytes()
    file.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(RecordingError, match=r"rec\.mcap: .*byte \d+"):
        read_demonstrations(tmp_path, rate=20.0)


@pytest.mark.parametrize("options", [{"rate": 0.0}, {"rate": np.nan}, {"rate": 20.0, "max_gap": 0.0}])
def test_options_are_checked(tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(DemonstrationError, match="expected positive numbers"):
        read_demonstrations(tmp_path, **options)
