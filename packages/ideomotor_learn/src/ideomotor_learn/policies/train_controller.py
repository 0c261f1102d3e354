"""Learn a controller in simulators, without ROS: ``ideomotor train controller --task arm_track --out FOLDER``.

1. Hold the first posture for a moment, with exploration: the first experience.
2. Each iteration: learn (`ideomotor_learn.policies.training`), run the learned controller, take in what happened.
3. Write the artefact, whole or not at all, the error curves, and if asked for a video.

The run's folder is written after every iteration; ``--resume`` goes on from there and ends as the whole run would have.

Learning needs no simulator, so this module imports none: it is found by its name when the command runs (`Simulator`).
"""

import importlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from tqdm import tqdm

from ideomotor.artefacts import Artefact, check_target
from ideomotor.cli import main as run_command
from ideomotor.config import ConfigError, value
from ideomotor.data.experience import Episode
from ideomotor.dynamics.rigid_body import RobotStructure
from ideomotor.policies.motion import Motion
from ideomotor_learn.policies.collect import Collector, Policy
from ideomotor_learn.policies.exploring import hold_policy, learned_policy
from ideomotor_learn.policies.training import ControllerConfig, ControllerTraining, IterationMetrics, TrainingError

logger = logging.getLogger(__name__)

_FIRST_STEPS, _FIRST_NOISE = 50, 0.05  # of the hold that begins the data; noise by the effort limit
_NOISE_ARM, _NOISE_LEGS = 0.01, 0.05  # of later episodes
_SETTINGS = "settings.json"
# What a resumed run takes from the command.
_ANEW = ("iterations", "out", "workers", "address", "video", "resume", "runs", "simulator", "urdf", "motions")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(ControllerConfig):
    """How a controller is learned in simulators."""

    task: str = value("arm_track", "Name of the simulator's task.")
    out: str = value("artefacts/controller", "Folder of the artefact to write.")
    iterations: int = value(15, "Times that the learned controller runs and is learned from.", ge=1, le=100000)
    episodes_per_iteration: int = value(1, "Rollouts of one iteration.", ge=1, le=10000)
    workers: int = value(0, "Processes that simulate (Ray); 0: this one.", ge=0, le=1024)
    address: str = value("", "Of a Ray cluster; empty: this machine.")
    payload: float | None = value(None, "What the robot carries and its nominal model does not know [kg].")
    friction: float | None = value(
        None, "Coefficient of the ground under a robot that stands on it; of an arm's joints [N m]."
    )
    target: str = value("", "File of the target motion (.npz); empty: the task's.")
    noise: float = value(
        -1.0, "Exploration: standard deviation by the effort limit; negative: by the kind of robot.", ge=-1.0, le=1.0
    )
    video: str = value("", "File (.mp4) for a run of the learned controller, the target as a ghost; empty: none.")
    runs: str = value("runs", "Folder for the run, in a folder of its own; empty: it cannot be resumed.")
    name: str = value("controller", "Name of the run.")
    resume: str = value("", "Folder of a run to go on with, as it was begun, up to so many iterations.")
    simulator: str = value("ideomotor_sim.effort_tasks", "Module of the simulator.")
    urdf: str = value("urdf", "Folder of the robots' descriptions.")
    motions: str = value("artefacts/motions", "Folder of target motions.")


class Simulator(Protocol):
    """What a simulator's module has: tasks, each with a robot, a target motion and physics of its own."""

    def effort_task(self, name: str, **changes: object) -> Any:  # noqa: ANN401 - the simulator's own
        """Return a task, with ``structure`` (RobotStructure), changed in payload, friction or motion."""

    def task_motion(self, task: Any, motions: Path) -> Motion:  # noqa: ANN401
        """Return its target motion."""

    def task_robot(self, task: Any, folder: Path) -> Any:  # noqa: ANN401
        """Return its robot, with ``urdf``."""

    def task_rollouts(self, task: Any, folder: Path, *, rate: float) -> Any:  # noqa: ANN401
        """Return its rollouts (`ideomotor_learn.policies.collect.Rollouts`) at so many steps a second."""

    def starts(
        self,
        task: Any,  # noqa: ANN401
        motion: Motion,
        count: int,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return first states: q (count, nq), v (count, nv)."""

    def task_video(self, task: Any, folder: Path, path: Path, q: np.ndarray, motion: Motion) -> None:  # noqa: ANN401
        """Write states (T, nq) as a video."""


class ControllerRun:
    """One run in simulators: `iterations` to the end, then `export`, `plot`, `video`.

    Raises:
        IdeomotorError: the task, the target motion, the simulator or the run to resume is not there or does not fit,
            or the artefact cannot be written where it shall be.
    """

    def __init__(self, config: TrainConfig) -> None:
        check_target(config.out)
        config = _resumed(config) if config.resume else config
        self._simulator = _find(config.simulator)
        floating = self._simulator.effort_task(config.task).structure.floating_base
        if config.noise < 0.0:
            config = replace(config, noise=_NOISE_LEGS if floating else _NOISE_ARM)
        self.config = config
        self._task = self._simulator.effort_task(config.task, **_changes(config, floating=floating))
        self.motion = self._simulator.task_motion(self._task, Path(config.motions))
        self.urdf: str = self._simulator.task_robot(self._task, Path(config.urdf)).urdf
        torch.set_num_threads(1)  # the networks are small
        self.folder: Path | None = None
        if config.resume:
            self.folder = Path(config.resume)
            self.training = ControllerTraining.resume(self.folder)
            self.training.check_same(self.urdf, self.structure, self.motion)
        else:
            learning = ControllerConfig(**{f.name: getattr(config, f.name) for f in fields(ControllerConfig)})
            self.training = ControllerTraining(learning, self.urdf, self.structure, self.motion)
            if config.runs:
                self.folder = _new(Path(config.runs) / f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}")

    @property
    def structure(self) -> RobotStructure:
        """Of the task's robot."""
        return cast(RobotStructure, self._task.structure)

    def iterations(self) -> Iterator[IterationMetrics]:
        """Do the iterations that are left, and say how each went; the folder is up to date before each is told."""
        training, config = self.training, self.config
        rollouts = partial(self._simulator.task_rollouts, self._task, Path(config.urdf), rate=self.motion.rate)
        with Collector(rollouts, workers=config.workers, address=config.address or None, batch=1) as collector:
            if not training.episodes:
                training.add_episodes(self._collect(collector, _FIRST_STEPS))
                self._save()
            while len(training.history) < config.iterations:
                training.fit()
                metrics = training.add_episodes(self._collect(collector, self.motion.steps))
                assert metrics is not None
                self._save()
                yield metrics

    def export(self) -> Artefact:
        """Write the artefact; what was in its folder stays until then.

        Raises:
            ArtefactError, OSError: it cannot be written there.
        """
        return self.training.export(Path(self.config.out))

    def plot(self) -> None:
        """Write error curves and metrics into the run's folder."""
        from ideomotor_learn.policies.plots import plot_errors  # matplotlib takes seconds to import

        if self.folder is not None:
            plot_errors(self.training.history, self.folder / "errors.png")
            content = {"history": [asdict(m) for m in self.training.history]}
            (self.folder / "metrics.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def video(self, path: Path) -> None:
        """Run what was learned once, without exploration, and write it as a video.

        Raises:
            IdeomotorError: the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        rollouts = self._simulator.task_rollouts(self._task, Path(self.config.urdf), rate=self.motion.rate)
        policy = learned_policy(self._artefact(), self.urdf, 0.0, 0)
        batch = rollouts.collect(policy, self.motion.q[:1], self.motion.v[:1], self.motion.steps)
        self._simulator.task_video(self._task, Path(self.config.urdf), path, batch.q[0], self.motion)

    def _collect(self, collector: Collector, steps: int) -> list[Episode]:
        """Return what the robots did, each until it fell."""
        training, seed = self.training, self.config.seed
        iteration = len(training.history) + bool(training.episodes)  # 0 is the first hold
        count = self.config.episodes_per_iteration if iteration else 1
        q, v = self._simulator.starts(self._task, self.motion, count, np.random.default_rng([seed, iteration]))
        mixed = int(np.random.default_rng([seed, iteration, 1]).integers(2**31))
        batch = collector.collect(self._policy(iteration, mixed), q, v, steps)
        return [self._episode(batch, k) for k in range(count)]

    def _policy(self, iteration: int, seed: int) -> "partial[Policy]":
        if iteration == 0:
            return partial(hold_policy, self.urdf, self.structure, self.motion.q[0], _FIRST_NOISE, seed)
        return partial(learned_policy, self._artefact(), self.urdf, self.config.noise, seed)

    def _artefact(self) -> dict[str, bytes]:
        """Return what is learned as the files of an artefact."""
        with tempfile.TemporaryDirectory() as folder:
            written = self.training.export(Path(folder) / "artefact").folder
            return {path.name: path.read_bytes() for path in written.iterdir()}

    def _episode(self, batch: Any, k: int) -> Episode:  # noqa: ANN401 - the simulator's
        fallen, m = batch.fallen[k], self.motion
        end = max(2, int(fallen.argmax())) if fallen.any() else len(fallen) - 1
        q, v, force = (array[k, : end + 1] for array in (batch.q, batch.v, batch.force))
        return Episode(m.rate, m.joints, m.contact_links, q, v, force, batch.effort[k, :end])

    def _save(self) -> None:
        if self.folder is None:
            return
        settings = self.folder / _SETTINGS
        if not settings.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            settings.write_text(json.dumps(asdict(self.config), indent=2) + "\n", encoding="utf-8")
        self.training.save(self.folder)


def _new(folder: Path) -> Path:
    """Return a folder that is not there: runs may begin in the same second."""
    names = (folder.with_name(f"{folder.name}{end}") for end in ("", *(f"-{i}" for i in range(2, 1000))))
    return next(path for path in names if not path.exists())


def _find(name: str) -> Simulator:
    """Return a simulator's module."""
    try:
        module = importlib.import_module(name)
    except (ImportError, ValueError, TypeError) as error:
        raise TrainingError(f"simulator={name!r}: it cannot be imported: {error}") from error
    needed = [method for method in vars(Simulator) if not method.startswith("_")]
    missing = [method for method in needed if not callable(getattr(module, method, None))]
    if missing:
        raise TrainingError(f"simulator={name!r}: it has no {missing}, expected {needed}")
    return cast(Simulator, module)


def _changes(config: TrainConfig, *, floating: bool) -> dict[str, object]:
    """Return what of the task is not its own."""
    changes: dict[str, object] = {}
    friction = "contact_friction" if floating else "joint_friction"
    for field, changed in (("payload", "payload"), ("friction", friction)):
        given = getattr(config, field)
        if given is not None:
            if not 0.0 <= given < np.inf:
                raise TrainingError(f"{field}={given}, expected at least 0")
            changes[changed] = given
    if config.target:
        if not config.target.endswith(".npz"):
            raise TrainingError(f"target={config.target!r}, expected a file .npz")
        changes["motion"] = config.target
    return changes


def _resumed(config: TrainConfig) -> TrainConfig:
    """Return the configuration that a run began with, with what a resumed one takes from the command."""
    path = Path(config.resume) / _SETTINGS
    try:
        began = TrainConfig(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, ConfigError) as error:
        raise TrainingError(f"{config.resume}: no run to resume: {error}") from error
    for f in fields(TrainConfig):
        given, was = getattr(config, f.name), getattr(began, f.name)
        if f.name not in _ANEW and given not in (f.default, was):
            raise TrainingError(f"{f.name}={given!r}: the run in {config.resume} began with {was!r} and keeps to it")
    return replace(began, **{name: getattr(config, name) for name in _ANEW})


def train(config: TrainConfig) -> Path:
    """Learn as the command line says; return the artefact's folder.

    Raises:
        IdeomotorError: see `ControllerRun`.
    """
    began = time.monotonic()
    logging.getLogger("ideomotor.inference").setLevel(logging.WARNING)  # every iteration loads three models
    run = ControllerRun(config)
    if run.folder is not None:
        logger.info("the run is kept in %s; --resume %s goes on with it", run.folder, run.folder)
    done = len(run.training.history)
    with tqdm(run.iterations(), total=config.iterations, initial=done) as progress:
        for m in progress:
            errors = {"prediction": m.prediction_error, "task": m.task_error, "performance": m.performance_error}
            progress.set_postfix({k: f"{e:.2e}" for k, e in errors.items()}, refresh=False)
            run.plot()
    artefact = run.export()
    first, last = run.training.history[0], run.training.history[-1]
    logger.info("learned from %.1f s of the robot's time in %.0f s", last.robot_seconds, time.monotonic() - began)
    logger.info("error in position: %.4f at first, %.4f at last [rad, m]", first.position_error, last.position_error)
    if config.video:
        run.video(Path(config.video))
        logger.info("video in %s", config.video)
    return artefact.folder


def main() -> None:
    """Learn from the command line."""
    run_command(["train", "controller", *sys.argv[1:]])


if __name__ == "__main__":
    main()
