"""The action LearnReward: learning in pieces of a tenth of a second, feedback, cancel, artefact and field."""

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from visualization_msgs.msg import MarkerArray

from ideomotor.artefacts import ArtefactError
from ideomotor.config import ConfigError
from ideomotor.errors import IdeomotorError
from ideomotor_interfaces.action import LearnReward
from ideomotor_learn.rewards.learn import LearningError
from ideomotor_learn.rewards.train_reward import RewardMetrics, RewardTraining, TrainConfig, rms
from ideomotor_nodes.diagnostics import OK, Report
from ideomotor_nodes.goals import GoalError, GoalServer
from ideomotor_nodes.qos import LATCHED
from ideomotor_nodes.reward_field import field_markers

if TYPE_CHECKING:
    from ideomotor_nodes.reward_learner import RewardLearnerNode

_TICK = 0.01  # [s] between two pieces of work, for everything else that the node does
_FIELD_POINTS = 25  # a side of each plane
_Result = LearnReward.Result


class LearnGoal:
    """One running goal; create it in `configure`, call `activate` in activate."""

    def __init__(self, node: "RewardLearnerNode") -> None:
        self._node = node
        self._server = GoalServer(node, LearnReward, "reward_learner/learn", self._start)
        self._field = node.create_lifecycle_publisher(MarkerArray, "reward_field", LATCHED)
        self._training: RewardTraining | None = None
        self._work: Generator[None, None, LearnReward.Result] | None = None

    def activate(self) -> None:
        """Create the timer of the work; it runs while there is a goal."""
        clock = self._node.steady_clock
        self._timer = self._node.create_timer(_TICK, self._on_timer, clock=clock, autostart=False)

    def abandon(self, reason: str) -> None:
        """End the running goal, if any."""
        self._finish(_Result(error_code=_Result.CANCELLED, error_msg=reason))

    def report(self) -> Report:
        """Return what is going on."""
        if self._training is None:
            return Report(OK, "no goal" if self._work is None else "reading")
        steps, config = self._training.history, self._training.config
        values: dict[str, object] = {"outer loss [m]": rms(steps[-1].loss)} if steps else {}
        return Report(OK, f"outer step {len(steps)} of {config.outer_steps}", values)

    def _start(self, goal: LearnReward.Goal) -> None:
        """Begin; GoalError with the action's code for a goal that makes no sense."""
        for field in ("demonstrations", "artefact"):
            if not getattr(goal, field):
                raise GoalError(_Result.INVALID_GOAL, f"{field} is empty, expected a folder")
        try:
            self._work = self._pieces(self._config(goal))
        except (ConfigError, LearningError) as error:
            raise GoalError(_Result.INVALID_GOAL, str(error)) from error
        self._timer.reset()

    def _config(self, goal: LearnReward.Goal) -> TrainConfig:
        node = self._node.config
        given = {
            "family": goal.family,
            "min_horizon": goal.min_horizon,
            "max_horizon": goal.max_horizon,
            "outer_steps": node.outer_steps,
        }
        return TrainConfig(
            data=goal.demonstrations,
            out=goal.artefact,
            seed=goal.seed,
            runs=node.run_folder,
            rate=node.rate,
            base_link=node.base_link,
            exclude=node.exclude,
            held_out=node.held_out,
            **{name: v for name, v in given.items() if v},
        )

    def _on_timer(self) -> None:
        if self._work is None:
            self._timer.cancel()
            return
        if self._server.cancel_requested:
            self._finish(_Result(error_code=_Result.CANCELLED, error_msg="cancelled"))
            return
        try:
            next(self._work)
        except (ArtefactError, OSError) as error:
            self._finish(_Result(error_code=_Result.BAD_ARTEFACT_FOLDER, error_msg=str(error)))
        except IdeomotorError as error:
            self._finish(_Result(error_code=_Result.BAD_DEMONSTRATIONS, error_msg=str(error)))
        except StopIteration as end:
            self._finish(end.value)

    def _pieces(self, config: TrainConfig) -> Generator[None, None, LearnReward.Result]:
        """Do the work, a piece at a time."""
        training = RewardTraining(config)
        self._training = training
        yield
        for step in training.steps():
            progress, loss = (step.step + 1) / config.outer_steps, rms(step.loss)
            self._server.feedback(LearnReward.Feedback(progress=progress, outer_loss=loss, horizon=step.horizon))
            yield
        metrics = training.measure()
        yield
        training.export(metrics)  # some seconds
        self._publish_field(training)
        self._plot(training, metrics)
        return _result(metrics, training.duration)

    def _publish_field(self, training: RewardTraining) -> None:
        shown = training.learned[0]
        goal = shown.goal[training.tip]
        slices = training.field(_FIELD_POINTS)
        self._field.publish(field_markers(slices, goal, shown.R_base_task, training.base_link))

    def _plot(self, training: RewardTraining, metrics: RewardMetrics) -> None:
        if self._node.config.run_folder:
            try:
                training.plot(Path(self._node.config.run_folder), metrics)
            except OSError as error:  # the artefact is there all the same
                self._node.get_logger().error(f"run_folder={self._node.config.run_folder!r}: no plots: {error}")

    def _finish(self, result: LearnReward.Result) -> None:
        self._training = self._work = None
        self._server.finish(result)


def _result(metrics: RewardMetrics, duration: float) -> LearnReward.Result:
    return _Result(
        outer_loss=metrics.outer_loss,
        demonstrations=metrics.demonstrations,
        held_out=metrics.held_out,
        duration=duration,
        pace=[p.pace for p in metrics.paces],
        final_error=[p.final_error for p in metrics.paces],
        path_error=[p.path_error for p in metrics.paces],
    )
