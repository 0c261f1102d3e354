"""The artefact of a controller: what was exported is what was learned, bound to one robot, checked."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ideomotor.artefacts import ArtefactError, load_artefact
from ideomotor.data.experience import Episode
from ideomotor.policies.goals import next_goal
from ideomotor.policies.learned import LearnedController
from ideomotor_learn.policies.samples import samples_from
from ideomotor_learn.policies.training import ControllerConfig, ControllerTraining
from tests.unit.small_robots import begun, rollout, solo_episode, solo_states, solo_training
from tests.unit.test_rigid_body import IIWA_URDF, LEGS, SOLO_URDF, arm_urdf

SMALL = ControllerConfig(hidden=16, updates=10)


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> tuple[ControllerTraining, Path]:
    training = begun(SMALL)
    training.fit()
    return training, training.export(tmp_path_factory.mktemp("arm") / "artefact").folder


@pytest.fixture(scope="module")
def solo(tmp_path_factory: pytest.TempPathFactory) -> tuple[ControllerTraining, Path]:
    training = solo_training()
    return training, training.export(tmp_path_factory.mktemp("solo") / "artefact").folder


def torch_effort(training: ControllerTraining, episode: Episode) -> np.ndarray:
    """What the controller that was learned answers to an episode's states."""
    s = samples_from(episode, training.body, training.motion, training.config.position_gain)
    assert training._scales is not None
    with torch.no_grad():
        return training.controller(s.state, s.goal_velocity - s.velocity, s.goal_force, training._scales).numpy()


def check_export(training: ControllerTraining, folder: Path, episode: Episode) -> None:
    controller = LearnedController.load(folder, training.urdf)
    q, v, force = episode.q[:-1], episode.v[:-1], episode.force[:-1]
    exported = controller.effort(np.arange(len(q)), q, v, force)
    np.testing.assert_allclose(exported, torch_effort(training, episode), atol=1e-4)
    for k in range(len(q)):  # one robot at a time
        alone = controller.effort(k, q[k : k + 1], v[k : k + 1], force[k : k + 1])
        np.testing.assert_allclose(alone[0], exported[k], atol=1e-5)
    for name in ("q", "v", "force"):
        np.testing.assert_array_equal(getattr(controller.motion, name), getattr(training.motion, name))
    assert controller.structure == training.structure
    assert controller.rate == training.motion.rate


def check_prediction(training: ControllerTraining, folder: Path, episode: Episode) -> None:
    controller, s = (
        LearnedController.load(folder, training.urdf),
        samples_from(episode, training.body, training.motion, training.config.position_gain),
    )
    velocity, force = controller.predict(episode.q[:-1], episode.v[:-1], episode.force[:-1], episode.effort)
    assert training._scales is not None
    with torch.no_grad():
        expected = training.model(s.state, s.velocity, s.free, s.per_effort, s.effort, training._scales)
    np.testing.assert_allclose(velocity, expected[0], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(force, axis=1), expected[1].norm(dim=1), atol=1e-4)  # in other axes


def test_an_arm(arm: tuple[ControllerTraining, Path]) -> None:
    episode = rollout(lambda k, q, v, f: np.ones((1, 2)), 10, np.random.default_rng(5))
    check_export(*arm, episode)
    check_prediction(*arm, episode)


def test_a_floating_base_with_contacts(solo: tuple[ControllerTraining, Path]) -> None:
    check_export(*solo, solo_episode(seed=7))
    check_prediction(*solo, solo_episode(seed=7))


def test_a_neural_model(tmp_path: Path) -> None:
    training = begun(replace(SMALL, semi_parametric=False))
    training.fit()
    episode = rollout(lambda k, q, v, f: np.ones((1, 2)), 10, np.random.default_rng(5))
    check_prediction(training, training.export(tmp_path / "a").folder, episode)


def test_efforts_towards_the_goal_are_the_efforts(solo: tuple[ControllerTraining, Path]) -> None:
    controller = LearnedController.load(solo[1], SOLO_URDF)
    q, v, force, _ = solo_states(3, 4)
    goal = next_goal(controller.motion, np.array([2, 2, 2]), q, solo[0].config.position_gain)
    np.testing.assert_array_equal(controller.effort_towards(*goal, q, v, force), controller.effort(2, q, v, force))


def test_efforts_are_limited_and_what_is_no_number_stays_none(arm: tuple[ControllerTraining, Path]) -> None:
    controller = LearnedController.load(arm[1], arm_urdf())
    far = controller.effort(0, np.full((1, 2), 1e4), np.full((1, 2), -1e4), np.zeros((1, 0)))
    assert (np.abs(far) <= controller.body.effort_limit).all()
    assert np.isnan(controller.effort(0, np.full((1, 2), np.nan), np.zeros((1, 2)), np.zeros((1, 0)))).all()


def test_another_robot_is_refused(arm: tuple[ControllerTraining, Path], solo: tuple[ControllerTraining, Path]) -> None:
    for folder, urdf in ((arm[1], SOLO_URDF), (arm[1], IIWA_URDF), (solo[1], arm_urdf()), (arm[1], "no robot")):
        with pytest.raises(ArtefactError, match="the policy does not fit this robot"):
            LearnedController.load(folder, urdf)


def test_another_artefact_is_refused() -> None:
    with pytest.raises(ArtefactError, match="modality is 'keypoints', expected 'policy'"):
        LearnedController.load("artefacts/keypoints", SOLO_URDF)


def set_extra(name: str, new: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["extra"].update({name: new})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_extra("steps", "five"), "extra.steps is 'five', expected int"),
        (set_extra("steps", True), "extra.steps is True, expected int"),
        (set_extra("steps", 0), "extra.steps is 0, expected at least 1"),
        (set_extra("steps", 6), r"motion.onnx: it has no 7 states"),
        (set_extra("floating_base", 1), "extra.floating_base is 1, expected bool"),
        (set_extra("floating_base", False), "(models are|inputs are|outputs are)"),
        (set_extra("contact_links", ["FL_FOOT"]), "outputs are|inputs are"),
        (set_extra("contact_links", ["moon"] * 4), "expected each once"),
        (set_extra("contact_links", [1, 2, 3, 4]), "extra.contact_links is .*, expected a list of str"),
        (set_extra("rotor_inertia", ["a"]), "extra.rotor_inertia is .*, expected a list of float"),
        (set_extra("rotor_inertia", [0.1]), "rotor_inertia has 1 values, expected 12"),
        (set_extra("position_gain", -1.0), "extra.position_gain is -1.0, expected at least 0"),
        (set_extra("position_gain", float("nan")), "extra.position_gain is nan"),
        (set_extra("semi_parametric", None), "extra.semi_parametric is None, expected bool"),
        (lambda m: m["joint_names"].reverse(), ""),  # another order is another contract, but of the same sizes
        (lambda m: m["joint_names"].pop(), "rotor_inertia has 12 values, expected 11"),
        (lambda m: m["joint_names"].append(LEGS[0]), "joint_names repeats"),
        (lambda m: m["models"].pop(), "models are"),
    ],
)
def test_manifests_that_do_not_fit_are_refused(
    change: Callable[[dict[str, Any]], None], message: str, solo: tuple[ControllerTraining, Path], tmp_path: Path
) -> None:
    for path in solo[1].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    change(manifest)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    if not message:
        assert LearnedController.load(tmp_path, SOLO_URDF).structure.joints == LEGS[::-1]
        return
    with pytest.raises(ArtefactError, match=message):
        LearnedController.load(tmp_path, SOLO_URDF)


def test_the_manifest(solo: tuple[ControllerTraining, Path]) -> None:
    manifest = load_artefact(solo[1], modality="policy").manifest
    assert manifest.joint_names == LEGS
    assert manifest.rate == 250.0
    assert manifest.training["position_gain"] == solo[0].config.position_gain
    assert manifest.extra["contact_links"] == ["FL_FOOT", "FR_FOOT", "HL_FOOT", "HR_FOOT"]
    assert [m.file for m in manifest.models] == ["policy.onnx", "forward_model.onnx", "motion.onnx"]


def test_the_code_of_the_page_runs(arm: tuple[ControllerTraining, Path]) -> None:
    found = re.search(r"```python\n(.*?)```", Path("docs/forward_model_error.md").read_text(), re.DOTALL)
    assert found is not None
    q, v, force = np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 0))
    names: dict[str, Any] = {"urdf": arm_urdf(), "step": 0, "q": q, "v": v, "force": force}
    exec(compile(found[1].replace("runs/arm", str(arm[1])), "forward_model_error.md", "exec"), names)
    assert names["effort"].shape == names["velocity"].shape == (2, 2)
