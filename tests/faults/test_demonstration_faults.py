"""Demonstrations that go wrong while they are recorded: nobody learns from what is left of them."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ideomotor.data.demonstrations import DemonstrationError, read_demonstrations
from ideomotor.data.recording import RecordingError
from tests.graph.conftest import Graph
from tests.graph.demonstration_rig import TOPICS, DemonstrationRig


def test_a_fault_of_the_gate_breaks_a_demonstration_off(
    graph: Graph, node_command: Callable[..., list[str]], tmp_path: Path
) -> None:
    """The driver falls silent in a motion: exit code 1, and the recording is refused with the demonstration's name."""
    rig = DemonstrationRig(graph, node_command, tmp_path / "log")
    recorder = rig.record(tmp_path / "rec")
    process = rig.show(count=3)
    graph.spin_until(lambda: rig.names and rig.names[-1].data == "placing_00", 60.0, "a demonstration")
    graph.spin_until(lambda: rig.gate._gate.state.name == "FOLLOWING")
    rig.timer.cancel()
    assert rig.wait(process) == 1
    assert "the safety gate holds: joint state is" in rig.log.read_text()
    recorder.trigger_deactivate()
    with pytest.raises(DemonstrationError, match=r"rec\.mcap: placing_00: demonstration, .* it begins and never ends"):
        read_demonstrations(tmp_path / "rec", rate=10.0)


def test_a_recorder_that_was_killed_leaves_nothing_to_learn_from(
    graph: Graph, node_command: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Its file is truncated: the message says where, and how to get back what is complete."""
    rig = DemonstrationRig(graph, node_command, tmp_path / "log")
    parameters = {"folder": tmp_path / "rec", "topics": TOPICS, "flush_period": 0.1}
    recorder = subprocess.Popen(node_command("recorder", **parameters))
    try:
        file = tmp_path / "rec" / "rec.mcap"
        graph.spin_until(lambda: file.is_file() and file.stat().st_size > 10_000, 30.0, "a recording")
    finally:
        recorder.send_signal(signal.SIGKILL)
        recorder.wait()
    assert rig.gate._gate.state.name == "HOLDING"
    with pytest.raises(RecordingError, match=r"rec\.mcap: truncated at byte \d+ of \d+.*mcap recover"):
        read_demonstrations(tmp_path / "rec", rate=10.0)
