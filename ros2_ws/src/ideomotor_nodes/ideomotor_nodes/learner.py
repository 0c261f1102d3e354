"""The shell of nodes that learn: learning is an action, a piece at a time."""

from collections.abc import Callable
from typing import Any, Protocol

from ideomotor_nodes.diagnostics import OK, Report
from ideomotor_nodes.lifecycle import C, LifecycleNode
from ideomotor_nodes.params import ParameterError


class LearningGoal(Protocol):
    """The action of such a node, and its running goal."""

    def activate(self) -> None:
        """Take goals."""

    def abandon(self, reason: str) -> None:
        """End the running goal, if any; what is on disk stays."""

    def report(self) -> Report:
        """Return what is going on."""


class LearnerNode(LifecycleNode[C]):
    """Lifecycle shell around a `LearningGoal`.

    Args:
        name: default node name.
        config_type: as for `LifecycleNode`.
        make_goal: called when the node is configured, with the node. It imports torch, without which all else runs.
        node_options: as for `LifecycleNode`.
    """

    def __init__(
        self,
        name: str,
        config_type: type[C],
        make_goal: Callable[[Any], LearningGoal],
        **node_options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(name, config_type, **node_options)
        self._make_goal = make_goal
        self._goal: LearningGoal | None = None
        self.add_report("learning", lambda: Report(OK, "not configured") if self._goal is None else self._goal.report())

    def configure(self) -> None:
        """Create the action and its topics."""
        try:
            self._goal = self._make_goal(self)
        except ModuleNotFoundError as error:
            raise ParameterError(
                f"learning needs {error.name}: in the repository, pip install -e packages/ideomotor_learn"
            ) from error

    def activate(self) -> None:
        """Take goals."""
        assert self._goal is not None
        self._goal.activate()

    def deactivate(self) -> None:
        """End the running goal."""
        if self._goal is not None:
            self._goal.abandon("the node was deactivated")

    def cleanup(self) -> None:
        """Forget the goal."""
        self._goal = None
