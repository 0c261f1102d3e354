"""Train the keypoint detector: ``python -m ideomotor_learn.body.train_keypoints --data FOLDER --out FOLDER``."""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ideomotor.cli import main as run_command
from ideomotor.config import Config, value
from ideomotor_learn.body import losses
from ideomotor_learn.body.augment import AugmentConfig
from ideomotor_learn.body.checkpoint import load_checkpoint, load_matching, save_checkpoint
from ideomotor_learn.body.dataset import Batch, DataSet, load_dataset, pair_batches, prefetch
from ideomotor_learn.body.export import export_artefact
from ideomotor_learn.body.network import Decoder, Guide, KeypointNet, Prediction
from ideomotor_learn.body.plots import plot_losses, plot_predictions
from ideomotor_learn.body.stages import NetworkConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LossWeights(Config):
    """Weight of every loss term; a term of weight zero is not computed."""

    reconstruction: float = value(0.5, "Painting the image through the keypoints.", ge=0.0)
    separation: float = value(0.01, "Keeping the keypoints apart.", ge=0.0)
    rigidity: float = value(2.0, "Proprioception: keypoints keep their place in the gripper's frame [1/m].", ge=0.0)
    nearness: float = value(0.1, "Proprioception: keypoints lie near the gripper.", ge=0.0)
    map: float = value(0.3, "Labels: keypoint maps.", ge=0.0)
    coarse: float = value(0.3, "Labels: stage 1's pixels and depth.", ge=0.0)
    object_map: float = value(0.3, "Labels: stage 2's keypoint maps.", ge=0.0)
    object: float = value(1.0, "Labels: stage 2's place in space.", ge=0.0)
    refined: float = value(1.0, "Labels: stage 3's place in space.", ge=0.0)
    likelihood: float = value(0.1, "Labels: calibrated variances.", ge=0.0)
    mask: float = value(0.5, "Labels: object mask.", ge=0.0)
    confidence: float = value(0.2, "Labels: visible and on the object.", ge=0.0)


VISION_ONLY = LossWeights(
    separation=0.1,
    rigidity=0.0,
    nearness=0.0,
    map=0.0,
    object_map=0.0,
    object=0.0,
    coarse=0.0,
    refined=0.0,
    likelihood=0.0,
    mask=0.0,
    confidence=0.0,
)
MULTI_MODAL = LossWeights(
    separation=0.1,
    rigidity=5.0,
    nearness=1.0,
    map=0.0,
    object_map=0.0,
    object=0.0,
    coarse=0.0,
    refined=0.0,
    likelihood=0.0,
    mask=0.0,
    confidence=0.0,
)
PSEUDO_LABELS = LossWeights(likelihood=0.0, mask=0.0, confidence=0.0)
CROPS = LossWeights(
    reconstruction=0.0, separation=0.0, rigidity=0.0, nearness=0.0, map=0.0, coarse=0.0, mask=0.0
)  # of stages 2 and 3 alone
PRESETS = {
    "all": LossWeights(),
    "crops": CROPS,
    "vision_only": VISION_ONLY,
    "multi_modal": MULTI_MODAL,
    "pseudo_labels": PSEUDO_LABELS,
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """Everything a training run depends on besides its data."""

    data: str = value("", "Folder of the data set.")
    held_out: str = value("", "Folder of another data set to measure on; empty: the last 2 % of the episodes.")
    out: str = value("artefacts/keypoints", "Folder of the artefact to write.")
    runs: str = value("runs", "Folder for plots, metrics and the checkpoint.")
    name: str = value("keypoints", "Name of the run; continued from its checkpoint if `resume` names it.")
    resume: str = value("", "Checkpoint (.safetensors) to continue from.")
    init: str = value("", "Checkpoint (.safetensors) to take weights from where they fit; training starts at step 0.")
    freeze_coarse: bool = value(False, "Leave stage 1 as it is (with `init`): nearly twice as fast.")
    losses: str = value(
        "all", "Which losses (LossWeights): all, or the ablations, or those of fine-tuning.", choices=tuple(PRESETS)
    )
    steps: int = value(5000, "Training steps.", ge=1)
    batch_size: int = value(16, "Images per step, even.", ge=2)
    learning_rate: float = value(2e-3, "Peak learning rate of the one-cycle schedule.", ge=0.0)
    weight_decay: float = value(1e-3, "AdamW weight decay.", ge=0.0)
    clip_norm: float = value(5.0, "Largest gradient norm.", ge=0.0)
    jitter: float = value(1.5, "Standard deviation of the crops' displacement in training [px].", ge=0.0)
    guided: float = value(0.5, "Share of the labelled images whose crops are put near the labels.", ge=0.0, le=1.0)
    guide_sigma: float = value(2.5, "Mean standard deviation of those crops' displacement [px].", ge=0.0)
    guide_object_sigma: float = value(6.0, "Standard deviation of the object crop's displacement [px].", ge=0.0)
    guide_depth_sigma: float = value(0.02, "Standard deviation of those crops' depth [m].", ge=0.0)
    hidden_weight: float = value(0.3, "Weight of keypoints that the robot hides.", ge=0.0, le=1.0)
    separation_sigma: float = value(4.0, "Range of the separation loss [px].", ge=0.1)
    object_beta: float = value(1.0, "Where stage 2's loss turns from quadratic to linear [cm].", ge=0.01)
    refined_beta: float = value(0.3, "Where stage 3's loss turns from quadratic to linear [cm].", ge=0.01)
    nearness_radius: float = value(0.3, "Radius around the gripper without a nearness loss [m].", ge=0.0)
    rigidity_cap: float = value(0.05, "Cap of the rigidity loss [m].", ge=0.0)
    seed: int = value(0, "Seed of initial weights, order and augmentation.", ge=0)
    threads: int = value(2, "Threads of torch.", ge=1)
    bfloat16: bool = value(True, "Convolutions in bfloat16 (several times faster on CPUs that have it).")
    network: NetworkConfig = field(default_factory=NetworkConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)


def target_weight(batch: Batch, hidden_weight: float) -> Tensor:
    """Return (B, K): 1 visible, `hidden_weight` hidden but in the image, 0 outside or unlabelled."""
    height, width = batch.depth.shape[1:]
    inside = ((batch.uv >= -0.5) & (batch.uv <= batch.uv.new_tensor([width, height]) - 0.5)).all(-1)
    return (batch.labelled & inside).float() * torch.where(batch.visible, 1.0, hidden_weight)


def draw_guide(batch: Batch, config: TrainConfig) -> Guide:
    """Draw where stages 2 and 3 look: near the labels for a share of the images, else near what came before."""
    b, k = batch.keypoint_depth.shape
    noise = torch.randn(b, k, 2)
    use = target_weight(batch, 1.0).bool() & (torch.rand(b, 1) < config.guided)
    depth = batch.keypoint_depth + config.guide_depth_sigma * torch.randn(b, k)
    wide = config.guide_object_sigma * (torch.randn(b, 1, 2) + 0.5 * torch.randn(b, k, 2))
    sigma = 2 * config.guide_sigma * torch.rand(b, 1, 1)
    return Guide(batch.uv + wide, batch.uv + sigma * noise, depth, use, config.jitter * noise)


def small_image(rgb: Tensor) -> Tensor:
    """Return (B, 3, H/4, W/4) in [0, 1]: what the decoder paints."""
    return F.avg_pool2d(rgb.permute(0, 3, 1, 2).contiguous().float(), 4) / 255.0


def within(residual: Tensor, window: Tensor) -> Tensor:
    """Return (B, K) bool: the error is one that a crop of this size [px] can mend."""
    return (residual[..., :2].detach().abs().amax(-1) < 0.45 * window) & (residual[..., 2].detach().abs() < 0.2)


def compute_losses(
    p: Prediction, batch: Batch, decoder: Decoder, config: TrainConfig, weights: LossWeights
) -> dict[str, Tensor]:
    """Return every loss term of non-zero weight, unweighted."""
    weight = target_weight(batch, config.hidden_weight)
    true, focal = (batch.uv, batch.keypoint_depth), batch.intrinsics[:, 1]
    e_object = losses.residual(p.uv_object, p.depth_object, p.axis, *true)
    e = losses.residual(p.uv, p.depth, p.axis, *true)
    in_object = weight * within(e_object, config.network.object_window / batch.keypoint_depth)
    in_crop = weight * within(e, config.network.crop_window / batch.keypoint_depth)
    has_mask = batch.has_mask.float()

    def painted() -> Tensor:
        image = small_image(batch.rgb)
        paint = decoder(p.uv_coarse, _swap(p.uv_coarse), _swap(image), _swap(p.features))
        return losses.reconstruction(paint, image)

    terms: dict[str, Callable[[], Tensor]] = {
        "reconstruction": painted,
        "separation": lambda: losses.separation(p.uv_coarse, config.separation_sigma),
        "rigidity": lambda: (
            losses.rigidity(p.uv, p.depth, batch.intrinsics, batch.T_camera_ee, config.rigidity_cap)
            + losses.rigidity(p.uv_coarse, p.depth_coarse, batch.intrinsics, batch.T_camera_ee, config.rigidity_cap)
        ),
        "nearness": lambda: losses.nearness(p.uv_coarse, batch.intrinsics, batch.T_camera_ee, config.nearness_radius),
        "map": lambda: losses.map_cross_entropy(p.log_heat, batch.uv, weight),
        "coarse": lambda: losses.coarse_position(p, batch.uv, batch.keypoint_depth, weight),
        "object_map": lambda: losses.object_map_cross_entropy(p, batch.uv, weight),
        "object": lambda: losses.position(e_object, batch.keypoint_depth, focal, in_object, config.object_beta),
        "refined": lambda: losses.position(e, batch.keypoint_depth, focal, in_crop, config.refined_beta),
        # All of them: a keypoint on the wrong end of the object shall not call itself certain.
        "likelihood": lambda: losses.likelihood(e, p.log_variance, weight),
        "mask": lambda: losses.mask_cross_entropy(p.mask_logit, batch.mask, has_mask),
        "confidence": lambda: losses.confidence_cross_entropy(
            p, batch.visible, batch.mask, has_mask[:, None] * batch.labelled
        ),
    }
    wanted = asdict(weights)
    return {name: term() for name, term in terms.items() if wanted[name] > 0}


def _swap(x: Tensor) -> Tensor:
    """Exchange the two frames of every pair."""
    return torch.cat(x.chunk(2)[::-1])


@dataclass
class Trainer:
    """Networks, optimiser and schedule of one run."""

    config: TrainConfig
    net: KeypointNet
    decoder: Decoder
    optimiser: torch.optim.AdamW
    schedule: torch.optim.lr_scheduler.OneCycleLR

    @classmethod
    def create(cls, config: TrainConfig, net: KeypointNet | None = None) -> "Trainer":
        """Return a trainer at step 0, of a given network or of one with weights drawn from the seed."""
        torch.manual_seed(config.seed)
        net = KeypointNet(config.network) if net is None else net
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.freeze_coarse:
            net.coarse.requires_grad_(False).eval()
        decoder = Decoder(config.network)
        parameters = [p for p in (*net.parameters(), *decoder.parameters()) if p.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, config.learning_rate, total_steps=config.steps + 1, pct_start=0.15
        )
        return cls(config, net, decoder, optimiser, schedule)

    def step(self, batch: Batch) -> dict[str, float]:
        """Take one step; return every unweighted term and the weighted total."""
        config, weights = self.config, PRESETS[self.config.losses]
        guide = draw_guide(batch, config)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            p = self.net(batch.rgb, batch.depth, guide)
            terms = compute_losses(p, batch, self.decoder, config, weights)
        total = sum(getattr(weights, name) * term for name, term in terms.items())
        assert isinstance(total, Tensor)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        parameters = [*self.net.parameters(), *self.decoder.parameters()]
        torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        self.optimiser.step()
        self.schedule.step()
        return {name: float(term.detach()) for name, term in (*terms.items(), ("total", total))}


def split(data: DataSet) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of training and held-out samples: the last 2 % of the episodes, at least one."""
    numbers = np.unique(data.episode)
    last = numbers[-max(1, len(numbers) // 50) :]
    held_out = np.isin(data.episode, last)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def endless(data: DataSet, indices: np.ndarray, config: TrainConfig, rng: np.random.Generator) -> Iterator[Batch]:
    """Yield batches, epoch after epoch."""
    while True:
        yield from pair_batches(data, indices, config.batch_size, config.augment, rng)


def train(config: TrainConfig) -> Path:
    """Train, write plots to ``runs/NAME-DATE`` and the artefact to ``config.out``; return the artefact's folder.

    Raises:
        DataSetError: if the data set cannot be used.
    """
    torch.set_num_threads(config.threads)
    run = Path(config.runs) / f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    run.mkdir(parents=True, exist_ok=True)
    data = load_dataset(config.data)
    indices, held_out_indices = split(data)
    held_out = data
    if config.held_out:
        held_out = load_dataset(config.held_out)
        indices, held_out_indices = np.arange(len(data)), np.arange(len(held_out))
    trainer = Trainer.create(config)
    if config.init:
        new = load_matching(Path(config.init), trainer.net)
        logger.info("weights from %s, new ones: %s", config.init, sorted({".".join(n.split(".")[:2]) for n in new}))
    start = load_checkpoint(Path(config.resume), trainer) if config.resume else 0
    rng = np.random.default_rng((config.seed, start))
    history: list[dict[str, float]] = []
    batches = prefetch(endless(data, indices, config, rng))
    progress = tqdm(range(start, config.steps), initial=start, total=config.steps, mininterval=10.0)
    mean: dict[str, float] = {}
    began = time.monotonic()
    for step in progress:
        terms = trainer.step(next(batches))
        mean = {k: 0.98 * mean.get(k, v) + 0.02 * v for k, v in terms.items()}
        if step % 50 == 49:
            history.append({"step": step + 1, **mean})
            progress.set_postfix({k: f"{v:.3g}" for k, v in mean.items()}, refresh=False)
        if step % 500 == 499:
            save_checkpoint(run / "checkpoint.safetensors", trainer, step + 1)
            plot_losses(history, run / "losses.png")
    batches.close()  # type: ignore[attr-defined]
    save_checkpoint(run / "checkpoint.safetensors", trainer, config.steps)
    (run / "history.json").write_text(json.dumps(history), encoding="utf-8")
    plot_losses(history, run / "losses.png")
    artefact = export_artefact(
        trainer.net,
        Path(config.out),
        training={**asdict(config), "duration_s": round(time.monotonic() - began)},
        seed=config.seed,
        data=data,
        held_out=held_out,
        indices=held_out_indices,
    )
    plot_predictions(artefact, held_out, held_out_indices, run / "predictions.png")
    logger.info("artefact in %s, plots in %s", artefact, run)
    return artefact


def main() -> None:
    """Train from the command line."""
    run_command(["train", "keypoints", *sys.argv[1:]])


if __name__ == "__main__":
    main()
