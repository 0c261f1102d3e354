"""Controllers from their launch files: trained in the simulator, and run by themselves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ideomotor.data.experience import read_episodes

REPOSITORY = Path(__file__).resolve().parents[2]
TRAIN = REPOSITORY / "launch" / "train_controller.launch.xml"
RUN = REPOSITORY / "launch" / "policy.launch.xml"
TIMEOUT = 240.0  # [s] on two busy cores


def test_an_arm_is_trained_and_its_policy_runs(
    launch_file: Callable[..., Any],
    own_domain: dict[str, str],
    robot_config: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """Two iterations; then three more: the run folder is gone on with."""
    run = tmp_path / "run"
    config = robot_config("iiwa7", controller_trainer={"hidden": 128})
    small = {"run_folder": str(run), "config": str(config), "seed": "1"}
    launch = launch_file(TRAIN, own_domain, **small, iterations="2")
    assert launch.wait(TIMEOUT) == 0, launch.output
    assert "2 iterations," in launch.output
    assert f"curves: {run}/errors.png" in launch.output
    assert (run / "errors.png").is_file()
    assert (run / "policy" / "manifest.json").is_file()
    names = [e.name for folder in sorted((run / "recordings").iterdir()) for e in read_episodes(folder)]
    assert names == ["first", "iteration_000", "iteration_001"]

    launch = launch_file(TRAIN, own_domain, **small, iterations="5")
    assert launch.wait(TIMEOUT) == 0, launch.output
    assert f"going on with {run}: 2 iterations" in launch.output
    history = json.loads((run / "metrics.json").read_text())["history"]
    assert len(history) == 5
    assert history[-1]["position_error"] < 0.2

    report = tmp_path / "report.json"
    arguments = {"robot": "iiwa7", "policy": str(run / "policy"), "computed_torque": "true", "report": str(report)}
    launch = launch_file(RUN, own_domain, **arguments)
    assert launch.wait(TIMEOUT) == 0, launch.output
    assert "run 1: success, 200 steps" in launch.output
    assert "its position error over that of the policy" in launch.output, launch.output
    (result,) = json.loads(report.read_text())
    assert (result["error_code"], result["steps"]) == (0, 200)
    assert result["position_error"] < 0.2


def test_a_folder_that_holds_no_policy_is_named(
    launch_file: Callable[..., Any], own_domain: dict[str, str], tmp_path: Path
) -> None:
    launch = launch_file(RUN, own_domain, robot="iiwa7", policy=str(tmp_path))
    assert launch.wait(TIMEOUT) == 1, launch.output
    assert f"failed (code 2: {tmp_path}" in launch.output


def test_solo12_walks(launch_file: Callable[..., Any], own_domain: dict[str, str], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    launch = launch_file(RUN, own_domain, robot="solo12", runs="3", real_time_factor="0.0", report=str(report))
    assert launch.wait(TIMEOUT) == 0, launch.output
    for result in json.loads(report.read_text()):
        assert result["steps"] == 200
        assert 0.8 < result["displacement_ratio"] < 1.2
        assert result["contact_agreement"] > 0.8
        low, high = result["base_height"]
        assert 0.2 < low <= high < 0.3
