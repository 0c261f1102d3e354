"""The benchmark's case options: bad ones are refused before anything is measured. A failed part costs only itself."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.body_schema import __main__ as command
from benchmarks.body_schema import speed
from benchmarks.body_schema.cases import CaseError, Options, open_case
from ideomotor.body.chain import KinematicChain

BEHIND = (30.0, 0.0, 1.0, 0.0, 0.0, 0.0)  # far in front of the robot, looking away from it


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--urdf", "nowhere/robot.urdf"], "nowhere/robot.urdf: no such file"),
        (["--ee-link", "hand"], "hand"),
        (["--tools", "spoon"], "invalid choice: 'spoon'"),
        (["--frames", "30", "14"], r"--frames \[14, 30\]: expected at least 15"),
        (["--camera-pose", "1", "2", "nan", "0", "0", "0"], "expected finite numbers"),
        (["--artefact", "nowhere/artefact"], "nowhere/artefact"),
        (["--seeds", "-1"], r"--seeds \[-1\]: expected integers of 0 or more"),
        (["--parts", "sped"], "invalid choice: 'sped'"),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else "",
)
def test_bad_options_are_refused_at_once(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["prog", *(arguments if "--parts" in arguments else ["--parts", "speed", *arguments])]
    monkeypatch.setattr(sys, "argv", given)
    monkeypatch.setattr(command, "run_benchmark", lambda *_: pytest.fail("measured nevertheless"))
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 2
    printed = capsys.readouterr().err.splitlines()[-1]
    assert re.search(message, printed), printed


def test_a_camera_that_never_sees_the_object_makes_no_case() -> None:
    options = Options(seeds=(50,), camera_pose=BEHIND)
    with (
        pytest.raises(CaseError, match=r"--camera-pose \[30.0, .* sees 0 % of the object's keypoints"),
        open_case(options, 50, "stick"),
    ):
        pass


def test_rigid_tools_take_turns_and_one_is_needed() -> None:
    options = Options(seeds=(50,), tools=("hinged_stick", "l", "stick"))
    assert [options.rigid_tool(seed) for seed in range(50, 53)] == ["l", "stick", "l"]
    with pytest.raises(CaseError, match="expected a rigid one too"):
        Options(seeds=(50,), tools=("sliding_rod",)).rigid_tool(50)


def test_a_failed_part_or_seed_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slip(options: Options) -> dict[str, list[tuple[int, float]]]:
        (seed,) = options.seeds
        if seed == 51:
            raise TimeoutError("no joint states after 5 s")
        return {"slip_detect": [(seed, 0.2)]}

    def latency(options: Options) -> dict[str, list[tuple[int, float]]]:
        assert options.seeds == (50, 51, 52)  # one run, not one a seed
        return {"frame_to_tf": [(50, 20.0), (50, 22.0)]}

    parts = {"slip": slip, "latency": latency}
    monkeypatch.setattr(command, "measurements", lambda _: parts)
    monkeypatch.setattr(command, "enter_workspace", lambda: None)
    path = tmp_path / "results.json"
    arguments = ["--seeds", "50", "51", "52", "--parts", *parts, "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["prog", *arguments])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 1
    content = json.loads(path.read_text())
    assert content["metrics"]["slip_detect_median_s"]["n"] == 2
    assert content["metrics"]["frame_to_tf_median_ms"]["value"] == pytest.approx(21.0)
    assert content["runs"][0]["failed"] == ["slip, seed 51: TimeoutError: no joint states after 5 s"]
    assert "not measured: slip, seed 51: TimeoutError" in capsys.readouterr().err


def test_the_baseline_does_not_flood_the_log(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its library prints a line for each link without inertia, its parser one for each attribute it does not know."""
    pytest.importorskip("differentiable_robot_model", reason="a package of `tools/setup.py bench`")
    monkeypatch.setattr(speed, "MOST_STEPS", 1)
    monkeypatch.setattr(speed, "LEARNING_RATES", speed.LEARNING_RATES[:1])
    robot = Options(seeds=(50,)).robot()
    urdf = robot.urdf.replace("<dynamics ", '<dynamics K="7000" ')
    assert speed.fit_speedup(urdf, robot.ee_link, [50]) == []  # not reached in one step
    assert capfd.readouterr() == ("", "")


def test_every_joint_of_the_speed_test_moves_within_its_limits() -> None:
    robot = Options(seeds=(50,)).robot()
    urdf = re.sub(r'lower="[-0-9.]+" upper="[-0-9.]+"', 'lower="-3.0" upper="-0.1"', robot.urdf)
    chain = KinematicChain.from_urdf(urdf, ee_link=robot.ee_link)
    data = speed._data(chain, np.random.default_rng(50))
    assert (data.q < chain.upper).all()
    assert (np.ptp(data.q, axis=0) > 0.2).all()


def test_errors_are_named_by_the_frames_that_were_asked_for() -> None:
    """--frames 45: `joint_error_45`, not the 90 of the requirements."""
    metrics = command.summarise({"joint_error_45": [(50, 3.0)], "tip_error_45": [(50, 4.0)]})
    assert set(metrics) == {"joint_error_45_median_mm", "tip_error_45_median_mm", "tip_error_45_p95_mm"}
