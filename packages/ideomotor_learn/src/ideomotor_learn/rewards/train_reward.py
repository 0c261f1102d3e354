"""Learn a reward from recorded demonstrations: ``ideomotor train reward --data RECORDINGS --out FOLDER``.

1. Read the demonstrations; the last one is held out where three or more remain.
2. Learn, one outer step at a time (`ideomotor_learn.rewards.learn`).
3. Plan what was held out with what was learned, in a quarter of the demonstrations' mean number of steps, in as many,
   and in four times as many: how far from the goal the object ends, and how far the way is from the demonstrated one.
4. Write the artefact, whole or not at all, and the plots.

`RewardTraining` is that procedure in pieces, for programs that do something else in between.
"""

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ideomotor.artefacts import Artefact, check_target
from ideomotor.cli import main as run_command
from ideomotor.config import value
from ideomotor.data.demonstrations import Demonstration, read_demonstrations
from ideomotor.planning.held_points import HeldPoints
from ideomotor.planning.path_error import path_error
from ideomotor.planning.reward_planner import PathProblem, PlannerConfig, plan
from ideomotor.rewards.field import FieldSlice, field_slices
from ideomotor.rewards.weights import Reward
from ideomotor_learn.rewards.export import export_reward
from ideomotor_learn.rewards.learn import LearnConfig, LearningError, OuterStep, RewardLearner, Shown

logger = logging.getLogger(__name__)

PACES = (0.25, 1.0, 4.0)  # steps by the mean steps of the demonstrations
_ENOUGH = 3  # demonstrations to learn from before one is held out


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LearnConfig):
    """How a reward is learned from recordings."""

    data: str = value("", "Folder of a recording of demonstrations, or of several recordings.")
    out: str = value("artefacts/reward", "Folder of the artefact to write.")
    runs: str = value("runs", "Folder for plots and metrics, in a folder of their own; empty: none.")
    name: str = value("reward", "Name of the run.")
    rate: float = value(10.0, "States of a demonstration a second [Hz].", ge=0.1, le=1000.0)
    base_link: str = value("", "Frame of the goal and axes of the reward; empty: the root of the description.")
    exclude: tuple[str, ...] = value((), "Demonstrations to leave out, RECORDING/NAME or RECORDING.")
    held_out: int = value(1, "The last ones are measured on, not learned from, if 3 or more remain.", ge=0, le=1000)


@dataclass(frozen=True)
class PaceError:
    """What comes of the learned reward at one pace, a mean over demonstrations."""

    pace: float  # steps by the mean steps of the demonstrations
    steps: int
    final_error: float  # mean distance of the keypoints from the goal at the end [m]
    path_error: float  # distance of the planned from the demonstrated path [m]


@dataclass(frozen=True)
class RewardMetrics:
    """What was measured of a learned reward."""

    outer_loss: float  # root of the last outer loss [m]
    demonstrations: int  # that were learned from
    held_out: int  # that were measured on; 0: those learned from were
    paces: tuple[PaceError, ...]

    def flat(self) -> dict[str, float]:
        """Return them by names for a manifest."""
        result = {
            "outer_loss_m": self.outer_loss,
            "demonstrations": float(self.demonstrations),
            "held_out": float(self.held_out),
        }
        for p in self.paces:
            result |= {f"final_error_m@{p.pace:g}": p.final_error, f"path_error_m@{p.pace:g}": p.path_error}
        return result


def shown(demonstration: Demonstration) -> Shown:
    """Return what is learned from a recorded demonstration."""
    points = HeldPoints(demonstration.chain, demonstration.keypoints_ee)
    return Shown(demonstration.source, points, demonstration.q[0], demonstration.keypoints_base)


class RewardTraining:
    """One run: `steps` to the end, then `measure`, `export` and `plot`."""

    def __init__(self, config: TrainConfig) -> None:
        """Read the demonstrations and prepare.

        Raises:
            DemonstrationError, RecordingError: naming file, topic and time of what is missing or wrong.
            LearningError: the demonstrations do not fit together.
            ArtefactError: there is something else where the artefact shall be, or it cannot be written there.
        """
        check_target(config.out)
        base_link = config.base_link or None
        given = read_demonstrations(Path(config.data), rate=config.rate, base_link=base_link, exclude=config.exclude)
        _check_same_keypoints(given)
        count = max(min(config.held_out, len(given) - _ENOUGH), 0)
        self.config, self.keypoint_names = config, given[0].keypoint_names
        self.base_link = given[0].chain.base_link
        self.learned = tuple(shown(d) for d in given[: len(given) - count])
        self.held_out = tuple(shown(d) for d in given[len(given) - count :])
        self.duration = float(np.mean([d.duration for d in given[: len(given) - count]]))  # [s]
        self.mean_steps = float(np.mean([d.steps for d in given]))
        self.history: list[OuterStep] = []
        torch.set_num_threads(1)  # the problems are small
        self._learner = RewardLearner(self.learned, config)

    @property
    def reward(self) -> Reward:
        """The reward as it is now."""
        return self._learner.reward

    @property
    def tip(self) -> int:
        """Index of the keypoint at the end of the chain."""
        return int(np.linalg.norm(self.learned[0].points.position_ee, axis=1).argmin())

    def steps(self) -> Iterator[OuterStep]:
        """Do the outer steps, and say what each did."""
        for step in self._learner.steps():
            self.history.append(step)
            yield step

    def measure(self) -> RewardMetrics:
        """Plan with the reward as it is now on what was held out, or else on what was learned from."""
        on = self.held_out or self.learned
        paces = tuple(
            measured(self.reward, on, pace, max(1, round(pace * self.mean_steps)), self.config.planner)
            for pace in PACES
        )
        loss = rms(self.history[-1].loss)
        return RewardMetrics(loss, len(self.learned), len(self.held_out), paces)

    def export(self, metrics: RewardMetrics) -> Artefact:
        """Write the artefact; what was in its folder stays until then.

        Raises:
            ArtefactError, OSError: it cannot be written there.
        """
        return export_reward(
            self._learner.model,
            Path(self.config.out),
            config=self.config,
            keypoint_names=self.keypoint_names,
            shown=self.learned,
            duration=self.duration,
            metrics=metrics.flat(),
        )

    def plot(self, run: Path, metrics: RewardMetrics) -> None:
        """Write plots and metrics into a folder."""
        from ideomotor_learn.rewards import plots  # matplotlib takes seconds to import

        run.mkdir(parents=True, exist_ok=True)
        everything = (*self.learned, *self.held_out)
        plots.plot_loss([rms(step.loss) for step in self.history], run / "outer_loss.png")
        problems = [problem(s, self.reward) for s in everything]
        planned = [plan(p, max(1, round(self.mean_steps)), self.config.planner).keypoints for p in problems]
        plots.plot_paths(everything, planned, self.tip, len(self.learned), run / "paths.png")
        plots.plot_weights(everything, self.reward, self.keypoint_names, run / "weights.png")
        plots.plot_field(everything, self.field(), self.tip, run / "field.png")
        content = {**asdict(metrics), "history": [asdict(step) for step in self.history]}
        (run / "metrics.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def field(self, points: int = 41) -> tuple[FieldSlice, FieldSlice]:
        """Return the reward field around the goal, as far as the tip came from, on planes of so many points a side."""
        tips = [(s.keypoints - s.goal)[:, self.tip] @ s.R_base_task for s in self.learned]  # (N, 3)
        extent = max(float(np.abs(x).max()) for x in tips)
        length = np.mean([np.linalg.norm(np.diff(x, axis=0), axis=1).sum() for x in tips])
        return field_slices(self.reward, len(self.keypoint_names), float(length), extent, points)


def problem(shown: Shown, reward: Reward) -> PathProblem:
    """Return the problem that a demonstration solved, under a reward."""
    return PathProblem(shown.points, reward, shown.q0, shown.goal, shown.R_base_task)


def measured(reward: Reward, on: Sequence[Shown], pace: float, steps: int, config: PlannerConfig) -> PaceError:
    """Plan in a number of steps what was demonstrated, and return how well that went."""
    final, path = [], []
    for s in on:
        found = plan(problem(s, reward), steps, config)
        final.append(np.linalg.norm(found.keypoints[-1] - s.goal, axis=1).mean())
        path.append(path_error(found.keypoints, s.keypoints))
    return PaceError(pace, steps, float(np.mean(final)), float(np.mean(path)))


def rms(loss: float) -> float:
    """Return the root of a loss in m^2; soft-DTW may be below zero."""
    return float(np.sqrt(max(loss, 0.0)))


def _check_same_keypoints(given: Sequence[Demonstration]) -> None:
    if not given:
        raise LearningError("no demonstrations, expected at least one")
    for other in given[1:]:
        if other.keypoint_names != given[0].keypoint_names or other.joint_names != given[0].joint_names:
            raise LearningError(
                f"{other.source}: keypoints {list(other.keypoint_names)} on joints {list(other.joint_names)}, "
                f"{given[0].source} has {list(given[0].keypoint_names)} on {list(given[0].joint_names)}"
            )


def train(config: TrainConfig) -> Path:
    """Learn as the command line says; return the artefact's folder.

    Raises:
        IdeomotorError: see `RewardTraining`.
    """
    began = time.monotonic()
    training = RewardTraining(config)
    for step in (progress := tqdm(training.steps(), total=config.outer_steps)):
        progress.set_postfix({"outer loss [mm]": f"{1e3 * rms(step.loss):.1f}"}, refresh=False)
    metrics = training.measure()
    artefact = training.export(metrics)
    logger.info("learned from %d demonstrations in %.0f s", metrics.demonstrations, time.monotonic() - began)
    for p in metrics.paces:
        errors = 1e3 * p.final_error, 1e3 * p.path_error
        logger.info("in %d steps (%g x): %.1f mm from the goal, path %.1f mm", p.steps, p.pace, *errors)
    if config.runs:
        run = Path(config.runs) / f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        training.plot(run, metrics)
        logger.info("plots in %s", run)
    return artefact.folder


def main() -> None:
    """Learn from the command line."""
    run_command(["train", "reward", *sys.argv[1:]])


if __name__ == "__main__":
    main()
