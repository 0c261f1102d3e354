"""The action TrainController over DDS: runs, recordings, iterations on disk; cancelled, resumed, refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from rclpy.task import Future
from sensor_msgs.msg import Image

from ideomotor.data.experience import ExperienceError, read_episodes
from ideomotor.policies.learned import LearnedController
from ideomotor_interfaces.action import TrainController
from ideomotor_learn.policies.training import ControllerTraining
from ideomotor_nodes.controller_trainer import ControllerTrainerNode
from ideomotor_nodes.controller_trainer_robot import TrainedRobot
from ideomotor_nodes.experience_recorder import ExperienceRecorderNode
from ideomotor_nodes.qos import LATCHED
from tests.graph.conftest import Graph
from tests.graph.controller_rig import MOTION, Arm, Running
from tests.unit.test_rigid_body import ARM, arm_urdf

Result = TrainController.Result


class Training:
    """The arm, what runs and records it, the trainer, and a client of its action."""

    def __init__(self, graph: Graph, folder: Path, **parameters: Any) -> None:
        self.graph, self.folder = graph, folder
        motions = folder / "motions"
        motions.mkdir(exist_ok=True)
        MOTION.save(motions / "reach.npz")
        self.arm, self.running = Arm(graph), Running(graph, approach_speed=5.0)
        recordings = Parameter("folder", value=str(folder / "recordings"))
        graph.start(ExperienceRecorderNode(parameter_overrides=[recordings]))
        self.given = {"motions": str(motions), "hidden": 16, "updates": 20, "first_duration": 0.1} | parameters
        self.node = graph.start(ControllerTrainerNode(parameter_overrides=self.overrides()))
        self.client = ActionClient(graph.helper, TrainController, "controller_trainer/train")
        self.feedback: list[TrainController.Feedback] = []
        self.running.ready()

    def overrides(self) -> list[Parameter]:
        return [Parameter(name, value=v) for name, v in self.given.items()]

    def send(self, **fields: Any) -> Any:
        goal = {
            "task": "reach",
            "run_folder": str(self.folder / "run"),
            "artefact": str(self.folder / "policy"),
            "iterations": 2,
        } | fields
        handle = self.graph.send_goal(
            self.client, TrainController.Goal(**goal), lambda m: self.feedback.append(m.feedback)
        )
        assert handle.accepted
        return handle

    def result(self, handle: Any) -> Any:
        return self.graph.result(handle, 90.0)


def test_trains_and_leaves_everything_on_disk(graph: Graph, tmp_path: Path) -> None:
    training = Training(graph, tmp_path)
    curves = graph.collect(Image, "controller_trainer/curves", LATCHED)
    response = training.result(training.send(seed=3))
    result = response.result
    assert (response.status, result.error_code, result.error_msg) == (GoalStatus.STATUS_SUCCEEDED, Result.NONE, "")
    assert (result.iterations, result.transitions) == (2, 25 + 2 * MOTION.steps)
    assert result.robot_seconds == pytest.approx(result.transitions / MOTION.rate)
    assert 0.0 < result.performance_error <= result.task_error + result.prediction_error
    assert {"reset", "run", "fit", "export"} == {f.phase for f in training.feedback}
    assert [f.iteration for f in training.feedback] == sorted(f.iteration for f in training.feedback)

    run = tmp_path / "run"
    for folder in (tmp_path / "policy", *(run / f"iteration_{i:03d}" for i in range(3))):
        assert LearnedController.load(folder, arm_urdf()).motion.steps == MOTION.steps
    assert (run / "errors.png").stat().st_size > 1000
    history = json.loads((run / "metrics.json").read_text())["history"]
    assert [m["iteration"] for m in history] == [0, 1]
    assert all(m["bound_holds"] for m in history)
    kept = ControllerTraining.resume(run)
    assert (len(kept.history), kept.config.seed, kept.is_fitted) == (2, 3, True)
    graph.spin_until(lambda: curves)
    assert (curves[-1].encoding, curves[-1].height > 100) == ("rgb8", True)

    recordings = sorted((tmp_path / "recordings").iterdir())
    episodes = [e for folder in recordings for e in read_episodes(folder, joints=ARM.joints, rate=MOTION.rate)]
    assert [e.name for e in episodes] == ["first", "iteration_000", "iteration_001"]
    for recorded, learned in zip(episodes, kept.episodes, strict=True):
        np.testing.assert_array_equal(recorded.q, learned.q)
        np.testing.assert_array_equal(recorded.effort, learned.effort)


def test_goes_on_where_it_was_cancelled(graph: Graph, tmp_path: Path) -> None:
    """The node takes the next goal, and ends what it has begun; another run's folder is refused."""
    training = Training(graph, tmp_path)
    handle = training.send(iterations=50)
    graph.spin_until(lambda: any(f.iteration == 1 and f.phase == "run" for f in training.feedback), timeout=60.0)
    busy = training.result(training.send())
    assert busy.result.error_code == Result.BUSY
    handle.cancel_goal_async()
    response = training.result(handle)
    assert (response.status, response.result.error_code) == (GoalStatus.STATUS_CANCELED, Result.CANCELLED)
    assert not (tmp_path / "policy").exists()
    before = ControllerTraining.resume(tmp_path / "run").history
    assert before
    graph.spin_until(lambda: not training.arm.commands[-1].points)  # the gate holds it

    other = training.result(training.send(seed=1)).result
    assert other.error_code == Result.BAD_RUN_FOLDER
    assert "is of another run" in other.error_msg
    training.feedback.clear()
    result = training.result(training.send(iterations=len(before) + 1)).result
    assert (result.error_code, result.error_msg) == (Result.NONE, "")
    after = ControllerTraining.resume(tmp_path / "run").history
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1
    again = training.result(training.send(iterations=len(after))).result  # nothing is left to do
    assert (again.error_code, again.iterations) == (Result.NONE, len(after))


def test_an_episode_that_was_not_learned_from_is(graph: Graph, tmp_path: Path) -> None:
    """A trainer that ended between recording and learning goes on with learning."""
    training = Training(graph, tmp_path)
    assert training.result(training.send(iterations=1)).result.error_code == Result.NONE
    kept = ControllerTraining.resume(tmp_path / "run")
    kept.add_episode(kept.episodes[-1])
    kept.save(tmp_path / "run")
    runs = len(list((tmp_path / "recordings").iterdir()))
    result = training.result(training.send(iterations=2)).result
    assert (result.error_code, result.iterations) == (Result.NONE, 2)
    assert len(list((tmp_path / "recordings").iterdir())) == runs
    assert ControllerTraining.resume(tmp_path / "run").is_fitted


def test_stays_responsive_while_it_learns(graph: Graph, tmp_path: Path) -> None:
    training = Training(graph, tmp_path, updates=2000, hidden=128)
    handle = training.send()
    graph.spin_until(lambda: any(f.phase == "fit" for f in training.feedback), timeout=30.0)
    handle.cancel_goal_async()
    assert graph.result(handle, 3.0).result.error_code == Result.CANCELLED


def test_a_cancel_before_the_policy_controller_has_answered_holds(graph: Graph, tmp_path: Path) -> None:
    """Or the robot would do a whole run, with nobody waiting for it."""

    class Handle:
        cancelled = 0

        def cancel_goal_async(self) -> None:
            self.cancelled += 1

    robot = TrainedRobot(Training(graph, tmp_path).node)
    answer, handle = Future(), Handle()
    robot._handle = answer
    robot.abandon()
    assert handle.cancelled == 0
    answer.set_result(handle)
    assert handle.cancelled == 1


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"task": ""}, Result.INVALID_GOAL, "task is empty"),
        ({"run_folder": ""}, Result.INVALID_GOAL, "run_folder is empty"),
        ({"artefact": ""}, Result.INVALID_GOAL, "artefact is empty"),
        ({"task": "fly"}, Result.INVALID_GOAL, "fly.npz is no target motion"),
        ({"seed": 2**32 - 1}, Result.INVALID_GOAL, "seed=4294967295 is outside"),
        ({"run_folder": "TMP/letter.txt/run"}, Result.BAD_RUN_FOLDER, "letter.txt"),
    ],
)
def test_bad_goals_say_what_is_wrong(
    graph: Graph, tmp_path: Path, fields: dict[str, Any], code: int, message: str
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    training = Training(graph, tmp_path)
    fields = {k: v.replace("TMP", str(tmp_path)) if isinstance(v, str) else v for k, v in fields.items()}
    result = training.result(training.send(**fields)).result
    assert result.error_code == code
    assert message in result.error_msg
    assert not list((tmp_path / "recordings").iterdir())


def recorded(folder: Path) -> tuple[list[str], int]:
    """Return the names of the episodes in all recordings, and in how many recordings a state is lost."""
    names, lost = [], 0
    for recording in sorted((folder / "recordings").iterdir()):
        try:
            names += [e.name for e in read_episodes(recording, joints=ARM.joints, rate=MOTION.rate)]
        except ExperienceError as error:
            lost += "0.0080 s to the next one, expected 0.0040 s" in str(error)
    return names, lost


def test_a_run_of_which_a_state_was_lost_is_done_again(graph: Graph, tmp_path: Path) -> None:
    """What it recorded is kept, and not learned from; nobody but people let the gate of a real robot go."""
    training = Training(graph, tmp_path)
    training.arm.lost = ["iteration_000"]
    result = training.result(training.send(iterations=1)).result
    assert (result.error_code, result.error_msg) == (Result.NONE, "")
    assert (result.iterations, result.transitions) == (1, 25 + MOTION.steps)
    assert recorded(tmp_path) == (["first", "iteration_000"], 1)
    assert training.arm.releases == 0


def test_runs_whose_recordings_are_never_episodes_end_the_training(graph: Graph, tmp_path: Path) -> None:
    training = Training(graph, tmp_path)
    training.arm.lost = 3 * ["iteration_000"]
    result = training.result(training.send(iterations=1)).result
    assert (result.error_code, result.iterations) == (Result.BAD_EPISODE, 0)
    assert "to the next one" in result.error_msg
    assert recorded(tmp_path) == (["first"], 3)
