"""Joint positions over time: resampling and trimming keep what was measured; gaps and jumps are found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ideomotor.data.joint_series import JointSeries, JointSeriesError, motion, resampled

SEEDS = st.integers(0, 2**31)


def series(stamp: np.ndarray, position: np.ndarray, name: str = "a") -> JointSeries:
    return JointSeries(name, np.arange(len(stamp)), stamp, position)


@given(SEEDS, st.integers(2, 60), st.floats(1.0, 200.0))
def test_resampling_stays_within_what_was_measured(seed: int, count: int, rate: float) -> None:
    """Every position lies between the two measured around it, and as many as fit into the common time come out."""
    rng = np.random.default_rng(seed)
    parts = []
    for name in "ab":
        stamp = 1e9 + rng.uniform(0.0, 0.5) + np.cumsum(rng.uniform(0.001, 0.1, count))
        parts.append(series(stamp, np.cumsum(rng.normal(size=count)), name))
    q = resampled(parts, rate)
    start, end = max(s.stamp[0] for s in parts), min(s.stamp[-1] for s in parts)
    assert abs(len(q) - max((end - start) * rate + 1, 0.0)) <= 1.0 + 1e-3
    for t in range(len(q)):
        time = min(start + t / rate, end)
        for one, value in zip(parts, q[t], strict=True):
            i = int(np.clip(np.searchsorted(one.stamp, time), 1, count - 1))
            low, high = sorted(one.position[i - 1 : i + 1])
            assert low - 1e-6 <= value <= high + 1e-6


@given(SEEDS, st.floats(1.0, 100.0))
def test_resampling_of_straight_lines_is_exact(seed: int, rate: float) -> None:
    """Each joint by its own stamps, however uneven they are."""
    rng = np.random.default_rng(seed)
    slope, offset = rng.normal(size=(2, 3))
    stamps = [np.sort(rng.uniform(0.0, 3.0, 20)) for _ in slope]
    q = resampled([series(t, offset[j] + slope[j] * t) for j, t in enumerate(stamps)], rate)
    time = max(t[0] for t in stamps) + np.arange(len(q)) / rate
    np.testing.assert_allclose(q, offset + slope * time[:, None], atol=1e-9)


@given(SEEDS, st.integers(0, 20), st.integers(1, 20), st.integers(0, 20))
def test_trimming_keeps_the_motion_and_one_state_of_rest(seed: int, before: int, steps: int, after: int) -> None:
    """Rest, motion with pauses in it, rest; slow creeping counts as rest; trimming twice changes nothing."""
    rng = np.random.default_rng(seed)
    rate, rest_speed = 20.0, 0.01
    change = rng.uniform(0.02, 1.0, (steps, 2)) * rng.choice([-1.0, 1.0], (steps, 2)) / rate
    change[1:-1] *= rng.choice([0.0, 1.0], (max(steps - 2, 0), 1)) if steps > 2 else 1.0  # pauses
    creep = rng.uniform(-0.9, 0.9, (before + after, 2)) * rest_speed / rate
    q = np.cumsum(np.concatenate([np.zeros((1, 2)), creep[:before], change, creep[before:]]), axis=0)
    kept = motion(q, rate, rest_speed)
    assert (kept.start, kept.stop) == (before, before + steps + 1)
    again = motion(q[kept], rate, rest_speed)
    assert (again.start, again.stop) == (0, steps + 1)


def test_nothing_that_moves() -> None:
    assert len(np.zeros((9, 2))[motion(np.zeros((9, 2)), 10.0, 0.0)]) == 0
    assert len(np.zeros((0, 2))[motion(np.zeros((0, 2)), 10.0, 0.1)]) == 0
    assert resampled(
        [series(np.array([0.0, 1.0]), np.zeros(2)), series(np.array([2.0, 3.0]), np.zeros(2))], 9.0
    ).shape == (
        0,
        2,
    )


@given(SEEDS, st.integers(0, 48))
def test_a_gap_is_found_where_it_is(seed: int, at: int) -> None:
    rng = np.random.default_rng(seed)
    stamp = np.cumsum(rng.uniform(0.001, 0.1, 50))
    one = series(stamp, np.zeros(50))
    one.check_gaps(0.1)
    stamp[at + 1 :] += 0.11
    with pytest.raises(JointSeriesError, match=rf"^{at}\.000 s: gap: nothing of 'a' for 0\.[12]\d\d s, allowed 0\.1 s"):
        series(stamp, np.zeros(50)).check_gaps(0.1)


@given(SEEDS, st.integers(0, 48), st.floats(0.1, 5.0))
def test_a_jump_is_found_where_it_is(seed: int, at: int, max_speed: float) -> None:
    rng = np.random.default_rng(seed)
    period = rng.uniform(0.001, 0.1, 50)
    position = np.cumsum(max_speed * period * rng.uniform(-1.0, 1.0, 50))
    one = series(np.cumsum(period), position)
    one.check_jumps(max_speed)
    with pytest.raises(
        JointSeriesError, match=rf"^{at + 1}\.000 s: jump: 'a' from .* allowed {max_speed:.3f} a second"
    ):
        series(np.cumsum(period), position + (np.arange(50) > at) * (2.1 * max_speed * 0.1 + 1e-3)).check_jumps(
            max_speed
        )


def test_an_encoders_step_is_no_jump() -> None:
    """Two messages within microseconds, one resolution of the encoder apart."""
    series(np.array([0.0, 1e-6]), np.array([0.0, 5e-4])).check_jumps(2.0)


def test_late_messages_are_left_out_and_a_new_beginning_is_refused() -> None:
    one = series(np.array([1.0, 1.1, 1.05, 1.1, 1.2]), np.array([0.0, 1.0, 9.0, 9.0, 2.0]))
    np.testing.assert_array_equal(one.stamp, [1.0, 1.1, 1.2])
    np.testing.assert_array_equal(one.position, [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(one.received, [0.0, 1.0, 4.0])
    with pytest.raises(JointSeriesError, match=r"2\.000 s: stamps went back from 1\.100 to 0\.500 s"):
        series(np.array([1.0, 1.1, 0.5, 0.6]), np.zeros(4))
    with pytest.raises(JointSeriesError, match="no position of 'a'"):
        series(np.zeros(0), np.zeros(0))
