"""The detector against the network it was exported from, and what it refuses."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from ideomotor.artefacts import ArtefactError
from ideomotor.body.camera import Intrinsics
from ideomotor.body.detector import DetectorError, Fit, KeypointDetector
from ideomotor.inference import InferenceError
from ideomotor_learn.body.dataset import load_dataset
from ideomotor_learn.body.export import export_artefact
from ideomotor_learn.body.network import Inference, KeypointNet
from ideomotor_learn.body.synthetic import NAMES, write_synthetic
from tests.unit.tiny_network import TINY

CAMERA = Intrinsics(96, 64, 86.0, 86.0, 47.5, 31.5)


@pytest.fixture(scope="module")
def net() -> KeypointNet:
    torch.manual_seed(0)
    net = KeypointNet(TINY)
    with torch.no_grad():
        net.object.votes.weight.normal_(0, 0.1)  # zero before training: the test would not see stages 2 and 3
        net.refine.votes.weight.normal_(0, 0.1)
        net.coarse.maps.weight.normal_(0, 3.0)
    return net.eval()


@pytest.fixture(scope="module")
def artefact(net: KeypointNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    write_synthetic(folder / "data", np.random.default_rng(0), episodes=2, frames=6)
    data = load_dataset(folder / "data")
    return export_artefact(
        net, folder / "artefact", training={}, seed=0, data=data, held_out=data, indices=np.arange(len(data))
    )


@pytest.fixture(scope="module")
def detector(artefact: Path) -> KeypointDetector:
    return KeypointDetector.load(artefact, provider="CPUExecutionProvider")


def images(seed: int = 0, size: tuple[int, int] = (64, 96)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.7, 1.5, size).astype(np.float32)
    depth[rng.random(size) < 0.1] = np.nan
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8), depth


def test_export_equals_torch(net: KeypointNet, detector: KeypointDetector) -> None:
    for seed in range(3):
        rgb, depth = images(seed)
        found = detector.detect(rgb, depth, CAMERA, 1.5)
        with torch.no_grad():
            expected = Inference(net)(torch.from_numpy(rgb)[None], torch.from_numpy(depth)[None])
        given = (found.uv, found.uv_covariance, found.depth, found.depth_variance, found.confidence)
        for have, want in zip(given, expected, strict=True):
            np.testing.assert_allclose(have, want[0].numpy(), atol=1e-4, rtol=1e-4)
        assert found.stamp == 1.5
        assert found.names == NAMES
    assert detector.tip == "kp_3"


def test_inference_is_vision_only(artefact: Path) -> None:
    """The graph's inputs are the image and its depth: no joint position, no pose."""
    graph = onnx.load(artefact / "model.onnx").graph
    initialisers = {i.name for i in graph.initializer}
    assert [i.name for i in graph.input if i.name not in initialisers] == ["rgb", "depth"]


def test_manifest_has_measured_metrics(artefact: Path) -> None:
    metrics = json.loads((artefact / "manifest.json").read_text())["metrics"]
    assert metrics["frames"] == 12
    assert metrics["kp_3_uv_median_px"] > 0


def test_another_size_gives_the_callers_pixels(detector: KeypointDetector) -> None:
    """Twice the image: the same places, in pixels twice as fine (nearest enlargement of the same content)."""
    rgb, depth = images()
    small = detector.detect(rgb, depth, CAMERA, 0.0)
    big = detector.detect(rgb.repeat(2, 0).repeat(2, 1), depth.repeat(2, 0).repeat(2, 1), CAMERA.scaled(192, 128), 0.0)
    np.testing.assert_allclose(big.uv, 2 * small.uv + 0.5, atol=1e-2)
    np.testing.assert_allclose(big.uv_covariance, 4 * small.uv_covariance, rtol=1e-2)
    np.testing.assert_allclose(big.depth, small.depth, atol=1e-3)
    again = detector.detect(rgb, depth, CAMERA, 0.0)
    np.testing.assert_array_equal(again.uv, small.uv)


def test_a_wider_image_is_padded_not_squeezed() -> None:
    fit = Fit.of(128, 64, 96, 64)
    assert (fit.scale, fit.width, fit.height, fit.left, fit.top) == (0.75, 96, 48, 0, 8)
    np.testing.assert_allclose(fit.to_image(np.array([[-0.5, 7.5], [95.5, 55.5]])), [[-0.5, -0.5], [127.5, 63.5]])


def test_what_a_wider_image_left_is_cleared(detector: KeypointDetector) -> None:
    rgb, depth = images()
    before = detector.detect(rgb[:48], depth[:48], Intrinsics(96, 48, 86.0, 86.0, 47.5, 23.5), 0.0)
    detector.detect(rgb, depth, CAMERA, 0.0)
    after = detector.detect(rgb[:48], depth[:48], Intrinsics(96, 48, 86.0, 86.0, 47.5, 23.5), 0.0)
    np.testing.assert_array_equal(before.uv, after.uv)


@pytest.mark.parametrize(
    ("rgb", "depth", "message"),
    [
        (np.zeros((64, 96, 3), np.float32), np.ones((64, 96), np.float32), r"rgb is float32\(64, 96, 3\)"),
        (np.zeros((64, 96), np.uint8), np.ones((64, 96), np.float32), r"rgb is uint8\(64, 96\)"),
        (np.zeros((64, 96, 4), np.uint8), np.ones((64, 96), np.float32), r"rgb is uint8\(64, 96, 4\)"),
        (np.zeros((0, 96, 3), np.uint8), np.ones((0, 96), np.float32), r"rgb is uint8\(0, 96, 3\)"),
        (np.zeros((64, 96, 3), np.uint8), np.ones((64, 96), np.uint16), r"depth is uint16\(64, 96\)"),
        (np.zeros((64, 96, 3), np.uint8), np.ones((48, 96), np.float32), r"rgb is \(64, 96\), depth \(48, 96\)"),
        (np.zeros((48, 96, 3), np.uint8), np.ones((48, 96), np.float32), "intrinsics are of a 96x64 image"),
    ],
)
def test_refuses_images(detector: KeypointDetector, rgb: np.ndarray, depth: np.ndarray, message: str) -> None:
    with pytest.raises(DetectorError, match=message):
        detector.detect(rgb, depth, CAMERA, 0.0)


def edited(artefact: Path, to: Path, **changes: object) -> Path:
    shutil.copytree(artefact, to)
    manifest = json.loads((to / "manifest.json").read_text())
    manifest.update(changes)
    (to / "manifest.json").write_text(json.dumps(manifest))
    return to


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": "reward"}, "modality is 'reward', expected 'keypoints'"),
        ({"extra": {"tip": "kp_3"}}, "extra.keypoints is None"),
        ({"extra": {"keypoints": list(NAMES), "tip": "nose"}}, "extra.tip is 'nose'"),
        ({"extra": {"keypoints": ["a", "b", "c"], "tip": "c"}}, "outputs are"),
    ],
)
def test_refuses_foreign_artefacts(artefact: Path, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        KeypointDetector.load(edited(artefact, tmp_path / "other", **changes))


def test_refuses_a_damaged_model(artefact: Path, tmp_path: Path) -> None:
    folder = edited(artefact, tmp_path / "damaged")
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(ArtefactError, match="sha256"):
        KeypointDetector.load(folder)


def test_refuses_an_unknown_provider(artefact: Path) -> None:
    with pytest.raises(InferenceError, match="NoSuchProvider"):
        KeypointDetector.load(artefact, provider="NoSuchProvider")


def test_keypoints_are_read_only(detector: KeypointDetector) -> None:
    found = detector.detect(*images(), CAMERA, 0.0)
    assert dataclasses.is_dataclass(found)
    with pytest.raises(ValueError, match="read-only"):
        found.uv[0, 0] = 1.0
