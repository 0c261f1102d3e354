"""Reward learner: demonstrations in, an artefact out; learning is an action, one outer step at a time."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ideomotor.config import value
from ideomotor_nodes.diagnostics import OK, Report
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.params import NodeConfig, ParameterError
from ideomotor_nodes.run import run_node

if TYPE_CHECKING:
    from ideomotor_nodes.reward_learner_goal import LearnGoal


@dataclass(frozen=True, kw_only=True)
class RewardLearnerConfig(NodeConfig):
    """Parameters of reward_learner; what else there is to set is a matter of `ideomotor train reward`."""

    outer_steps: int = value(0, "Outer steps; 0: the default.", ge=0, le=100000)
    rate: float = value(10.0, "States of a demonstration a second [Hz].", ge=0.1, le=1000.0)
    base_link: str = value("", "Frame of the goal and axes of the reward; empty: the root of the description.")
    exclude: tuple[str, ...] = value((), "Demonstrations to leave out, RECORDING/NAME or RECORDING.")
    held_out: int = value(1, "The last ones are measured on, not learned from, if 3 or more remain.", ge=0, le=1000)
    run_folder: str = value("", "Folder for plots and metrics; empty: none are written.")


class RewardLearnerNode(LifecycleNode[RewardLearnerConfig]):
    """Lifecycle shell; `LearnGoal` is the action."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("reward_learner", RewardLearnerConfig, **node_options)
        self._goal: LearnGoal | None = None
        self.add_report("learning", lambda: Report(OK, "not configured") if self._goal is None else self._goal.report())

    def configure(self) -> None:
        """Create the action and the topic of the reward field."""
        try:  # not at the top: everything but this node runs without torch
            from ideomotor_nodes.reward_learner_goal import LearnGoal
        except ModuleNotFoundError as error:
            raise ParameterError(
                f"learning needs {error.name}: in the repository, pip install -e packages/ideomotor_learn"
            ) from error
        self._goal = LearnGoal(self)

    def activate(self) -> None:
        """Take goals."""
        assert self._goal is not None
        self._goal.activate()

    def deactivate(self) -> None:
        """End the running goal; what is in the artefact's folder stays."""
        if self._goal is not None:
            self._goal.abandon("the node was deactivated")

    def cleanup(self) -> None:
        """Forget the goal."""
        self._goal = None


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(RewardLearnerNode, args)


if __name__ == "__main__":
    sys.exit(main())
