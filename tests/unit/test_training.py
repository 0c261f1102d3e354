"""Training learns, repeats itself for a seed, resumes, and its artefact runs; fine-tuning helps on a new object."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ideomotor.body.detector import KeypointDetector
from ideomotor_learn.body.augment import AugmentConfig, augment, mirror, zoom
from ideomotor_learn.body.checkpoint import (
    CheckpointError,
    load_checkpoint,
    load_matching,
    load_weights,
    save_checkpoint,
)
from ideomotor_learn.body.dataset import (
    Batch,
    DataSet,
    DataSetError,
    Sample,
    collate,
    load_dataset,
    pair_batches,
    prefetch,
)
from ideomotor_learn.body.export import without_folders
from ideomotor_learn.body.geometry import backproject, project, to_ee
from ideomotor_learn.body.network import KeypointNet
from ideomotor_learn.body.stages import NetworkConfig
from ideomotor_learn.body.synthetic import write_synthetic
from ideomotor_learn.body.train_keypoints import PRESETS, TrainConfig, Trainer, compute_losses, train
from tests.unit.tiny_network import SMALL

PLAIN = AugmentConfig(flip=0, zoom=0, permute=0, colour=0, noise=0, depth_noise=0, holes=0)
CONFIG = TrainConfig(
    steps=40, batch_size=4, network=SMALL, augment=PLAIN, threads=1, bfloat16=False, learning_rate=1e-2
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    write_synthetic(folder, np.random.default_rng(0), episodes=5, frames=4)
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> DataSet:
    return load_dataset(folder)


def first_batch(data: DataSet, config: TrainConfig = CONFIG) -> Batch:
    return next(pair_batches(data, np.arange(len(data)), config.batch_size, config.augment, np.random.default_rng(0)))


def test_overfits_one_batch(data: DataSet) -> None:
    """The same images, the same crops (near the labels, displaced by the same amounts): every loss is learned.

    Each bound fails when the gradient of that loss is taken away.
    """
    config = replace(CONFIG, guided=1.0, steps=60)
    batch, trainer = first_batch(data, config), Trainer.create(config)
    terms = []
    for _ in range(config.steps):
        torch.manual_seed(7)  # the crops' displacements
        terms.append(trainer.step(batch))
    first, last = terms[0], terms[-1]
    for name, share in {
        "map": 0.65,
        "coarse": 0.1,
        "object": 0.15,
        "refined": 0.1,
        "mask": 0.5,
        "confidence": 0.4,
        "reconstruction": 0.1,
    }.items():
        assert last[name] < share * first[name], name
    assert last["likelihood"] < first["likelihood"] - 6.0


def test_same_seed_same_weights(data: DataSet) -> None:
    def weights(seed: int) -> torch.Tensor:
        trainer = Trainer.create(replace(CONFIG, seed=seed))
        for batch in pair_batches(data, np.arange(8), 4, AugmentConfig(), np.random.default_rng(seed)):
            trainer.step(batch)
        return torch.cat([p.detach().flatten() for p in trainer.net.parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_ablations_leave_labels_and_proprioception_out(data: DataSet) -> None:
    """The vision-only losses do not change when poses and labels do."""
    batch = first_batch(data)
    torch.manual_seed(0)
    trainer = Trainer.create(CONFIG)
    p = trainer.net(batch.rgb, batch.depth)
    scrambled = replace(
        batch, T_camera_ee=batch.T_camera_ee.roll(1, 0), uv=batch.uv + 9, keypoint_depth=batch.keypoint_depth + 1
    )

    uncapped = replace(CONFIG, rigidity_cap=10.0)

    def total(given: Batch, losses: str) -> dict[str, float]:
        terms = compute_losses(p, given, trainer.decoder, uncapped, PRESETS[losses])
        return {k: float(v.detach()) for k, v in terms.items()}

    assert set(total(batch, "vision_only")) == {"reconstruction", "separation"}
    assert total(batch, "vision_only") == total(scrambled, "vision_only")
    assert set(total(batch, "multi_modal")) == {"reconstruction", "separation", "rigidity", "nearness"}
    assert total(batch, "multi_modal")["rigidity"] != total(scrambled, "multi_modal")["rigidity"]


def test_two_steps_end_to_end(folder: Path, tmp_path: Path) -> None:
    """Data in, artefact, plots and checkpoint out; the artefact runs; the run can be continued."""
    config = replace(
        CONFIG, data=str(folder), out=str(tmp_path / "artefact"), runs=str(tmp_path / "runs"), steps=2, batch_size=4
    )
    artefact = train(config)
    detector = KeypointDetector.load(artefact)
    assert detector.names == ("kp_0", "kp_1", "kp_2", "kp_3")
    assert detector.artefact.manifest.training["steps"] == 2
    assert detector.artefact.manifest.metrics["frames"] == 4  # one episode held out
    assert len(detector.artefact.manifest.data_sha256) == 64
    (run,) = (tmp_path / "runs").iterdir()
    assert {p.name for p in run.iterdir()} >= {"checkpoint.safetensors", "predictions.png", "history.json"}
    trainer = Trainer.create(replace(config, steps=4))
    assert load_checkpoint(run / "checkpoint.safetensors", trainer) == 2
    assert trainer.optimiser.state_dict()["state"][0]["step"] == 2


def test_checkpoint_restores_the_run(data: DataSet, tmp_path: Path) -> None:
    """Step, save, load into a fresh trainer, step: the same as two steps in a row."""
    batch, trainer = first_batch(data), Trainer.create(CONFIG)
    trainer.step(batch)
    save_checkpoint(tmp_path / "c.safetensors", trainer, 1)
    other = Trainer.create(replace(CONFIG, seed=9))
    load_checkpoint(tmp_path / "c.safetensors", other)
    for t in (trainer, other):
        torch.manual_seed(1)
        t.step(batch)
    for a, b in zip(trainer.net.parameters(), other.net.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_refuses_a_checkpoint_of_another_network(data: DataSet, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.safetensors", Trainer.create(CONFIG), 0)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_weights(tmp_path / "c.safetensors", KeypointNet(NetworkConfig()))
    (tmp_path / "bad.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_weights(tmp_path / "bad.safetensors", KeypointNet(SMALL))


def test_weights_that_fit_are_taken(tmp_path: Path) -> None:
    """A network with another last stage takes the others, and says what it could not take."""
    given = Trainer.create(CONFIG)
    save_checkpoint(tmp_path / "c.safetensors", given, 0)
    net = KeypointNet(replace(SMALL, crop_channels=(6, 12)))
    missing = load_matching(tmp_path / "c.safetensors", net)
    assert torch.equal(net.coarse.maps.weight, given.net.coarse.maps.weight)
    assert missing
    assert all(name.startswith("refine.") for name in missing)


@pytest.mark.parametrize(
    "change", [mirror, lambda s: zoom(s, 1.2, np.array([0.5, -1.0])), lambda s: zoom(s, 0.8, np.zeros(2))]
)
def test_augmentation_keeps_geometry(data: DataSet, change: Callable[[Sample], Sample]) -> None:
    """Whatever happens to the pixels, labels, intrinsics and pose still belong together, and so does the mask."""
    before, sample = data.sample(3), change(data.sample(3))

    def in_ee(s: Sample) -> np.ndarray:
        b = collate([s])
        return to_ee(backproject(b.uv, b.keypoint_depth, b.intrinsics), b.T_camera_ee)[0].numpy()

    np.testing.assert_allclose(in_ee(sample), in_ee(before), atol=1e-4)
    batch = collate([sample])
    p = backproject(batch.uv, batch.keypoint_depth, batch.intrinsics)
    np.testing.assert_allclose(project(p, batch.intrinsics).numpy(), batch.uv.numpy(), atol=1e-3)
    middle = np.clip(np.rint(sample.uv[1]).astype(int), 0, [95, 63])
    if sample.visible[1]:
        assert sample.mask[middle[1] // 4, middle[0] // 4] > 60
        assert (
            abs(sample.depth[middle[1], middle[0]] - 1000 * sample.keypoint_depth[1]) < 40
            or sample.depth[middle[1], middle[0]] == 0
        )


def test_augmentation_does_not_touch_the_data(data: DataSet) -> None:
    before = data.sample(0).rgb.copy()
    changed = augment(data.sample(0), AugmentConfig(), np.random.default_rng(0))
    assert changed.rgb.dtype == np.uint8
    assert changed.depth.dtype == np.uint16
    assert not np.array_equal(changed.rgb, before)
    np.testing.assert_array_equal(data.sample(0).rgb, before)


def test_batches_pair_frames_of_an_episode(data: DataSet) -> None:
    """Each half of a batch holds other frames of the same episodes: the colour of the object tells."""
    seen = []
    for batch in pair_batches(data, np.arange(len(data)), 8, PLAIN, np.random.default_rng(0)):
        first, second = (np.array([_episode_of(data, T) for T in half]) for half in batch.T_camera_ee.chunk(2))
        assert (data.episode[first] == data.episode[second]).all()
        assert (first != second).all()
        seen += first.tolist()
    assert sorted(seen) == list(range(len(data)))


def _episode_of(data: DataSet, T: torch.Tensor) -> int:
    return int(np.abs(data.T_camera_ee - T.numpy()).sum((1, 2)).argmin())


def test_prefetch_raises_what_its_thread_raised() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise DataSetError("shard 3 is gone")

    batches = prefetch(broken())
    assert next(batches) == 1
    with pytest.raises(DataSetError, match="shard 3"):
        next(batches)


def test_refuses_bad_data_sets(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"meta\.json"):
        load_dataset(tmp_path / "nowhere")
    (tmp_path / "meta.json").write_text('{"format": "something else"}')
    with pytest.raises(DataSetError, match="format"):
        load_dataset(tmp_path)
    (tmp_path / "meta.json").write_text((folder / "meta.json").read_text())
    with pytest.raises(DataSetError, match="no shard"):
        load_dataset(tmp_path)
    arrays = dict(np.load(folder / "shard_00000.npz"))
    np.savez(tmp_path / "shard_00000.npz", **{**arrays, "depth": arrays["depth"].astype(np.float32)})
    with pytest.raises(DataSetError, match="depth is float32"):
        load_dataset(tmp_path)
    arrays.pop("keypoint_uv")
    np.savez(tmp_path / "shard_00000.npz", **arrays)
    with pytest.raises(DataSetError, match="keypoint_uv"):
        load_dataset(tmp_path)
    (tmp_path / "shard_00000.npz").write_bytes(b"truncated")
    with pytest.raises(DataSetError, match="cannot read"):
        load_dataset(tmp_path)


def test_manifest_names_no_folders_of_the_machine() -> None:
    training = {"data": "/mnt/data/train", "steps": 3, "finetune": {"out": "runs/x"}, "name": "n"}
    assert without_folders(training) == {"data": "train", "steps": 3, "finetune": {"out": "x"}, "name": "n"}
