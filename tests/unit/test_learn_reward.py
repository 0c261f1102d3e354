"""Learning rewards: families, implicit gradients, paths learned from demonstrations of any pace, the exported graph."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ideomotor.artefacts import ArtefactError
from ideomotor.body.chain import KinematicChain
from ideomotor.body.urdf import load_urdf
from ideomotor.config import ConfigError
from ideomotor.planning.held_points import HeldPoints
from ideomotor.planning.reward_planner import PathProblem, PlannerConfig, plan
from ideomotor.planning.scripted import paced
from ideomotor.rewards.artefact import LearnedReward
from ideomotor.rewards.weights import Reward, Uniform
from ideomotor_learn.rewards import losses
from ideomotor_learn.rewards.export import export_reward
from ideomotor_learn.rewards.families import FAMILIES
from ideomotor_learn.rewards.learn import LearnConfig, LearningError, RewardLearner, Shown, TorchReward, make_model

CHAIN = KinematicChain.from_urdf(load_urdf(Path("urdf/iiwa7.urdf.xacro")), ee_link="gripper_tcp")
POINTS = HeldPoints(CHAIN, np.array([[0.0, 0.0, 0.05], [0.0, 0.01, 0.1], [0.01, 0.0, 0.2]]))
EXACT = PlannerConfig(iterations=2000, tolerance=1e-9)


def bent_path(rng: np.random.Generator) -> np.ndarray:
    """Return joint positions along a path that first turns the arm and then lowers it, shape (60, 7)."""
    q0 = np.array([-0.4, 0.5, 0.0, -1.4, 0.0, 1.1, 0.0]) + rng.normal(0.0, 0.04, 7)
    across, down = np.array([0.7, 0, 0, 0, 0, 0, 0]), np.array([0, 0.3, 0, -0.1, 0, 0.2, 0])
    s = np.linspace(0.0, 1.0, 60)[:, None]
    return q0 + across * np.minimum(2 * s, 1.0) + down * np.maximum(2 * s - 1, 0.0)


def shown(lengths: tuple[int, ...], seed: int = 0, unevenness: float = 0.5) -> list[Shown]:
    rng = np.random.default_rng(seed)
    paths = [bent_path(rng) for _ in lengths]
    q = [paced(path, steps, rng, unevenness) for path, steps in zip(paths, lengths, strict=True)]
    return [Shown(f"demonstration {i}", POINTS, x[0], POINTS.at(x)) for i, x in enumerate(q)]


def random_model(family: str, seed: int = 0) -> torch.nn.Module:
    model = make_model(LearnConfig(family=family), 9, 0.3)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_positive_and_their_gradients_exact(family: str) -> None:
    model, rng = random_model(family), np.random.default_rng(1)
    x, s = torch.from_numpy(rng.normal(0, 0.3, (5, 9))), torch.linspace(0, 1, 5, dtype=torch.float64)
    weight, gradient, pull, _ = model(x, s)
    assert (weight > 0).all()
    assert (pull >= 0).all()
    torch.testing.assert_close(weight, model.log_weights(x, s).exp())
    for i in range(5):
        jacobian = torch.autograd.functional.jacobian(lambda r, i=i: model(r[None], s[i : i + 1])[0][0], x[i])
        torch.testing.assert_close(gradient[i], jacobian)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_reward_prefers_nothing(family: str) -> None:
    model = make_model(LearnConfig(family=family), 9, 0.3)
    weight, gradient, _, waypoint = model(torch.randn(4, 9, dtype=torch.float64), torch.rand(4, dtype=torch.float64))
    torch.testing.assert_close(weight, torch.ones_like(weight))
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))
    torch.testing.assert_close(waypoint, torch.zeros_like(waypoint))


@pytest.mark.parametrize("family", FAMILIES)
def test_outer_gradient_is_that_of_finite_differences(family: str) -> None:
    """The implicit gradient against replanning with changed parameters."""
    horizon, demonstrations = 8, shown((30,))
    config = LearnConfig(family=family, weight_penalty=0.0, planner=EXACT)
    learner = RewardLearner(demonstrations, config)
    with torch.no_grad():
        for p, q in zip(learner.model.parameters(), random_model(family).parameters(), strict=True):
            p.copy_(q)
    (inner,), s = learner._inner, demonstrations[0]
    assert inner.solve(learner.reward, horizon)
    q = inner.q

    def loss() -> float:
        problem = PathProblem(POINTS, learner.reward, s.q0, s.goal, np.eye(3))
        found = torch.from_numpy(plan(problem, horizon, EXACT, start=q.numpy()).keypoints).flatten(1)
        return float(losses.path_distance(found, learner._demonstrated[0])) / 3

    value, slope = learner._loss(inner.chain.keypoints(q)[None].flatten(2))
    assert value == pytest.approx(loss(), rel=1e-6)
    learner._optimiser.zero_grad()
    inner.backward(learner.model, q, slope[0], 0.0)
    for parameter in learner.model.parameters():
        flat, gradient = parameter.detach().view(-1), parameter.grad.flatten()
        for i in gradient.abs().argsort(descending=True)[:2].tolist():
            at, h = float(flat[i]), 1e-4
            flat[i] = at + h
            above = loss()
            flat[i] = at - h
            below = loss()
            flat[i] = at
            assert float(gradient[i]) == pytest.approx((above - below) / (2 * h), rel=0.02, abs=1e-9)


@pytest.mark.parametrize(("family", "loss"), [("progress", "path"), ("progress", "soft_dtw"), ("neural", "path")])
def test_learns_the_bend_from_demonstrations_of_different_pace(family: str, loss: str) -> None:
    """Twenty to seventy steps long, uneven: the planned paths come within a fifth of the straight way's error."""
    demonstrations = shown((20, 40, 70))
    learner = RewardLearner(demonstrations, LearnConfig(family=family, loss=loss, outer_steps=30))
    steps = list(learner.steps())
    assert {s.horizon for s in steps} <= set(range(12, 21))
    (test,) = shown((50,), seed=9)

    def error(reward: Reward, horizon: int) -> float:
        found = plan(PathProblem(POINTS, reward, test.q0, test.goal, np.eye(3)), horizon).keypoints
        pair = torch.from_numpy(found).flatten(1), torch.from_numpy(test.keypoints).flatten(1)
        return float(losses.path_distance(*pair)) ** 0.5

    straight = error(Uniform(), 50)
    errors = [error(learner.reward, horizon) for horizon in (12, 50, 200)]
    assert max(errors) < 0.35 * straight
    assert max(errors) < 1.1 * min(errors)


def test_the_step_wise_loss_needs_one_pace() -> None:
    """It is worse off with uneven paces; the path loss does not care."""
    final = {}
    for loss in ("step_l2", "path"):
        for name, demonstrations in {
            "aligned": shown((40,) * 3, unevenness=0.0),
            "uneven": shown((20, 40, 70)),
        }.items():
            learner = RewardLearner(demonstrations, LearnConfig(loss=loss, outer_steps=20, seed=1))
            final[loss, name] = list(learner.steps())[-1].loss
    assert final["path", "uneven"] < 2 * final["path", "aligned"]
    assert final["step_l2", "uneven"] > final["path", "uneven"]


def test_the_same_seed_learns_the_same() -> None:
    def weights() -> list[torch.Tensor]:
        learner = RewardLearner(shown((20, 30)), LearnConfig(family="neural", outer_steps=3, seed=4))
        list(learner.steps())
        return [p.detach() for p in learner.model.parameters()]

    for a, b in zip(weights(), weights(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.fixture
def export(tmp_path: Path) -> Callable[[str], tuple[torch.nn.Module, Path]]:
    def export(family: str) -> tuple[torch.nn.Module, Path]:
        model = random_model(family)
        export_reward(
            model, tmp_path / "reward", config=LearnConfig(family=family), keypoint_names=["a", "b", "c"],
            shown=shown((10, 20)), duration=3.0, metrics={"loss": 0.1},
        )  # fmt: skip
        return model, tmp_path / "reward"

    return export


@pytest.mark.parametrize("family", FAMILIES)
def test_exported_weights_are_those_of_torch(
    family: str, export: Callable[[str], tuple[torch.nn.Module, Path]]
) -> None:
    model, folder = export(family)
    reward, rng = LearnedReward.load(folder), np.random.default_rng(2)
    assert (reward.keypoint_names, reward.family, reward.duration) == (("a", "b", "c"), family, 3.0)
    assert reward.artefact.manifest.rate == pytest.approx(5.0)  # 15 steps in 3 s
    for n in (1, 7):
        x, s = rng.normal(0, 0.3, (n, 9)), rng.uniform(0, 1, n)
        here, there = reward.weights(x, s), TorchReward(model).weights(x, s)
        np.testing.assert_allclose(here.weight, there.weight, rtol=1e-5)
        np.testing.assert_allclose(here.gradient, there.gradient, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(here.pull, there.pull, rtol=1e-5)
        np.testing.assert_allclose(here.waypoint, there.waypoint, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"duration": 3.0', '"duration": 0', r"extra.duration is 0, expected"),
        ('"c"\n    ]', '"c",\n      "d"\n    ]', r"inputs are .* expected"),
        ('"family": "progress",\n    "duration"', '"family": "",\n    "duration"', r"extra.family is ''"),
        ('"modality": "reward"', '"modality": "keypoints"', "modality is 'keypoints', expected 'reward'"),
    ],
)
def test_foreign_artefacts_are_refused(
    old: str, new: str, message: str, export: Callable[[str], tuple[torch.nn.Module, Path]]
) -> None:
    _, folder = export("progress")
    manifest = folder / "manifest.json"
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new))
    with pytest.raises(ArtefactError, match=message):
        LearnedReward.load(folder)


def test_bad_demonstrations_are_refused() -> None:
    (good,) = shown((20,))
    with pytest.raises(LearningError, match="no demonstrations"):
        RewardLearner([], LearnConfig())
    with pytest.raises(LearningError, match=r"still: the object moves less than 1 mm"):
        Shown("still", POINTS, good.q0, np.repeat(good.keypoints[:1], 5, axis=0))
    with pytest.raises(LearningError, match=r"short: keypoints have shape \(1, 3, 3\)"):
        Shown("short", POINTS, good.q0, good.keypoints[:1])
    two = HeldPoints(CHAIN, POINTS.position_ee[:2])
    other = Shown("other", two, good.q0, good.keypoints[:, :2])
    with pytest.raises(LearningError, match="other: 2 keypoints and 7 joints, demonstration 0 has 3 and 7"):
        RewardLearner([good, other], LearnConfig())


def test_bad_configurations_are_refused() -> None:
    with pytest.raises(ConfigError, match="family='linear'"):
        LearnConfig(family="linear")
    with pytest.raises(LearningError, match="min_horizon=30 is above max_horizon=20"):
        LearnConfig(min_horizon=30)
