"""The command gate: whatever comes in, what goes out is finite, within limits and smooth."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ideomotor.body.joint_state import JointStateError
from ideomotor.safety.gate import (
    CommandError,
    CommandGate,
    GateConfig,
    GateError,
    GateState,
    JointCommand,
    JointLimits,
    LimitError,
)

NAMES = ("a", "b")
CONFIG = GateConfig(rate=100.0, max_acceleration=5.0, position_margin=0.0, max_tracking_error=0.5)
H = 1.0 / CONFIG.rate
LIMITS = JointLimits(NAMES, np.array([-1.0, -2.0]), np.array([1.0, 3.0]), np.array([1.0, 2.0]))


def command(stamp: float, position: list[float] | None = None, velocity: list[float] | None = None) -> JointCommand:
    return JointCommand(stamp, NAMES, position, velocity)  # type: ignore[arg-type]


class Robot:
    """A gate and a robot that is always where it was told to be."""

    def __init__(self, config: GateConfig = CONFIG, start: tuple[float, float] = (0.0, 0.0)) -> None:
        self.gate = CommandGate(LIMITS, config)
        self.now = 100.0
        self.position = np.array(start)
        self.trace: list[np.ndarray] = []

    def step(self, n: int = 1, *, observe: bool = True) -> None:
        for _ in range(n):
            self.now += H
            if observe:
                self.gate.observe(self.position, self.now)
            output = self.gate.step(self.now)
            if output is not None:
                self.position = output.position
                self.trace.append(output.position)

    def follow(self, position: list[float], n: int) -> None:
        for _ in range(n):
            self.gate.command(command(self.now, position), self.now)
            self.step()


def motion(trace: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    velocity = np.diff(np.array(trace), axis=0) / H
    return velocity, np.diff(velocity, axis=0) / H


def test_a_jump_becomes_a_ramp_that_ends_exactly_at_the_target() -> None:
    robot = Robot()
    robot.step()
    robot.follow([0.8, -1.5], 300)
    np.testing.assert_allclose(robot.position, [0.8, -1.5], atol=1e-9)
    velocity, acceleration = motion(robot.trace)
    assert np.abs(velocity).max(axis=0) == pytest.approx([1.0, 2.0], rel=0.05)  # as fast as allowed
    assert np.abs(acceleration).max() <= 5.0 + 1e-6
    assert (np.diff([p[0] for p in robot.trace]) >= -1e-12).all()  # without overshoot
    # minimum time of the trapezoid: d / v + v / a = 1.0 s for the first joint
    arrived = next(i for i, p in enumerate(robot.trace) if p[0] > 0.799)
    assert arrived * H == pytest.approx(1.0, abs=0.05)


def test_late_steps_make_up_for_what_was_missed() -> None:
    robot = Robot()
    robot.step()
    times, trace = [], []
    while robot.position[0] < 0.799:
        robot.now += 2 * H
        robot.gate.command(command(robot.now, [0.8, 0.0]), robot.now)
        robot.step()
        times.append(robot.now)
        trace.append(robot.position[0])
    velocity = np.diff(trace) / np.diff(times)
    assert np.abs(velocity).max() == pytest.approx(1.0, rel=0.01)
    assert times[-1] - 100.0 == pytest.approx(1.0, abs=0.1)


def test_beyond_the_limit_means_at_the_limit() -> None:
    robot = Robot()
    robot.step()
    robot.follow([50.0, -50.0], 400)
    np.testing.assert_allclose(robot.position, [1.0, -2.0], atol=1e-9)
    assert robot.gate.state is GateState.FOLLOWING


def test_a_smooth_stream_with_velocities_is_followed_without_lag() -> None:
    robot = Robot()
    robot.step()
    errors = []
    for k in range(300):
        t = k * H
        target, speed = 0.3 * (1 - np.cos(t)), 0.3 * np.sin(t)
        robot.gate.command(command(robot.now, [target, 0.0], [speed, 0.0]), robot.now)
        robot.step()
        errors.append(abs(robot.position[0] - 0.3 * (1 - np.cos(t + H))))
    assert max(errors) < 1e-3


def test_no_command_is_no_fault_and_holds() -> None:
    robot = Robot(start=(0.3, 0.4))
    robot.step(100)
    assert robot.gate.state is GateState.HOLDING
    np.testing.assert_array_equal(robot.position, [0.3, 0.4])


def test_nothing_goes_out_before_the_first_joint_state() -> None:
    gate = CommandGate(LIMITS, CONFIG)
    gate.command(command(1.0, [0.5, 0.5]), 1.0)
    assert gate.step(1.0) is None
    assert gate.state is GateState.WAITING


def test_commands_that_end_at_their_target_are_no_fault() -> None:
    robot = Robot()
    robot.step()
    robot.follow([0.1, 0.1], 100)
    robot.step(100)
    assert robot.gate.state is GateState.HOLDING
    np.testing.assert_allclose(robot.position, [0.1, 0.1], atol=1e-9)


def test_commands_that_stop_on_the_way_are_a_fault_and_the_robot_brakes() -> None:
    robot = Robot()
    robot.step()
    robot.follow([0.9, 0.0], 50)
    speed = motion(robot.trace)[0][-1][0]
    assert speed > 0.9
    robot.step(100)
    assert robot.gate.state is GateState.FAULT
    assert "before their target was reached" in robot.gate.reason
    assert robot.position[0] < 0.9
    assert np.abs(motion(robot.trace)[1]).max() <= 5.0 + 1e-6
    assert motion(robot.trace)[0][-1][0] == 0.0


def test_velocity_commands_stop_at_the_limit() -> None:
    robot = Robot()
    robot.step()
    for _ in range(300):
        robot.gate.command(command(robot.now, velocity=[0.7, -0.1]), robot.now)
        robot.step()
    assert robot.position[0] == pytest.approx(1.0, abs=1e-9)
    assert motion(robot.trace)[0][:, 0].max() == pytest.approx(0.7)


BAD = {
    "not finite": lambda: command(100.0, [np.nan, 0.0]),
    "infinite velocity": lambda: command(100.0, velocity=[np.inf, 0.0]),
    "short": lambda: command(100.0, [1.0]),
    "empty": lambda: command(100.0),
    "twice": lambda: JointCommand(100.0, ("a", "a"), np.zeros(2)),
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD.keys())
def test_bad_commands_have_named_errors(make) -> None:  # noqa: ANN001
    with pytest.raises(CommandError):
        make()


@pytest.mark.parametrize(
    ("names", "what"), [(("a",), r"lacks \['b'\]"), (("a", "b", "c"), r"unknown \['c'\]"), (("b", "x"), "lacks")]
)
def test_unknown_or_missing_joints_are_a_fault_until_released(names: tuple[str, ...], what: str) -> None:
    robot = Robot()
    robot.step()
    robot.follow([0.5, 0.5], 20)
    robot.gate.command(JointCommand(robot.now, names, np.zeros(len(names))), robot.now)
    assert robot.gate.state is GateState.FAULT
    with pytest.raises(GateError, match=what):
        robot.gate.release(robot.now)  # it came just now
    robot.follow([0.5, 0.5], 100)  # good commands do not end a fault
    assert robot.gate.state is GateState.FAULT
    held = robot.position.copy()
    robot.gate.release(robot.now)
    robot.step(10)
    assert robot.gate.state is GateState.HOLDING
    np.testing.assert_array_equal(robot.position, held)
    robot.follow([0.5, 0.5], 200)
    np.testing.assert_allclose(robot.position, [0.5, 0.5], atol=1e-9)


def test_the_order_of_the_names_does_not_matter() -> None:
    robot = Robot()
    robot.step()
    for _ in range(200):
        robot.gate.command(JointCommand(robot.now, ("b", "a"), np.array([0.2, 0.1])), robot.now)
        robot.step()
    np.testing.assert_allclose(robot.position, [0.1, 0.2], atol=1e-9)


@pytest.mark.parametrize("age", [0.5, -0.5])
def test_old_commands_and_commands_of_another_clock_are_a_fault(age: float) -> None:
    robot = Robot()
    robot.step()
    robot.gate.command(command(robot.now - age, [0.5, 0.5]), robot.now)
    assert robot.gate.state is GateState.FAULT
    assert "same clock" in robot.gate.reason


def test_stale_joint_states_are_a_fault_that_cannot_be_released_before_they_are_back() -> None:
    robot = Robot()
    robot.step()
    robot.step(30, observe=False)
    assert robot.gate.state is GateState.FAULT
    with pytest.raises(GateError, match="joint state is"):
        robot.gate.release(robot.now)
    robot.step(2)
    robot.gate.release(robot.now)
    assert robot.gate.state is GateState.HOLDING


def test_a_blocked_joint_is_a_fault_and_is_not_pushed() -> None:
    robot = Robot()
    robot.step()
    blocked = np.array([0.2, 0.0])
    for _ in range(300):
        robot.now += H
        robot.gate.command(command(robot.now, [0.9, 0.0]), robot.now)
        robot.gate.observe(np.minimum(robot.position, blocked), robot.now)
        robot.position = robot.gate.step(robot.now).position  # type: ignore[union-attr]
    assert robot.gate.state is GateState.FAULT
    assert "a is 0.5" in robot.gate.reason
    assert abs(robot.position[0] - 0.2) <= 0.5
    robot.gate.release(robot.now)


def test_time_that_jumps_back_starts_anew() -> None:
    """A simulation was reset: the robot is elsewhere, and the old command means nothing."""
    robot = Robot()
    robot.step()
    robot.follow([0.5, 0.5], 100)
    robot.now, robot.position = 0.0, np.array([-0.5, -0.5])
    robot.step(10)
    assert robot.gate.state is GateState.HOLDING
    np.testing.assert_array_equal(robot.position, [-0.5, -0.5])


def test_a_command_refused_before_time_jumped_back_does_not_bar_the_release() -> None:
    robot = Robot()
    robot.step()
    robot.gate.refuse("refused long ago", robot.now)
    robot.now = 0.0
    robot.step(10)
    robot.step(30, observe=False)
    assert robot.gate.state is GateState.FAULT
    robot.step(2)
    robot.gate.release(robot.now)


def test_where_a_blocked_robot_was_held_means_nothing_after_time_jumped_back() -> None:
    robot = Robot()
    robot.step()
    robot.gate.observe(np.array([0.9, 0.0]), robot.now)
    robot.step(observe=False)
    assert "a is 0.9" in robot.gate.reason
    robot.now, robot.position = 0.0, np.array([-0.5, -0.5])
    robot.step(10)
    assert robot.gate.state is GateState.HOLDING
    np.testing.assert_array_equal(robot.position, [-0.5, -0.5])


def test_bad_measurement_is_refused() -> None:
    robot = Robot()
    robot.step()
    with pytest.raises(JointStateError):
        robot.gate.observe(np.array([np.nan, 0.0]), robot.now)
    with pytest.raises(JointStateError):
        robot.gate.observe(np.zeros(3), robot.now)
    robot.step()
    assert robot.gate.state is GateState.HOLDING


OPERATION = st.one_of(
    st.tuples(st.just("position"), st.lists(st.floats(-10, 10), min_size=2, max_size=2)),
    st.tuples(st.just("velocity"), st.lists(st.floats(-100, 100), min_size=2, max_size=2)),
    st.tuples(st.just("both"), st.lists(st.floats(-10, 10), min_size=4, max_size=4)),
    st.tuples(st.just("refuse"), st.just([])),
    st.tuples(st.just("silence"), st.just([])),
    st.tuples(st.just("deaf"), st.just([])),
    st.tuples(st.just("release"), st.just([])),
    st.tuples(st.just("displace"), st.lists(st.floats(-1, 1), min_size=2, max_size=2)),
)


@settings(max_examples=60)
@given(
    start=st.tuples(st.floats(-1, 1), st.floats(-2, 3)),
    operations=st.lists(st.tuples(OPERATION, st.integers(1, 40)), max_size=25),
)
def test_outputs_are_finite_within_limits_and_smooth(start, operations) -> None:  # noqa: ANN001
    """Whatever the sequence of commands, silences, faults and disturbances."""
    robot = Robot(start=start)
    robot.step()
    for (kind, values), repeat in operations:
        for _ in range(repeat):
            if kind == "position":
                robot.gate.command(command(robot.now, values), robot.now)
            elif kind == "velocity":
                robot.gate.command(command(robot.now, velocity=values), robot.now)
            elif kind == "both":
                robot.gate.command(command(robot.now, values[:2], values[2:]), robot.now)
            elif kind == "refuse":
                robot.gate.refuse("test", robot.now)
            elif kind == "release":
                with contextlib.suppress(GateError):
                    robot.gate.release(robot.now)
            elif kind == "displace":
                robot.position = np.clip(robot.position + values, LIMITS.lower, LIMITS.upper)
            robot.step(observe=kind != "deaf")
    trace = np.array(robot.trace)
    assert np.isfinite(trace).all()
    assert (trace >= LIMITS.lower - 1e-9).all()
    assert (trace <= LIMITS.upper + 1e-9).all()
    velocity, acceleration = motion(robot.trace)
    if len(trace) > 2:
        assert (np.abs(velocity) <= LIMITS.velocity + 1e-6).all()
        assert np.abs(acceleration).max() <= CONFIG.max_acceleration + 1e-5


URDF = """<robot name="r"><link name="l0"/><link name="l1"/><link name="l2"/><link name="l3"/>
<joint name="a" type="revolute"><parent link="l0"/><child link="l1"/><axis xyz="0 0 1"/>
  <limit lower="-1" upper="2" velocity="3" effort="1"/></joint>
<joint name="c" type="continuous"><parent link="l1"/><child link="l2"/><axis xyz="0 0 1"/>
  <limit velocity="4" effort="1"/></joint>
<joint name="f" type="fixed"><parent link="l2"/><child link="l3"/></joint></robot>"""


def test_limits_come_from_the_description_by_name() -> None:
    limits = JointLimits.from_urdf(URDF, ("c", "a"))
    assert limits.lower.tolist() == [-np.inf, -1.0]
    assert limits.upper.tolist() == [np.inf, 2.0]
    assert limits.velocity.tolist() == [4.0, 3.0]


@pytest.mark.parametrize(
    ("names", "urdf", "message"),
    [
        (("z",), URDF, r"no joint \['z'\]"),
        (("f",), URDF, "is fixed"),
        (("a",), URDF.replace('velocity="3"', 'velocity="0"'), "velocity limit"),
        (("a",), URDF.replace('upper="2"', 'upper="-1"'), "expected lower < upper"),
    ],
)
def test_descriptions_without_usable_limits_are_refused(names: tuple[str, ...], urdf: str, message: str) -> None:
    with pytest.raises(LimitError, match=message):
        JointLimits.from_urdf(urdf, names)


def test_margin_that_leaves_nothing_is_refused() -> None:
    narrow = JointLimits(("a",), np.array([0.0]), np.array([0.1]), np.array([1.0]))
    with pytest.raises(LimitError, match="position_margin"):
        CommandGate(narrow, GateConfig(position_margin=0.05))
