"""The losses of the keypoint detector against closed forms and hand computations."""

import math

import numpy as np
import pytest
import torch

from ideomotor_learn.body import losses
from ideomotor_learn.body.geometry import backproject, project, to_ee
from ideomotor_learn.body.network import KeypointNet, Prediction
from tests.unit.tiny_network import TINY

INTRINSICS = torch.tensor([[300.0, 310.0, 160.0, 120.0]])


def pose(rng: np.random.Generator) -> torch.Tensor:
    from scipy.spatial.transform import Rotation

    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=int(rng.integers(1 << 30))).as_matrix()
    T[:3, 3] = [*rng.uniform(-0.2, 0.2, 2), rng.uniform(0.9, 1.3)]
    return torch.from_numpy(T)


def test_projection_is_the_inverse_of_backprojection() -> None:
    uv = torch.tensor([[[12.0, 7.0], [300.0, 200.0]]])
    point = backproject(uv, torch.tensor([[0.7, 1.4]]), INTRINSICS)
    assert torch.allclose(project(point, INTRINSICS), uv, atol=1e-4)


def test_to_ee_inverts_the_pose() -> None:
    T = pose(np.random.default_rng(0))
    p_ee = torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.0, 0.2]], dtype=torch.float64)
    p_camera = p_ee @ T[:3, :3].T + T[:3, 3]
    assert torch.allclose(to_ee(p_camera[None], T[None])[0], p_ee)


def test_separation_closed_form() -> None:
    """Two keypoints sigma apart: both ordered pairs give exp(-1/2)."""
    uv = torch.tensor([[[0.0, 0.0], [6.0, 8.0]]])
    assert float(losses.separation(uv, 10.0)) == pytest.approx(2 * math.exp(-0.5))


def test_reconstruction_is_the_mean_square() -> None:
    assert float(losses.reconstruction(torch.full((2, 3, 4, 5), 0.3), torch.full((2, 3, 4, 5), 0.1))) == pytest.approx(
        0.04
    )


def rigid_pair(slip: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two frames of one keypoint at a fixed place in the gripper's frame, moved by `slip` in the second."""
    rng = np.random.default_rng(1)
    T = torch.stack([pose(rng), pose(rng)])
    rho = torch.tensor([[0.02, -0.01, 0.2], [0.02 + slip, -0.01, 0.2]], dtype=torch.float64)
    p = torch.einsum("bij,bj->bi", T[:, :3, :3], rho) + T[:, :3, 3]
    intrinsics = INTRINSICS.double().expand(2, 4)
    return project(p[:, None], intrinsics), p[:, None, 2], intrinsics, T


def test_rigidity_is_zero_for_an_object_that_moves_with_the_gripper() -> None:
    assert float(losses.rigidity(*rigid_pair(0.0), cap=0.05)) == pytest.approx(0.0, abs=2e-4)


def test_rigidity_measures_the_slip_up_to_its_cap() -> None:
    assert float(losses.rigidity(*rigid_pair(0.03), cap=0.05)) == pytest.approx(0.03, abs=2e-4)
    assert float(losses.rigidity(*rigid_pair(0.3), cap=0.05)) == pytest.approx(0.05)


def test_nearness_is_a_hinge_around_the_projected_gripper() -> None:
    T = torch.eye(4)[None].clone()
    T[0, 2, 3] = 1.0  # the gripper projects to (160, 120)
    radius = 0.1  # 31 px at 1 m with fy = 310
    inside = torch.tensor([[[160.0, 150.0]]])
    outside = torch.tensor([[[160.0, 120.0 + 2 * 31.0]]])
    assert float(losses.nearness(inside, INTRINSICS, T, radius)) == 0.0
    assert float(losses.nearness(outside, INTRINSICS, T, radius)) == pytest.approx(1.0, abs=1e-4)


def test_map_cross_entropy_is_least_at_the_truth() -> None:
    """Gibbs: over all maps the cross-entropy is least for the target itself, and off it grows."""
    uv = torch.tensor([[[30.0, 22.0]]])
    weight = torch.ones(1, 1)

    def loss(shift: float) -> float:
        u, v = torch.arange(12) * 8 + 3.5, torch.arange(8) * 8 + 3.5
        d2 = (u[None, :] - uv[0, 0, 0] - shift) ** 2 + (v[:, None] - uv[0, 0, 1]) ** 2
        log_heat = (-d2 / (2 * 4.8**2)).flatten().log_softmax(0).view(1, 1, 8, 12)
        return float(losses.map_cross_entropy(log_heat, uv, weight))

    assert loss(0.0) < loss(2.0) < loss(6.0)


def test_likelihood_is_least_at_the_true_variance() -> None:
    """d/ds of (e^2/s + log s)/2 vanishes at s = e^2; checked by a scan."""
    e = torch.full((1, 1, 3), 0.7)
    weight = torch.ones(1, 1)
    scan = np.linspace(-4, 2, 61)
    values = [float(losses.likelihood(e, torch.full((1, 1, 3), float(s)), weight)) for s in scan]
    assert scan[int(np.argmin(values))] == pytest.approx(math.log(0.49), abs=0.1)


def test_likelihood_grows_linearly_beyond_the_knee() -> None:
    weight, log_variance = torch.ones(1, 1), torch.zeros(1, 1, 3)
    at = [float(losses.likelihood(torch.full((1, 1, 3), x), log_variance, weight)) for x in (10.0, 11.0, 12.0)]
    assert at[2] - at[1] == pytest.approx(at[1] - at[0], rel=1e-5)


def test_likelihood_does_not_move_the_mean() -> None:
    e = torch.ones(1, 1, 3, requires_grad=True)
    log_variance = torch.zeros(1, 1, 3, requires_grad=True)
    losses.likelihood(e, log_variance, torch.ones(1, 1)).backward()
    assert e.grad is None
    assert log_variance.grad is not None


def test_position_is_in_centimetres_in_space() -> None:
    """3 px at 1 m with f = 300 px are 1 cm, like 1 cm of depth; beyond the knee the loss is |e| - beta/2."""
    depth, focal, weight = torch.ones(1, 1), torch.tensor([300.0]), torch.ones(1, 1)
    for e in ([3.0, 0, 0], [0, 3.0, 0], [0, 0, 0.01]):
        loss = losses.position(torch.tensor([[e]]), depth, focal, weight, beta=0.3)
        assert float(loss) == pytest.approx(1.0 - 0.15, abs=1e-5)


def prediction() -> Prediction:
    torch.manual_seed(0)
    with torch.no_grad():
        return KeypointNet(TINY).eval()(torch.zeros(2, 64, 96, 3, dtype=torch.uint8), torch.ones(2, 64, 96))


def test_residual_is_along_and_across_the_axis() -> None:
    uv, depth, axis = torch.zeros(2, 4, 2), torch.ones(2, 4), torch.tensor([0.0, 1.0]).expand(2, 4, 2)
    e = losses.residual(uv, depth, axis, uv - torch.tensor([2.0, 5.0]), depth - 0.1)
    assert torch.allclose(e, torch.tensor([5.0, -2.0, 0.1]).expand(2, 4, 3), atol=1e-5)


def test_object_map_is_read_in_the_crops_coordinates() -> None:
    """A map that is high at the cell of a pixel costs less there than elsewhere; outside of the crop nothing counts."""
    p = prediction()
    half = p.log_map.shape[-1]
    log_map = torch.full_like(p.log_map, -20.0)
    log_map[..., 1, 6] = 0.0  # across 1, along 6
    p = p._replace(log_map=log_map)
    samples = torch.tensor([2.0 * 6 + 0.5, 2.0 * 1 + 0.5]) - (half - 0.5)
    here = p.crops.to_image(samples.expand(2, 4, 2))
    there = p.crops.to_image(-samples.expand(2, 4, 2))
    weight = torch.ones(2, 4)
    assert float(losses.object_map_cross_entropy(p, here, weight)) < 0.6 * float(
        losses.object_map_cross_entropy(p, there, weight)
    )
    assert float(losses.object_map_cross_entropy(p, p.crops.to_image(9 * samples.expand(2, 4, 2)), weight)) == 0.0


def test_coarse_position_counts_cells_and_decimetres() -> None:
    p = prediction()
    at_truth = losses.coarse_position(p, p.uv_coarse, p.depth_coarse, torch.ones(2, 4))
    off = losses.coarse_position(p, p.uv_coarse + torch.tensor([16.0, 0.0]), p.depth_coarse, torch.ones(2, 4))
    assert float(at_truth) == 0.0
    assert float(off) == pytest.approx(2.0 - 0.25)


def test_on_object_reads_the_mask_at_the_pixel() -> None:
    mask = torch.zeros(1, 16, 24)
    mask[0, 3, 5] = 1.0  # pixels u 20..23, v 12..15
    uv = torch.tensor([[[21.5, 13.5], [60.0, 50.0], [-40.0, 13.5]]])
    assert losses.on_object(uv, mask).tolist() == [[True, False, False]]


def test_confidence_wants_visible_and_on_the_object() -> None:
    mask = torch.ones(2, 16, 24)
    p = prediction()._replace(confidence_logit=torch.full((2, 4), 10.0))
    weight = torch.ones(2, 4)
    visible = torch.ones(2, 4, dtype=torch.bool)
    right = losses.confidence_cross_entropy(p, visible, mask, weight)
    hidden = losses.confidence_cross_entropy(p, ~visible, mask, weight)
    off = losses.confidence_cross_entropy(p, visible, 0 * mask, weight)
    assert float(right) < 1e-3
    assert float(hidden) == pytest.approx(10.0, abs=0.01)
    assert float(off) == pytest.approx(10.0, abs=0.01)


def test_mask_cross_entropy_of_a_certain_right_answer_is_zero() -> None:
    mask = (torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    assert float(losses.mask_cross_entropy(40 * (mask - 0.5), mask, torch.ones(2))) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", ["rigidity", "nearness", "separation"])
def test_gradients_match_finite_differences(name: str) -> None:
    """Analytic gradients of the geometric losses, in double precision."""
    uv, depth, intrinsics, T = rigid_pair(0.02)
    uv = (uv + torch.tensor([3.0, -2.0])).expand(2, 3, 2) + torch.tensor([[0.0, 0.0], [9.0, 1.0], [4.0, 12.0]])
    uv = uv.double().clone().requires_grad_()
    functions = {
        "rigidity": lambda x: losses.rigidity(x, depth.expand(2, 3), intrinsics, T, cap=1.0),
        "nearness": lambda x: losses.nearness(x, intrinsics, T, 0.05),
        "separation": lambda x: losses.separation(x, 10.0),
    }
    assert torch.autograd.gradcheck(functions[name], (uv,), eps=1e-5, atol=1e-5)
