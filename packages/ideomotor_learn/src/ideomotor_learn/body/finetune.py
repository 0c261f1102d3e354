r"""Fine-tune a detector on a recording of seconds of a new object. No label of a simulator enters.

1. Detect keypoints in every frame with the artefact as it is.
2. Fit, robustly, where each keypoint is in the gripper's frame: :math:`\rho_k` (ideomotor.body.fit).
3. Re-project: :math:`\tilde z_{tk} = \Pi({}^cT_{ee}(q_t) \rho_k)` is the pseudo-label of frame t. It is better than
   the detection of that frame, because all the others voted for it.
4. Train a little on the pseudo-labels, with the self-supervised and the proprioceptive losses beside them.

A keypoint whose detections disagree with every rigid place (a hinged part, say) gets no pseudo-label.

Run it: ``ideomotor train finetune-keypoints --data RECORDING --urdf FILE --ee-link NAME --out FOLDER``.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ideomotor.artefacts import load_artefact
from ideomotor.body.detector import MODALITY, KeypointDetector
from ideomotor.body.fit import Observations, fit_keypoints
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.urdf import load_urdf
from ideomotor.config import Config, value
from ideomotor_learn.body.dataset import DataSet, DataSetError, load_dataset, pair_batches
from ideomotor_learn.body.evaluate import detect_samples, sample_intrinsics
from ideomotor_learn.body.export import export_artefact, load_network
from ideomotor_learn.body.recording import convert
from ideomotor_learn.body.train_keypoints import TrainConfig as BaseConfig
from ideomotor_learn.body.train_keypoints import Trainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """How a detector is fine-tuned."""

    artefact: str = value("artefacts/keypoints", "Folder of the artefact to start from.")
    data: str = value("", "Folder of the recording: a bag (MCAP), or in the data sets' format; labels are not used.")
    urdf: str = value("", "For a bag: file of the robot's description (.urdf or .xacro).")
    ee_link: str = value("", "For a bag: link the object is held by.")
    out: str = value("runs/keypoints-finetuned", "Folder of the artefact to write.")
    steps: int = value(150, "Training steps.", ge=1)
    batch_size: int = value(16, "Images per step, even.", ge=2)
    learning_rate: float = value(3e-4, "Peak learning rate.", ge=0.0)
    reach: float = value(10.0, "A detection agrees with the fit if it is this near to it [px].", ge=0.0)
    inliers: float = value(0.5, "A keypoint gets pseudo-labels if this share of its detections agrees.", ge=0.0, le=1.0)
    occlusion: float = value(0.05, "Hidden where the sensor sees something this much nearer [m].", ge=0.0)
    seed: int = value(0, "Seed of order and augmentation.", ge=0)
    threads: int = value(1, "Threads of torch.", ge=1)
    bfloat16: bool = value(True, "Convolutions in bfloat16.")


def pseudo_labels(found: Sequence[Keypoints], data: DataSet, config: TrainConfig) -> DataSet:
    """Return the recording with re-projected keypoints in place of labels, and without masks.

    Args:
        found: detections of every sample.
        data: the recording.
        config: thresholds.
    """
    uv = np.full(data.uv.shape, np.nan, np.float32)
    depth = np.full(data.keypoint_depth.shape, np.nan, np.float32)
    visible = np.zeros(data.visible.shape, bool)
    for indices in data.episodes.values():
        position, agree = _fit([found[i] for i in indices], data, indices, config.reach)
        for i in indices:
            camera, T = sample_intrinsics(data, int(i)), data.T_camera_ee[i].astype(float)
            p = position @ T[:3, :3].T + T[:3, 3]  # (K, 3) in the optical frame
            z = camera.project(p)
            use = agree >= config.inliers
            uv[i, use], depth[i, use] = z[use], p[use, 2]
            visible[i] = use & ~_hidden(z, p[:, 2], data.sample(int(i)).depth, config.occlusion)
    return replace(data, uv=uv, keypoint_depth=depth, visible=visible, mask=(None,) * len(data.mask))


def _fit(found: list[Keypoints], data: DataSet, indices: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Return keypoints in the gripper's frame (K, 3) [m] and the share of the frames that agree (K,)."""
    arrays = {
        name: np.stack([getattr(f, name) for f in found])
        for name in ("uv", "uv_covariance", "depth", "depth_variance", "confidence")
    }
    T, camera = data.T_camera_ee[indices].astype(float), sample_intrinsics(data, int(indices[0]))
    stamp = np.arange(len(found)) / 30.0
    position = fit_keypoints(Observations(stamp=stamp, T_camera_ee=T, **arrays), camera).position_ee
    projected = camera.project(np.einsum("tij,kj->tki", T[:, :3, :3], position) + T[:, None, :3, 3])  # (T, K, 2)
    return position, (np.linalg.norm(projected - arrays["uv"], axis=-1) < reach).mean(0)


def _hidden(uv: np.ndarray, depth: np.ndarray, image: np.ndarray, margin: float) -> np.ndarray:
    """Return (K,) bool: outside the image, or behind what the sensor sees there; image [mm], 0 unknown."""
    h, w = image.shape
    cell = np.rint(uv).astype(int)
    outside = (cell < 0).any(-1) | (cell >= [w, h]).any(-1)
    cell = np.clip(cell, 0, [w - 1, h - 1])
    sensed = image[cell[:, 1], cell[:, 0]] * 1e-3
    return outside | ((sensed > 0) & (sensed < depth - margin))


def spread(found: Sequence[Keypoints], data: DataSet) -> float:
    """Return the median distance of the detections from their keypoint's median in the gripper's frame [m].

    A figure that needs no labels: small where the keypoints move with the gripper.
    """
    distances = []
    for indices in data.episodes.values():
        points = np.stack([found[i].position_camera(sample_intrinsics(data, int(i))) for i in indices])
        T = data.T_camera_ee[indices].astype(float)
        rho = np.einsum("tji,tkj->tki", T[:, :3, :3], points - T[:, None, :3, 3])  # (T, K, 3)
        distances.append(np.linalg.norm(rho - np.nanmedian(rho, axis=0), axis=-1).ravel())
    return float(np.nanmedian(np.concatenate(distances)))


def finetune(artefact: Path, recording: DataSet, out: Path, config: TrainConfig) -> Path:
    """Fine-tune on a recording; write a new artefact and return its folder.

    Raises:
        ArtefactError: if the artefact cannot be used.
        DataSetError: if no keypoint of the recording has a rigid place to learn from.
    """
    torch.set_num_threads(config.threads)
    everything = np.arange(len(recording))
    before = detect_samples(KeypointDetector.load(artefact), recording, everything)
    labelled = pseudo_labels(before, recording, config)
    if not labelled.visible.any():
        raise DataSetError("no keypoint of the recording keeps a place in the gripper's frame; nothing to learn from")
    net = load_network(artefact)
    base = BaseConfig(
        losses="pseudo_labels",
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        seed=config.seed,
        bfloat16=config.bfloat16,
        network=net.config,
    )
    trainer = Trainer.create(base, net)
    trainer.net.eval()  # seconds of one object would spoil the batch statistics
    rng = np.random.default_rng(config.seed)
    for _ in tqdm(range(config.steps), mininterval=5.0):
        batch = next(pair_batches(labelled, everything, config.batch_size, base.augment, rng))
        trainer.step(batch)
    old = load_artefact(artefact, modality=MODALITY).manifest
    path = export_artefact(
        trainer.net,
        out,
        training={"finetune": asdict(config), "from": old.models[0].sha256, "base": dict(old.training)},
        seed=config.seed,
        data=recording,
        held_out=labelled,
        indices=everything,
    )
    after = detect_samples(KeypointDetector.load(path), recording, everything)
    logger.info(
        "spread in the gripper's frame: %.1f -> %.1f mm",
        1e3 * spread(before, recording),
        1e3 * spread(after, recording),
    )
    return path


def train(config: TrainConfig) -> Path:
    """Fine-tune as the command line says; return the new artefact's folder.

    Raises:
        IdeomotorError: if artefact, recording or robot description cannot be used.
    """
    artefact, data = Path(config.artefact), Path(config.data)
    if any(data.glob("*.mcap")):
        names = KeypointDetector.load(artefact).names
        folder = Path(f"{config.out}-data")
        convert(data, load_urdf(config.urdf), config.ee_link, names, folder)
        data = folder
    return finetune(artefact, load_dataset(data), Path(config.out), config)
