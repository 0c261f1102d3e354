"""Have a controller trained, say how it goes, and what came of it: a client of `controller_trainer`."""

import sys
from dataclasses import dataclass
from typing import Any

from rclpy.action import ActionClient

from ideomotor.config import value
from ideomotor_interfaces.action import TrainController
from ideomotor_nodes.client import Client, ClientError, run_client
from ideomotor_nodes.params import NodeConfig, check_overrides, declare_config

START_TIMEOUT = 60.0  # [s] for the nodes to come up
SILENCE = 900.0  # [s] the longest phase: people put the robot back to its start


@dataclass(frozen=True, kw_only=True)
class TrainControllerConfig(NodeConfig):
    """Parameters of the client: the action's goal."""

    task: str = value("", "Target motion: a name in the folder of motions, or a .npz file; empty: default_task.")
    default_task: str = value("", "The robot's.")
    run_folder: str = value("", "Folder of the run; one that holds a run is resumed.")
    artefact: str = value("", "Folder of the artefact to write; empty: policy in the run's folder.")
    iterations: int = value(0, "Runs of the learned controller in all; 0: the trainer's.", ge=0, le=10000)
    seed: int = value(0, "Seed of weights, batches and exploration.", ge=0, le=2**31 - 1)


class TrainControllerClient(Client):
    """Sends one goal."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("train_controller", **node_options)
        self.config = declare_config(self, TrainControllerConfig)
        check_overrides(self)
        self._client = ActionClient(self, TrainController, "controller_trainer/train")
        self._told, self._phase = -1, ""

    def run(self) -> bool:
        """Train; return true.

        Raises:
            ClientError: there is no controller_trainer, or it could not train.
        """
        c = self.config
        artefact = c.artefact or f"{c.run_folder}/policy"
        goal = TrainController.Goal(
            task=c.task or c.default_task,
            run_folder=c.run_folder,
            artefact=artefact,
            iterations=c.iterations,
            seed=c.seed,
        )
        self.wait_for(self._client.server_is_ready, "action server controller_trainer/train", START_TIMEOUT)
        say(f"{goal.task}: iteration, then errors of a step: prediction, task, performance; time of the robot")
        result = self.call(self._client, goal, "training", SILENCE, self._on_feedback)
        if result.error_code != result.NONE:
            raise ClientError(f"training failed (code {result.error_code}): {result.error_msg}")
        self._line(result.iterations, result)
        used = f"{result.transitions} transitions, {result.robot_seconds:.1f} s of the robot"
        say(f"{result.iterations} iterations, {used}")
        say(f"curves: {c.run_folder}/errors.png")
        say(f"artefact: {artefact}")
        return True

    def _on_feedback(self, feedback: TrainController.Feedback) -> None:
        if feedback.iteration and feedback.iteration > self._told and feedback.phase == "reset":
            self._line(feedback.iteration, feedback)

    def _line(self, iteration: int, told: Any) -> None:  # noqa: ANN401 - feedback or result
        self._told = iteration
        errors = f"{told.prediction_error:9.4f} {told.task_error:9.4f} {told.performance_error:9.4f}"
        say(f"{iteration:4d} {errors}   {told.robot_seconds:5.1f} s")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(args: list[str] | None = None) -> int:
    """Train; 0 if the artefact was written, 1 if not, 2 for bad parameters."""
    return run_client(TrainControllerClient, args)
