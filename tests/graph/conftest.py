"""Graph tests: nodes in this process, or as processes, over real DDS in a domain of their own."""

import fcntl
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import rclpy
from rclpy.action import ActionClient
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.node import Node

from ideomotor_nodes.executor import StreamExecutor

FIRST_DOMAIN, LAST_DOMAIN = 40, 99  # below 101 the ports stay clear of Linux's ephemeral ones


def _own_domain() -> tuple[int, IO[str]]:
    """Return a domain that no other test process on this machine uses, and the lock that says so."""
    for domain in range(FIRST_DOMAIN, LAST_DOMAIN + 1):
        lock = (Path(tempfile.gettempdir()) / f"ideomotor_domain_{domain}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return domain, lock
    raise RuntimeError(f"all domains {FIRST_DOMAIN}..{LAST_DOMAIN} are in use")


@pytest.fixture(scope="session", autouse=True)
def domain() -> Iterator[int]:
    """Give the session its own ROS_DOMAIN_ID, for this process and those it starts."""
    number, lock = _own_domain()
    os.environ["ROS_DOMAIN_ID"] = str(number)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    yield number
    lock.close()


class Graph:
    """The nodes of a test, a helper node that plays the rest of the system, and the nodes' executor for all of them."""

    def __init__(self) -> None:
        self.executor = StreamExecutor()
        self.nodes: list[Node] = []
        self.helper: Node = self.add(rclpy.create_node("helper"))

    def add(self, node: Any) -> Any:
        """Spin ``node`` from now on and destroy it at the end."""
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def start(self, node: Any) -> Any:
        """`add` a lifecycle node, configure and activate it."""
        self.add(node)
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        return node

    def spin_until(self, condition: Callable[[], Any], timeout: float = 10.0, what: str = "") -> Any:
        """Spin until ``condition()`` is true and return what it returned; fail after ``timeout`` [s]."""
        end = time.monotonic() + timeout
        while not (result := condition()):
            assert time.monotonic() < end, f"{what or 'the condition'} did not come true in {timeout} s"
            self.executor.spin_once(timeout_sec=0.05)
        return result

    def spin(self, seconds: float) -> None:
        """Spin for a while: for showing that something does *not* happen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=max(0.0, min(0.05, end - time.monotonic())))

    def result(self, handle: Any, timeout: float = 10.0) -> Any:
        """Spin until a goal has ended, and return its status and result; fail after ``timeout`` [s]."""
        future = handle.get_result_async()
        self.spin_until(future.done, timeout, "the result")
        return future.result()

    def send_goal(self, client: ActionClient, goal: Any, feedback: Callable[[Any], None] | None = None) -> Any:
        """Send a goal and return its handle; once more if the server found the reader of its response too late.

        Fast DDS drops a response whose reader it has not matched yet, shortly after both came up on a busy machine.
        """
        self.spin_until(client.server_is_ready)
        future = client.send_goal_async(goal, feedback)
        end = time.monotonic() + 3.0
        while not future.done() and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)
        if not future.done():
            future = client.send_goal_async(goal, feedback)
        self.spin_until(future.done, what="the answer to the goal")
        return future.result()

    def call(self, service_type: type, name: str, request: Any, timeout: float = 10.0) -> Any:
        """Call a service and return the response."""
        client = self.helper.create_client(service_type, name)
        self.spin_until(client.service_is_ready, timeout, f"service {name}")
        future = client.call_async(request)
        self.spin_until(future.done, timeout, f"the answer of {name}")
        self.helper.destroy_client(client)
        return future.result()

    def collect(self, message_type: type, topic: str, qos: Any = 10) -> list[Any]:
        """Return a list that fills with the messages of ``topic``."""
        received: list[Any] = []
        self.helper.create_subscription(message_type, topic, received.append, qos)
        return received

    def publisher(self, message_type: type, topic: str, qos: Any = 10) -> Any:
        """Return a publisher that has at least one subscription."""
        publisher = self.helper.create_publisher(message_type, topic, qos)
        self.spin_until(lambda: publisher.get_subscription_count() > 0, what=f"a subscription to {topic}")
        return publisher

    def close(self) -> None:
        """Shut down and destroy all nodes."""
        for node in self.nodes:
            if isinstance(node, LifecycleNode):
                node.trigger_shutdown()
        self.executor.shutdown()
        for node in self.nodes:
            node.destroy_node()


@pytest.fixture
def ros(domain: int) -> Iterator[None]:
    """Initialise rclpy for one test."""
    rclpy.init()
    yield
    rclpy.try_shutdown()
    gc.collect()  # of DDS participants too, now: one that a later test's collection took away span for ever in Fast DDS


@pytest.fixture
def graph(ros: None) -> Iterator[Graph]:
    """A helper node and an executor; `Graph.add` and `Graph.start` take more nodes."""
    graph = Graph()
    yield graph
    graph.close()


@pytest.fixture
def node_command() -> Callable[..., list[str]]:
    """Return the command line that runs a node as a process: ``node_command("safety_gate", rate=50.0)``."""

    def command(module: str, **parameters: Any) -> list[str]:
        code = f"import sys; from ideomotor_nodes.{module} import main; sys.exit(main())"
        assignments = [
            argument
            for name, value in parameters.items()
            for argument in ("-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}")
        ]
        return [sys.executable, "-c", code, "--ros-args", *assignments]

    return command
