"""The lifecycle shell: transitions that raise, autostart, diagnostics, goals of actions, the end of a process."""

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.action import ActionClient
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import Float64

from ideomotor.errors import IdeomotorError
from ideomotor_interfaces.action import MoveTip
from ideomotor_nodes.diagnostics import OK, STALE, WARN, Report, StreamMonitor, TickMonitor
from ideomotor_nodes.goals import GoalError, GoalServer
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.params import NodeConfig
from tests.graph.conftest import Graph

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)


class ExampleNode(LifecycleNode[NodeConfig]):
    """Ticks, and publishes -1 when it is deactivated; raises what a test tells it to."""

    def __init__(self, **options: Any) -> None:
        super().__init__("example", NodeConfig, **options)
        self.fail: dict[str, Exception] = {}
        self.add_report("answer", lambda: Report(WARN, "forty-two", {"value": 42.0}))

    def _raise(self, transition: str) -> None:
        if transition in self.fail:
            raise self.fail[transition]

    def configure(self) -> None:
        self.output = self.create_lifecycle_publisher(Float64, "output", 10)
        self.create_subscription(Float64, "input", lambda msg: None, 10)
        self.goals = GoalServer(self, MoveTip, "move", self.start)
        self._raise("configure")

    def activate(self) -> None:
        self.ticks = 0
        self.create_timer(0.02, self.tick)
        self._raise("activate")

    def deactivate(self) -> None:
        self.output.publish(Float64(data=-1.0))
        self._raise("deactivate")

    def start(self, goal: MoveTip.Goal) -> None:
        if goal.link == "nowhere":
            raise GoalError(MoveTip.Result.UNKNOWN_LINK, "no link 'nowhere'")
        self.left = 10

    def tick(self) -> None:
        self.ticks += 1
        self.output.publish(Float64(data=float(self.ticks)))
        if not self.goals.busy:
            return
        if self.goals.cancel_requested:
            self.goals.finish(MoveTip.Result(error_code=MoveTip.Result.CANCELLED, error_msg="as asked"))
            return
        self.left -= 1
        self.goals.feedback(MoveTip.Feedback(position_error=float(self.left)))
        if self.left == 0:
            self.goals.finish(MoveTip.Result(position_error=0.5))


def test_cycle_can_be_repeated_and_leaves_nothing_behind(graph: Graph) -> None:
    node = graph.add(ExampleNode())
    counts = []
    for _ in range(3):
        assert node.trigger_configure() == SUCCESS
        assert node.trigger_activate() == SUCCESS
        graph.spin_until(lambda: node.ticks > 2)
        assert node.trigger_deactivate() == SUCCESS
        assert node.trigger_cleanup() == SUCCESS
        kinds = (node.timers, node.subscriptions, node.publishers, node.services, node.waitables)
        counts.append([len(list(entities)) for entities in kinds])
    assert counts[0] == counts[1] == counts[2]


def test_deactivation_stops_the_timer_and_sends_a_last_command(graph: Graph) -> None:
    node = graph.start(ExampleNode())
    received = graph.collect(Float64, "output")
    graph.spin_until(lambda: received)
    assert node.trigger_deactivate() == SUCCESS
    graph.spin_until(lambda: received[-1].data == -1.0)
    ticks = node.ticks
    graph.spin(0.2)
    assert node.ticks == ticks
    assert received[-1].data == -1.0


@pytest.mark.parametrize("transition", ["configure", "activate"])
@pytest.mark.parametrize(
    ("error", "result"),
    [(IdeomotorError("no such joint"), FAILURE), (OSError("no such file"), FAILURE), (KeyError("oops"), ERROR)],
)
def test_what_a_transition_raises_is_logged(
    graph: Graph, capfd: pytest.CaptureFixture[str], transition: str, error: Exception, result: Any
) -> None:
    """rclpy swallows it; the shell says what it was, with a traceback where it is a defect."""
    node = graph.add(ExampleNode())
    node.fail[transition] = error
    before = len(list(node.timers))
    results = [node.trigger_configure()]
    if transition == "activate":
        results.append(node.trigger_activate())
    assert results[-1] == result
    err = capfd.readouterr().err
    assert str(error.args[0]) in err
    assert ("Traceback" in err) == (result == ERROR)
    assert len(list(node.timers)) == before
    # it can be tried again
    node.fail.clear()
    if transition == "configure" or result == ERROR:
        assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS


def test_a_node_that_cannot_stop_does_not_stay_active(graph: Graph) -> None:
    node = graph.start(ExampleNode())
    node.fail["deactivate"] = IdeomotorError("stuck")
    assert node.trigger_deactivate() == ERROR
    assert not node.is_active


def test_autostart(graph: Graph) -> None:
    node = graph.add(ExampleNode())
    assert node.autostart() == SUCCESS
    assert node.is_active
    manual = graph.add(ExampleNode(parameter_overrides=[Parameter("autostart", value=False)]))
    assert manual.autostart() == SUCCESS
    assert not manual.is_active
    failing = graph.add(ExampleNode())
    failing.fail["configure"] = IdeomotorError("no")
    assert failing.autostart() == FAILURE


def test_diagnostics_are_published_and_name_the_node(graph: Graph) -> None:
    received = graph.collect(DiagnosticArray, "/diagnostics")
    graph.start(ExampleNode())
    graph.spin_until(lambda: len(received) >= 2, timeout=5.0)
    status = {s.name: s for s in received[-1].status}
    assert status["/example"].message == "active"
    answer = status["/example: answer"]
    assert (answer.level, answer.message) == (DiagnosticStatus.WARN, "forty-two")
    assert [(v.key, v.value) for v in answer.values] == [("value", "42")]


def test_stream_monitor() -> None:
    monitor = StreamMonitor(max_age=0.5, min_rate=20.0)
    assert monitor.report(0.0).level == STALE
    for i in range(10):
        monitor.received(stamp=0.1 * i, now=0.1 * i + 0.02)
    report = monitor.report(1.0)
    assert report.level == WARN  # 10 Hz
    assert report.values["rate [Hz]"] == pytest.approx(10.0)
    assert report.values["mean latency [s]"] == pytest.approx(0.02)
    assert report.values["age [s]"] == pytest.approx(0.1)
    assert monitor.report(2.0).level == STALE


def test_tick_monitor_counts_overruns() -> None:
    monitor = TickMonitor(period=0.01)
    with monitor.tick():
        time.sleep(0.02)
    report = monitor.report()
    assert (report.level, report.values["misses"]) == (WARN, 1)
    with monitor.tick():
        pass
    with monitor.tick():
        pass
    assert monitor.report().values["ticks"] == 2
    assert monitor.report().level == OK


class Client:
    """Action client of a test."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.client = ActionClient(graph.helper, MoveTip, "move")
        self.feedback: list[float] = []
        graph.spin_until(self.client.server_is_ready)

    def send(self, link: str = "tip") -> Any:
        goal = MoveTip.Goal(link=link)
        return self.graph.send_goal(self.client, goal, lambda m: self.feedback.append(m.feedback.position_error))

    def result(self, handle: Any) -> Any:
        return self.graph.result(handle)


def test_goal_with_feedback(graph: Graph) -> None:
    graph.start(ExampleNode())
    client = Client(graph)
    response = client.result(client.send())
    assert response.status == GoalStatus.STATUS_SUCCEEDED
    assert response.result.position_error == 0.5
    assert client.feedback[:3] == [9.0, 8.0, 7.0]


def test_goal_cancelled(graph: Graph) -> None:
    graph.start(ExampleNode())
    client = Client(graph)
    handle = client.send()
    graph.spin_until(lambda: client.feedback)
    handle.cancel_goal_async()
    response = client.result(handle)
    assert response.status == GoalStatus.STATUS_CANCELED
    assert response.result.error_code == MoveTip.Result.CANCELLED


def test_second_goal_is_answered_busy_and_the_first_goes_on(graph: Graph) -> None:
    graph.start(ExampleNode())
    client = Client(graph)
    first, second = client.send(), client.send()
    response = client.result(second)
    assert (response.status, response.result.error_code) == (GoalStatus.STATUS_ABORTED, MoveTip.Result.BUSY)
    assert client.result(first).status == GoalStatus.STATUS_SUCCEEDED


def test_goal_that_cannot_start_and_goal_for_an_inactive_node(graph: Graph) -> None:
    node = graph.start(ExampleNode())
    client = Client(graph)
    response = client.result(client.send("nowhere"))
    assert (response.status, response.result.error_code) == (GoalStatus.STATUS_ABORTED, MoveTip.Result.UNKNOWN_LINK)
    assert client.result(client.send()).status == GoalStatus.STATUS_SUCCEEDED  # and the server is free again
    node.trigger_deactivate()
    assert not client.send().accepted


PROCESS = """
import sys
sys.path.insert(0, {folder!r})
from ideomotor_nodes.run import run_node
import importlib.util
spec = importlib.util.spec_from_file_location("example", {file!r})
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)
sys.exit(run_node(example.ExampleNode))
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_process_ends_with_a_safe_command(graph: Graph, signum: int) -> None:
    """A signal deactivates the node: its last command is sent while the context still lives, exit code 0."""
    received = graph.collect(Float64, "output")
    code = PROCESS.format(folder=os.path.dirname(__file__), file=__file__)
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        graph.spin_until(lambda: len(received) > 5, timeout=20.0)
        process.send_signal(signum)
        graph.spin_until(lambda: process.poll() is not None, timeout=5.0)
        graph.spin_until(lambda: received[-1].data == -1.0)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_goal_works_in_a_process(graph: Graph) -> None:
    """Over DDS, with the executor that nodes use."""
    code = PROCESS.format(folder=os.path.dirname(__file__), file=__file__)
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        client = Client(graph)
        response = client.result(client.send())
        assert response.status == GoalStatus.STATUS_SUCCEEDED
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=10.0)
