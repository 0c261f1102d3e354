"""The action RunPolicy over DDS: commands that answer states, what is watched meanwhile, and why a run ends."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState

from ideomotor_nodes.qos import STREAM
from ideomotor_nodes.run_policy import RunPolicyClient
from tests.graph.conftest import Graph
from tests.graph.controller_rig import MOTION, Arm, Result, Running, trained
from tests.unit.test_rigid_body import ARM


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A controller of the arm, trained for some seconds."""
    folder = tmp_path_factory.mktemp("artefacts") / "policy"
    trained().export(folder)
    return str(folder)


def test_runs_the_motion_and_leaves_the_robot_to_the_gate(graph: Graph, artefact: str) -> None:
    arm, running = Arm(graph), Running(graph)
    errors = graph.collect(JointState, "prediction_error", STREAM)
    targets = graph.collect(JointState, "target_joint_states", STREAM)
    running.ready()
    response = running.result(running.send(artefact=artefact, episode="once"))
    result = response.result
    assert (response.status, result.error_code, result.error_msg) == (GoalStatus.STATUS_SUCCEEDED, Result.NONE, "")
    assert result.steps == MOTION.steps
    assert result.position_error < 0.02
    assert 0.0 < result.max_prediction_error < 0.5
    assert result.contact_agreement == 1.0
    assert 0.0 < result.tick_p99 < 0.1
    graph.spin_until(lambda: arm.commands and not arm.commands[-1].points)
    efforts = [c for c in arm.commands if c.points]
    stamps = np.array([c.header.stamp.sec + 1e-9 * c.header.stamp.nanosec for c in efforts])
    assert len(efforts) == MOTION.steps
    np.testing.assert_allclose(np.diff(stamps)[1:], 0.004, atol=1e-6)  # the first may come after one at rest
    assert all(not len(c.points[0].positions) for c in efforts)
    graph.spin_until(lambda: arm.marks[-2:] == ["once", ""])
    assert errors
    assert list(errors[0].name) == list(ARM.joints)
    assert np.abs(errors[-1].velocity).max() <= result.max_prediction_error
    np.testing.assert_allclose(targets[0].position, MOTION.q[0])
    assert running.feedback


def test_computed_torque_runs_the_same_motion(graph: Graph, artefact: str) -> None:
    Arm(graph)
    running = Running(graph)
    running.ready()
    result = running.run(artefact=artefact, computed_torque=True)
    assert (result.error_code, result.steps) == (Result.NONE, MOTION.steps)
    assert result.position_error < 0.05


def test_an_arm_goes_to_the_start_by_itself(graph: Graph, artefact: str) -> None:
    arm, running = Arm(graph, q=(0.1, 0.8)), Running(graph, approach_speed=2.0)
    running.ready()
    handle = running.send(artefact=artefact, episode="e")
    graph.spin_until(lambda: running.feedback)  # a simulation that stands still until the run begins goes on now
    assert "e" not in arm.marks
    result = running.result(handle).result
    assert (result.error_code, result.error_msg) == (Result.NONE, "")
    assert result.steps == MOTION.steps
    efforts = [c for c in arm.commands if c.points]
    assert len(efforts) > MOTION.steps + 50
    np.testing.assert_allclose(arm.states[-1 - MOTION.steps], MOTION.q[0], atol=0.02)


def test_run_policy_leaves_the_gate_of_a_real_robot_to_people(graph: Graph, artefact: str) -> None:
    arm, running = Arm(graph), Running(graph)
    running.ready()
    given = {"artefact": artefact, "simulator": False, "runs": 2}
    client = RunPolicyClient(parameter_overrides=[Parameter(k, value=v) for k, v in given.items()])
    try:
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(client.run)
            graph.spin_until(done.done, timeout=60.0, what="the end of the runs")
        assert done.result()
    finally:
        client.destroy_node()
    assert arm.releases == 0


def test_one_that_does_not_get_there_is_named(graph: Graph, artefact: str) -> None:
    Arm(graph, q=(0.1, 0.5), stuck=True)
    running = Running(graph, settle_time=0.2, approach_speed=10.0)
    running.ready()
    result = running.run(artefact=artefact)
    assert result.error_code == Result.NOT_AT_START
    assert f"{ARM.joints[0]} is still 0.2000 rad from the motion's first state" in result.error_msg


def test_holds_a_posture_with_exploration_that_follows_from_the_seed(graph: Graph) -> None:
    arm, running = Arm(graph), Running(graph)
    running.ready()
    goal: dict[str, Any] = {"posture": [0.3, 0.5], "duration": 0.1, "noise": 0.05}
    efforts = []
    for seed in (3, 3, 4):
        arm.q, arm.v = np.array([0.3, 0.5]), np.zeros(2)
        graph.spin(0.1)
        arm.commands.clear()
        result = running.run(**goal, seed=seed)
        assert (result.error_code, result.steps) == (Result.NONE, 25)
        efforts.append(np.array([c.points[0].effort for c in arm.commands if c.points]))
    np.testing.assert_allclose(efforts[0][0], efforts[1][0])
    assert np.abs(efforts[0][0] - efforts[2][0]).max() > 0.1
    assert np.abs(np.array(arm.states[-1]) - [0.3, 0.5]).max() < 0.1


def test_a_wrong_model_makes_an_arm_slow(graph: Graph, artefact: str) -> None:
    """It gets to the same end, later."""
    arm, running = Arm(graph), Running(graph, slow_threshold=1e-4)
    running.ready()
    result = running.run(artefact=artefact)
    assert result.error_code == Result.NONE
    assert 2 * MOTION.steps < result.steps < 5.1 * MOTION.steps
    np.testing.assert_allclose(arm.states[-1], MOTION.q[-1], atol=0.05)


def test_a_fault_of_the_gate_ends_the_run(graph: Graph, artefact: str) -> None:
    arm, running = Arm(graph), Running(graph)
    running.ready()
    handle = running.send(posture=[0.3, 0.5], duration=100.0)
    graph.spin_until(lambda: len(arm.commands) > 20)
    arm.gate.publish(DiagnosticStatus(level=DiagnosticStatus.ERROR, message="fallen"))
    result = running.result(handle).result
    assert (result.error_code, result.error_msg) == (Result.GATE_FAULT, "the safety gate holds: fallen")
    assert result.steps > 15
    refused = running.run(artefact=artefact)
    assert (refused.error_code, refused.steps) == (Result.GATE_FAULT, 0)


def test_cancel_busy_and_deactivation(graph: Graph) -> None:
    arm, running = Arm(graph), Running(graph)
    running.ready()
    handle = running.send(posture=[0.3, 0.5], duration=100.0)
    graph.spin_until(lambda: len(arm.commands) > 5)
    assert running.run(posture=[0.3, 0.5], duration=1.0).error_code == Result.BUSY
    handle.cancel_goal_async()
    response = running.result(handle)
    assert (response.status, response.result.error_code) == (GoalStatus.STATUS_CANCELED, Result.CANCELLED)
    graph.spin_until(lambda: not arm.commands[-1].points)
    handle = running.send(posture=[0.3, 0.5], duration=100.0)
    graph.spin_until(lambda: arm.commands[-1].points)
    running.node.trigger_deactivate()
    assert running.result(handle).result.error_msg == "the node was deactivated"
    graph.spin_until(lambda: not arm.commands[-1].points)


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"artefact": "/nowhere"}, Result.BAD_ARTEFACT, "/nowhere"),
        ({}, Result.INVALID_GOAL, "neither artefact nor posture of 2 joints"),
        ({"posture": [0.3]}, Result.INVALID_GOAL, "posture of 2 joints: [0.3]"),
        ({"posture": [0.3, float("nan")], "duration": 1.0}, Result.INVALID_GOAL, "nan"),
        ({"posture": [0.3, 0.5]}, Result.INVALID_GOAL, "duration=0.0 s, expected at least one period"),
        ({"posture": [0.3, 0.5], "duration": -1.0}, Result.INVALID_GOAL, "duration=-1.0, expected 0 to 3600.0"),
        ({"posture": [0.3, 0.5], "duration": 1.0, "noise": 2.0}, Result.INVALID_GOAL, "noise=2.0"),
    ],
)
def test_bad_goals_say_what_is_wrong(graph: Graph, fields: dict[str, Any], code: int, message: str) -> None:
    arm, running = Arm(graph), Running(graph)
    running.ready()
    result = running.run(**fields)
    assert result.error_code == code
    assert message in result.error_msg
    assert not [c for c in arm.commands if c.points]


def test_an_artefact_of_another_robot_is_refused(graph: Graph, artefact: str, tmp_path: Path) -> None:
    Arm(graph)
    running = Running(graph, joints=list(reversed(ARM.joints)))
    running.ready()
    result = running.run(artefact=artefact)
    assert result.error_code == Result.BAD_ARTEFACT
    assert "joints is" in result.error_msg


def test_without_description_or_state_nothing_runs(graph: Graph) -> None:
    running = Running(graph)
    result = running.run(posture=[0.3, 0.5], duration=1.0)
    assert (result.error_code, result.error_msg) == (Result.NO_STATE, "no robot_description that fits yet")
    arm = Arm(graph, described=True)
    arm.commands.append(arm.graph and _command())  # it publishes nothing while commanded
    graph.spin_until(lambda: running.node.body is not None)
    result = running.run(posture=[0.3, 0.5], duration=1.0)
    assert result.error_code == Result.NO_STATE
    assert "no state yet: nothing on joint_states" in result.error_msg


def _command() -> Any:
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    return JointTrajectory(points=[JointTrajectoryPoint()])


def test_states_that_stop_end_the_run(graph: Graph) -> None:
    arm, running = Arm(graph), Running(graph, state_timeout=1.0)
    running.ready()
    handle = running.send(posture=[0.3, 0.5], duration=100.0)
    graph.spin_until(lambda: len(arm.commands) > 5)
    arm.publish = lambda: None  # type: ignore[method-assign]
    result = running.result(handle).result
    assert result.error_code == Result.NO_STATE
    assert "no new state for" in result.error_msg


def test_diagnostics_tell_errors_and_ticks(graph: Graph) -> None:
    arm, running = Arm(graph), Running(graph)
    messages = graph.collect(DiagnosticArray, "/diagnostics")
    running.ready()
    handle = running.send(posture=[0.3, 0.5], duration=100.0)
    graph.spin_until(lambda: len(arm.commands) > 5)

    def told() -> dict[str, dict[str, str]]:
        lines = [s for m in messages for s in m.status if s.name.startswith("/policy_controller: ")]
        return {s.name.split(": ")[1]: {v.key: v.value for v in s.values} for s in lines if "step" in s.message or s}

    messages.clear()
    graph.spin_until(lambda: told().get("tick", {}).get("ticks", "0") != "0", timeout=5.0)
    values = told()
    assert float(values["tick"]["p99 tick time of the run [s]"]) > 0.0
    assert f"prediction error of {ARM.joints[0]} [rad/s]" in values["run"]
    assert float(values["states"]["messages"]) > 0
    handle.cancel_goal_async()
    running.result(handle)
