"""Demonstrations from their launch file: simulated, shown by the script, recorded, and read as episodes."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ideomotor.data.demonstrations import DemonstrationError, read_demonstrations

FILE = Path(__file__).resolve().parents[2] / "launch" / "record_demonstration.launch.xml"
TIMEOUT = 240.0  # [s] on two busy cores


def test_two_short_demonstrations(launch_file: Callable[..., Any], own_domain: dict[str, str], tmp_path: Path) -> None:
    """The object is estimated, shown twice at different paces, and the recording has both, to the same goal."""
    folder = tmp_path / "rec"
    arguments = {"folder": str(folder), "count": "2", "min_duration": "2.5", "max_duration": "5"}
    launch = launch_file(FILE, own_domain, **arguments)
    assert launch.wait(TIMEOUT) == 0, launch.output
    first, second = read_demonstrations(folder, rate=10.0)
    assert first.keypoint_names == second.keypoint_names
    assert len(first.keypoint_names) == 4
    assert first.steps != second.steps
    np.testing.assert_allclose(first.goal, second.goal, atol=5e-3)


def test_by_hand_until_ctrl_c(launch_file: Callable[..., Any], own_domain: dict[str, str], tmp_path: Path) -> None:
    """On a robot only the recorder is started; without a robot its recording is complete, and refused as empty."""
    folder = tmp_path / "rec"
    launch = launch_file(FILE, own_domain, folder=str(folder), simulated="false", scripted="false")
    launch.wait_for_line("process started with pid")
    end = time.monotonic() + 60.0
    while not (folder / "rec.mcap").is_file():
        assert launch.returncode is None, launch.output
        assert time.monotonic() < end, launch.output
        time.sleep(0.05)
    launch.signal(signal.SIGINT)
    assert launch.wait() == 0, launch.output
    assert len([line for line in launch.lines if "process started with pid" in line]) == 1
    with pytest.raises(DemonstrationError, match=r"rec\.mcap: no topic joint_states, robot_description, body_schema"):
        read_demonstrations(folder, rate=10.0)


def test_a_folder_that_exists_ends_all(
    launch_file: Callable[..., Any], own_domain: dict[str, str], tmp_path: Path
) -> None:
    """Nothing is shown that could not be recorded; nothing is overwritten."""
    launch = launch_file(FILE, own_domain, folder=str(tmp_path), simulated="false", estimate="false")
    assert launch.wait(60.0) == 2, launch.output
    assert "a recording is never overwritten" in launch.output
