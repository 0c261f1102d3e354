"""Bad messages to running nodes: each is reported with what, where and what was expected; what was good stays.

Conversions and parameters have their own tests (tests/graph/test_convert.py, test_params.py); here whole nodes run as
processes, because what counts is that none of them ends.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from ideomotor_nodes import convert
from ideomotor_nodes.qos import LATCHED, TF
from tests.graph.conftest import Graph

NAN = float("nan")
URDF = """<robot name="r"><link name="l0"/><link name="l1"/><link name="l2"/>
<joint name="a" type="revolute"><parent link="l0"/><child link="l1"/><axis xyz="0 0 1"/>
  <limit lower="-1" upper="1" velocity="2" effort="1"/></joint>
<joint name="b" type="revolute"><parent link="l1"/><child link="l2"/><origin xyz="1 0 0"/><axis xyz="0 0 1"/>
  <limit lower="-2" upper="2" velocity="2" effort="1"/></joint></robot>"""


class Process:
    """A node as a process, with what it says."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        with log.open("w") as file:
            self._process = subprocess.Popen(command, stderr=file, stdout=file)

    def says(self, text: str) -> bool:
        return text in self.log.read_text()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> int:
        self._process.terminate()
        try:
            return self._process.wait(10.0)
        finally:
            self._process.kill()


@pytest.fixture
def start(graph: Graph, node_command: Callable[..., list[str]], tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start nodes as processes; at the end each must still be alive, and end with 0."""
    processes: list[Process] = []

    def start_node(module: str, **parameters: Any) -> Process:
        processes.append(Process(node_command(module, **parameters), tmp_path / f"{module}.log"))
        return processes[-1]

    yield start_node
    assert [p.log.read_text() for p in processes if not p.alive] == []
    assert [p.stop() for p in processes] == [0] * len(processes)


BAD_JOINT_STATES = [
    (JointState(name=["a", "b"], position=[NAN, 0.0]), "position of ['a'] is not finite"),
    (JointState(name=["a", "b"], position=[0.0]), "2 names ['a', 'b'] but 1 position values"),
    (JointState(name=["a", "b"]), "2 names ['a', 'b'] but 0 position values"),
    (JointState(name=["a", "a"], position=[0.0, 1.0]), "has a joint twice"),
]


def publish_until(graph: Graph, publisher: Any, msg: Any, condition: Callable[[], bool]) -> None:
    def published() -> bool:
        publisher.publish(msg)
        return condition()

    graph.spin_until(published, timeout=20.0)


@pytest.mark.parametrize(
    ("module", "parameters"),
    [
        ("safety_gate", {"joints": "[a, b]"}),
        ("tip_controller", {"joints": "[a, b]", "ee_link": "l2"}),
        ("robot_state_publisher", {}),
    ],
)
def test_bad_joint_states_are_reported_and_survived(
    graph: Graph, start: Callable[..., Process], module: str, parameters: dict[str, str]
) -> None:
    process = start(module, **parameters)
    publisher = graph.helper.create_publisher(JointState, "joint_states", 10)
    for msg, text in BAD_JOINT_STATES:
        publish_until(graph, publisher, msg, lambda text=text: process.says(text))


def test_unknown_joints_are_ignored_and_the_others_count(graph: Graph, start: Callable[..., Process]) -> None:
    start("robot_state_publisher")
    set_description(graph, URDF)
    frames = graph.collect(TFMessage, "/tf", TF)
    publisher = graph.helper.create_publisher(JointState, "joint_states", 10)
    msg = JointState(name=["nobody", "a"], position=[1.0, 0.5])
    publish_until(graph, publisher, msg, lambda: bool(frames))
    assert {t.child_frame_id for m in frames for t in m.transforms} == {"l1"}


def set_description(graph: Graph, urdf: str) -> tuple[bool, str]:
    request = SetParameters.Request(parameters=[Parameter("robot_description", value=urdf).to_parameter_msg()])
    result = graph.call(SetParameters, "robot_state_publisher/set_parameters", request, 20.0).results[0]
    return result.successful, result.reason


BAD_DESCRIPTIONS = {
    "<robot": "line 1",
    "<sdf/>": "expected <robot>",
    URDF.replace('<link name="l2"/>', ""): "l2",
    URDF.replace('type="revolute"', 'type="elastic"', 1): "elastic",
    URDF.replace('upper="1"', 'upper="much"'): "much",
}


def test_malformed_descriptions_are_refused_and_the_last_good_one_stays(
    graph: Graph, start: Callable[..., Process]
) -> None:
    start("robot_state_publisher")
    assert set_description(graph, URDF) == (True, "")
    for urdf, text in BAD_DESCRIPTIONS.items():
        accepted, reason = set_description(graph, urdf)
        assert not accepted
        assert text in reason
    descriptions = graph.collect(String, "robot_description", LATCHED)
    graph.spin_until(lambda: descriptions)
    assert [m.data for m in descriptions] == [URDF]


def trajectory(names: list[str], *points: JointTrajectoryPoint) -> JointTrajectory:
    return JointTrajectory(joint_names=names, points=list(points))


BAD_COMMANDS = [
    (JointTrajectory(), "has 0 points, expected 1"),
    (trajectory(["a", "b"], JointTrajectoryPoint()), "neither positions nor velocities"),
    (trajectory(["a", "b"], JointTrajectoryPoint(positions=[1.0])), "2 names but 1 position values"),
    (trajectory(["a", "b"], JointTrajectoryPoint(positions=[NAN, 0.0])), "not finite: {'a': nan, 'b': 0.0}"),
    (trajectory(["a", "z"], JointTrajectoryPoint(positions=[0.0, 0.0])), "lacks ['b'] and has unknown ['z']"),
]


def test_bad_commands_hold_the_robot(graph: Graph, start: Callable[..., Process]) -> None:
    process = start("safety_gate", joints="[a, b]")
    outputs = graph.collect(Float64MultiArray, "forward_position_controller/commands")
    description = graph.helper.create_publisher(String, "robot_description", LATCHED)
    description.publish(String(data=URDF))
    states = graph.helper.create_publisher(JointState, "joint_states", 10)
    commands = graph.helper.create_publisher(JointTrajectory, "joint_command", 1)

    def publish_state() -> None:
        stamp = graph.helper.get_clock().now().to_msg()
        states.publish(convert.joint_state_msg(("a", "b"), np.array([0.1, 0.2]), stamp))

    graph.helper.create_timer(0.02, publish_state)
    graph.spin_until(lambda: outputs, timeout=20.0)
    for msg, text in BAD_COMMANDS:
        publish_until(graph, commands, msg, lambda text=text: process.says(text))
        graph.spin_until(lambda: graph.call(Trigger, "safety_gate/release", Trigger.Request()).success)
    assert len(outputs) > 5
    np.testing.assert_allclose([list(m.data) for m in outputs], [[0.1, 0.2]] * len(outputs))


def test_a_folder_that_is_no_recording_is_named(node_command: Callable[..., list[str]], domain: int) -> None:
    done = subprocess.run(
        node_command("player", folder=sys.prefix), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert f"recording {sys.prefix}: 0 .mcap files there, expected a folder with one" in done.stderr
