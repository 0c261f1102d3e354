"""Recorder and player over DDS: what was published comes back in order; a broken recording is exit code 2."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from ideomotor.data.recording import Recording, RecordingWriter, Topic
from ideomotor_interfaces.msg import Keypoint, KeypointArray
from ideomotor_nodes.interfaces import message_definition
from ideomotor_nodes.player import PlayerNode
from ideomotor_nodes.qos import LATCHED, SENSOR
from ideomotor_nodes.recorder import RecorderNode
from tests.graph.conftest import Graph

SUCCESS = TransitionCallbackReturn.SUCCESS


def recorder(folder: Path, *topics: str) -> RecorderNode:
    return RecorderNode(
        parameter_overrides=[Parameter("folder", value=str(folder)), Parameter("topics", value=list(topics))]
    )


def player(folder: Path, **parameters: Any) -> PlayerNode:
    overrides = {"folder": str(folder)} | parameters
    return PlayerNode(parameter_overrides=[Parameter(k, value=v) for k, v in overrides.items()])


def record(graph: Graph, folder: Path) -> None:
    """Record a stream of keypoints (reliable), of strings (best effort), and a latched string."""
    node = graph.add(recorder(folder, "keypoints", "best_effort", "/latched", "never"))
    latched = graph.helper.create_publisher(String, "latched", LATCHED)
    latched.publish(String(data="before the recorder"))
    keypoints = graph.helper.create_publisher(KeypointArray, "keypoints", 10)
    strings = graph.helper.create_publisher(String, "best_effort", SENSOR)
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    graph.spin_until(lambda: keypoints.get_subscription_count() and strings.get_subscription_count())
    graph.spin_until(lambda: node._writer.counts.get("/latched"))
    for i in range(20):
        keypoints.publish(KeypointArray(keypoints=[Keypoint(name=f"kp_{i}", depth=float(i))]))
        strings.publish(String(data=str(i)))
        graph.spin_until(lambda i=i: node._writer.counts["/keypoints"] > i and node._writer.counts["/best_effort"] > i)
    assert node.trigger_deactivate() == SUCCESS
    for publisher in (latched, keypoints, strings):
        graph.helper.destroy_publisher(publisher)


def test_round_trip(graph: Graph, tmp_path: Path) -> None:
    record(graph, tmp_path / "rec")
    with Recording(tmp_path / "rec") as recording:
        topics = {t.name: (t.type, t.latched, t.reliable) for t in recording.topics}
    assert topics == {
        "/keypoints": ("ideomotor_interfaces/msg/KeypointArray", False, True),
        "/best_effort": ("std_msgs/msg/String", False, False),
        "/latched": ("std_msgs/msg/String", True, True),
    }
    keypoints = graph.collect(KeypointArray, "keypoints", 100)
    strings = graph.collect(String, "best_effort", 100)
    clock = graph.collect(Clock, "/clock", 100)
    node = graph.start(player(tmp_path / "rec", wait_for=["keypoints", "best_effort"], rate=10.0))
    graph.spin_until(lambda: node.exit_code is not None)
    graph.spin_until(lambda: len(keypoints) == 20 and len(strings) == 20)
    assert node.exit_code == 0
    assert [m.keypoints[0].name for m in keypoints] == [f"kp_{i}" for i in range(20)]
    assert [m.data for m in strings] == [str(i) for i in range(20)]
    late = graph.collect(String, "latched", LATCHED)
    graph.spin_until(lambda: late)
    assert late[-1].data == "before the recorder"
    assert len(clock) > 20
    times = [m.clock.sec + 1e-9 * m.clock.nanosec for m in clock]
    assert times == sorted(times)


def test_selected_topics_only_and_unknown_ones_are_refused(
    graph: Graph, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    record(graph, tmp_path / "rec")
    node = graph.start(player(tmp_path / "rec", topics=["best_effort"], rate=100.0))
    graph.spin_until(lambda: node.exit_code is not None)
    assert node.played == 20
    wrong = graph.add(player(tmp_path / "rec", topics=["nothing"]))
    assert wrong.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "'/nothing'" in capfd.readouterr().err


def test_it_waits_for_subscriptions(graph: Graph, tmp_path: Path) -> None:
    record(graph, tmp_path / "rec")
    node = graph.start(player(tmp_path / "rec", wait_for=["keypoints"], rate=100.0))
    graph.spin(0.5)
    assert node.played == 0
    keypoints = graph.collect(KeypointArray, "keypoints", 100)
    graph.spin_until(lambda: len(keypoints) == 20)


def test_recorded_clock_is_played_and_nobody_else_publishes_it(graph: Graph, tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "rec", message_definition)
    writer.add_topic(Topic("/clock", "rosgraph_msgs/msg/Clock"))
    from rclpy.serialization import serialize_message

    for i in range(5):
        message = Clock()
        message.clock.sec = i
        writer.write("/clock", 10**18 + i, serialize_message(message))
    writer.close()
    clock = graph.collect(Clock, "/clock", 100)
    graph.start(player(tmp_path / "rec", wait_for=["/clock"]))
    graph.spin_until(lambda: len(clock) == 5)
    assert [m.clock.sec for m in clock] == list(range(5))


def test_an_existing_folder_is_not_overwritten(graph: Graph, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    node = graph.add(recorder(tmp_path, "a"))
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "exists already" in capfd.readouterr().err


def test_truncated_recording_ends_the_player_with_code_2(
    graph: Graph, tmp_path: Path, node_command: Callable[..., list[str]]
) -> None:
    record(graph, tmp_path / "rec")
    file = tmp_path / "rec" / "rec.mcap"
    raw = file.read_bytes()
    file.write_bytes(raw[: len(raw) // 2])
    done = subprocess.run(
        node_command("player", folder=tmp_path / "rec"), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert "rec.mcap: truncated at byte" in done.stderr
