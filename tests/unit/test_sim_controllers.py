"""Trajectories, pace and rhythm of the simulated robot."""

import numpy as np
import pytest

from ideomotor_sim.controllers import JointTrajectory, Pacer, Rhythm, TrajectoryFollower, forward_command
from ideomotor_sim.errors import SimulationError

HERE = {"a": 1.0, "b": 0.0, "c": 7.0}


def trajectory(velocity: list[list[float]] | None = None) -> JointTrajectory:
    time, position = np.array([1.0, 3.0]), np.array([[0.5, 2.0], [-0.5, 2.0]])
    return JointTrajectory(("b", "a"), time, position, None if velocity is None else np.array(velocity))


def test_straight_lines_through_the_way_points_by_name() -> None:
    follower = TrajectoryFollower(trajectory(), 10.0, HERE)
    assert follower.at(9.0) == pytest.approx({"b": 0.0, "a": 1.0})
    assert follower.at(10.5) == pytest.approx({"b": 0.25, "a": 1.5})
    assert follower.at(12.0) == pytest.approx({"b": 0.0, "a": 2.0})
    assert follower.at(99.0) == pytest.approx({"b": -0.5, "a": 2.0})
    assert not follower.done(12.9)
    assert follower.done(13.0)


def test_cubics_meet_positions_and_velocities() -> None:
    """Finite differences of the interpolant give the velocities asked for at the way points."""
    velocity = [[0.3, -0.2], [0.0, 0.1]]
    follower = TrajectoryFollower(trajectory(velocity), 0.0, HERE)
    step = 1e-6
    for time, position, speed in zip([1.0, 3.0], [[0.5, 2.0], [-0.5, 2.0]], velocity, strict=True):
        assert list(follower.at(time).values()) == pytest.approx(position)
        before = np.array(list(follower.at(time - step).values()))
        assert (np.array(position) - before) / step == pytest.approx(np.array(speed), abs=1e-4)
    at_rest = np.array(list(follower.at(step).values())) - np.array([0.0, 1.0])
    assert at_rest / step == pytest.approx(np.zeros(2), abs=1e-4)


def test_one_point_at_time_zero_is_taken_at_once() -> None:
    now = JointTrajectory(("a",), np.array([0.0]), np.array([[3.0]]))
    assert TrajectoryFollower(now, 0.0, HERE).at(0.0) == {"a": 3.0}


@pytest.mark.parametrize(
    ("names", "time", "position", "message"),
    [
        ((), [1.0], [[]], "is empty"),
        (("a",), [], np.zeros((0, 1)), "is empty"),
        (("a",), [1.0], [[1.0, 2.0]], r"position has shape \(1, 2\), expected finite, \(1, 1\)"),
        (("a",), [1.0], [[np.nan]], "expected finite"),
        (("a",), [2.0, 1.0], [[0.0], [0.0]], "expected increasing"),
        (("a",), [-1.0], [[0.0]], "expected increasing"),
        (("x",), [1.0], [[0.0]], r"unknown joints \['x'\]; the robot has \['a'"),
    ],
)
def test_bad_trajectories_are_refused(names: tuple[str, ...], time: list, position: list, message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        TrajectoryFollower(JointTrajectory(names, np.array(time), np.array(position)), 0.0, HERE)


def test_forward_commands_bind_numbers_to_joints_in_order() -> None:
    assert forward_command(("b", "a"), [1.0, 2.0]) == {"b": 1.0, "a": 2.0}
    with pytest.raises(SimulationError, match="command has 1 values, expected 2"):
        forward_command(("b", "a"), [1.0])


def test_the_pace_is_that_of_the_factor() -> None:
    pacer = Pacer(2.0)
    assert pacer.target(5.0, 100.0, 0.01) == 5.0
    assert pacer.target(5.0, 100.02, 0.01) == pytest.approx(5.04)
    pacer.restart()  # after a pause nothing is caught up
    assert pacer.target(5.04, 200.0, 0.01) == pytest.approx(5.04)


def test_a_slow_simulation_does_not_race_afterwards() -> None:
    pacer = Pacer(1.0)
    pacer.target(0.0, 0.0, 0.01)
    assert pacer.target(0.0, 5.0, 0.01) == 0.0  # five seconds late: start counting here
    assert pacer.target(0.0, 5.02, 0.01) == pytest.approx(0.02)


def test_as_fast_as_possible_goes_in_chunks() -> None:
    assert Pacer(0.0).target(3.0, 0.0, 0.01) == pytest.approx(3.01)


def test_rhythm_counts_events_without_drift() -> None:
    rhythm = Rhythm(30.0)
    happened = [i for i in range(1001) if rhythm.is_due(0.002 * i + 0.001)]
    assert len(happened) == 61
    assert np.abs(0.002 * np.array(happened) - np.arange(61) / 30.0).max() <= 0.0011
