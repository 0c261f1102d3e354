"""The lifecycle shell of every node.

A node overrides `configure`, `activate`, `deactivate` and `cleanup`, which return nothing and raise what goes
wrong; the shell turns that into lifecycle transitions (rclpy swallows exceptions of transitions without a log).
"""

import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from diagnostic_msgs.msg import DiagnosticArray
from rclpy import lifecycle
from rclpy.action import ActionClient, ActionServer
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from ideomotor.errors import IdeomotorError
from ideomotor_nodes.diagnostics import OK, Report
from ideomotor_nodes.params import NodeConfig, check_overrides, declare_config
from ideomotor_nodes.qos import SENSOR, STREAM

C = TypeVar("C", bound=NodeConfig)

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)


class LifecycleNode(lifecycle.LifecycleNode, Generic[C]):
    """Lifecycle node with declared parameters and diagnostics.

    * `configure` loads and validates, creates publishers and subscriptions; `activate` starts timers (`create_timer`);
      `deactivate` leaves the robot in a safe state: publishers still publish in it. Timers, publishers, subscriptions,
      services, clients, actions and guard conditions made in a transition are destroyed by the shell in the opposite
      one; `cleanup` and `deactivate` undo everything else.
    * An `IdeomotorError` or `OSError` raised there is logged and makes the transition fail; anything else is a defect:
      logged with traceback, and the node goes through error processing to unconfigured.
    * What raises in a timer or subscription callback ends the process; the launch file decides what then.
    """

    def __init__(
        self,
        name: str,
        config_type: type[C],
        *,
        live_parameters: tuple[str, ...] = (),
        **node_options: Any,  # noqa: ANN401
    ) -> None:
        """Declare the parameters and refuse unknown ones.

        Args:
            name: default node name.
            config_type: its fields become the read-only parameters of the node.
            live_parameters: parameters that the node declares itself because they may change.
            node_options: as for `rclpy.node.Node`, e.g. ``parameter_overrides``.

        Raises:
            ParameterError, ConfigError, rclpy.exceptions.ParameterException: a parameter is not usable.
        """
        super().__init__(name, **node_options)
        self.config: C = declare_config(self, config_type)
        check_overrides(self, live_parameters)
        self._reports: dict[str, Callable[[], Report]] = {}
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", STREAM)
        # steady: a paused simulation must not silence the diagnostics
        self.steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics_timer = self.create_timer(1.0, self._publish_diagnostics, clock=self.steady_clock)
        self.exit_code: int | None = None
        self._made_by_configure: list[Callable[[], object]] = []
        self._made_by_activate: list[Callable[[], object]] = []

    # What a node overrides

    def configure(self) -> None:
        """Load, validate, create publishers and subscriptions."""

    def activate(self) -> None:
        """Start the timers."""

    def deactivate(self) -> None:
        """Leave the robot in a safe state; publishers still publish."""

    def cleanup(self) -> None:
        """Forget what `configure` loaded."""

    # What a node uses

    @property
    def is_active(self) -> bool:
        """Whether the node is in the state active."""
        return bool(self._state_machine.current_state[1] == "active")

    def now(self) -> float:
        """Return the node's time [s]; simulated time under ``use_sim_time``."""
        return float(self.get_clock().now().nanoseconds * 1e-9)

    def add_report(self, name: str, report: Callable[[], Report]) -> None:
        """Publish what ``report`` returns on /diagnostics, once a second, under ``name``."""
        self._reports[name] = report

    def create_sensor_subscription(
        self, message_type: type, topic: str, callback: Callable[[Any], None], depth: int = SENSOR.depth
    ) -> Subscription:
        """Subscribe with sensor-data QoS that parameters can override.

        ``depth`` is how many messages wait while the node is busy: more for a stream of which each counts.

        ``qos_overrides./TOPIC.subscription.reliability: reliable`` is what a replay sets, to lose nothing.
        """
        qos = type(SENSOR)(depth=depth, history=SENSOR.history, reliability=SENSOR.reliability)
        return self.create_subscription(
            message_type, topic, callback, qos, qos_overriding_options=QoSOverridingOptions.with_default_policies()
        )

    def create_steady_timer(self, period: float, callback: Callable[[], None]) -> Timer:
        """Create a timer that runs on although simulated time stands still."""
        return self.create_timer(period, callback, clock=self.steady_clock)

    def autostart(self) -> TransitionCallbackReturn:
        """Configure and activate if the parameter says so; return the result of the last transition."""
        if not self.config.autostart:
            return SUCCESS
        result = self.trigger_configure()
        return self.trigger_activate() if result == SUCCESS else result

    def end(self, exit_code: int) -> None:
        """End the process that `run_node` started, after the present callback."""
        self.exit_code = exit_code

    # Transitions, called by rclpy

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Call `configure`."""
        result = self._transition("configure", self.configure, self._made_by_configure)
        if result != SUCCESS:
            _undo(self._made_by_configure)
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Activate the publishers, call `activate`."""
        super().on_activate(state)
        result = self._transition("activate", self.activate, self._made_by_activate)
        if result != SUCCESS:
            _undo(self._made_by_activate)
            super().on_deactivate(state)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop what `activate` started, call `deactivate`, deactivate the publishers."""
        _undo(self._made_by_activate)
        result = self._transition("deactivate", self.deactivate, [])
        super().on_deactivate(state)
        return result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Destroy what `configure` made, call `cleanup`."""
        result = self._transition("clean up", self.cleanup, [])
        _undo(self._made_by_configure)
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate if active, clean up."""
        if state.label == "active":
            self.on_deactivate(state)
        return self.on_cleanup(state) if state.label != "unconfigured" else SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a defect: stop and destroy everything; the node is then unconfigured."""
        _undo(self._made_by_activate)
        super().on_deactivate(state)
        _undo(self._made_by_configure)
        return SUCCESS

    def _transition(
        self, name: str, function: Callable[[], None], made: list[Callable[[], object]]
    ) -> TransitionCallbackReturn:
        before = self._entities()
        try:
            function()
        except (IdeomotorError, OSError) as error:
            self.get_logger().error(f"cannot {name}: {error}")
            # a node that cannot stop must not stay active, as FAILURE would leave it
            return FAILURE if name in ("configure", "activate") else ERROR
        except Exception:  # noqa: BLE001 - the outermost loop of a transition: rclpy would swallow it
            self.get_logger().fatal(f"defect in {name}:\n{traceback.format_exc()}")
            return ERROR
        finally:
            made.extend(destroy for key, destroy in self._entities().items() if key not in before)
        return SUCCESS

    def _entities(self) -> dict[int, Callable[[], object]]:
        """Return how to destroy each timer, subscription, ... of the node, by identity."""
        kinds: tuple[tuple[Any, Callable[[Any], object]], ...] = (
            (self.timers, self.destroy_timer),
            (self.subscriptions, self.destroy_subscription),
            (self.services, self.destroy_service),
            (self.clients, self.destroy_client),
            (self.publishers, self.destroy_lifecycle_publisher),
            (self.guards, self.destroy_guard_condition),
        )
        actions = [w for w in self.waitables if isinstance(w, (ActionServer, ActionClient))]
        return {id(action): action.destroy for action in actions} | {
            id(entity): partial(destroy, entity) for entities, destroy in kinds for entity in entities
        }

    def _publish_diagnostics(self) -> None:
        state = self._state_machine.current_state[1]
        lines = {"": Report(OK, state)} | {name: report() for name, report in self._reports.items()}
        name = self.get_fully_qualified_name()
        status = [line.to_msg(f"{name}: {key}" if key else name, self.get_name()) for key, line in lines.items()]
        array = DiagnosticArray(status=status)
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_publisher.publish(array)


def _undo(made: list[Callable[[], object]]) -> None:
    while made:
        made.pop()()
