"""The iterations: experience in, forward model and controller learned together, an artefact out.

One iteration: run the controller, add what happened to all that happened before, go on learning the forward model,
then the controller through it. Weights are kept; a run goes on where its folder ends.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

from ideomotor.artefacts import Artefact
from ideomotor.config import Config, value
from ideomotor.data.experience import Episode
from ideomotor.dynamics.rigid_body import RigidBody, RobotStructure
from ideomotor.errors import IdeomotorError
from ideomotor.policies.goals import position_error
from ideomotor.policies.motion import Motion
from ideomotor_learn.dynamics.forward_model import ForwardModel, Scales, mlp
from ideomotor_learn.policies.export import export_controller
from ideomotor_learn.policies.losses import EACH, OBSERVED, Controller, controller_terms, step_errors
from ideomotor_learn.policies.run_folder import UNREADABLE, Run, holds_run, read_run, write_run
from ideomotor_learn.policies.samples import Samples, join, samples_from

_PROGRESS_EVERY = 10  # updates


class TrainingError(IdeomotorError):
    """A run cannot go on, or experience does not fit it."""


@dataclass(frozen=True, kw_only=True)
class ControllerConfig(Config):
    """How a controller is learned; the published sizes and what differs from them: docs/forward_model_error.md."""

    position_gain: float = value(
        -1.0,
        "How fast the goal closes in on the motion's position [1/s]; negative: by the kind of robot.",
        ge=-1.0,
        le=200.0,
    )
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


def default_gain(*, floating_base: bool) -> float:
    """Return the position gain [1/s] for a kind of robot: legs cannot follow as stiffly as an arm."""
    return 20.0 if floating_base else 40.0


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
        TrainingError: the motion does not fit it, or a joint has no effort limit.
    """

    def __init__(self, config: ControllerConfig, urdf: str, structure: RobotStructure, motion: Motion) -> None:
        expected = (structure.joints, structure.contact_links, structure.floating_base)
        if (motion.joints, motion.contact_links, motion.floating_base) != expected:
            raise TrainingError(
                f"the motion is of joints {motion.joints}, contacts {motion.contact_links}, floating base "
                f"{motion.floating_base}; the robot has {expected}"
            )
        if config.position_gain < 0.0:
            config = replace(config, position_gain=default_gain(floating_base=structure.floating_base))
        self.config, self.urdf, self.structure, self.motion = config, urdf, structure, motion
        self.body = RigidBody(urdf, structure)
        for name, limit in zip(structure.joints, self.body.effort_limit, strict=True):
            if not 0.0 < limit < np.inf:
                raise TrainingError(f"joint {name!r} has effort limit {limit}, expected one in the URDF [N m]")
        self.episodes: list[Episode] = []
        self.history: list[IterationMetrics] = []
        self._samples: list[Samples] = []
        self._learned = 0  # episodes that the networks have learned from
        self._saved = (Path(), 0)  # the folder, and how many of the episodes are in it
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

    @property
    def is_fitted(self) -> bool:
        """Whether the networks have learned from all experience."""
        return self._learned == len(self.episodes) > 0

    def add_episode(self, episode: Episode) -> IterationMetrics | None:
        """Take in what the robot did; return the errors of a learned controller's episode, None for the first one.

        Raises:
            TrainingError: the episode is another robot's, or at another rate.
        """
        return self.add_episodes([episode])

    def add_episodes(self, episodes: Sequence[Episode]) -> IterationMetrics | None:
        """Do the same for several episodes of one iteration; all of them are taken in, or none.

        Raises:
            TrainingError: an episode is another robot's, or at another rate.
        """
        for episode in episodes:
            self._check(episode)
        new = [self._take(episode) for episode in episodes]
        if self._scales is None or not new:
            return None
        metrics = self._measure(episodes, join(new))
        self.history.append(metrics)
        return metrics

    def _check(self, episode: Episode) -> None:
        found = (episode.joints, episode.contact_links, episode.floating_base)
        expected = (self.structure.joints, self.structure.contact_links, self.structure.floating_base)
        if found != expected:
            raise TrainingError(f"the episode is of joints, contacts, floating base {found}; this robot has {expected}")
        if abs(episode.rate - self.motion.rate) > 0.01 * self.motion.rate:
            raise TrainingError(f"the episode's rate is {episode.rate} Hz, expected {self.motion.rate} Hz")

    def _take(self, episode: Episode) -> Samples:
        samples = samples_from(episode, self.body, self.motion, self.config.position_gain)
        self.episodes.append(episode)
        self._samples.append(samples)
        return samples

    def _measure(self, episodes: Sequence[Episode], samples: Samples) -> IterationMetrics:
        assert self._scales is not None
        errors = step_errors(self.model, samples, self._scales)
        position = np.concatenate([tracking_error(e.q[1:], self.motion) for e in episodes])
        return IterationMetrics(
            iteration=len(self.history),
            prediction_error=float(errors.prediction.mean()),
            task_error=float(errors.task.mean()),
            performance_error=float(errors.performance.mean()),
            bound_holds=errors.bound_holds,
            position_error=float(position.mean()),
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
        self._scales, self._learned = self._scales_of(data), len(self.episodes)
        rng = np.random.default_rng((c.seed, len(self.episodes)))  # so that a resumed run takes the same batches
        for update in range(2 * c.updates):
            self._set_learning_rate(update % c.updates / c.updates)
            rows = torch.from_numpy(rng.integers(0, len(data), min(c.batch, len(data))))
            step = self._update_model if update < c.updates else self._update_controller
            if not np.isfinite(loss := step(data.take(rows))):
                raise TrainingError(f"the loss is {loss} after {update} updates: the learning diverged")
            if update % _PROGRESS_EVERY == 0:
                yield update / (2 * c.updates)

    def _set_learning_rate(self, share: float) -> None:
        """Let the rate fall within an iteration: the controller that runs next is a settled one."""
        for optimiser in (self._model_optimiser, self._controller_optimiser):
            for group in optimiser.param_groups:
                group["lr"] = self.config.learning_rate * (1.0 - 0.95 * share)

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
        return _step(self._model_optimiser, loss)

    def _update_controller(self, batch: Samples) -> float:
        assert self._scales is not None
        c = self.config
        task, prediction = controller_terms(
            self.controller, self.model, batch, self._scales, goals=c.goals, prediction=c.prediction_weight > 0.0
        )
        loss = task + c.prediction_weight * prediction
        return _step(self._controller_optimiser, loss, list(self.controller.parameters()))

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
            episodes=self.episodes[: self._learned],
        )

    def save(self, folder: Path) -> None:
        """Write all that `resume` needs; what was there stays until the new is complete.

        Raises:
            TrainingError: another run is in ``folder``.
        """
        there, (place, kept) = holds_run(folder), self._saved
        if there and folder.absolute() != place:
            raise TrainingError(f"{folder} holds another run, expected a new folder, or to resume that run")
        run = Run(
            config=asdict(self.config),
            urdf=self.urdf,
            structure=self.structure,
            motion=self.motion,
            episodes=self.episodes,
            learned=self._learned,
            history=[asdict(m) for m in self.history],
            tensors=self._tensors(),
        )
        write_run(folder, run, kept=kept if there else 0)
        self._saved = folder.absolute(), len(self.episodes)

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
        """Return the run that was last saved to ``folder``; it goes on as it would have.

        Raises:
            TrainingError: there is none, or it cannot be read.
        """
        try:
            run = read_run(folder)
            training = cls(ControllerConfig(**run.config), run.urdf, run.structure, run.motion)
            training._restore(run.tensors)
            for episode in run.episodes:
                training._take(episode)
            training._learned = run.learned
            training.history = [IterationMetrics(**m) for m in run.history]
        except (*UNREADABLE, IdeomotorError) as error:
            raise TrainingError(f"{folder}: no run to resume: {error}") from error
        training._saved = folder.absolute(), len(training.episodes)
        return training

    def check_same(self, urdf: str, structure: RobotStructure, motion: Motion) -> None:
        """See that a run that was resumed goes on with the robot and the motion that it began with.

        Raises:
            TrainingError: naming what is another.
            DynamicsError: the URDF does not fit the structure.
        """
        changed = [f"the robot's {f.name}" for f in fields(structure) if not _same(f.name, structure, self.structure)]
        changed += [f"the motion's {f.name}" for f in fields(motion) if not _same(f.name, motion, self.motion)]
        if not changed and RigidBody(urdf, structure).model != self.body.model:  # not the text: comments may differ
            changed = ["the robot's description"]
        if changed:
            raise TrainingError(f"the run began with another robot or motion: {', '.join(changed)} changed since")

    def _restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
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


def _step(optimiser: torch.optim.Optimizer, loss: torch.Tensor, clipped: Sequence[torch.nn.Parameter] = ()) -> float:
    """Take a step and return the loss; NaN, and nothing has changed, if it or its gradient is not finite."""
    optimiser.zero_grad()
    loss.backward()
    if clipped:
        torch.nn.utils.clip_grad_norm_(clipped, 1.0)
    gradients = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
    if not all(bool(torch.isfinite(g).all()) for g in (loss, *gradients)):
        return float("nan")
    optimiser.step()
    return loss.item()


def tracking_error(q: np.ndarray, motion: Motion) -> np.ndarray:
    """Return the length of the error in position of consecutive states from step 1 on, shape (T,) [rad, m]."""
    target = motion.q[np.minimum(np.arange(1, len(q) + 1), motion.steps)]
    return np.asarray(np.linalg.norm(position_error(q, target, floating_base=motion.floating_base), axis=-1))


def _same(field: str, a: object, b: object) -> bool:
    return np.array_equal(getattr(a, field), getattr(b, field))
