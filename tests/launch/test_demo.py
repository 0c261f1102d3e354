"""The demonstration from its launch file, and its recording replayed: what `make demo` does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
TIMEOUT = 240.0  # [s] on two busy cores


def test_tool_use_and_replay(launch_file: Callable[..., Any], own_domain: dict[str, str], tmp_path: Path) -> None:
    """The tip reaches its goals, pictures and a recording are left, and the recording gives the same body schema."""
    run_folder = tmp_path / "run"
    demo = launch_file(LAUNCH / "tool_use.launch.xml", own_domain, run_folder=str(run_folder), record="true", goals="2")
    assert demo.wait(TIMEOUT) == 0, demo.output
    placements = json.loads((run_folder / "placements.json").read_text())
    assert len(placements["with"]) == 2
    errors = {name: [p["error"] for p in placements[name]] for name in ("with", "without")}
    assert max(errors["with"]) < min(errors["without"]), "the extension must help"
    assert (run_folder / "extended.png").stat().st_size > 10_000
    recording = str(run_folder / "recording")
    replay = launch_file(LAUNCH / "replay.launch.xml", own_domain, recording=recording)
    assert replay.wait(TIMEOUT) == 0, replay.output
    assert "joint origins differ by" in replay.output


def test_replay_of_nothing_says_so(launch_file: Callable[..., Any], own_domain: dict[str, str], tmp_path: Path) -> None:
    """A folder that is no recording ends the launch with the exit code of bad input."""
    replay = launch_file(LAUNCH / "replay.launch.xml", own_domain, recording=str(tmp_path / "nothing"))
    assert replay.wait(TIMEOUT) == 2, replay.output
    assert "nothing" in replay.output
