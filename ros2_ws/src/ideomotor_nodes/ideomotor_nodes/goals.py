"""Long goals of an action, driven by a timer of the node: one at a time, with feedback and cancel."""

from collections.abc import Callable
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle

from ideomotor.errors import IdeomotorError
from ideomotor_nodes.lifecycle import LifecycleNode


class GoalError(IdeomotorError):
    """A goal that cannot be started or finished; carries the ``error_code`` of the action's result."""

    def __init__(self, error_code: int, message: str) -> None:
        super().__init__(message)
        self.error_code = error_code


class GoalServer:
    """Action server for a state machine that the node's timer advances.

    ``start(goal)`` is called when a goal is accepted; then the node's timer does the work, looks at `busy` and
    `cancel_requested`, calls `feedback`, and ends it with `finish`. A second goal is answered at once with the result's
    code BUSY, a goal for a node that is not active is rejected. The result type needs ``error_code`` (NONE, CANCELLED,
    BUSY) and ``error_msg``.

    A coroutine that awaits the end would be shorter, but rclpy's executors poll a waiting coroutine without pause
    (`rclpy.task.Future.__await__` of Jazzy yields until it is done). Therefore ``execute`` is called
    when the result is known; until then the status of a running goal is ACCEPTED.
    """

    def __init__(self, node: LifecycleNode[Any], action_type: Any, name: str, start: Callable[[Any], None]) -> None:  # noqa: ANN401
        self._node, self._type, self._start = node, action_type, start
        self._handle: ServerGoalHandle | None = None
        self._server = ActionServer(
            node,
            action_type,
            name,
            execute_callback=lambda handle: None,  # not used: every `execute` below passes its own
            goal_callback=lambda goal: GoalResponse.ACCEPT if node.is_active else GoalResponse.REJECT,
            handle_accepted_callback=self._accepted,
            cancel_callback=lambda handle: CancelResponse.ACCEPT,
        )

    @property
    def busy(self) -> bool:
        """Whether a goal is running."""
        return self._handle is not None

    @property
    def cancel_requested(self) -> bool:
        """Whether the client wants the running goal to end."""
        return self._handle is not None and bool(self._handle.is_cancel_requested)

    def feedback(self, feedback: Any) -> None:  # noqa: ANN401
        """Send feedback of the running goal."""
        if self._handle is not None:
            self._handle.publish_feedback(feedback)

    def finish(self, result: Any) -> None:  # noqa: ANN401
        """End the running goal: succeeded for ``error_code`` NONE, canceled for CANCELLED if so asked, else aborted."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            self._end(handle, result)

    def _accepted(self, handle: ServerGoalHandle) -> None:
        if self._handle is not None:
            message = "another goal is running; cancel it first"
            self._end(handle, self._type.Result(error_code=self._type.Result.BUSY, error_msg=message))
            return
        self._handle = handle
        try:
            self._start(handle.request)
        except GoalError as error:
            self.finish(self._type.Result(error_code=error.error_code, error_msg=str(error)))

    def _end(self, handle: ServerGoalHandle, result: Any) -> None:  # noqa: ANN401
        def conclude(handle: ServerGoalHandle) -> Any:  # noqa: ANN401
            if result.error_code == self._type.Result.NONE:
                handle.succeed()
            elif result.error_code == self._type.Result.CANCELLED and handle.is_cancel_requested:
                handle.canceled()
            else:
                handle.abort()
            return result

        handle.execute(conclude)
