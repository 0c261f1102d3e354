"""The executor of the nodes: streams in batches, everything else as rclpy does it."""

import time
from functools import partial

import pytest
import rclpy
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Int32
from std_srvs.srv import Trigger

from ideomotor_nodes.executor import StreamExecutor
from tests.graph.conftest import Graph


def send(graph: Graph, topic: str, count: int, subscriptions: int = 1) -> None:
    """Publish 0 .. count - 1, and wait until they lie at the subscriptions, not called back."""
    publisher = graph.publisher(Int32, topic, 100)
    graph.spin_until(lambda: publisher.get_subscription_count() == subscriptions)
    for i in range(count):
        publisher.publish(Int32(data=i))
    assert publisher.wait_for_all_acked(rclpy.duration.Duration(seconds=5.0))


@pytest.fixture
def other(graph: Graph) -> Node:
    """Return a node beside the helper."""
    return graph.add(rclpy.create_node("other"))


def test_waiting_messages_are_taken_at_once_and_in_order(graph: Graph) -> None:
    received = graph.collect(Int32, "numbers", 100)
    send(graph, "numbers", 10)
    waits = 0
    while len(received) < 10:
        graph.executor.spin_once(timeout_sec=1.0)
        waits += 1
    assert [m.data for m in received] == list(range(10))
    assert waits <= 3  # one, unless a period of looking at events ends


def test_a_flood_leaves_a_turn_for_timers(graph: Graph) -> None:
    turns: list[str] = []

    def slow(_: Int32) -> None:
        time.sleep(0.002)
        turns.append("message")

    graph.helper.create_subscription(Int32, "flood", slow, 100)
    send(graph, "flood", 50)
    graph.helper.create_timer(0.001, lambda: turns.append("timer"))
    graph.spin_until(lambda: turns.count("message") == 50)
    assert "timer" in turns[: turns.index("message") + 40]


def test_created_and_destroyed_in_a_callback(graph: Graph, other: Node) -> None:
    received: list[int] = []
    second = other.create_subscription(Int32, "numbers", lambda m: received.append(-1), 100)

    def first(_: Int32) -> None:
        received.append(1)
        other.destroy_subscription(second)
        if received.count(1) == 1:
            graph.helper.create_timer(0.01, lambda: received.append(2))

    graph.helper.create_subscription(Int32, "numbers", first, 100)
    send(graph, "numbers", 3, subscriptions=2)
    graph.spin_until(lambda: received.count(1) == 3 and 2 in received)
    last = len(received) - 1 - received[::-1].index(1)
    assert -1 not in received[received.index(1) : last]  # none after it was destroyed


def test_a_cancelled_timer_is_silent(graph: Graph) -> None:
    calls: list[str] = []
    late = graph.helper.create_timer(0.02, lambda: calls.append("late"))
    graph.helper.create_timer(0.01, late.cancel)
    graph.spin(0.2)
    assert calls.count("late") <= 1


def has_time(node: Node, nanoseconds: int) -> bool:
    """Return whether the node's clock shows this time."""
    return bool(node.get_clock().now().nanoseconds == nanoseconds)


def test_timers_follow_simulated_time(graph: Graph) -> None:
    node = graph.add(rclpy.create_node("simulated", parameter_overrides=[Parameter("use_sim_time", value=True)]))
    stamps: list[float] = []
    node.create_timer(0.1, lambda: stamps.append(node.get_clock().now().nanoseconds * 1e-9))
    clock = graph.publisher(Clock, "/clock")
    for i in range(1, 31):
        message = Clock()
        message.clock.nanosec = i * 20_000_000
        clock.publish(message)
        graph.spin_until(partial(has_time, node, i * 20_000_000))
    graph.spin(0.05)
    assert stamps == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], abs=0.001)


def test_services_and_guard_conditions(graph: Graph, other: Node) -> None:
    guard_calls: list[int] = []
    answers: list[int] = []
    guard = other.create_guard_condition(lambda: guard_calls.append(1))

    def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        answers.append(1)
        guard.trigger()
        response.success = True
        return response

    other.create_service(Trigger, "ask", answer)
    for _ in range(3):
        assert graph.call(Trigger, "ask", Trigger.Request()).success
        graph.spin_until(lambda: len(guard_calls) == len(answers))


def test_all_tasks_are_done(graph: Graph) -> None:
    done: list[int] = []
    for i in range(5):
        graph.executor.create_task(lambda i=i: done.append(i))
    graph.spin_until(lambda: len(done) == 5, timeout=2.0)


def test_incompatible_qos_is_still_reported(graph: Graph, other: Node) -> None:
    events: list[object] = []
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    callbacks = SubscriptionEventCallbacks(incompatible_qos=events.append)
    other.create_subscription(Int32, "volatile", lambda _: None, latched, event_callbacks=callbacks)
    graph.helper.create_publisher(Int32, "volatile", 10)
    graph.spin_until(lambda: events)


def test_waits_as_long_as_it_is_told(ros: None) -> None:
    executor = StreamExecutor()
    node = rclpy.create_node("idle", start_parameter_services=False)
    executor.add_node(node)
    for _ in range(3):  # what creation left behind
        executor.spin_once(timeout_sec=0.0)
    start = time.monotonic()
    executor.spin_once(timeout_sec=0.1)
    elapsed = time.monotonic() - start
    executor.shutdown()
    node.destroy_node()
    assert 0.09 < elapsed < 1.0
