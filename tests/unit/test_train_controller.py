"""The trainer in simulators: artefact, curves, video; the same again after an interruption, or in parallel."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ideomotor.artefacts import ArtefactError, load_artefact
from ideomotor.cli import main
from ideomotor.config import ConfigError
from ideomotor.policies.learned import LearnedController
from ideomotor.policies.motion import MotionError, reach
from ideomotor_learn.policies.exploring import explored
from ideomotor_learn.policies.train_controller import ControllerRun, TrainConfig, train
from ideomotor_learn.policies.training import TrainingError
from ideomotor_sim.effort_tasks import IIWA7
from ideomotor_sim.errors import SimulationError
from tests.unit.test_effort_world import IIWA, SOLO

FAST = TrainConfig(task="arm_reach", iterations=2, hidden=16, updates=10, runs="")


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return replace(FAST, out=str(tmp_path / "out"), runs=str(tmp_path / "runs"))


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "metrics.json").read_text())["history"])


def test_learns_and_shows_it(config: TrainConfig, tmp_path: Path) -> None:
    """The artefact, the folder of the run, and a video in a folder that is made."""
    assert train(replace(config, video=str(tmp_path / "films" / "v.mp4"))) == tmp_path / "out"
    controller = LearnedController.load(tmp_path / "out", IIWA.urdf)
    assert controller.motion.steps == 200
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("controller-")
    assert (run / "errors.png").read_bytes().startswith(b"\x89PNG")
    history = metrics_of(run)
    assert [m["iteration"] for m in history] == [0, 1]
    assert history[-1]["transitions"] == 450
    assert all(m["bound_holds"] for m in history)
    assert history[-1]["performance_error"] == controller.artefact.manifest.metrics["performance_error"]
    assert controller.artefact.manifest.training["noise"] == 0.01
    assert (tmp_path / "films" / "v.mp4").stat().st_size > 1000


def test_the_command_line_learns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reach(IIWA7.joints, np.zeros(7), np.full(7, 0.2), duration=0.1).save(tmp_path / "mine.npz")
    arguments = ["--task", "arm_reach", "--out", str(tmp_path / "out"), "--iterations", "1", "--updates", "2"]
    more = ["--hidden", "8", "--runs", "", "--payload", "1.5", "--friction", "0.5", "--seed", "3"]
    with pytest.raises(SystemExit) as end:
        main(["train", "controller", *arguments, *more, "--target", str(tmp_path / "mine.npz")])
    assert end.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out")
    manifest = load_artefact(tmp_path / "out", modality="policy").manifest
    assert (manifest.seed, manifest.extra["steps"], manifest.metrics["transitions"]) == (3, 25, 75)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.npz", "out"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "fly"], "task='fly', expected one of"),
        (["--iterations", "0"], "iterations=0 is outside"),
        (["--payload", "-1"], "payload=-1.0, expected at least 0"),
        (["--resume", "nowhere"], "nowhere: no run to resume"),
        (["--simulator", "nowhere.sim"], "simulator='nowhere.sim': it cannot be imported"),
    ],
)
def test_bad_input_ends_with_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "controller", "--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs"), *arguments])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_interrupted_it_ends_the_same(config: TrainConfig, tmp_path: Path) -> None:
    """Stopped in the middle of the second of three iterations and resumed: the same artefact, bit for bit."""
    whole = replace(config, iterations=3)
    train(replace(whole, out=str(tmp_path / "whole"), runs=""))
    run = ControllerRun(whole)
    steps = run.iterations()
    next(steps)
    run.training.fit()  # it was learning when it was stopped
    assert run.folder is not None
    resumed = TrainConfig(out=str(tmp_path / "again"), iterations=3, resume=str(run.folder))
    train(resumed)
    a, b = (load_artefact(tmp_path / name, modality="policy").manifest for name in ("whole", "again"))
    assert [m.sha256 for m in a.models] == [m.sha256 for m in b.models]
    assert (a.metrics, a.data_sha256) == (b.metrics, b.data_sha256)
    assert len(metrics_of(run.folder)) == 3
    assert train(resumed) == tmp_path / "again"  # nothing left to do: the artefact again
    with pytest.raises(TrainingError, match=r"hidden=32: the run in .* began with 16 and keeps to it"):
        train(replace(resumed, hidden=32))
    with pytest.raises(TrainingError, match=r"payload=1.0: the run in .* began with None"):
        train(replace(resumed, payload=1.0))


def test_a_run_that_cannot_be_read_is_refused_and_left_as_it_was(config: TrainConfig, tmp_path: Path) -> None:
    run = ControllerRun(config)
    next(run.iterations())
    assert run.folder is not None
    for name in ("settings.json", "weights.safetensors"):
        content = (run.folder / name).read_bytes()
        (run.folder / name).write_bytes(content[: len(content) // 2])
        before = {p.name: p.read_bytes() for p in run.folder.iterdir()}
        with pytest.raises(TrainingError, match="no run to resume"):
            train(replace(config, resume=str(run.folder)))
        assert {p.name: p.read_bytes() for p in run.folder.iterdir()} == before
        (run.folder / name).write_bytes(content)


def test_workers_change_nothing(config: TrainConfig, tmp_path: Path) -> None:
    """Three rollouts an iteration, in this process or in two others."""
    three = replace(config, episodes_per_iteration=3, iterations=1, runs="")
    manifests = []
    for workers in (0, 2):
        out = tmp_path / str(workers)
        train(replace(three, out=str(out), workers=workers))
        manifests.append(load_artefact(out, modality="policy").manifest)
    a, b = manifests
    assert [m.sha256 for m in a.models] == [m.sha256 for m in b.models]
    assert a.metrics == b.metrics
    assert a.metrics["transitions"] == 650


def test_a_robot_that_falls_gives_what_it_did_until_then(config: TrainConfig, tmp_path: Path) -> None:
    """What has hardly learned falls: its episodes are shorter than the motion, and are learned from."""
    run = ControllerRun(replace(config, task="solo12_walk", runs=""))
    assert run.config.noise == 0.05
    last = list(run.iterations())[-1]
    assert run.training.episodes[0].steps <= 50
    assert any(e.steps < 200 for e in run.training.episodes[1:])
    assert last.transitions == sum(e.steps for e in run.training.episodes)
    run.export()
    assert LearnedController.load(tmp_path / "out", SOLO.urdf).structure.floating_base


def test_what_cannot_be_is_refused_before_anything_is_written(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(ArtefactError, match="out is there and is no artefact"):
        train(config)
    new = replace(config, out=str(tmp_path / "new"))
    with pytest.raises(MotionError, match=r"none.npz is no target motion"):
        train(replace(new, target="none.npz"))
    with pytest.raises(TrainingError, match=r"target='none', expected a file .npz"):
        train(replace(new, target="none"))
    reach(("a",), np.zeros(1), np.ones(1)).save(tmp_path / "other.npz")
    with pytest.raises(TrainingError, match="the motion is of joints"):
        train(replace(new, target=str(tmp_path / "other.npz")))
    with pytest.raises(TrainingError, match=r"simulator='json': it has no \['effort_task', "):
        train(replace(new, simulator="json"))
    with pytest.raises(TrainingError, match="friction=nan, expected at least 0"):
        train(replace(new, friction=float("nan")))
    with pytest.raises(SimulationError, match="task='fly'"):
        train(replace(new, task="fly"))
    with pytest.raises(ConfigError, match="workers=-1"):
        replace(new, workers=-1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.npz", "out"]


def test_friction_is_the_grounds_or_the_joints(config: TrainConfig) -> None:
    legs, arm = (
        ControllerRun(replace(config, task=t, friction=0.3, payload=0.5)) for t in ("solo12_walk", "arm_track")
    )
    assert (legs._task.contact_friction, legs._task.payload) == (0.3, 0.5)
    assert (arm._task.joint_friction, arm._task.payload) == (0.3, 0.5)


def test_runs_that_begin_in_the_same_second_have_their_own_folders(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.strftime", lambda _: "now")
    (tmp_path / "runs" / "controller-now").mkdir(parents=True)
    assert ControllerRun(config).folder == tmp_path / "runs" / "controller-now-2"


def test_exploration_follows_from_seed_and_start_not_from_the_batch() -> None:
    limit, q = np.array([1.0, 2.0]), np.random.default_rng(0).normal(size=(3, 2))

    def efforts(rows: list[int], seed: int) -> np.ndarray:
        policy = explored(lambda k, q, v, force: np.zeros((len(q), 2)), 0.2, limit, seed)
        return np.array([policy(k, q[rows], q[rows], q[rows]) for k in range(200)])

    together, apart = efforts([0, 1, 2], 7), [efforts([k], 7) for k in range(3)]
    for k in range(3):
        np.testing.assert_array_equal(together[:, k], apart[k][:, 0])
    assert not np.array_equal(together, efforts([0, 1, 2], 8))
    assert np.abs(np.corrcoef(together[:, 0, 0], together[:, 1, 0])[0, 1]) < 0.3
    np.testing.assert_allclose(together.std((0, 1)), 0.2 * limit, rtol=0.1)
    assert (np.abs(together) <= limit).all()
