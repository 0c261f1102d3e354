"""The trainer: from recordings to an artefact that a planner uses, with the numbers that say how good it is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ideomotor.artefacts import ArtefactError
from ideomotor.cli import main
from ideomotor.data.demonstrations import DemonstrationError, read_demonstrations
from ideomotor.planning.reward_planner import plan
from ideomotor.rewards.artefact import LearnedReward
from ideomotor_learn.rewards.learn import LearningError
from ideomotor_learn.rewards.train_reward import RewardTraining, TrainConfig, problem, shown, train
from tests.unit.demonstration_recording import LINKS, messages, turned_then_lowered, write

PNG = ("field.png", "outer_loss.png", "paths.png", "weights.png")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings, of four demonstrations of different duration."""
    folder = tmp_path_factory.mktemp("recordings")
    write(folder / "one", messages((1.5, 3.0, 2.0), path=turned_then_lowered))
    write(folder / "two", messages((2.5,), path=turned_then_lowered))
    return folder


@pytest.fixture(scope="module")
def config(recordings: Path) -> TrainConfig:
    return TrainConfig(
        data=str(recordings), runs="", outer_steps=12, learning_rate=0.3, centres=4, min_horizon=8, max_horizon=10
    )


def test_learns_from_recordings(config: TrainConfig, recordings: Path, tmp_path: Path) -> None:
    """The straight way is 49 mm beside the demonstrated one; the artefact's is not, at any number of steps."""
    out, runs = tmp_path / "reward", tmp_path / "runs"
    assert train(replace(config, out=str(out), runs=str(runs))) == out
    reward = LearnedReward.load(out)
    assert (reward.keypoint_names, reward.family) == (LINKS, "progress")
    given = read_demonstrations(recordings, rate=10.0)
    assert reward.duration == pytest.approx(np.mean([d.duration for d in given[:3]]))
    manifest = reward.artefact.manifest
    assert manifest.rate == pytest.approx(10.0)
    assert manifest.training["outer_steps"] == 12
    assert manifest.training["data"] == recordings.name  # no machine's folders
    metrics = manifest.metrics
    assert (metrics["demonstrations"], metrics["held_out"]) == (3, 1)
    for pace in ("0.25", "1", "4"):
        assert metrics[f"final_error_m@{pace}"] < 1e-3
        assert metrics[f"path_error_m@{pace}"] < 0.015
    assert metrics["outer_loss_m"] < 0.02
    held_out = problem(shown(given[3]), reward)
    for steps in (5, 40):
        found = plan(held_out, steps)
        assert found.converged
        np.testing.assert_allclose(found.keypoints[-1], given[3].goal, atol=1e-3)
    (run,) = runs.iterdir()
    assert run.name.startswith("reward-")
    assert all((run / name).read_bytes().startswith(b"\x89PNG") for name in PNG)
    written = json.loads((run / "metrics.json").read_text())
    history = [step["loss"] for step in written["history"]]
    assert len(history) == 12
    assert history[-1] < 0.1 * history[0]
    assert written["paces"][1]["path_error"] == metrics["path_error_m@1"]


def test_the_command_line_learns(config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "reward"
    arguments = ["--data", config.data, "--out", str(out), "--family", "neural", "--outer-steps", "2", "--runs", ""]
    with pytest.raises(SystemExit) as end:
        main(["train", "reward", *arguments, "--exclude", "one/b", "one/c"])
    assert end.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    reward = LearnedReward.load(out)
    assert reward.family == "neural"
    assert reward.artefact.manifest.metrics["demonstrations"] == 2
    assert reward.artefact.manifest.metrics["held_out"] == 0


@pytest.mark.parametrize(("held_out", "learned"), [(0, 4), (1, 3), (3, 3)])
def test_three_at_least_are_learned_from_before_one_is_held_out(
    config: TrainConfig, tmp_path: Path, held_out: int, learned: int
) -> None:
    training = RewardTraining(replace(config, out=str(tmp_path / "reward"), held_out=held_out))
    assert (len(training.learned), len(training.held_out)) == (learned, 4 - learned)
    assert training.tip == 1
    assert training.base_link == "base"


def test_the_field_reaches_as_far_as_the_tip_came_from(config: TrainConfig, tmp_path: Path) -> None:
    """Down by 0.2 m is the farthest along one axis."""
    vertical, _ = RewardTraining(replace(config, out=str(tmp_path / "reward"))).field(points=3)
    np.testing.assert_allclose(vertical.displacement[0, 2], [0.2, 0.0, -0.2], atol=1e-3)
    assert vertical.cost[0, 2] > vertical.cost[1, 2] > vertical.cost[1, 1]  # down and right, right, the goal


def test_what_cannot_be_learned_from_is_refused_before_anything_is_written(
    config: TrainConfig, recordings: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(ArtefactError, match="out is there and is no artefact"):
        train(replace(config, out=str(tmp_path / "out")))
    out = str(tmp_path / "new")
    with pytest.raises(DemonstrationError, match="no such folder"):
        train(replace(config, data=str(tmp_path / "nothing"), out=out))
    with pytest.raises(LearningError, match="no demonstrations"):
        train(replace(config, exclude=("one/a", "one/b", "one/c", "two/a"), out=out))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_demonstrations_with_other_joints_do_not_fit_together(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = read_demonstrations(Path(config.data) / "two", rate=10.0)
    (other,) = read_demonstrations(Path(config.data) / "two", rate=10.0, base_link="column")
    monkeypatch.setattr("ideomotor_learn.rewards.train_reward.read_demonstrations", lambda *_, **__: [one, other])
    with pytest.raises(LearningError, match=r"on joints \['turn'\], .* on \['lift', 'turn'\]"):
        RewardTraining(replace(config, out=str(tmp_path / "reward")))
