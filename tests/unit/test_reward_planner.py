"""Planning under a learned reward: exact derivatives, paths that do not depend on the number of steps, bad input."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from ideomotor.body.chain import ChainError, KinematicChain
from ideomotor.body.urdf import load_urdf
from ideomotor.planning.held_points import HeldPoints
from ideomotor.planning.reward_planner import PathProblem, PlannerConfig, PlanningError, _Terms, plan, resampled
from ideomotor.rewards.weights import Reward, Uniform, Weights

CHAIN = KinematicChain.from_urdf(load_urdf(Path("urdf/iiwa7.urdf.xacro")), ee_link="gripper_tcp")
POINTS = HeldPoints(CHAIN, np.array([[0.0, 0.0, 0.05], [0.01, 0.0, 0.1], [0.01, 0.005, 0.15], [0.0, 0.02, 0.2]]))
Q0 = np.array([-0.3, 0.5, 0.0, -1.3, 0.0, 1.0, 0.0])
Q1 = Q0 + np.array([0.6, 0.2, 0.0, 0.3, 0.1, 0.3, 0.2])
TURNED = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
TURNED *= np.sign(np.linalg.det(TURNED))


class AcrossFirst:
    """While the first keypoint is far from the goal along x, moving along z is dear; a smooth function of the state."""

    def weights(self, relative: np.ndarray, progress: np.ndarray) -> Weights:
        n, d = relative.shape
        up = np.tile([0.0, 0.0, 3.0], d // 3)
        far = np.tanh(20.0 * relative[:, :1] ** 2)
        w = np.exp(up * far)
        gradient = np.zeros((n, d, d))
        gradient[:, :, 0] = w * up * (1 - far**2) * 40.0 * relative[:, :1]
        return Weights(w, gradient, np.zeros((n, d)), np.zeros((n, d)))


class DownLast:
    """Moving along z is dear in the first half."""

    def weights(self, relative: np.ndarray, progress: np.ndarray) -> Weights:
        n, d = relative.shape
        w = np.exp(np.outer(np.where(progress < 0.5, 3.0, -3.0), np.tile([0.0, 0.0, 1.0], d // 3)))
        return Weights(w, np.zeros((n, d, d)), np.zeros((n, d)), np.zeros((n, d)))


class Lifted:
    """In the middle third a waypoint 10 cm above the goal pulls upwards."""

    def weights(self, relative: np.ndarray, progress: np.ndarray) -> Weights:
        n, d = relative.shape
        pull = np.outer(500.0 * np.exp(-(((progress - 0.5) / 0.1) ** 2)), np.tile([0.0, 0.0, 1.0], d // 3))
        return Weights(np.ones((n, d)), np.zeros((n, d, d)), pull, np.full((n, d), 0.1))


def problem(reward: Reward, R: np.ndarray | None = None) -> PathProblem:
    return PathProblem(POINTS, reward, Q0, POINTS.at(Q1[None])[0], np.eye(3) if R is None else R)


@pytest.mark.parametrize("reward", [Uniform(), AcrossFirst(), DownLast(), Lifted()], ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_gradient_is_that_of_finite_differences(reward: Reward, steps: int) -> None:
    rng, config = np.random.default_rng(steps), PlannerConfig(limit_weight=10.0)
    p = problem(reward, TURNED)
    q = resampled(np.stack([Q0, Q1]), steps) + rng.normal(0.0, 0.05, (steps + 1, 7))
    q[-1, 3] = CHAIN.lower[3] - 0.1  # beyond a limit: that term counts too
    _, gradient = _Terms.at(p, q, config).normal_equations()
    numeric = np.zeros_like(gradient)
    for t in range(steps):
        for i in range(7):
            d = np.zeros_like(q)
            d[t + 1, i] = 1e-6
            numeric[t, i] = (_Terms.at(p, q + d, config).cost - _Terms.at(p, q - d, config).cost) / 2e-6
    np.testing.assert_allclose(2 * gradient, numeric, rtol=1e-5, atol=1e-5 * np.abs(numeric).max())


def test_normal_equations_are_those_of_the_residuals() -> None:
    """The banded matrix against the Jacobian of all residuals by finite differences."""
    steps, config = 3, PlannerConfig()
    p = problem(AcrossFirst(), TURNED)
    q = resampled(np.stack([Q0, Q1]), steps)

    def residuals(free: np.ndarray) -> np.ndarray:
        terms = _Terms.at(p, np.concatenate([Q0[None], free.reshape(steps, 7)]), config)
        return np.concatenate([x.ravel() for x in (terms.step, terms.goal, terms.joints, terms.limits)])

    free = q[1:].ravel()
    J = np.stack([(residuals(free + d) - residuals(free - d)) / 2e-6 for d in 1e-6 * np.eye(len(free))], axis=1)
    bands, _ = _Terms.at(p, q, config).normal_equations()
    size = len(free)
    dense = np.zeros((size, size))
    for row in range(size):
        for column in range(row, min(size, row + len(bands))):
            dense[row, column] = dense[column, row] = bands[len(bands) - 1 + row - column, column]
    np.testing.assert_allclose(dense, J.T @ J, rtol=1e-4, atol=1e-4 * np.abs(dense).max())


def test_the_plan_is_a_minimum() -> None:
    """A general optimiser, started at the plan, finds nothing better."""
    steps, config = 4, PlannerConfig(goal_weight=100.0, tolerance=1e-7)
    p = problem(AcrossFirst())
    found = plan(p, steps, config)
    assert found.converged

    def cost(free: np.ndarray) -> float:
        return _Terms.at(p, np.concatenate([Q0[None], free.reshape(steps, 7)]), config).cost

    better = minimize(cost, found.q[1:].ravel(), method="L-BFGS-B", options={"maxiter": 50})
    assert better.fun >= found.cost * (1 - 1e-6)


@pytest.mark.parametrize("reward", [Uniform(), AcrossFirst(), DownLast(), Lifted()], ids=lambda r: type(r).__name__)
def test_the_path_does_not_depend_on_the_number_of_steps(reward: Reward) -> None:
    paths = {steps: plan(problem(reward), steps) for steps in (20, 50, 100, 200)}
    reference = resampled(paths[200].keypoints.reshape(201, -1), 20)
    for found in paths.values():
        assert found.converged
        assert np.linalg.norm(found.keypoints[-1] - problem(reward).goal, axis=1).max() < 1e-3
        at = resampled(found.keypoints.reshape(found.steps + 1, -1), 20)
        assert np.abs(at - reference).max() < 4e-3  # [m]


def test_weights_shape_the_path() -> None:
    """Where z is dear in the first half, the object goes across before it goes down."""
    middle = plan(problem(DownLast()), 50).keypoints[25, -1]
    start, goal = POINTS.at(Q0[None])[0, -1], POINTS.at(Q1[None])[0, -1]
    assert abs((middle - start)[2]) < 0.1 * abs((goal - start)[2])
    assert np.linalg.norm((middle - goal)[:2]) < 0.5 * np.linalg.norm((start - goal)[:2])
    straight = plan(problem(Uniform()), 50).keypoints[25, -1]
    assert 0.3 < (straight - start)[2] / (goal - start)[2] < 0.7


def test_waypoints_lift_the_path() -> None:
    """In the middle the object is 10 cm above its goal, wherever it started, and it ends on the goal."""
    found = plan(problem(Lifted()), 50)
    assert abs(found.keypoints[25, :, 2] - problem(Lifted()).goal[:, 2] - 0.1).max() < 0.02
    assert np.linalg.norm(found.keypoints[-1] - problem(Lifted()).goal, axis=1).max() < 1e-3


def test_axes_of_the_task_turn_the_path() -> None:
    """Under axes that swap x and z the object goes first along what is x in the base."""
    swap = np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
    start, goal = POINTS.at(Q0[None])[0, -1], POINTS.at(Q1[None])[0, -1]
    middle = plan(problem(DownLast(), swap), 50).keypoints[25, -1]
    assert abs((middle - start)[0]) < 0.2 * abs((goal - start)[0])
    np.testing.assert_allclose(problem(DownLast(), swap).R_base_task, swap)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**16))
def test_paths_stay_within_the_joint_limits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    goal = POINTS.at(CHAIN.random(rng)[None])[0]
    q = plan(PathProblem(POINTS, Uniform(), CHAIN.random(rng), goal, np.eye(3)), 12).q
    assert (q >= CHAIN.lower).all()
    assert (q <= CHAIN.upper).all()


def test_held_points_and_their_derivatives() -> None:
    q = np.array([CHAIN.random(np.random.default_rng(i)) for i in range(5)])
    z, J = POINTS.linearised(q)
    np.testing.assert_allclose(z, POINTS.at(q), atol=1e-12)
    for i in range(7):
        d = np.zeros(7)
        d[i] = 1e-6
        np.testing.assert_allclose(J[..., i], (POINTS.at(q + d) - POINTS.at(q - d)) / 2e-6, atol=1e-6)


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.zeros((2, 2)), np.full((2, 3), np.nan)])
def test_bad_points_are_refused(points: np.ndarray) -> None:
    with pytest.raises(ChainError, match="position_ee"):
        HeldPoints(CHAIN, points)


@pytest.mark.parametrize(
    ("field", "value"), [("q0", np.zeros(6)), ("goal", np.zeros((3, 3))), ("R_base_task", np.full((3, 3), np.nan))]
)
def test_bad_problems_are_refused(field: str, value: np.ndarray) -> None:
    fields = {"points": POINTS, "reward": Uniform(), "q0": Q0, "goal": np.zeros((4, 3)), "R_base_task": np.eye(3)}
    with pytest.raises(PlanningError, match=field):
        PathProblem(**(fields | {field: value}))


@pytest.mark.parametrize("field", ["weight", "gradient", "pull", "waypoint"])
def test_a_reward_that_is_not_finite_is_refused(field: str) -> None:
    class Broken:
        def weights(self, relative: np.ndarray, progress: np.ndarray) -> Weights:
            found = Lifted().weights(relative, progress)
            return replace(found, **{field: np.full_like(getattr(found, field), np.nan)})

    with pytest.raises(PlanningError, match="expected a reward of finite weights"):
        plan(problem(Broken()), 5)


def test_bad_paths_are_refused() -> None:
    with pytest.raises(PlanningError, match="steps=0"):
        plan(problem(Uniform()), 0)
    with pytest.raises(PlanningError, match="path has shape"):
        plan(problem(Uniform()), 5, start=np.full((3, 7), np.inf))
