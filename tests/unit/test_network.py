"""The keypoint network: shapes, soft-argmax, crops, and what enters inference."""

import inspect

import numpy as np
import pytest
import torch

from ideomotor_learn.body.layers import (
    STRIDE,
    Crops,
    gaussian_maps,
    image_axis,
    middle,
    nearest_depth,
    normalise,
    peak,
    perpendicular,
    sample_crops,
    soft_argmax,
)
from ideomotor_learn.body.network import Guide, Inference, KeypointNet
from tests.unit.tiny_network import TINY


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    rgb = torch.from_numpy(rng.integers(0, 256, (5, 64, 96, 3), dtype=np.uint8))
    depth = torch.from_numpy(rng.uniform(0.7, 1.5, (5, 64, 96)).astype(np.float32))
    return rgb, depth


@pytest.fixture
def net() -> KeypointNet:
    torch.manual_seed(0)
    return KeypointNet(TINY).eval()


def test_soft_argmax_of_one_cell_is_its_centre() -> None:
    heat = torch.zeros(1, 2, 4, 6)
    heat[0, 0, 2, 5] = heat[0, 1, 0, 0] = 1.0
    uv = soft_argmax(heat, 8.0)
    assert uv[0].tolist() == [[5 * 8 + 3.5, 2 * 8 + 3.5], [3.5, 3.5]]


def test_peak_ignores_a_lower_distant_peak() -> None:
    heat = torch.full((1, 1, 8, 12), 1e-6)
    heat[0, 0, 2, 2], heat[0, 0, 6, 10] = 0.55, 0.45
    near = peak((heat / heat.sum()).log(), STRIDE)
    assert float(near.sum()) == pytest.approx(1.0, abs=1e-5)
    uv = soft_argmax(near, STRIDE)[0, 0]
    assert uv.tolist() == pytest.approx([2 * 8 + 3.5, 2 * 8 + 3.5], abs=0.5)
    both = soft_argmax(heat / heat.sum(), STRIDE)[0, 0]
    assert abs(float(both[0]) - (2 * 8 + 3.5)) > 20  # the mean of both peaks lies on neither


def test_invalid_depths_do_not_matter() -> None:
    """NaN, zero and out of range give the same input."""
    rgb = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    inputs = [normalise(rgb, torch.full((1, 16, 16), v)) for v in (float("nan"), 0.0, 100.0)]
    assert torch.isfinite(inputs[0]).all()
    assert torch.equal(inputs[0], inputs[1])
    assert torch.equal(inputs[0], inputs[2])


def test_prediction_shapes(net: KeypointNet, images: tuple[torch.Tensor, torch.Tensor]) -> None:
    p = net(*images)
    shapes = {name: tuple(getattr(p, name).shape) for name in p._fields if name != "crops"}
    assert shapes == {
        "log_heat": (5, 4, 8, 12),
        "mask_logit": (5, 16, 24),
        "features": (5, 6, 8, 12),
        "uv_coarse": (5, 4, 2),
        "depth_coarse": (5, 4),
        "log_map": (5, 4, 8, 8),
        "uv_object": (5, 4, 2),
        "depth_object": (5, 4),
        "axis": (5, 4, 2),
        "uv": (5, 4, 2),
        "depth": (5, 4),
        "depth_support": (5, 4),
        "log_variance": (5, 4, 3),
        "confidence_logit": (5, 4),
    }
    assert torch.allclose(p.log_heat.exp().sum((-2, -1)), torch.ones(5, 4), atol=1e-5)
    assert torch.allclose(p.log_map.exp().sum((-2, -1)), torch.ones(5, 4), atol=1e-5)
    assert [tuple(x.shape) for x in p.crops] == [(5, 4, 2), (5, 4, 2), (5, 4), (5, 4)]


def test_an_untrained_last_stage_leaves_the_crop_centre(
    net: KeypointNet, images: tuple[torch.Tensor, torch.Tensor]
) -> None:
    uv = 20 + 30 * torch.rand(5, 4, 2, generator=torch.Generator().manual_seed(1))
    guide = Guide(uv, uv, torch.ones(5, 4), torch.ones(5, 4, dtype=torch.bool), torch.zeros(5, 4, 2))
    assert torch.allclose(net(*images, guide).uv, uv, atol=1e-3)


def test_an_untrained_object_stage_stays_near_what_it_was_told(
    net: KeypointNet, images: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Keypoints a few samples around the crop's centre move by less than a sample."""
    uv = torch.tensor([[40.0, 30.0], [42.0, 31.0], [44.0, 32.0], [46.0, 33.0]]).expand(5, 4, 2)
    guide = Guide(uv, uv, torch.ones(5, 4), torch.ones(5, 4, dtype=torch.bool), torch.zeros(5, 4, 2))
    p = net(*images, guide)
    assert float((p.uv_object - uv).detach().norm(dim=-1).max()) < 2.0 * float(p.crops.step.max())


def ramp() -> torch.Tensor:
    """An image whose colours are its pixel coordinates, at 1 m everywhere."""
    v, u = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    return torch.stack([u, v, u, torch.ones(64, 96), torch.ones(64, 96)])[None]


def test_crop_samples_the_turned_image() -> None:
    """A horizontal ramp seen by a crop turned by 90 degrees runs down the crop, one sample per `step` pixels."""
    crops = Crops(
        torch.tensor([[[40.0, 30.0]]]), torch.tensor([[[0.0, 1.0]]]), torch.tensor([[2.0]]), torch.tensor([[1.0]])
    )
    crop = sample_crops(ramp(), crops, 8)
    assert crop.shape == (1, 5, 8, 8)
    offsets = 2.0 * (torch.arange(8) - 3.5)
    assert torch.allclose(crop[0, 1, 0], 30 + offsets, atol=1e-3)  # along the axis: v grows
    assert torch.allclose(crop[0, 0, :, 0], 40 - offsets, atol=1e-3)  # across it: u falls
    assert torch.allclose(crop[0, 3], torch.zeros(8, 8), atol=1e-5)  # depth relative to the crop's
    assert torch.allclose(crop[0, 4], torch.ones(8, 8))


def test_a_crop_drops_what_is_far_behind() -> None:
    crops = Crops(
        torch.tensor([[[40.0, 30.0]]]), torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1), torch.full((1, 1), 0.6)
    )
    assert sample_crops(ramp(), crops, 8)[0, 3:].abs().max() == 0.0


def test_crop_coordinates_and_pixels_are_inverse() -> None:
    generator = torch.Generator().manual_seed(0)
    angle = torch.rand(2, 3, generator=generator)
    crops = Crops(
        60 * torch.rand(2, 3, 2, generator=generator),
        torch.stack([angle.cos(), angle.sin()], dim=-1),
        0.5 + torch.rand(2, 3, generator=generator),
        torch.ones(2, 3),
    )
    samples = 10 * torch.randn(2, 3, 2, generator=generator)
    assert torch.allclose(crops.from_image(crops.to_image(samples)), samples, atol=1e-4)


def test_middle_ignores_a_stray_value() -> None:
    x = torch.tensor([[[1.0, 0.0], [2.0, 1.0], [3.0, 2.0], [900.0, -900.0]]])
    assert middle(x).tolist() == [[2.5, 0.5]]


def test_axis_is_a_unit_vector_from_the_keypoint_before() -> None:
    uv = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [3.0, 14.0]]])
    axis = image_axis(uv)
    assert torch.allclose(axis, torch.tensor([[[0.6, 0.8], [0.6, 0.8], [0.0, 1.0]]]), atol=1e-5)
    assert torch.allclose((axis * perpendicular(axis)).sum(-1), torch.zeros(1, 3))


def test_gaussian_map_peaks_at_the_keypoint() -> None:
    maps = gaussian_maps(torch.tensor([[[3.5 + 8 * 5, 3.5 + 8 * 2]]]), 6, 9)
    assert float(maps.max()) == pytest.approx(1.0)
    assert divmod(int(maps.flatten().argmax()), 9) == (2, 5)


def test_inference_takes_the_image_and_nothing_else(
    net: KeypointNet, images: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """No joint position anywhere: the exported module's inputs are colour and depth."""
    graph = Inference(net)
    assert list(inspect.signature(graph.forward).parameters) == ["rgb", "depth"]
    uv, covariance, depth, variance, confidence = graph(*images)
    assert (torch.linalg.eigvalsh(covariance) > 0).all()
    assert (variance > 0).all()
    assert ((confidence >= 0) & (confidence <= 1)).all()
    assert torch.isfinite(depth).all()
    assert uv.shape == (5, 4, 2)


def test_depth_is_nan_without_sensor_depth(net: KeypointNet, images: tuple[torch.Tensor, torch.Tensor]) -> None:
    uv, _, depth, _, _ = Inference(net)(images[0], torch.full((5, 64, 96), float("nan")))
    assert torch.isnan(depth).all()
    assert torch.isfinite(uv).all()


def test_nearest_depth_skips_what_is_invalid() -> None:
    depth = torch.full((1, 8, 16), 1.5)
    depth[0, 3, 3], depth[0, 4, 4] = 0.9, 0.0
    depth[0, :, 8:] = 0.0
    image = normalise(torch.zeros(1, 8, 16, 3, dtype=torch.uint8), depth)
    assert nearest_depth(image, 8).flatten().tolist() == pytest.approx([0.9, 1.0])
