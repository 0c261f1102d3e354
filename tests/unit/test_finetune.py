"""Fine-tuning on a recording of a new object: no labels enter, and its error on other frames falls."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ideomotor.artefacts import ArtefactError
from ideomotor.body.camera import Intrinsics
from ideomotor.body.detector import KeypointDetector
from ideomotor.body.keypoints import Keypoints
from ideomotor_learn.body.dataset import DataSet, DataSetError, load_dataset, write_recording
from ideomotor_learn.body.evaluate import detect_samples, measure, sample_intrinsics
from ideomotor_learn.body.export import export_artefact, load_network
from ideomotor_learn.body.finetune import TrainConfig, finetune, pseudo_labels, spread
from ideomotor_learn.body.network import Inference, KeypointNet
from ideomotor_learn.body.synthetic import NAMES, write_synthetic
from tests.unit.tiny_network import TINY

CONFIG = TrainConfig(steps=2, batch_size=4, bfloat16=False)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Thirty frames of one capsule."""
    folder = tmp_path_factory.mktemp("recording")
    write_synthetic(folder, np.random.default_rng(5), episodes=1, frames=30)
    return load_dataset(folder)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory, recording: DataSet) -> Path:
    """An untrained detector."""
    torch.manual_seed(0)
    net = KeypointNet(TINY)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.bias, 0.0, 0.3)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean.normal_(0.0, 0.1)
    torch.nn.init.normal_(net.object.votes.weight, 0.0, 0.1)
    torch.nn.init.normal_(net.refine.votes.weight, 0.0, 0.1)
    folder = tmp_path_factory.mktemp("trained")
    return export_artefact(
        net, folder / "artefact", training={}, seed=0, data=recording, held_out=recording, indices=np.arange(4)
    )


def part(data: DataSet, indices: np.ndarray) -> DataSet:
    """Return some samples of a recording."""
    names = ("where", "intrinsics", "T_camera_ee", "episode", "uv", "keypoint_depth", "visible")
    return replace(data, **{name: getattr(data, name)[indices] for name in names})


def unlabelled(data: DataSet) -> DataSet:
    """Return a recording as a real robot gives it: without labels and masks."""
    return replace(
        data,
        uv=np.full_like(data.uv, np.nan),
        keypoint_depth=np.full_like(data.keypoint_depth, np.nan),
        visible=np.zeros_like(data.visible),
        mask=(None,) * len(data.mask),
    )


def detections(data: DataSet, rng: np.random.Generator, sigma: float, outliers: float) -> list[Keypoints]:
    """Return the truth with Gaussian noise [px] and a share of keypoints anywhere."""
    found = []
    for i in range(len(data)):
        uv = data.uv[i] + rng.normal(0, sigma, (4, 2))
        wrong = rng.random(4) < outliers
        uv[wrong] = rng.uniform(0, [96, 64], (int(wrong.sum()), 2))
        depth = data.keypoint_depth[i] + rng.normal(0, 0.005, 4)
        covariance = np.tile(np.eye(2) * sigma**2, (4, 1, 1))
        found.append(Keypoints(0.0, NAMES, uv, covariance, depth, np.full(4, 0.005**2), np.full(4, 0.9)))
    return found


def test_the_artefact_gives_its_network_back(artefact: Path, recording: DataSet) -> None:
    """Weights read from the graph, with the batch norms folded into the convolutions, detect the same."""
    sample = recording.sample(0)
    depth = sample.depth.astype(np.float32) * np.float32(1e-3)
    found = detect_samples(KeypointDetector.load(artefact), recording, [0])[0]
    with torch.no_grad():
        graph = Inference(load_network(artefact))
        uv, _, z, _, _ = graph(torch.from_numpy(sample.rgb.copy())[None], torch.from_numpy(depth)[None])
    np.testing.assert_allclose(found.uv, uv[0].numpy(), atol=1e-3)
    np.testing.assert_allclose(found.depth, z[0].numpy(), atol=1e-4)


def test_the_artefact_of_another_network_is_refused(artefact: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(artefact, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["extra"]["network"]["crop_channels"] = [4, 8]
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match=r"net\.refine\..* has shape .* expected .*: it was exported by another"):
        load_network(other)


def test_pseudo_labels_are_better_than_the_detections(recording: DataSet) -> None:
    """All frames vote: 2 px of noise and 15 % outliers become less than 1 px."""
    found = detections(recording, np.random.default_rng(0), 2.0, 0.15)
    labelled = pseudo_labels(found, unlabelled(recording), CONFIG)
    error = np.linalg.norm(labelled.uv - recording.uv, axis=-1)
    before = np.linalg.norm(np.stack([f.uv for f in found]) - recording.uv, axis=-1)
    assert np.median(error) < 0.4 * np.median(before)
    assert error.max() < 2.0
    inside = ((recording.uv >= 0) & (recording.uv <= [95, 63])).all(-1)
    assert labelled.visible[inside].mean() > 0.9
    assert not labelled.visible[~inside].any()


def test_pseudo_labels_do_not_look_at_labels(recording: DataSet) -> None:
    found = detections(recording, np.random.default_rng(0), 2.0, 0.0)
    a, b = pseudo_labels(found, recording, CONFIG), pseudo_labels(found, unlabelled(recording), CONFIG)
    np.testing.assert_array_equal(a.uv, b.uv)
    np.testing.assert_array_equal(a.visible, b.visible)
    assert set(a.mask) == {None}


def test_what_the_sensor_sees_in_front_hides_a_keypoint(recording: DataSet) -> None:
    found = detections(recording, np.random.default_rng(0), 1.0, 0.0)
    covered = replace(recording, depth=(np.full_like(recording.depth[0], 300),))  # a wall at 0.3 m
    assert not pseudo_labels(found, covered, CONFIG).visible.any()


def test_a_keypoint_without_a_rigid_place_gets_no_label(recording: DataSet) -> None:
    found = detections(recording, np.random.default_rng(0), 1.0, 0.0)
    rng = np.random.default_rng(1)
    roaming = [replace(f, uv=np.concatenate([f.uv[:3], rng.uniform([0, 0], [96, 64], (1, 2))])) for f in found]
    labelled = pseudo_labels(roaming, recording, CONFIG)
    assert np.isfinite(labelled.uv[:, :3]).all()
    assert np.isnan(labelled.uv[:, 3]).all()


def test_spread_of_a_rigid_object_is_that_of_the_noise(recording: DataSet) -> None:
    assert spread(detections(recording, np.random.default_rng(0), 0.01, 0.0), recording) < 0.008
    assert spread(detections(recording, np.random.default_rng(0), 5.0, 0.0), recording) > 0.03


def test_finetuning_writes_an_artefact_that_says_where_it_came_from(
    artefact: Path, recording: DataSet, tmp_path: Path
) -> None:
    tuned = finetune(artefact, unlabelled(recording), tmp_path / "tuned", replace(CONFIG, inliers=0.0, occlusion=9.0))
    before, after = (KeypointDetector.load(f).artefact.manifest for f in (artefact, tuned))
    assert after.training["from"] == before.models[0].sha256
    assert after.models[0].sha256 != before.models[0].sha256
    assert after.training["finetune"]["steps"] == 2


def test_nothing_rigid_nothing_learned(artefact: Path, recording: DataSet, tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="keeps a place"):
        finetune(artefact, unlabelled(recording), tmp_path / "none", replace(CONFIG, inliers=1.0))


def test_a_recording_is_written_without_labels(recording: DataSet, tmp_path: Path) -> None:
    write_recording(
        tmp_path,
        NAMES,
        rgb=np.asarray(recording.rgb[0]),
        depth=np.asarray(recording.depth[0]),
        intrinsics=recording.intrinsics[0],
        T_camera_ee=recording.T_camera_ee,
        joint_position=np.zeros((30, 7)),
    )
    again = load_dataset(tmp_path)
    assert isinstance(sample_intrinsics(again, 0), Intrinsics)
    assert np.isnan(again.uv).all()
    assert again.sample(0).mask is None
    np.testing.assert_array_equal(again.sample(7).rgb, recording.sample(7).rgb)
    with pytest.raises(DataSetError, match="depth is float64"):
        write_recording(
            tmp_path / "bad",
            NAMES,
            rgb=np.asarray(recording.rgb[0]),
            depth=np.asarray(recording.depth[0]) * 1e-3,
            intrinsics=recording.intrinsics[0],
            T_camera_ee=recording.T_camera_ee,
            joint_position=np.zeros((30, 7)),
        )


def test_measured_errors_of_perfect_detections_are_zero(recording: DataSet) -> None:
    perfect = [
        Keypoints(0.0, NAMES, uv, np.tile(np.eye(2), (4, 1, 1)), z, np.full(4, 1e-6), np.ones(4))
        for uv, z in zip(recording.uv, recording.keypoint_depth, strict=True)
    ]
    errors = measure(perfect, recording, np.arange(len(recording)))
    assert np.abs(errors.pixel).max() == 0.0
    np.testing.assert_allclose(errors.position_ee, errors.true_position_ee, atol=1e-6)
    assert errors.on_object[errors.visible].mean() > 0.95
