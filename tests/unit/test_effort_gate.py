"""The gate of efforts: what goes out is finite and within limits, whatever comes in; faults hold the robot."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ideomotor.body.joint_state import JointStateError
from ideomotor.body.urdf import load_urdf
from ideomotor.config import ConfigError
from ideomotor.safety.effort_gate import EffortCommand, EffortGate, EffortGateConfig
from ideomotor.safety.effort_limits import EffortLimits, gravity_of
from ideomotor.safety.gate import CommandError, GateError, GateState, LimitError

URDF = """<robot name="r"><link name="l0"/>
<link name="l1"><inertial><mass value="2"/><origin xyz="0 0 -0.5"/>
  <inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial></link><link name="l2"/>
<joint name="a" type="revolute"><parent link="l0"/><child link="l1"/><axis xyz="0 1 0"/>
  <limit lower="-1" upper="1" velocity="2" effort="10"/></joint>
<joint name="b" type="revolute"><parent link="l1"/><child link="l2"/><axis xyz="0 0 1"/>
  <limit lower="-2" upper="2" velocity="4" effort="5"/></joint></robot>"""
LIMITS = EffortLimits.from_urdf(URDF, ("b", "a"))  # not the order of the description
BOUND = np.array([5.0, 10.0])
UPRIGHT, FALLEN = np.array([0.0, 0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0, 0.0])
STEP = 0.004


class Bench:
    """A gate that is given a state every period; it holds from the first on."""

    def __init__(self, *, gravity: bool = False, **changes: Any) -> None:
        options = {"rate": 250.0, "state_timeout": 0.02, "command_timeout": 0.02} | changes
        self.config = EffortGateConfig(**options)
        self.gate = EffortGate(LIMITS, self.config, gravity_of(URDF, ("b", "a")) if gravity else None)
        self.now, self.q, self.v = 1.0, np.zeros(2), np.zeros(2)
        self.height, self.quaternion = 0.25, UPRIGHT
        self.tick()

    def tick(self, steps: int = 1, period: float = STEP) -> np.ndarray | None:
        for _ in range(steps):
            self.now += period
            if self.config.floating_base:
                self.gate.observe_base(self.height, self.quaternion, self.now)
            self.gate.observe(self.q, self.v, self.now, self.now)
            output = self.gate.hold(self.now)
        return output

    def command(self, *effort: float, names: tuple[str, ...] = ("b", "a"), stamp: float | None = None) -> Any:
        at = self.now if stamp is None else stamp
        return self.gate.command(EffortCommand(at, names, np.array(effort)), self.now)

    def follow(self, *effort: float, steps: int = 10) -> Any:
        for _ in range(steps):
            self.tick()
            output = self.command(*effort)
        return output


def test_limits_are_those_of_the_description_in_the_given_order() -> None:
    np.testing.assert_array_equal(LIMITS.effort, BOUND)
    np.testing.assert_array_equal(LIMITS.joint.velocity, [4.0, 2.0])
    with pytest.raises(LimitError, match="effort limits"):
        EffortLimits.from_urdf(URDF.replace('effort="5"', 'effort="0"'), ("b", "a"))


def test_commands_go_through_by_name_within_the_limits() -> None:
    bench = Bench()
    np.testing.assert_allclose(bench.follow(1.0, 2.0), [1.0, 2.0])
    bench.tick()
    np.testing.assert_allclose(bench.command(2.0, 1.0, names=("a", "b")), [1.0, 2.0])
    np.testing.assert_allclose(bench.follow(99.0, -99.0), [5.0, -10.0])
    assert bench.gate.hold(bench.now) is None  # while commands are followed


def test_the_effort_changes_no_faster_than_allowed() -> None:
    bench = Bench(max_effort_rate=50.0)
    bench.follow(-5.0, -10.0)
    outputs = []
    for _ in range(12):
        bench.tick()
        outputs.append(bench.command(5.0, 10.0))
    steps = np.diff(outputs, axis=0)
    assert steps.max(axis=0) == pytest.approx(50.0 * BOUND * STEP)
    np.testing.assert_allclose(outputs[-1], BOUND)


@pytest.mark.parametrize("periods", [[0.125], [0.125, 1.875], [0.0, 2.0], [0.9, 1.1], [3.0]])
def test_the_effort_changes_by_time_and_not_by_command(periods: list[float]) -> None:
    """More commands change it no faster, uneven ones no slower."""
    bench, rate = Bench(max_effort_rate=10.0, stuck_time=0.0), 10.0 * BOUND
    bench.follow(-5.0, -10.0, steps=60)
    start = bench.now
    for k in range(400):
        bench.tick(period=STEP * periods[k % len(periods)])
        effort, elapsed = bench.command(5.0, 10.0), bench.now - start
        assert (effort >= np.minimum(rate * elapsed - BOUND, BOUND) - 1e-9).all()
        assert (effort <= rate * (elapsed + STEP) - BOUND + 1e-9).all()


def test_commands_back_and_forth_change_the_effort_no_faster() -> None:
    bench = Bench(max_effort_rate=10.0)
    outputs = [bench.follow(0.0, 0.0)]
    for k in range(80):
        bench.tick(period=STEP / 8.0)
        outputs.append(bench.command(*BOUND * (-1.0) ** k))
    path = np.abs(np.diff(outputs, axis=0)).sum(axis=0)
    assert (path <= 10.0 * BOUND * (10.0 + 1.0) * STEP + 1e-9).all()


def test_commands_that_come_unevenly_change_as_much_as_those_that_do_not() -> None:
    """Half of what a period allows, back and forth, with hardly any time between two commands."""
    bench, half = Bench(max_effort_rate=10.0), 10.0 * BOUND * STEP / 2.0
    bench.follow(0.0, 0.0)
    for k in range(40):
        bench.tick(period=STEP * (0.05, 1.95)[k % 2])
        effort = half * (k % 2)
        np.testing.assert_allclose(bench.command(*effort), effort)


finite = st.floats(allow_nan=False, allow_infinity=False)
anything = st.floats(allow_nan=True, allow_infinity=True)
pairs = lambda numbers: st.tuples(numbers, numbers)  # noqa: E731
events = st.one_of(
    st.tuples(st.just("state"), pairs(anything), pairs(anything)),
    st.tuples(st.just("near"), pairs(st.floats(-3, 3)), pairs(st.floats(-5, 5))),
    st.tuples(st.just("command"), pairs(anything), st.floats(-0.1, 0.1)),
    st.tuples(st.just("good"), pairs(st.floats(-20, 20)), st.just(0.0)),
    st.tuples(st.just("base"), anything, st.tuples(*[st.floats(-1, 1)] * 4)),
    st.tuples(st.just("wait"), st.floats(-0.05, 0.05), st.just(0.0)),
    st.tuples(st.just("release"), st.just(0.0), st.just(0.0)),
)


@settings(max_examples=300, deadline=None)
@given(happenings=st.lists(events, max_size=30), floating=st.booleans())
def test_whatever_comes_in_what_goes_out_is_finite_and_within_limits(happenings: Any, floating: bool) -> None:
    bench = Bench(gravity=not floating, floating_base=floating)
    gate, before = bench.gate, np.zeros(2)
    for kind, first, second in happenings:
        bench.now += STEP
        output = None
        try:
            if kind in ("state", "near"):
                gate.observe(np.array(first), np.array(second), bench.now, bench.now)
            elif kind == "command":
                output = gate.command(EffortCommand(bench.now + second, ("b", "a"), np.array(first)), bench.now)
            elif kind == "good":
                output = bench.command(*first)
            elif kind == "base":
                gate.observe_base(first, np.array(second), bench.now)
            elif kind == "wait":
                bench.now += first
                gate.check(bench.now)
            else:
                gate.release(bench.now)
        except CommandError as error:
            gate.refuse(str(error), bench.now)
        except (JointStateError, GateError):
            pass
        for effort in (output, gate.hold(bench.now)):
            if effort is not None:
                assert np.isfinite(effort).all()
                assert (np.abs(effort) <= BOUND).all()
                before = effort
    assert np.isfinite(before).all()


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (lambda b: EffortCommand(b.now, ("b", "a"), np.array([np.nan, 0.0])), "not finite"),
        (lambda b: EffortCommand(b.now, ("b", "a"), np.array([0.0, np.inf])), "not finite"),
        (lambda b: EffortCommand(b.now, ("b", "b"), np.zeros(2)), "twice"),
        (lambda b: EffortCommand(b.now, ("b", "a"), np.zeros(3)), "2 names but 3 effort values"),
    ],
)
def test_commands_that_cannot_be_read(bad: Any, expected: str) -> None:
    bench = Bench()
    bench.follow(1.0, 2.0)
    with pytest.raises(CommandError, match=expected):
        bad(bench)


def test_a_bad_command_is_a_fault_until_released() -> None:
    """The robot is held at once, and good commands are not followed."""
    bench = Bench(gravity=True)
    bench.q[:] = [0.3, 0.2]
    bench.follow(1.0, 2.0)
    bench.gate.refuse("joint command effort is not finite", bench.now)
    assert bench.gate.state is GateState.FAULT
    held = bench.tick(20)
    np.testing.assert_allclose(held, gravity_of(URDF, ("b", "a"))(bench.q))
    assert bench.command(1.0, 1.0) is None
    bench.gate.release(bench.now)
    assert bench.gate.state is GateState.HOLDING
    assert bench.command(1.0, 1.0) is not None


@pytest.mark.parametrize("names", [("a",), ("a", "c"), ("a", "b", "c")])
def test_wrong_joints_are_a_fault_and_the_robot_is_held_at_once(names: tuple[str, ...]) -> None:
    bench = Bench()
    bench.follow(1.0, 2.0)
    assert bench.command(*np.zeros(len(names)), names=names) is not None
    assert "lacks" in bench.gate.reason


def test_old_commands_are_a_fault_and_late_ones_ignored() -> None:
    bench = Bench()
    bench.follow(1.0, 2.0)
    assert bench.command(0.0, 0.0, stamp=bench.now - 2 * STEP) is None
    assert bench.gate.state is GateState.FOLLOWING
    bench.command(0.0, 0.0, stamp=bench.now - 0.1)
    assert "0.100 s old" in bench.gate.reason
    with pytest.raises(GateError, match=r"0\.100 s old"):
        bench.gate.release(bench.now)


def test_commands_without_a_stamp_are_of_when_they_arrive() -> None:
    bench = Bench()
    bench.follow(1.0, 2.0)
    bench.tick()
    np.testing.assert_allclose(bench.command(2.0, 1.0, stamp=0.0), [2.0, 1.0])
    assert bench.command(0.0, 0.0, stamp=bench.now - STEP) is None  # late


def test_commands_that_stop_leave_the_robot_held_without_a_fault() -> None:
    bench = Bench()
    bench.follow(1.0, 2.0)
    bench.q[:] = 0.05
    bench.tick(10)
    assert bench.gate.state is GateState.HOLDING
    bench.q[:] = [0.05, 0.07]
    np.testing.assert_allclose(bench.tick(20), [0.0, -50.0 * 0.02], atol=1e-9)
    assert bench.command(0.0, 0.0) is not None


def test_whoever_is_done_leaves_the_robot_held_at_once() -> None:
    bench = Bench()
    bench.gate.end_commands()
    bench.follow(1.0, 2.0)
    bench.q[:] = 0.05
    bench.tick()
    bench.gate.end_commands()
    assert bench.gate.state is GateState.HOLDING
    np.testing.assert_allclose(bench.tick(20), [0.0, 0.0])


def test_a_state_that_stops_is_a_fault_and_only_the_weight_is_held() -> None:
    bench = Bench(gravity=True)
    bench.q[:] = [0.0, 0.3]
    bench.v[:] = [0.5, 0.5]
    bench.follow(1.0, 2.0)
    bench.now += 0.1
    bench.gate.check(bench.now)
    assert "joint state is 0.100 s old" in bench.gate.reason
    np.testing.assert_allclose(bench.gate.hold(bench.now), gravity_of(URDF, ("b", "a"))(bench.q))
    with pytest.raises(GateError, match="joint state is"):
        bench.gate.release(bench.now)
    bench.now += 0.9
    bench.q[:] = [0.5, 0.8]
    damped = gravity_of(URDF, ("b", "a"))(bench.q) - 2.0 * bench.v
    np.testing.assert_allclose(bench.tick(), damped)  # not pulled back to where it was before
    assert "joint state is 0.100 s old" in bench.gate.reason


def test_a_robot_that_moved_while_odometry_stopped_is_not_pulled_back() -> None:
    bench = Bench(floating_base=True)
    bench.follow(0.0, 0.0)
    for _ in range(250):
        bench.now += STEP
        bench.q += [0.004, 0.002]
        bench.gate.observe(bench.q, bench.v, bench.now, bench.now)
    assert "odometry is" in bench.gate.reason
    np.testing.assert_allclose(bench.gate.hold(bench.now), 0.0)
    np.testing.assert_allclose(bench.tick(20), 0.0)


@pytest.mark.parametrize(
    ("position", "velocity", "expected"),
    [
        ([0.0, 1.05], [0.0, 0.0], "a is at 1.0"),
        ([-2.05, 0.0], [0.0, 0.0], "b is at -2.0"),
        ([0.0, 0.0], [4.1, 0.0], "b moves at 4.100, allowed 4.000"),
        ([0.0, 0.0], [0.0, -2.1], "a moves at -2.100, allowed 2.000"),
    ],
)
def test_a_joint_beyond_its_limits_is_a_fault(position: Any, velocity: Any, expected: str) -> None:
    bench = Bench()
    bench.follow(0.0, 0.0)
    for share in np.linspace(0.0, 1.0, 200):  # not a jump
        bench.q, bench.v = share * np.array(position), np.array(velocity) * (share == 1.0)
        bench.tick()
        bench.command(0.0, 0.0)
    assert expected in bench.gate.reason
    with pytest.raises(GateError, match=expected.split(",", maxsplit=1)[0]):
        bench.gate.release(bench.now)


def test_a_stuck_joint_is_a_fault() -> None:
    bench = Bench(stuck_time=0.1)
    bench.v[0] = 1.0
    bench.follow(5.0, 2.0, steps=60)  # b moves, a is not pushed hard
    assert bench.gate.state is GateState.FOLLOWING
    bench.v[0] = 0.0
    bench.follow(5.0, 2.0, steps=40)
    assert "b is stuck" in bench.gate.reason
    bench.gate.release(bench.now)


def test_a_stuck_joint_is_released_as_soon_as_it_is_pushed_no_more() -> None:
    """Also where no state comes any more, as of a simulation that was paused."""
    bench = Bench(stuck_time=0.1)
    bench.follow(5.0, 2.0, steps=20)
    bench.now += 0.019
    bench.gate.observe(bench.q, bench.v, bench.now, bench.now)
    bench.now += 0.019
    assert bench.command(5.0, 2.0) is None
    assert "b is stuck" in bench.gate.reason
    with pytest.raises(GateError, match="b is stuck"):
        bench.gate.release(bench.now)
    np.testing.assert_allclose(bench.gate.hold(bench.now), 0.0)
    bench.gate.release(bench.now)


def test_a_joint_that_holding_pushes_in_vain_is_not_released() -> None:
    """Its weight is more than it can carry; once it moves, it is."""
    bench = Bench(gravity=True, stuck_time=0.1, effort_scale=0.5)
    bench.q[1] = 0.9
    bench.tick(60)
    assert "a is stuck" in bench.gate.reason
    with pytest.raises(GateError, match="a is stuck"):
        bench.gate.release(bench.now)
    bench.v[1] = 0.1
    bench.tick()
    bench.gate.release(bench.now)


def test_a_robot_that_was_put_elsewhere_is_held_there() -> None:
    bench = Bench()
    bench.tick(5)
    bench.q[:] = [1.5, -0.9]
    np.testing.assert_allclose(bench.tick(10), [0.0, 0.0])
    assert bench.gate.state is GateState.HOLDING
    bench.follow(0.0, 0.0)
    bench.q[:] = [-1.5, 0.9]
    bench.tick()
    assert "jumped" in bench.gate.reason


@pytest.mark.parametrize(("height", "quaternion"), [(0.05, UPRIGHT), (0.9, UPRIGHT), (0.25, FALLEN)])
def test_a_robot_that_falls_is_damped(height: float, quaternion: np.ndarray) -> None:
    bench = Bench(floating_base=True)
    bench.follow(1.0, 1.0)
    bench.height, bench.quaternion = height, quaternion
    bench.v[:] = [0.1, -0.2]
    np.testing.assert_allclose(bench.tick(20), [-0.2, 0.4])
    assert "fallen" in bench.gate.reason
    with pytest.raises(GateError, match="fallen"):
        bench.gate.release(bench.now)
    bench.height, bench.quaternion = 0.25, UPRIGHT
    bench.tick()
    bench.gate.release(bench.now)


def test_a_floating_base_needs_odometry() -> None:
    gate = EffortGate(LIMITS, EffortGateConfig(floating_base=True))
    gate.observe(np.zeros(2), np.zeros(2), 1.0, 1.0)
    assert gate.state is GateState.WAITING
    with pytest.raises(JointStateError, match="unit norm"):
        gate.observe_base(0.3, np.zeros(4), 1.0)
    gate.observe_base(0.3, UPRIGHT, 1.0)
    gate.observe(np.zeros(2), np.zeros(2), 1.0, 1.0)
    assert gate.state is GateState.HOLDING


def test_time_that_starts_anew() -> None:
    bench = Bench()
    bench.follow(1.0, 1.0)
    bench.now = 0.0
    assert bench.tick() is not None
    assert bench.gate.state is GateState.HOLDING
    np.testing.assert_allclose(bench.follow(1.0, 1.0), [1.0, 1.0])


def test_a_command_refused_before_time_started_anew_does_not_bar_the_release() -> None:
    bench = Bench()
    bench.now = 100.0
    bench.gate.refuse("refused long ago", bench.now)
    bench.now = 0.0
    bench.tick()
    bench.follow(1.0, 1.0)
    bench.now += 0.1
    bench.gate.check(bench.now)
    assert bench.gate.state is GateState.FAULT
    bench.tick()
    bench.gate.release(bench.now)


@pytest.mark.parametrize("changes", [{"hold_stiffness": (1.0, 2.0, 3.0)}, {"hold_damping": (-1.0,)}])
def test_gains_that_do_not_fit(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        Bench(**changes)


def test_gravity_of_the_arm_is_that_of_its_description() -> None:
    """Stretched out to the side, the first joint that lifts carries mass times arm; upright, nothing."""
    urdf = load_urdf("urdf/iiwa7.urdf.xacro")
    joints = tuple(f"iiwa_joint_{i}" for i in range(7, 0, -1))
    gravity = gravity_of(urdf, joints)
    np.testing.assert_allclose(gravity(np.zeros(7)), 0.0, atol=0.6)
    lifted = gravity(np.array([0, 0, 0, 0, 0, np.pi / 2, 0]))
    assert 40.0 < abs(lifted[5]) < 80.0
    with pytest.raises(LimitError, match="ankle"):
        gravity_of(urdf, ("ankle",))
