"""Joint states are merged by name and interpolated in time; nothing missing is ever made up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ideomotor.body.joint_state import JointState, JointStateBuffer, JointStateError


def state(stamp: float, **positions: float) -> JointState:
    return JointState(stamp, tuple(positions), np.array(list(positions.values())))


def test_partial_states_are_merged_by_name() -> None:
    buffer = JointStateBuffer()
    buffer.update(state(1.0, a=1.0, b=2.0))
    buffer.update(state(1.1, c=3.0))
    buffer.update(state(1.2, b=2.5))
    np.testing.assert_array_equal(buffer.latest(["c", "b", "a"]), [3.0, 2.5, 1.0])
    assert buffer.positions == {"a": 1.0, "b": 2.5, "c": 3.0}
    assert buffer.age(["a", "b"], 2.0) == pytest.approx(1.0)
    assert buffer.age(["b"], 2.0) == pytest.approx(0.8)


def test_a_missing_joint_is_an_error_and_infinitely_old() -> None:
    buffer = JointStateBuffer()
    buffer.update(state(1.0, a=1.0))
    assert buffer.age(["a", "z"], 1.0) == np.inf
    for call in (lambda: buffer.latest(["a", "z"]), lambda: buffer.position_at(["z"], 1.0)):
        with pytest.raises(JointStateError, match=r"no joint state of \['z'\] yet; heard of \['a'\]"):
            call()


def test_rest_is_known_when_it_has_lasted() -> None:
    buffer = JointStateBuffer()
    for i in range(11):
        assert not buffer.at_rest(["a", "b"], 0.5, 1e-3) or i > 8
        a = max(0.3 - 0.1 * i, 0.0)  # [rad] moves for 0.3 s
        buffer.update(state(10.0 + 0.1 * i, a=a, b=1.0 + 4e-4 * (i % 2)))
    assert buffer.at_rest(["a", "b"], 0.5, 1e-3)
    assert not buffer.at_rest(["a", "b"], 0.5, 1e-4)  # b trembles
    assert not buffer.at_rest(["a"], 0.9, 1e-3)
    assert not buffer.at_rest(["a"], 1.5, 1e-3)  # not known for so long
    assert not buffer.at_rest(["a", "z"], 0.5, 1e-3)


@given(st.floats(0.0, 1.0), st.floats(-3, 3), st.floats(-3, 3))
def test_positions_between_two_states_lie_on_the_line(share: float, p0: float, p1: float) -> None:
    buffer = JointStateBuffer()
    buffer.update(state(10.0, a=p0, b=0.0))
    buffer.update(state(10.05, a=p1))
    buffer.update(state(10.08, b=1.0))
    stamp = 10.0 + 0.05 * share
    a, b = buffer.position_at(["a", "b"], stamp)
    assert a == pytest.approx(p0 + share * (p1 - p0), abs=1e-6)
    assert b == pytest.approx((stamp - 10.0) / 0.08, abs=1e-6)


def test_times_that_were_not_measured_are_errors() -> None:
    buffer = JointStateBuffer()
    buffer.update(state(10.0, a=0.0))
    buffer.update(state(10.5, a=1.0))
    assert buffer.position_at(["a"], 10.55) == [1.0]  # within max_gap of the newest
    with pytest.raises(JointStateError, match=r"nearest is at 10\.500"):
        buffer.position_at(["a"], 10.7)
    with pytest.raises(JointStateError, match=r"nearest is at 10\.000"):
        buffer.position_at(["a"], 9.5)
    with pytest.raises(JointStateError, match="not measured between"):
        buffer.position_at(["a"], 10.2)
    assert buffer.position_at(["a"], 10.2, max_gap=0.6) == pytest.approx([0.4])


def test_memory_is_bounded_and_late_messages_change_nothing() -> None:
    buffer = JointStateBuffer(duration=1.0)
    for i in range(1000):
        buffer.update(state(0.01 * i, a=float(i)))
    buffer.update(state(9.95, a=-1.0))
    assert buffer.latest(["a"]) == [999.0]
    assert len(buffer._history["a"]) <= 102
    with pytest.raises(JointStateError):
        buffer.position_at(["a"], 8.0)


def test_time_that_starts_anew_forgets_the_past() -> None:
    buffer = JointStateBuffer()
    buffer.update(state(100.0, a=1.0))
    buffer.update(state(0.01, a=2.0))
    assert buffer.latest(["a"]) == [2.0]
    assert buffer.age(["a"], 0.02) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("names", "position", "velocity", "message"),
    [
        (("a", "b"), [1.0], None, "position has 1 elements"),
        (("a",), [np.nan], None, r"position of \['a'\]"),
        (("a",), [1.0], [np.inf], r"velocity of \['a'\]"),
        (("a", "a"), [1.0, 2.0], None, "twice"),
    ],
)
def test_bad_states_are_refused(
    names: tuple[str, ...], position: list[float], velocity: list[float] | None, message: str
) -> None:
    with pytest.raises(JointStateError, match=message):
        JointState(1.0, names, np.array(position), None if velocity is None else np.array(velocity))
