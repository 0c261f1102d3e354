"""Rewards from their launch files: learned from a recording, and used by the simulated robot."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ideomotor.body.urdf import load_urdf
from ideomotor.rewards.artefact import LearnedReward
from tests.graph.small_reward import DURATION, write_small_reward
from tests.unit.demonstration_recording import messages, turned_then_lowered, write

REPOSITORY = Path(__file__).resolve().parents[2]
LEARN = REPOSITORY / "launch" / "learn_reward.launch.xml"
USE = REPOSITORY / "launch" / "reward_use.launch.xml"
TIMEOUT = 240.0  # [s] on two busy cores


def test_a_reward_is_learned(launch_file: Callable[..., Any], own_domain: dict[str, str], tmp_path: Path) -> None:
    """It says how far it is, what came of it, and ends."""
    recording = write(tmp_path / "rec", messages((1.5, 2.5), path=turned_then_lowered))
    arguments = {
        "demonstrations": str(recording),
        "artefact": str(tmp_path / "reward"),
        "run_folder": str(tmp_path / "run"),
    }
    launch = launch_file(LEARN, own_domain, **arguments, max_horizon="14", seed="2")
    assert launch.wait(TIMEOUT) == 0, launch.output
    manifest = LearnedReward.load(tmp_path / "reward").artefact.manifest
    assert (manifest.seed, manifest.training["max_horizon"], manifest.extra["family"]) == (2, 14, "progress")
    assert "%: outer loss" in launch.output
    assert "learned from 2 demonstrations of 2.0 s" in launch.output
    assert (tmp_path / "run" / "field.png").is_file()


def test_why_nothing_is_learned(launch_file: Callable[..., Any], own_domain: dict[str, str], tmp_path: Path) -> None:
    launch = launch_file(LEARN, own_domain, demonstrations="/nowhere", artefact=str(tmp_path / "reward"))
    assert launch.wait(60.0) == 1, launch.output
    assert "learning failed (code 2): /nowhere: no such folder" in launch.output
    assert not (tmp_path / "reward").exists()


def test_a_reward_is_used(launch_file: Callable[..., Any], own_domain: dict[str, str], tmp_path: Path) -> None:
    """At two speeds, to a goal that nobody showed: the true tip gets there, in the time that was asked for."""
    urdf = load_urdf(REPOSITORY / "urdf" / "iiwa7.urdf.xacro")
    reward = write_small_reward(tmp_path / "reward", urdf, np.array([0.0, 0.4, 0.0, -1.4, 0.0, 0.9, 0.0]))
    arguments = {"goals": "1", "paces": "[1.3, 2.0]", "seed": "1", "run_folder": str(tmp_path / "run")}
    launch = launch_file(USE, own_domain, reward=str(reward), **arguments)
    assert launch.wait(TIMEOUT) == 0, launch.output
    executions = json.loads((tmp_path / "run" / "executions.json").read_text())
    assert [e["asked"] for e in executions] == [1.3 * DURATION, 2.0 * DURATION]
    for execution in executions:
        assert execution["failure"] == ""
        assert math.isclose(execution["taken"], execution["asked"], abs_tol=0.5)
        assert execution["final_error"] < 0.02
        assert execution["path_error"] < 0.5
    assert (tmp_path / "run" / "goal_0.png").is_file()
