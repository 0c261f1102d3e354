"""Controller trainer: a robot and a target motion in, a policy out; training is an action, an iteration at a time."""

import sys
from dataclasses import dataclass
from typing import Any

from ideomotor.config import value
from ideomotor_nodes.learner import LearnerNode, LearningGoal
from ideomotor_nodes.params import NodeConfig
from ideomotor_nodes.run import run_node

SIMULATION, WAIT = "simulation", "wait"


@dataclass(frozen=True, kw_only=True)
class ControllerTrainerConfig(NodeConfig):
    """Parameters of controller_trainer."""

    motions: str = value("", "Folder of target motions, TASK.npz.")
    rotor_inertia: tuple[float, ...] = value((), "Of every joint, seen through its gear [kg m^2]; empty: none.")
    reset: str = value(
        WAIT,
        "How the robot gets back to the start: sim/reset, or by itself or by people, until it is there.",
        choices=(SIMULATION, WAIT),
    )
    reset_timeout: float = value(600.0, "Longest time to wait for the robot at the start [s].", ge=1.0, le=1e5)
    iterations: int = value(12, "Runs of the learned controller, where the goal does not say.", ge=1, le=10000)
    first_duration: float = value(0.2, "The first run holds the robot for so long [s].", ge=0.02, le=60.0)
    first_noise: float = value(
        0.05, "Exploration in the first run: standard deviation by the effort limit [1].", ge=0.0, le=1.0
    )
    noise: float = value(0.01, "The same in all others [1].", ge=0.0, le=1.0)
    updates: int = value(150, "Gradient steps of the model, and of the controller, in an iteration.", ge=1, le=100000)
    hidden: int = value(256, "Units of each of two hidden layers.", ge=8, le=4096)
    position_gain: float = value(
        -1.0,
        "How fast the goal closes in on the motion's position [1/s]; negative: by the kind of robot.",
        ge=-1.0,
        le=200.0,
    )
    prediction_weight: float = value(1.0, "Of the prediction error in the loss [1].", ge=0.0, le=100.0)


class ControllerTrainerNode(LearnerNode[ControllerTrainerConfig]):
    """`TrainGoal` is the action."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("controller_trainer", ControllerTrainerConfig, _make_goal, **node_options)


def _make_goal(node: ControllerTrainerNode) -> LearningGoal:
    from ideomotor_nodes.controller_trainer_goal import TrainGoal  # here: it needs torch

    return TrainGoal(node)


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(ControllerTrainerNode, args)


if __name__ == "__main__":
    sys.exit(main())
