"""The ancestor: costs against their formulas, unrolled gradients against finite differences, the published losses."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from benchmarks.rewards.ancestor import measure_ancestor, published_chain, published_demonstrations
from ideomotor.config import ConfigError
from ideomotor.data.demonstrations import Demonstration
from ideomotor_learn.rewards import ancestors
from ideomotor_learn.rewards.ancestors import (
    FAMILIES,
    AncestorConfig,
    AncestorCost,
    AncestorError,
    Example,
    execute_ancestor,
    initial_cost,
    learn_ancestor,
    outer_losses,
    outer_steps,
)

CHAIN = published_chain()
PLACING = published_demonstrations(CHAIN, np.random.default_rng(0))


def shortened(example: Example, states: int) -> Example:
    index = np.linspace(0, len(example.keypoints) - 1, states).round().astype(int)
    return Example(f"{example.source}, {states} states", example.q0, example.keypoints[index])


def random_cost(family: str, states: int = 10, **config: object) -> AncestorCost:
    rng = np.random.default_rng(1)
    examples = [shortened(PLACING[0], states)]
    cost = initial_cost(examples, AncestorConfig(family=family, **config))
    noise = torch.from_numpy(rng.uniform(0.5, 1.5, cost.parameters.shape))
    return dataclasses.replace(cost, parameters=cost.parameters * noise)


# --- costs


def test_weights_are_the_published_sums() -> None:
    """The costs as the published code writes them, on random trajectories."""
    z, g = torch.from_numpy(np.random.default_rng(2).normal(size=(11, 6))).split([10, 1])
    squared = (z - g) ** 2
    weighted, timedep, rbf = (random_cost(family) for family in ("weighted", "timedep", "rbf"))
    K = torch.tensor([[np.exp(-((c - t) ** 2) / 2.0) for c in (0, 2, 4, 6, 9)] for t in range(10)])
    published = {
        "weighted": (squared @ weighted.parameters[0]).mean(),
        "timedep": (timedep.parameters * squared).mean(),
        "rbf": (K @ rbf.parameters * squared).sum(0).mean(),
    }
    for cost in (weighted, timedep, rbf):
        torch.testing.assert_close((cost.weights(10) * squared).sum(), published[cost.config.family])


def test_weights_at_other_horizons() -> None:
    """By the clock, by the clock, whatever, and stretched: its ends stay its ends."""
    timedep, rbf, weighted, stretched = (random_cost(f) for f in ("timedep", "rbf", "weighted", "stretched"))
    for states in (5, 10, 20):
        n = min(states, 10)
        torch.testing.assert_close(states * timedep.weights(states)[:n], 10 * timedep.weights(10)[:n])
        torch.testing.assert_close(
            states * timedep.weights(states)[n:], 10 * timedep.weights(10)[-1:].expand(states - n, 6)
        )
        torch.testing.assert_close(rbf.weights(states)[:n], rbf.weights(10)[:n])
        torch.testing.assert_close(weighted.weights(states).sum(0), weighted.parameters[0])
        torch.testing.assert_close(states * stretched.weights(states)[[0, -1]], 10 * stretched.weights(10)[[0, -1]])
    torch.testing.assert_close(19 * stretched.weights(19)[::2], 10 * stretched.weights(10))
    between = 10 * (stretched.weights(10)[1:] + stretched.weights(10)[:-1]) / 2
    torch.testing.assert_close(19 * stretched.weights(19)[1::2], between)
    torch.testing.assert_close(stretched.weights(10), stretched.parameters / 60)


@pytest.mark.parametrize("family", FAMILIES)
def test_softplus_begins_at_the_same_weights_and_stays_positive(family: str) -> None:
    raw, positive = (initial_cost(PLACING, AncestorConfig(family=family, positive=p)) for p in (False, True))
    torch.testing.assert_close(raw.weights(10), positive.weights(10))
    config = AncestorConfig(family=family, positive=True, outer_rate=0.3, outer_steps=30)
    assert (learn_ancestor(PLACING[:3], CHAIN, config).cost.weights(10) > 0).all()


# --- inner problem


def test_an_inner_step_is_down_the_gradient() -> None:
    """u = -rate dc/du, by finite differences of the cost of a rollout made by hand; every horizon by 10/T."""
    for states in (10, 6):
        cost = random_cost("timedep", states)
        example = shortened(PLACING[0], states)
        goal = example.keypoints[-1]
        W = cost.weights(states).numpy()

        def c(u: np.ndarray, q0: np.ndarray = example.q0, goal: np.ndarray = goal, W: np.ndarray = W) -> float:
            q = q0 + np.vstack([np.zeros(7), np.cumsum(u, axis=0)])
            z = 100 * CHAIN.keypoints(torch.from_numpy(q)).numpy()
            return float((W * ((z - 100 * goal) ** 2).reshape(len(z), -1)).sum())

        gradient = np.zeros((states - 1, 7))
        for t, i in itertools.product(range(states - 1), range(7)):
            h = np.zeros_like(gradient)
            h[t, i] = 1e-5
            gradient[t, i] = (c(h) - c(-h)) / 2e-5
        q = execute_ancestor(cost, CHAIN, example.q0, goal, states).q
        np.testing.assert_allclose(np.diff(q, axis=0), -1e-3 * 10 / states * gradient, atol=1e-9)


def test_joint_limits_hold() -> None:
    """A cost that pulls hard, to a goal out of reach."""
    cost = dataclasses.replace(random_cost("weighted"), parameters=torch.full((1, 6), 100.0).double())
    rollout = execute_ancestor(cost, CHAIN, PLACING[0].q0, np.array([[9.0, 9.0, -9.0]] * 2), 10)
    q = torch.from_numpy(rollout.q)
    assert (q >= CHAIN.lower).all()
    assert (q <= CHAIN.upper).all()
    assert ((q == CHAIN.lower) | (q == CHAIN.upper)).any()
    np.testing.assert_array_equal(rollout.q[0], PLACING[0].q0)
    np.testing.assert_allclose(rollout.keypoints, CHAIN.keypoints(q), atol=1e-12)


# --- outer problem


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("inner_steps", [1, 3])
def test_gradient_through_the_inner_steps(family: str, inner_steps: int) -> None:
    """Of the outer loss by the parameters, demonstrations of different lengths, against finite differences."""
    cost = random_cost(family, inner_steps=inner_steps, inner_rate=1e-4, positive=True)
    batch = ancestors._Batch.of([PLACING[0], shortened(PLACING[1], 6)], CHAIN)

    def loss(parameters: torch.Tensor) -> torch.Tensor:
        u = ancestors._solve(batch, CHAIN, dataclasses.replace(cost, parameters=parameters))
        return batch.loss(ancestors._trajectory(batch, CHAIN, u))

    assert torch.autograd.gradcheck(loss, cost.parameters.requires_grad_(), eps=1e-5, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_demonstrations_of_different_lengths_are_solved_on_their_own(family: str) -> None:
    """A padded batch is its demonstrations one by one, and its loss is that of what would be executed."""
    cost = random_cost(family)
    examples = [PLACING[0], shortened(PLACING[1], 6), shortened(PLACING[2], 8)]
    together = outer_losses(cost, CHAIN, examples)
    np.testing.assert_allclose(together, [outer_losses(cost, CHAIN, [e])[0] for e in examples], rtol=1e-12)
    for loss, e in zip(together, examples, strict=True):
        z = execute_ancestor(cost, CHAIN, e.q0, e.keypoints[-1], len(e.keypoints)).keypoints
        assert loss == pytest.approx(1e4 * ((z - e.keypoints) ** 2).sum() / 6, rel=1e-9)


def test_learning_from_different_lengths() -> None:
    """Lengths 6 to 14: the stretched cost learns from them."""
    examples = [shortened(e, states) for e, states in zip(PLACING, (6, 8, 10, 12, 14), strict=False)]
    config = AncestorConfig(family="stretched", outer_steps=60)
    begin, learned = initial_cost(examples, config), learn_ancestor(examples, CHAIN, config)
    assert learned.cost.states == 14
    assert learned.train_loss.shape == (60,)
    before, after = (outer_losses(cost, CHAIN, examples).mean() for cost in (begin, learned.cost))
    assert learned.train_loss[0] == pytest.approx(before)
    assert after < learned.train_loss[-1] < 0.4 * before


def test_losses_that_others_found() -> None:
    """Test loss after 100 outer steps [cm^2], within 20 %; on the published draws, and on the port's own."""
    measured = measure_ancestor([0])
    for family, expected in (("weighted", 320.0), ("timedep", 150.0), ("rbf", 100.0)):
        for key in (f"ancestor_{family}_test", f"ancestor_{family}_other_draws_test"):
            assert [seed for seed, _ in measured[key]] == [0]
            assert measured[key][0][1] == pytest.approx(expected, rel=0.2)


def test_the_published_draws() -> None:
    """Standing still costs what the published script prints before it learns [cm^2]."""
    train = published_demonstrations(CHAIN)[:3]
    still = np.mean([1e4 * ((e.keypoints[0] - e.keypoints) ** 2).sum() / 6 for e in train])
    assert still == pytest.approx(1552.7, abs=0.05)


@pytest.mark.parametrize(
    ("family", "train", "test"),
    [("weighted", 227.333, 223.690), ("timedep", 99.262, 92.769), ("rbf", 115.418, 87.721)],
)
def test_losses_of_the_published_code(family: str, train: float, test: float) -> None:
    """What its own script prints last on these demonstrations, in single precision [cm^2]."""
    learned = learn_ancestor(PLACING[:3], CHAIN, AncestorConfig(family=family, per_demonstration=True))
    assert learned.train_loss[-1] == pytest.approx(train, rel=1e-3)
    assert outer_losses(learned.cost, CHAIN, PLACING[3:5]).mean() == pytest.approx(test, rel=1e-3)


def test_an_example_is_a_demonstrations_start_and_keypoints() -> None:
    q, z = np.arange(35.0).reshape(5, 7), np.arange(30.0).reshape(5, 2, 3)
    example = Example.of(Demonstration("bag: placing", np.arange(5.0), CHAIN, q, ("a", "b"), z))
    assert example.source == "bag: placing"
    np.testing.assert_array_equal(example.q0, q[0])
    np.testing.assert_array_equal(example.keypoints, z)


# --- bad input


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (Example("a", np.zeros(6), np.zeros((5, 2, 3))), r"a: q0=\[0.0, .* expected finite, \(7,\)"),
        (Example("b", np.full(7, np.nan), np.zeros((5, 2, 3))), "b: q0="),
        (
            Example("c", np.zeros(7), np.zeros((5, 3, 3))),
            r"c: keypoints of shape \(5, 3, 3\), expected finite, \(T, 2, 3\)",
        ),
        (Example("d", np.zeros(7), np.zeros((1, 2, 3))), r"d: .* with T >= 2"),
        (Example("e", np.zeros(7), np.full((5, 2, 3), np.inf)), "e: keypoints"),
    ],
)
def test_bad_demonstrations(example: Example, message: str) -> None:
    with pytest.raises(AncestorError, match=message):
        learn_ancestor([PLACING[0], example], CHAIN, AncestorConfig())
    with pytest.raises(AncestorError, match=message):
        outer_losses(random_cost("rbf"), CHAIN, [example])


def test_bad_use() -> None:
    with pytest.raises(AncestorError, match="no demonstrations"):
        learn_ancestor([], CHAIN, AncestorConfig())
    cost = random_cost("rbf")
    with pytest.raises(AncestorError, match=r"start and goal: keypoints of shape \(2, 1, 3\)"):
        execute_ancestor(cost, CHAIN, np.zeros(7), np.zeros((1, 3)), 2)
    for states in (1, 0, -1):
        with pytest.raises(AncestorError, match=r"start and goal: .* T >= 2"):
            execute_ancestor(cost, CHAIN, np.zeros(7), np.zeros((2, 3)), states)
    with pytest.raises(ConfigError, match="family='cubic' is not one of"):
        AncestorConfig(family="cubic")


def test_divergence_is_an_error() -> None:
    config = AncestorConfig(family="weighted", inner_rate=1e300)
    with pytest.raises(AncestorError, match="the outer loss is nan: the inner steps diverged under"):
        next(outer_steps(PLACING, CHAIN, dataclasses.replace(initial_cost(PLACING, config))))
