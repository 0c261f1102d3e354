"""The iterations: experience in, forward model and controller learned together, an artefact out.

One iteration: run the controller, add what happened to all that happened before, go on learning the forward model,
then the controller through it. Weights are kept; a run goes on where its folder ends.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ideomotor.artefacts import Artefact
from ideomotor.config import Config, value
from ideomotor.data.experience import Episode, load_episode
from ideomotor.dynamics.rigid_body import RigidBody, RobotStructure
from ideomotor.errors import IdeomotorError
from ideomotor.policies.goals import position_error
from ideomotor.policies.motion import Motion, load_motion
from ideomotor_learn.dynamics.forward_model import ForwardModel, Scales, mlp
from ideomotor_learn.policies.export import export_controller
from ideomotor_learn.policies.losses import EACH, OBSERVED, Controller, controller_terms, step_errors
from ideomotor_learn.policies.samples import Samples, join, samples_from

_RUN, _WEIGHTS, _MOTION = "run.json", "weights.safetensors", "motion.npz"
_PROGRESS_EVERY = 10  # updates


class TrainingError(IdeomotorError):
    """A run cannot go on, or experience does not fit it."""


@dataclass(frozen=True, kw_only=True)
class ControllerConfig(Config):
    """How a controller is learned; the published sizes and what differs from them: docs/forward_model_error.md."""

    position_gain: float = value(15.0, "How fast the goal closes in on the motion's position [1/s].", ge=0.0, le=200.0)
    prediction_weight: float = value(
        1.0, "Of the prediction error in the loss; 0: the task term alone.", ge=0.0, le=100.0
    )
    goals: str = value(EACH, "What the controller is told while learning.", choices=(EACH, OBSERVED))
    semi_parametric: bool = value(True, "Rigid-body dynamics in the forward model; false: a network alone.")
    hidden: int = value(256, "Units of each of two hidden layers, of every network.", ge=8, le=4096)
    updates: int = value(150, "Gradient steps of the model, and of the controller, in an iteration.", ge=1, le=100000)
    batch: int = value(512, "Steps of experience in a gradient step.", ge=1, le=1000000)
    learning_rate: float = value(1e-3, "Of Adam.", ge=1e-6, le=1.0)
    noise: float = value(0.01, "Exploration: standard deviation by the effort limit.", ge=0.0, le=1.0)
    seed: int = value(0, "Of weights, batches and exploration.", ge=0, le=2**31)


@dataclass(frozen=True)
class IterationMetrics:
    """One iteration. The errors are means over the newest episode, under the model before it saw that episode."""

    iteration: int  # 0 is the first that ran the learned controller
    prediction_error: float  # see `ideomotor_learn.policies.losses.StepErrors`
    task_error: float
    performance_error: float
    bound_holds: bool  # performance <= task + prediction at every step
    position_error: float  # mean length of the error in position (rad, m) of the newest episode
    transitions: int  # of all data so far
    robot_seconds: float  # [s] of all data so far


class ControllerTraining:
    """A run.

    Args:
        config: of the learning.
        urdf: of the robot: its nominal model.
        structure: its joints, its base, its contacts.
        motion: what it shall do.

    Raises:
        DynamicsError: the URDF does not fit the structure.
        TrainingError: the motion does not fit it.
    """

    def __init__(self, config: ControllerConfig, urdf: str, structure: RobotStructure, motion: Motion) -> None:
        expected = (structure.joints, structure.contact_links, structure.floating_base)
        if (motion.joints, motion.contact_links, motion.floating_base) != expected:
            raise TrainingError(
                f"the motion is of joints {motion.joints}, contacts {motion.contact_links}, floating base "
                f"{motion.floating_base}; the robot has {expected}"
            )
        self.config, self.urdf, self.structure, self.motion = config, urdf, structure, motion
        self.body = RigidBody(urdf, structure)
        self.episodes: list[Episode] = []
        self.history: list[IterationMetrics] = []
        self._samples: list[Samples] = []
        self._scales: Scales | None = None
        torch.manual_seed(config.seed)
        self._build()

    def _build(self) -> None:
        c, body, forces = self.config, self.body, 3 * len(self.structure.contact_links)
        states = body.n + body.nv + (4 + forces if self.structure.floating_base else 0)
        hidden = (c.hidden, c.hidden)
        self.model = ForwardModel(
            states,
            body.nv,
            forces,
            body.n,
            hidden=hidden,
            period=1.0 / self.motion.rate,
            semi_parametric=c.semi_parametric,
        )
        self.controller = Controller(mlp(states + body.nv + forces, hidden, body.n, torch.nn.Softsign))
        self._model_optimiser = torch.optim.Adam(self.model.parameters(), c.learning_rate)
        self._controller_optimiser = torch.optim.Adam(self.controller.parameters(), c.learning_rate)

    @property
    def transitions(self) -> int:
        """Steps of experience so far."""
        return sum(e.steps for e in self.episodes)

    def add_episode(self, episode: Episode) -> IterationMetrics | None:
        """Take in what the robot did; return the errors of a learned controller's episode, None for the first one.

        Raises:
            TrainingError: the episode is another robot's, or at another rate.
        """
        found = (episode.joints, episode.contact_links, episode.floating_base)
        if found != (self.structure.joints, self.structure.contact_links, self.structure.floating_base):
            raise TrainingError(f"the episode is of joints, contacts, floating base {found}; this robot has others")
        if abs(episode.rate - self.motion.rate) > 0.01 * self.motion.rate:
            raise TrainingError(f"the episode's rate is {episode.rate} Hz, expected {self.motion.rate} Hz")
        samples = samples_from(episode, self.body, self.motion, self.config.position_gain)
        self.episodes.append(episode)
        self._samples.append(samples)
        if self._scales is None:
            return None
        metrics = self._measure(episode, samples)
        self.history.append(metrics)
        return metrics

    def _measure(self, episode: Episode, samples: Samples) -> IterationMetrics:
        assert self._scales is not None
        errors = step_errors(self.model, samples, self._scales)
        return IterationMetrics(
            iteration=len(self.history),
            prediction_error=float(errors.prediction.mean()),
            task_error=float(errors.task.mean()),
            performance_error=float(errors.performance.mean()),
            bound_holds=errors.bound_holds,
            position_error=float(tracking_error(episode.q[1:], self.motion).mean()),
            transitions=self.transitions,
            robot_seconds=self.transitions / self.motion.rate,
        )

    def fit(self) -> None:
        """Learn model and controller from all data so far; one iteration's worth of updates."""
        for _ in self.fit_in_pieces():
            pass

    def fit_in_pieces(self) -> Iterator[float]:
        """Do the same, giving way every few updates; yields the share done.

        Raises:
            TrainingError: there is no experience yet, or the learning diverged.
        """
        if not self._samples:
            raise TrainingError("no experience yet: add an episode first")
        c, data = self.config, join(self._samples)
        self._scales = self._scales_of(data)
        rng = np.random.default_rng((c.seed, len(self.episodes)))  # so that a resumed run takes the same batches
        for update in range(2 * c.updates):
            rows = torch.from_numpy(rng.integers(0, len(data), min(c.batch, len(data))))
            loss = (
                self._update_model(data.take(rows)) if update < c.updates else self._update_controller(data.take(rows))
            )
            if not np.isfinite(loss):
                raise TrainingError(f"the loss is {loss} after {update} updates: the learning diverged")
            if update % _PROGRESS_EVERY == 0:
                yield update / (2 * c.updates)

    def _scales_of(self, data: Samples) -> Scales:
        # The least spread counts while the robot has hardly moved.
        change = (data.next_velocity - data.velocity).std(0, correction=0)
        return Scales(
            mean=data.state.mean(0),
            std=data.state.std(0, correction=0) + 0.05,
            change=change + (0.02 if self.structure.floating_base else 0.002),
            effort=torch.as_tensor(self.body.effort_limit, dtype=torch.float32),
        )

    def _update_model(self, batch: Samples) -> float:
        assert self._scales is not None
        b = batch
        velocity, force = self.model(b.state, b.velocity, b.free, b.per_effort, b.effort, self._scales)
        loss = ((velocity - b.next_velocity) / self._scales.change).square().mean()
        if force.shape[-1]:
            loss = loss + ((force - b.next_force) / 10.0).square().mean()
        self._model_optimiser.zero_grad()
        loss.backward()
        self._model_optimiser.step()
        return loss.item()

    def _update_controller(self, batch: Samples) -> float:
        assert self._scales is not None
        c = self.config
        task, prediction = controller_terms(
            self.controller, self.model, batch, self._scales, goals=c.goals, prediction=c.prediction_weight > 0.0
        )
        loss = task + c.prediction_weight * prediction
        self._controller_optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.controller.parameters(), 1.0)
        self._controller_optimiser.step()
        return loss.item()

    def export(self, folder: Path) -> Artefact:
        """Write the controller as an artefact, whole or not at all.

        Raises:
            TrainingError: nothing was learned yet.
            ArtefactError: something else is in ``folder``.
        """
        if self._scales is None:
            raise TrainingError("nothing was learned yet: no artefact to write")
        metrics = {k: float(v) for k, v in asdict(self.history[-1]).items()} if self.history else {}
        return export_controller(
            folder,
            controller=self.controller,
            model=self.model,
            scales=self._scales,
            structure=self.structure,
            motion=self.motion,
            position_gain=self.config.position_gain,
            training=asdict(self.config),
            metrics=metrics,
            episodes=self.episodes,
        )

    def save(self, folder: Path) -> None:
        """Write all that `resume` needs; what was there stays until the new is complete."""
        folder.mkdir(parents=True, exist_ok=True)
        for i, episode in enumerate(self.episodes):
            path = folder / f"episode_{i:03d}.npz"
            if not path.exists():
                episode.save(path)
        if not (folder / _MOTION).exists():
            self.motion.save(folder / _MOTION)
            (folder / "robot.urdf").write_text(self.urdf, encoding="utf-8")
        temporary = folder / f".{_WEIGHTS}"
        run = {
            "config": asdict(self.config),
            "structure": asdict(self.structure),
            "episodes": len(self.episodes),
            "history": [asdict(m) for m in self.history],
        }
        # One file holds weights and record: a run is never half an iteration ahead of itself.
        save_file(self._tensors(), temporary, metadata={_RUN: json.dumps(run)})
        temporary.replace(folder / _WEIGHTS)

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = {}
        for name, module in (("model", self.model), ("controller", self.controller)):
            tensors |= {f"{name}.{k}": v.detach().contiguous() for k, v in module.state_dict().items()}
        for name, optimiser in (("model", self._model_optimiser), ("controller", self._controller_optimiser)):
            for i, state in optimiser.state_dict()["state"].items():
                tensors |= {f"{name}_optimiser.{i}.{k}": v.detach().clone() for k, v in state.items()}
        if self._scales is not None:
            tensors |= {f"scales.{k}": v for k, v in vars(self._scales).items()}
        return tensors

    @classmethod
    def resume(cls, folder: Path) -> "ControllerTraining":
        """Return the run that was last saved to ``folder``.

        Raises:
            TrainingError: there is none, or it cannot be read.
        """
        path = folder / _WEIGHTS
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            run, tensors = json.loads(header["__metadata__"][_RUN]), load_file(path)
            structure: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in run["structure"].items()}
            urdf = (folder / "robot.urdf").read_text(encoding="utf-8")
            motion = load_motion(folder / _MOTION)
            training = cls(ControllerConfig(**run["config"]), urdf, RobotStructure(**structure), motion)
            training._restore(tensors)
            for i in range(run["episodes"]):
                training._take(load_episode(folder / f"episode_{i:03d}.npz"))
            training.history = [IterationMetrics(**m) for m in run["history"]]
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, IdeomotorError) as error:
            raise TrainingError(f"{folder}: no run to resume: {error}") from error
        return training

    def _take(self, episode: Episode) -> None:
        self.episodes.append(episode)
        self._samples.append(samples_from(episode, self.body, self.motion, self.config.position_gain))

    def _restore(self, tensors: dict[str, torch.Tensor]) -> None:
        def of(prefix: str) -> dict[str, torch.Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        pairs = (
            ("model", self.model, self._model_optimiser),
            ("controller", self.controller, self._controller_optimiser),
        )
        for name, module, optimiser in pairs:
            module.load_state_dict(of(f"{name}."))
            moments: dict[int, dict[str, torch.Tensor]] = {}
            for key, tensor in of(f"{name}_optimiser.").items():
                i, field = key.split(".", 1)
                moments.setdefault(int(i), {})[field] = tensor
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": moments, "param_groups": groups})
        if "scales.mean" in tensors:
            self._scales = Scales(**of("scales."))

    def first_effort(self, q: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return efforts (N, n) that hold N robots about the motion's first posture, for the first episode.

        Joint stiffness and damping from the nominal inertia, and of a fixed base its weight.
        """
        n, start = self.body.n, self.motion.q[:1]
        inertia = np.diag(self.body.mass_matrix(start[0]))[-n:]
        if self.structure.floating_base:
            inertia = np.maximum(inertia, 3.0 / _STIFFNESS)  # a leg that stands moves more than itself
        weight = np.zeros((len(q), n))
        if not self.structure.floating_base:
            weight = np.stack([self.body.bias(row, np.zeros(self.body.nv)) for row in q])
        effort = weight + inertia * (_STIFFNESS * (start[:, -n:] - q[:, -n:]) - _DAMPING * v[:, -n:])
        return np.clip(effort, -self.body.effort_limit, self.body.effort_limit)


_STIFFNESS, _DAMPING = 100.0, 15.0  # [1/s^2], [1/s] by the inertia


def tracking_error(q: np.ndarray, motion: Motion) -> np.ndarray:
    """Return the length of the error in position of consecutive states from step 1 on, shape (T,) [rad, m]."""
    target = motion.q[np.minimum(np.arange(1, len(q) + 1), motion.steps)]
    return np.asarray(np.linalg.norm(position_error(q, target, floating_base=motion.floating_base), axis=-1))


def with_noise(effort: np.ndarray, noise: float, limit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return efforts with exploration added, within the limits."""
    return np.asarray(np.clip(effort + noise * limit * rng.normal(size=effort.shape), -limit, limit))
