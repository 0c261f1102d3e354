"""The action TrainController: iterations of running, recording and learning, each on disk before the next begins."""

import json
import time
from collections.abc import Generator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sensor_msgs.msg import Image
from std_msgs.msg import String

from ideomotor.artefacts import ArtefactError
from ideomotor.config import ConfigError
from ideomotor.data.experience import Episode, ExperienceError
from ideomotor.dynamics.rigid_body import DynamicsError, RobotStructure
from ideomotor.errors import IdeomotorError
from ideomotor.policies.alignment import aligned
from ideomotor.policies.motion import Motion, MotionError, load_motion
from ideomotor_interfaces.action import RunPolicy, TrainController
from ideomotor_learn.policies.plots import draw_errors, plot_errors
from ideomotor_learn.policies.run_folder import holds_run
from ideomotor_learn.policies.training import ControllerConfig, ControllerTraining, TrainingError, default_gain
from ideomotor_nodes import convert
from ideomotor_nodes.controller_trainer_robot import LEARNABLE, TrainedRobot
from ideomotor_nodes.diagnostics import OK, Report
from ideomotor_nodes.goals import GoalError, GoalServer
from ideomotor_nodes.qos import LATCHED

if TYPE_CHECKING:
    from ideomotor_nodes.controller_trainer import ControllerTrainerNode

_DESCRIPTION = 30.0  # [s] until somebody describes the robot
_LEAST = 2  # steps of a run that one can learn from
_AGAIN = 1.0  # [s] between two tries of a run
_DAMAGED = 3  # recordings of a run that are no episode, until it is given up
_TICK = 0.01  # [s] between two pieces of work, for everything else that the node does
_Result = TrainController.Result
_Pieces = Generator[None, None, None]


class TryAgain(GoalError):
    """A run that taught nothing, as the robot was not ready: it may be, later."""


class TrainGoal:
    """One running goal; create it in `configure`, call `activate` in activate."""

    def __init__(self, node: "ControllerTrainerNode") -> None:
        self._node, self._urdf = node, ""
        self._server = GoalServer(node, TrainController, "controller_trainer/train", self._start)
        self._curves = node.create_lifecycle_publisher(Image, "controller_trainer/curves", LATCHED)
        self._robot = TrainedRobot(node)
        self._training: ControllerTraining | None = None
        self._work: Generator[None, None, None] | None = None
        self._phase, self._episodes = "", 0
        node.create_subscription(String, "robot_description", self._on_description, LATCHED)

    def activate(self) -> None:
        """Create the timer of the work; it runs while there is a goal."""
        clock = self._node.steady_clock
        self._timer = self._node.create_timer(_TICK, self._on_timer, clock=clock, autostart=False)

    def abandon(self, reason: str) -> None:
        """End the running goal, if any."""
        self._finish(_Result.CANCELLED, reason)

    def report(self) -> Report:
        """Return what is going on."""
        if self._training is None:
            return Report(OK, "no goal" if self._work is None else "waiting for robot_description")
        values: dict[str, object] = {"transitions": self._training.transitions}
        if self._training.history:
            newest = self._training.history[-1]
            values |= {
                f"{kind} error": getattr(newest, f"{kind}_error") for kind in ("prediction", "task", "performance")
            }
        return Report(OK, f"iteration {len(self._training.history)} of {self._goal.iterations}: {self._phase}", values)

    def _on_description(self, msg: String) -> None:
        self._urdf = msg.data

    # --- the start --------------------------------------------------------------------------------------------

    def _start(self, goal: TrainController.Goal) -> None:
        """Begin; GoalError with the action's code for a goal that makes no sense."""
        for field in ("task", "run_folder", "artefact"):
            if not getattr(goal, field):
                raise GoalError(_Result.INVALID_GOAL, f"{field} is empty")
        goal.iterations = goal.iterations or self._node.config.iterations
        self._goal, self._folder = goal, Path(goal.run_folder)
        self._work = self._pieces()
        self._timer.reset()

    def _open(self) -> ControllerTraining:
        """Return the run, new or resumed; GoalError where that cannot be."""
        try:
            motion = self._motion(self._goal.task)
            return self._resumed(motion) if holds_run(self._folder) else self._begun(motion)
        except (MotionError, ConfigError, DynamicsError) as error:
            raise GoalError(_Result.INVALID_GOAL, str(error)) from error
        except (TrainingError, OSError) as error:
            raise GoalError(_Result.BAD_RUN_FOLDER, str(error)) from error

    def _motion(self, task: str) -> Motion:
        path = Path(task)
        return load_motion(path if path.suffix == ".npz" else Path(self._node.config.motions) / f"{task}.npz")

    def _config(self) -> ControllerConfig:
        c = self._node.config
        fields = ("noise", "updates", "hidden", "position_gain", "prediction_weight")
        return ControllerConfig(seed=self._goal.seed, **{field: getattr(c, field) for field in fields})

    def _begun(self, motion: Motion) -> ControllerTraining:
        training = ControllerTraining(self._config(), self._urdf, self._structure(motion), motion)
        self._folder.mkdir(parents=True, exist_ok=True)
        training.save(self._folder)  # so that a folder that cannot be written is known before the robot moves
        return training

    def _structure(self, motion: Motion) -> RobotStructure:
        return RobotStructure(
            joints=motion.joints,
            floating_base=motion.floating_base,
            contact_links=motion.contact_links,
            rotor_inertia=self._node.config.rotor_inertia,
        )

    def _resumed(self, motion: Motion) -> ControllerTraining:
        training = ControllerTraining.resume(self._folder)
        expected = self._config()
        if expected.position_gain < 0.0:
            expected = replace(expected, position_gain=default_gain(floating_base=motion.floating_base))
        if training.config != expected:
            raise TrainingError(f"{self._folder} is of another run: {training.config}, expected {expected}")
        training.check_same(self._urdf, self._structure(motion), motion)
        text = f"{len(training.history)} iterations, {training.transitions} transitions"
        self._node.get_logger().info(f"going on with {self._folder}: {text}")
        return training

    # --- the work ---------------------------------------------------------------------------------------------

    def _on_timer(self) -> None:
        if self._work is None:
            self._timer.cancel()
            return
        if self._server.cancel_requested:
            self._finish(_Result.CANCELLED, "cancelled")
            return
        try:
            next(self._work)
        except StopIteration:
            self._finish(_Result.NONE, "")
        except GoalError as error:
            self._finish(error.error_code, str(error))
        except ArtefactError as error:
            self._finish(_Result.BAD_ARTEFACT_FOLDER, str(error))
        except OSError as error:
            self._finish(_Result.BAD_RUN_FOLDER, str(error))
        except TrainingError as error:
            self._finish(_Result.FIT_FAILED, str(error))
        except ExperienceError as error:
            self._finish(_Result.BAD_EPISODE, str(error))
        except IdeomotorError as error:
            self._finish(_Result.POLICY_FAILED, str(error))

    def _pieces(self) -> _Pieces:
        """Do the work, a piece at a time."""
        end = time.monotonic() + _DESCRIPTION
        while not self._urdf:
            if time.monotonic() > end:
                raise GoalError(_Result.INVALID_GOAL, f"no robot_description within {_DESCRIPTION:.0f} s")
            yield
        training = self._training = self._open()
        yield
        if not training.episodes:
            goal = RunPolicy.Goal(duration=self._node.config.first_duration, noise=self._node.config.first_noise)
            goal.posture = training.motion.q[0, -training.body.n :].tolist()
            yield from self._run(training, goal, "first")
        yield from self._learn(training)  # also what a run that was killed has recorded and not learned from
        while len(training.history) < self._goal.iterations:
            number = len(training.history)
            goal = RunPolicy.Goal(artefact=str(self._iteration(number)), noise=self._node.config.noise)
            yield from self._run(training, goal, f"iteration_{number:03d}")
            yield from self._learn(training)
        self._tell("export")
        training.export(Path(self._goal.artefact))

    def _iteration(self, number: int) -> Path:
        return self._folder / f"iteration_{number:03d}"

    def _run(self, training: ControllerTraining, goal: RunPolicy.Goal, name: str) -> _Pieces:
        """Run, record, take in the episode and write it to the run's folder; again where that taught nothing."""
        goal.episode, goal.seed = name, (self._goal.seed + 1000 * len(training.episodes)) % 2**32
        end, damaged = time.monotonic() + self._node.config.reset_timeout, 0
        while True:
            try:
                episode = yield from self._attempt(goal, training.motion)
                break
            except (TryAgain, ExperienceError) as error:
                damaged += isinstance(error, ExperienceError)
                if damaged == _DAMAGED or time.monotonic() > end:
                    raise
                self._node.get_logger().warning(f"{name} begins again: {error}", throttle_duration_sec=5.0)
            yield from self._robot.sleep(_AGAIN)
        training.add_episode(aligned(episode, training.motion))
        training.save(self._folder)
        yield

    def _attempt(self, goal: RunPolicy.Goal, motion: Motion) -> Generator[None, None, Episode]:
        """Return what was recorded of a run.

        Raises:
            TryAgain: the robot is not at the start, or the run was over at once.
            ExperienceError: what was recorded is no episode: a state was lost, say.
            GoalError: there cannot be a run.
        """
        self._tell("reset")
        yield from self._robot.put_back()
        yield from self._robot.record()
        self._tell("run")
        result = yield from self._robot.run(goal, goal.duration or motion.duration)
        text = f"policy_controller/run ended with code {result.error_code}: {result.error_msg}"
        if result.error_code in LEARNABLE and result.steps >= _LEAST:
            if result.error_code:
                self._node.get_logger().warning(f"{goal.episode}: {text}, after {result.steps} steps")
            episode = yield from self._robot.read(goal.episode, motion)
            return _first_steps(episode, result.steps)
        if self._robot.begun:  # what it has left in the recording must not be taken for the next run's
            yield from self._robot.stop_recording()
        waits = (*LEARNABLE, result.NOT_AT_START, result.NO_STATE, result.BUSY)
        raise (TryAgain if result.error_code in waits else GoalError)(_Result.POLICY_FAILED, text)

    def _learn(self, training: ControllerTraining) -> _Pieces:
        """Learn, unless that is done already; write everything."""
        artefact = self._iteration(len(training.history))
        if not training.is_fitted:
            self._tell("fit")
            for _ in training.fit_in_pieces():
                yield
            training.save(self._folder)
        self._tell("export")
        training.export(artefact)
        self._write(training)
        self._tell("export")
        yield

    def _write(self, training: ControllerTraining) -> None:
        content = {"task": self._goal.task, "seed": self._goal.seed, "history": [asdict(m) for m in training.history]}
        temporary = self._folder / ".metrics.json"
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self._folder / "metrics.json")
        plot_errors(training.history, self._folder / "errors.png")
        picture = draw_errors(training.history)
        self._curves.publish(convert.image_msg(picture, "rgb8", self._node.get_clock().now().to_msg(), "curves"))

    def _tell(self, phase: str) -> None:
        self._phase, training = phase, self._training
        assert training is not None
        feedback = TrainController.Feedback(iteration=len(training.history), phase=phase)
        feedback.robot_seconds = training.transitions / training.motion.rate
        if training.history:
            newest = training.history[-1]
            for field in ("prediction_error", "task_error", "performance_error"):
                setattr(feedback, field, getattr(newest, field))
        self._server.feedback(feedback)

    def _finish(self, code: int, message: str) -> None:
        training, work = self._training, self._work
        self._training = self._work = None
        if work is not None:
            work.close()
            self._robot.abandon()
        result = _Result(error_code=code, error_msg=message)
        if training is not None:
            result.iterations, result.transitions = len(training.history), training.transitions
            result.robot_seconds = training.transitions / training.motion.rate
            if training.history:
                newest = training.history[-1]
                for field in ("prediction_error", "task_error", "performance_error"):
                    setattr(result, field, getattr(newest, field))
        self._server.finish(result)


def _first_steps(episode: Episode, steps: int) -> Episode:
    """Return those steps of an episode that the policy ran: after a fall come some that nobody wants to learn from."""
    n = min(steps, episode.steps)
    return Episode(
        episode.rate,
        episode.joints,
        episode.contact_links,
        episode.q[: n + 1],
        episode.v[: n + 1],
        episode.force[: n + 1],
        episode.effort[:n],
        episode.name,
    )
