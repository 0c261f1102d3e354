"""Reward learner: demonstrations in, an artefact out; learning is an action, one outer step at a time."""

import sys
from dataclasses import dataclass
from typing import Any

from ideomotor.config import value
from ideomotor_nodes.learner import LearnerNode, LearningGoal
from ideomotor_nodes.params import NodeConfig
from ideomotor_nodes.run import run_node


@dataclass(frozen=True, kw_only=True)
class RewardLearnerConfig(NodeConfig):
    """Parameters of reward_learner; what else there is to set is a matter of `ideomotor train reward`."""

    outer_steps: int = value(0, "Outer steps; 0: the default.", ge=0, le=100000)
    rate: float = value(10.0, "States of a demonstration a second [Hz].", ge=0.1, le=1000.0)
    base_link: str = value("", "Frame of the goal and axes of the reward; empty: the root of the description.")
    exclude: tuple[str, ...] = value((), "Demonstrations to leave out, RECORDING/NAME or RECORDING.")
    held_out: int = value(1, "The last ones are measured on, not learned from, if 3 or more remain.", ge=0, le=1000)
    run_folder: str = value("", "Folder for plots and metrics; empty: none are written.")


class RewardLearnerNode(LearnerNode[RewardLearnerConfig]):
    """`LearnGoal` is the action."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("reward_learner", RewardLearnerConfig, _make_goal, **node_options)


def _make_goal(node: RewardLearnerNode) -> LearningGoal:
    from ideomotor_nodes.reward_learner_goal import LearnGoal  # here: it needs torch

    return LearnGoal(node)


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(RewardLearnerNode, args)


if __name__ == "__main__":
    sys.exit(main())
