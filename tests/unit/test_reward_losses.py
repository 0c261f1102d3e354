"""Distances between trajectories against their definitions, other implementations, and finite differences."""

import numpy as np
import pytest
import torch
import tslearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ideomotor_learn.rewards import losses
from ideomotor_learn.rewards.losses import LossError, path_distance, soft_dtw, soft_dtw_batch, soft_dtw_divergence

L_SHAPE = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]).double()  # a corner


def trajectory(rng: np.random.Generator, states: int, coordinates: int = 3) -> Tensor:
    return torch.from_numpy(rng.normal(size=(states, coordinates)))


def resampled(path: Tensor, states: int) -> Tensor:
    """Equal steps along a polyline of equal segments."""
    s = np.linspace(0, len(path) - 1, states)
    return torch.from_numpy(np.stack([np.interp(s, range(len(path)), c) for c in path.T.numpy()], axis=1))


def alignments(i: int, j: int) -> list[list[tuple[int, int]]]:
    """All monotone ways from (0, 0) to (i, j), by their definition."""
    if i == j == 0:
        return [[(0, 0)]]
    before = [(i - 1, j), (i, j - 1), (i - 1, j - 1)]
    return [[*way, (i, j)] for a, b in before if a >= 0 and b >= 0 for way in alignments(a, b)]


def soft_dtw_by_definition(x: Tensor, y: Tensor, gamma: float) -> float:
    cost = ((x[:, None] - y[None]) ** 2).sum(-1)
    sums = torch.stack([sum(cost[i, j] for i, j in way) for way in alignments(len(x) - 1, len(y) - 1)])
    return float(-gamma * torch.logsumexp(-sums / gamma, 0))


# --- step by step


def test_step_l2_of_a_constant_offset() -> None:
    x = trajectory(np.random.default_rng(0), 5)
    offset = torch.tensor([0.1, -0.2, 0.2]).double()
    assert losses.step_l2(x + offset, x).item() == pytest.approx(0.09)
    assert losses.step_l2(torch.stack([x, x]), torch.stack([x, x + 2 * offset])).tolist() == pytest.approx([0.0, 0.36])
    with pytest.raises(LossError, match=r"x has shape \(5, 3\), y \(4, 3\); step_l2 compares equal ones only"):
        losses.step_l2(x, x[:4])


# --- soft-DTW


@pytest.mark.parametrize(("T1", "T2"), [(1, 1), (1, 4), (5, 1), (2, 3), (5, 5), (6, 4)])
@pytest.mark.parametrize("gamma", [1e-3, 0.1, 2.0])
def test_soft_dtw_is_the_soft_minimum_over_all_alignments(T1: int, T2: int, gamma: float) -> None:
    rng = np.random.default_rng(T1 + 10 * T2)
    x, y = trajectory(rng, T1), trajectory(rng, T2)
    assert soft_dtw(x, y, gamma).item() == pytest.approx(soft_dtw_by_definition(x, y, gamma), rel=1e-12)


@given(seed=st.integers(0, 2**32 - 1), gamma=st.floats(1e-4, 10.0), T1=st.integers(1, 40), T2=st.integers(1, 40))
def test_soft_dtw_agrees_with_tslearn(seed: int, gamma: float, T1: int, T2: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = trajectory(rng, T1, 6), trajectory(rng, T2, 6)
    assert soft_dtw(x, y, gamma).item() == pytest.approx(tslearn.metrics.soft_dtw(x.numpy(), y.numpy(), gamma=gamma))


def test_gradient_of_soft_dtw_agrees_with_tslearn() -> None:
    """Its expected alignment E, summed over the pairs of states: 2 sum_j E_ij (x_i - y_j)."""
    rng = np.random.default_rng(5)
    x, y = trajectory(rng, 12).requires_grad_(), trajectory(rng, 9)
    (gradient,) = torch.autograd.grad(soft_dtw(x, y, 0.5), x)
    E, _ = tslearn.metrics.soft_dtw_alignment(x.detach().numpy(), y.numpy(), gamma=0.5)
    expected = 2 * (E[:, :, None] * (x.detach().numpy()[:, None] - y.numpy()[None])).sum(1)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9)


def test_small_gamma_is_dtw() -> None:
    """Hard dynamic time warping, written down as the recursion it is."""
    rng = np.random.default_rng(1)
    x, y = trajectory(rng, 17), trajectory(rng, 11)
    R = np.full((18, 12), np.inf)
    R[0, 0] = 0.0
    for i in range(17):
        for j in range(11):
            R[i + 1, j + 1] = float((x[i] - y[j]).pow(2).sum()) + min(R[i, j], R[i, j + 1], R[i + 1, j])
    assert soft_dtw(x, y, 1e-6).item() == pytest.approx(R[-1, -1], abs=1e-4)


@given(seed=st.integers(0, 2**32 - 1), lengths=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1))
def test_a_padded_batch_is_its_pairs(seed: int, lengths: list[tuple[int, int]]) -> None:
    """Whatever stands behind the end: values and gradients are those of the pairs, and none behind the end."""
    rng = np.random.default_rng(seed)
    pairs = [(trajectory(rng, a).requires_grad_(), trajectory(rng, b)) for a, b in lengths]
    x, y = (torch.from_numpy(rng.normal(0, 100, (len(pairs), 9, 3))) for _ in range(2))
    for i, (a, b) in enumerate(pairs):
        x[i, : len(a)], y[i, : len(b)] = a.detach(), b
    x.requires_grad_()
    length = torch.tensor([a for a, _ in lengths]), torch.tensor([b for _, b in lengths])
    batch = soft_dtw_batch(x, y, *length, 0.1)
    single = torch.stack([soft_dtw(a, b, 0.1) for a, b in pairs])
    torch.testing.assert_close(batch, single)
    (gradient,) = torch.autograd.grad(batch.sum(), x)
    for row, gradient_pair in zip(gradient, torch.autograd.grad(single.sum(), [a for a, _ in pairs]), strict=True):
        torch.testing.assert_close(row[: len(gradient_pair)], gradient_pair)
        assert not row[len(gradient_pair) :].any()


def test_derivatives_of_soft_dtw() -> None:
    rng = np.random.default_rng(2)
    x, y = trajectory(rng, 4).requires_grad_(), trajectory(rng, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: soft_dtw(a, b, 0.3), (x, y))
    assert torch.autograd.gradgradcheck(lambda a, b: soft_dtw(a, b, 0.3), (x, y))
    (gradient,) = torch.autograd.grad(soft_dtw(x, y, 0.3), x)
    torch.testing.assert_close(torch.func.grad(lambda a: soft_dtw(a, y.detach(), 0.3))(x.detach()), gradient)


def test_divergence_is_a_distance_to_what_equals() -> None:
    """Zero for the same trajectory, positive for another; soft-DTW itself is lowest elsewhere."""
    rng = np.random.default_rng(3)
    for T1, T2 in ((5, 5), (3, 8), (9, 2)):
        x, y = trajectory(rng, T1), trajectory(rng, T2)
        assert soft_dtw_divergence(x, x, 0.5).item() == pytest.approx(0.0, abs=1e-12)
        assert soft_dtw_divergence(x, y, 0.5).item() > 0.0
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(soft_dtw_divergence(x, x.detach(), 0.5), x)
    torch.testing.assert_close(gradient, torch.zeros_like(x), atol=1e-12, rtol=0)


def test_warping_costs_little() -> None:
    """Standing still costs nothing, the same path in half the steps next to nothing, another path a lot."""
    fast, slow = resampled(L_SHAPE, 21), resampled(L_SHAPE, 41)
    straight = resampled(L_SHAPE[::2], 41)
    assert soft_dtw(fast.repeat_interleave(2, dim=0), fast, 1e-6).item() == pytest.approx(0.0, abs=1e-4)
    assert soft_dtw(slow, fast, 1e-4).item() < 0.02 * soft_dtw(straight, fast, 1e-4).item()


# --- paths


def test_path_distance_by_hand() -> None:
    """A line beside a line: 0.3 everywhere; one that stops half way: the other's end is 0.5 away."""
    line = torch.tensor([[0.0, 0.0], [0.5, 0.0], [1.0, 0.0]]).double()
    assert path_distance(line + torch.tensor([0.0, 0.3]), line).item() == pytest.approx(2 * 0.09)
    assert path_distance(line[:2], line).item() == pytest.approx(0.25 / 3)
    assert path_distance(line[:1], line).item() == pytest.approx((0.25 + 1.0) / 3)


@given(seed=st.integers(0, 2**32 - 1))
def test_path_distance_agrees_with_dense_sampling(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = trajectory(rng, 5, 6), trajectory(rng, 8, 6)

    def one_way(points: Tensor, path: Tensor) -> float:
        return float(torch.cdist(points, resampled(path, 2000 * (len(path) - 1) + 1)).pow(2).amin(1).mean())

    assert path_distance(x, y).item() == pytest.approx(one_way(x, y) + one_way(y, x), rel=1e-5)


@pytest.mark.parametrize("states", [3, 5, 21, 101])
def test_number_of_steps_does_not_matter(states: int) -> None:
    """The same path, sampled at its corner and between; also standing still on the way changes nothing."""
    demonstration = resampled(L_SHAPE, 11)
    assert path_distance(resampled(L_SHAPE, states), demonstration).item() == pytest.approx(0.0, abs=1e-30)
    still = demonstration.repeat_interleave(3, dim=0).requires_grad_()
    distance = path_distance(still, demonstration)
    assert distance.item() == pytest.approx(0.0, abs=1e-30)
    assert torch.isfinite(torch.autograd.grad(distance, still)[0]).all()


@pytest.mark.parametrize(
    "loss", [path_distance, lambda x, y: soft_dtw(x, y, 1e-3), lambda x, y: soft_dtw_divergence(x, y, 1e-3)]
)
def test_cutting_a_corner_costs(loss: object) -> None:
    """The more is cut, the more it costs: nearer to the demonstration is cheaper."""
    demonstration = resampled(L_SHAPE, 21)
    costs = []
    for cut in (0.0, 0.1, 0.3, 0.6, 1.0):
        corners = torch.stack([L_SHAPE[0], L_SHAPE[1] + cut * (L_SHAPE[::2].mean(0) - L_SHAPE[1]), L_SHAPE[2]])
        costs.append(float(loss(resampled(corners, 21), demonstration)))
    assert costs == sorted(costs)
    assert costs[1] > costs[0] + 1e-4


def test_derivatives_of_path_distance() -> None:
    rng = np.random.default_rng(4)
    x, y = trajectory(rng, 5).requires_grad_(), trajectory(rng, 7).requires_grad_()
    assert torch.autograd.gradcheck(path_distance, (x, y))
    assert torch.autograd.gradgradcheck(path_distance, (x, y))
    batch = torch.stack([x, 2 * x])
    expected = torch.stack([path_distance(x, y), path_distance(2 * x, y)])
    torch.testing.assert_close(path_distance(batch, y), expected)
    torch.testing.assert_close(torch.func.vmap(path_distance, (0, None))(batch, y), expected)


# --- bad input


@pytest.mark.parametrize(
    ("x", "y", "gamma", "message"),
    [
        ((3, 2), (3, 3), 1.0, r"x has shape \(1, 3, 2\), y \(1, 3, 3\)"),
        ((2, 3, 3), (3, 3), 1.0, r"expected \(T1, D\) and \(T2, D\)"),
        ((0, 3), (3, 3), 1.0, r"length_x=\[0\], expected 1 from 1 to 0"),
        ((3, 3), (3, 3), 0.0, "gamma=0.0, expected > 0"),
        ((3, 3), (3, 3), float("nan"), "gamma=nan"),
    ],
)
def test_bad_pairs(x: tuple[int, ...], y: tuple[int, ...], gamma: float, message: str) -> None:
    with pytest.raises(LossError, match=message):
        soft_dtw(torch.zeros(x), torch.zeros(y), gamma)


def test_bad_batches() -> None:
    x, good = torch.zeros(2, 3, 3), torch.tensor([3, 1])
    for length in (torch.tensor([3]), torch.tensor([4, 1]), torch.tensor([0, 1])):
        with pytest.raises(LossError, match="length_y="):
            soft_dtw_batch(x, x, good, length, 1.0)
    for bad in (torch.zeros(3), torch.zeros(3, 2), torch.zeros(0, 3)):
        with pytest.raises(LossError, match=r"expected \(\.\.\., T1, D\) and"):
            path_distance(torch.zeros(2, 3), bad)
