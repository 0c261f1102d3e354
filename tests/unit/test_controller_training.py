"""The iterations: a small arm learns a reach; runs go on where they ended; bad experience and broken folders."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ideomotor.data.experience import Episode, ExperienceError
from ideomotor.dynamics.rigid_body import RobotStructure
from ideomotor.policies.learned import LearnedController
from ideomotor.policies.motion import Motion, reach
from ideomotor_learn.policies.losses import OBSERVED
from ideomotor_learn.policies.plots import draw_errors, plot_errors
from ideomotor_learn.policies.training import (
    ControllerConfig,
    ControllerTraining,
    TrainingError,
    tracking_error,
)
from tests.unit.small_robots import (
    FAST,
    REACH,
    arm_training,
    begun,
    hold_of,
    rollout,
    solo_episode,
    solo_motion,
    solo_training,
)
from tests.unit.test_rigid_body import ARM, arm_urdf

SMALL = ControllerConfig(hidden=16, updates=10)


def weights(training: ControllerTraining) -> list[torch.Tensor]:
    return [*training.model.state_dict().values(), *training.controller.state_dict().values()]


def equal(a: ControllerTraining, b: ControllerTraining) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def iterate(training: ControllerTraining, folder: Path, count: int) -> None:
    """Learn and run what was learned; exploration follows from the number of the iteration."""
    for _ in range(count):
        training.fit()
        controller = LearnedController.load(training.export(folder).folder, training.urdf)
        training.add_episode(rollout(controller.effort, REACH.steps, np.random.default_rng(len(training.history))))


def test_an_arm_learns_to_reach(tmp_path: Path) -> None:
    """Its hand is heavier than its model knows, its joints are damped: the error falls to a tenth and less."""
    training = begun()
    iterate(training, tmp_path / "arm", 6)
    first, last = training.history[0], training.history[-1]
    assert first.transitions == 150
    assert last.transitions == 50 + 6 * 100
    assert last.robot_seconds == pytest.approx(2.6)
    assert [m.iteration for m in training.history] == list(range(6))
    assert all(m.bound_holds for m in training.history)
    assert last.performance_error < 0.1 * first.performance_error
    assert last.position_error < 0.02 < first.position_error
    assert last.prediction_error < first.prediction_error
    picture = draw_errors(training.history)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert (picture != draw_errors([])).any()
    plot_errors(training.history, tmp_path / "errors.png")
    assert (tmp_path / "errors.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("changes", [{"goals": OBSERVED}, {"prediction_weight": 0.0}, {"semi_parametric": False}])
def test_ablations_learn_something_else(changes: dict[str, object]) -> None:
    """Each switch does something: from the same experience and seed other weights come, and not in its absence."""
    plain, again, other = begun(SMALL), begun(SMALL), begun(replace(SMALL, **changes))  # type: ignore[arg-type]
    for training in (plain, again, other):
        training.fit()
    assert equal(plain, again)
    assert not equal(plain, other)
    assert not equal(plain, begun(replace(SMALL, seed=1)))


def test_a_run_goes_on_where_it_ended(tmp_path: Path) -> None:
    """Resumed after any iteration it ends with the same bits as the run that was never interrupted."""
    whole = begun(SMALL)
    whole.save(tmp_path / "run")
    iterate(whole, tmp_path / "art", 3)
    resumed = ControllerTraining.resume(tmp_path / "run")
    for _ in range(3):
        iterate(resumed, tmp_path / "art2", 1)
        resumed.save(tmp_path / "run")
        resumed = ControllerTraining.resume(tmp_path / "run")
    assert equal(whole, resumed)
    assert resumed.history == whole.history
    assert (resumed.config, resumed.structure, resumed.urdf) == (whole.config, ARM, arm_urdf())
    assert resumed.config == replace(SMALL, position_gain=40.0)  # that of an arm
    for a, b in zip(whole.episodes, resumed.episodes, strict=True):
        np.testing.assert_array_equal(a.effort, b.effort)
    assert resumed.export(tmp_path / "a").manifest == whole.export(tmp_path / "b").manifest
    whole.fit()
    resumed.fit()
    assert equal(whole, resumed)


def test_the_manifest_says_what_was_learned_from(tmp_path: Path) -> None:
    """Not the newest episode, which only measured."""
    training = begun(SMALL)
    training.fit()
    before = training.export(tmp_path / "a").manifest
    training.add_episode(rollout(lambda k, q, v, f: np.zeros((1, 2)), 10, np.random.default_rng(0)))
    after = training.export(tmp_path / "a").manifest
    assert after.data_sha256 == before.data_sha256
    assert before.metrics == {}
    assert after.metrics["performance_error"] == training.history[-1].performance_error
    training.fit()
    assert training.export(tmp_path / "a").manifest.data_sha256 != before.data_sha256


def test_a_killed_attempt_leaves_no_trace(tmp_path: Path) -> None:
    """An episode that was written for an iteration that never ended is replaced by the one that counts."""
    training = begun(SMALL)
    training.save(tmp_path)
    rng = np.random.default_rng(0)
    rollout(lambda k, q, v, f: np.zeros((1, 2)), 10, rng).save(tmp_path / "episode_001.npz")  # then it was killed
    resumed = ControllerTraining.resume(tmp_path)
    assert len(resumed.episodes) == 1
    counts = rollout(lambda k, q, v, f: np.ones((1, 2)), 12, rng)
    resumed.add_episode(counts)
    resumed.save(tmp_path)
    np.testing.assert_array_equal(ControllerTraining.resume(tmp_path).episodes[1].q, counts.q)


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    one, other = begun(SMALL), begun(replace(SMALL, seed=1))
    one.save(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(TrainingError, match="holds another run, expected a new folder"):
        other.save(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    one.save(tmp_path)  # its own


@pytest.mark.parametrize("name", ["weights.safetensors", "motion.npz", "robot.urdf", "episode_000.npz"])
@pytest.mark.parametrize("content", [None, b"", b"\xff" * 100])
def test_a_broken_folder_is_refused_and_left_as_it_was(name: str, content: bytes | None, tmp_path: Path) -> None:
    begun(SMALL).save(tmp_path / "run")
    broken = tmp_path / "run" / name
    broken.unlink() if content is None else broken.write_bytes(content)
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    with pytest.raises(TrainingError, match="run: no run to resume: "):
        ControllerTraining.resume(tmp_path / "run")
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before
    with pytest.raises(TrainingError, match="no run to resume"):
        ControllerTraining.resume(tmp_path / "nothing")


def test_a_run_knows_its_robot_and_its_motion(tmp_path: Path) -> None:
    begun(SMALL).save(tmp_path)
    training = ControllerTraining.resume(tmp_path)
    urdf, structure, motion = training.urdf, training.structure, training.motion
    training.check_same(urdf.replace("<robot", "<!-- made again --><robot", 1), structure, motion)
    changed = motion.v.copy()
    changed[3, 1] += 1e-3
    others: dict[str, tuple[str, RobotStructure, Motion]] = {
        "the robot's description": (arm_urdf(hand=0.8), structure, motion),
        "the robot's rotor_inertia": (urdf, replace(structure, rotor_inertia=(0.1, 0.1)), motion),
        "the motion's v": (urdf, structure, replace(motion, v=changed)),
        "the motion's rate": (urdf, structure, replace(motion, rate=100.0)),
    }
    for what, other in others.items():
        with pytest.raises(TrainingError, match=f"another robot or motion: {what} changed since"):
            training.check_same(*other)


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    """Whatever byte is another, in the header, the record or a weight, and wherever the file ends."""
    training = begun(SMALL)
    training.fit()
    training.save(tmp_path)
    path = tmp_path / "weights.safetensors"
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for i in range(300):
        at = int(rng.integers(len(content) if i % 2 else 3000))
        altered = bytearray(content)
        altered[at] = (altered[at] + 1 + rng.integers(255)) % 256
        path.write_bytes(altered if i % 3 else content[:at])
        with pytest.raises(TrainingError, match="no run to resume"):
            ControllerTraining.resume(tmp_path)
    path.write_bytes(content)
    assert equal(ControllerTraining.resume(tmp_path), training)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    training = begun(SMALL)
    with torch.no_grad():
        next(training.model.parameters())[0, 0] = float("nan")
    training.save(tmp_path)
    with pytest.raises(TrainingError, match=r"model\.change\.0\.weight is not finite"):
        ControllerTraining.resume(tmp_path)


def test_experience_that_is_none_is_refused() -> None:
    training = begun(SMALL)
    good = rollout(lambda k, q, v, f: np.zeros((1, 2)), 5, np.random.default_rng(0))
    with pytest.raises(ExperienceError, match="effort is not finite at step 1"):
        replace(good, effort=np.where(np.arange(5)[:, None] == 1, np.nan, good.effort))
    with pytest.raises(TrainingError, match=r"the episode is of joints.*'elbow', 'shoulder'.*this robot has"):
        training.add_episode(replace(good, joints=ARM.joints[::-1]))
    with pytest.raises(TrainingError, match=r"rate is 200.0 Hz, expected 250.0 Hz"):
        training.add_episodes([good, replace(good, rate=200.0)])
    with pytest.raises(TrainingError, match="floating base"):
        training.add_episode(solo_episode())
    assert (len(training.episodes), training.transitions) == (1, 50)  # nothing of it was taken in


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    """Experience far beyond what floats hold: the run says so, and its weights are those of before."""
    training = begun(SMALL)
    training.fit()
    before = [w.clone() for w in weights(training)]
    good = rollout(lambda k, q, v, f: np.zeros((1, 2)), 5, np.random.default_rng(0))
    training.add_episode(replace(good, v=good.v + 1e38 * np.arange(6.0)[:, None]))
    with pytest.raises(TrainingError, match="the loss is nan after 0 updates: the learning diverged"):
        training.fit()
    assert all(torch.equal(a, b) for a, b in zip(before, weights(training), strict=True))


def test_order_of_use(tmp_path: Path) -> None:
    training = arm_training(SMALL)
    with pytest.raises(TrainingError, match="no experience yet"):
        training.fit()
    with pytest.raises(TrainingError, match="nothing was learned yet"):
        training.export(tmp_path / "a")
    assert training.add_episodes([]) is None
    training.save(tmp_path / "run")
    assert ControllerTraining.resume(tmp_path / "run").episodes == []


def test_several_episodes_are_one_iteration() -> None:
    training = begun(SMALL)
    training.fit()
    two = [rollout(lambda k, q, v, f: np.zeros((1, 2)), 5, np.random.default_rng(i)) for i in range(2)]
    metrics = training.add_episodes(two)
    assert metrics is not None
    assert (metrics.iteration, metrics.transitions, len(training.history)) == (0, 60, 1)
    assert metrics.position_error == pytest.approx(np.mean([tracking_error(e.q[1:], REACH) for e in two]))


def test_pieces_are_the_whole() -> None:
    whole, pieces = begun(SMALL), begun(SMALL)
    whole.fit()
    shares = list(pieces.fit_in_pieces())
    assert equal(whole, pieces)
    assert shares[0] == 0.0
    assert all(a < b for a, b in itertools.pairwise(shares))


@pytest.mark.parametrize(
    ("urdf", "message"),
    [
        (arm_urdf().replace("effort='20.0'", "effort='0'"), "joint 'shoulder' has effort limit 0.0, expected one"),
    ],
)
def test_a_robot_without_limits_is_refused(urdf: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        ControllerTraining(SMALL, urdf, ARM, REACH)


def test_another_robots_motion_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"the motion is of joints \('elbow', 'shoulder'\).*the robot has"):
        arm_training(motion=reach(ARM.joints[::-1], np.zeros(2), np.ones(2)))
    with pytest.raises(TrainingError, match="the motion is of joints"):
        arm_training(motion=solo_motion())


def test_the_hold_holds() -> None:
    """Within the limits, and about the first posture: the arm sags by what its model does not know, not more."""
    training = arm_training(FAST)
    episode: Episode = rollout(hold_of(training), 250, np.random.default_rng(0), 0.0)
    assert np.abs(episode.q - REACH.q[0]).max() < 0.4
    assert np.abs(episode.v[-1]).max() < 0.2
    far = hold_of(training)(0, np.full((3, 2), 100.0), np.zeros((3, 2)), np.zeros((3, 0)))
    np.testing.assert_allclose(far, [[-20.0, -10.0]] * 3)
    solo = solo_training()
    q = np.tile(solo.motion.q[0], (2, 1))
    np.testing.assert_allclose(hold_of(solo)(0, q, np.zeros((2, 18)), np.zeros((2, 12))), 0.0, atol=1e-12)


def test_tracking_error_is_about_the_next_states() -> None:
    assert tracking_error(REACH.q[1:], REACH).max() == 0.0
    np.testing.assert_allclose(tracking_error(REACH.q[1:] + np.array([3.0, 4.0]), REACH), 5.0)
    assert len(tracking_error(np.tile(REACH.q[-1], (300, 1)), REACH)) == 300  # after the end it is held
