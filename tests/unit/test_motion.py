"""Target motions: what one is, files, the motions of an arm."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ideomotor.policies.motion import Motion, MotionError, load_motion, reach, swing

JOINTS = ("a", "b")


def motion(**changes: Any) -> Motion:
    values: dict[str, Any] = {
        "rate": 100.0,
        "joints": JOINTS,
        "contact_links": (),
        "q": np.zeros((4, 2)),
        "v": np.zeros((4, 2)),
        "force": np.zeros((4, 0)),
    }
    return Motion(**(values | changes))


def floating(**changes: Any) -> Motion:
    q = np.zeros((3, 9))
    q[:, 6] = 1.0
    values = {"contact_links": ("foot",), "q": q, "v": np.zeros((3, 8)), "force": np.ones((3, 3))}
    return motion(**(values | changes))


def test_what_it_says_of_itself() -> None:
    m = motion()
    assert (m.steps, m.duration, m.floating_base) == (3, 0.03, False)
    assert floating().floating_base


def test_it_is_a_copy_that_nobody_changes() -> None:
    q = np.zeros((4, 2))
    m = motion(q=q)
    q[0] = 1.0  # the caller's array stays the caller's
    assert not m.q.any()
    with pytest.raises(ValueError, match="read-only"):
        m.q[0] = 1.0


def with_nan(shape: tuple[int, int]) -> np.ndarray:
    array = np.zeros(shape)
    array[2, 1] = np.nan
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": 0.0}, "rate=0.0, expected a positive rate"),
        ({"rate": float("nan")}, "rate=nan"),
        ({"q": np.zeros((1, 2)), "v": np.zeros((1, 2)), "force": np.zeros((1, 0))}, r"q has shape \(1, 2\)"),
        ({"q": np.zeros(2)}, r"q has shape \(2,\)"),
        ({"q": np.zeros((4, 3))}, r"q has shape \(4, 3\), expected \(T\+1, 2\), 7 more"),
        ({"v": np.zeros((3, 2))}, r"v has shape \(3, 2\), expected \(4, 2\)"),
        ({"force": np.zeros((4, 3))}, r"force has shape \(4, 3\), expected \(4, 0\)"),
        ({"q": with_nan((4, 2))}, "q is not finite at step 2"),
        ({"v": with_nan((4, 2))}, "v is not finite at step 2"),
    ],
)
def test_what_is_none_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MotionError, match=message):
        motion(**changes)


def test_a_base_needs_a_unit_quaternion() -> None:
    with pytest.raises(MotionError, match=r"quaternion of state 0 has norm 0.0, expected 1"):
        floating(q=np.zeros((3, 9)))


@pytest.mark.parametrize("saved", [motion(), floating()])
def test_files(saved: Motion, tmp_path: Path) -> None:
    saved.save(tmp_path / "m.npz")
    loaded = load_motion(tmp_path / "m.npz")
    assert (loaded.rate, loaded.joints, loaded.contact_links) == (saved.rate, saved.joints, saved.contact_links)
    for name in ("q", "v", "force"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))
    assert [p.name for p in tmp_path.iterdir()] == ["m.npz"]


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04", b"\x93NUMPY"])
def test_files_that_are_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.npz").write_bytes(content)
    with pytest.raises(MotionError, match=r"m.npz is no target motion"):
        load_motion(tmp_path / "m.npz")
    with pytest.raises(MotionError, match="is no target motion"):
        load_motion(tmp_path / "nothing.npz")
    np.savez(tmp_path / "other.npz", rate=1.0)
    with pytest.raises(MotionError, match="contact_links"):
        load_motion(tmp_path / "other.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(MotionError):
        load_motion(tmp_path / "array.npy")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.booleans())
def test_altered_files_are_read_or_refused(tmp_path: Path, at: int, value: int, cut: bool) -> None:
    """No other error leaves, whatever byte is wrong, wherever it ends."""
    reach(JOINTS, np.zeros(2), np.ones(2), duration=0.1).save(tmp_path / "m.npz")
    content = bytearray((tmp_path / "m.npz").read_bytes())
    at %= len(content)
    content[at] = value
    (tmp_path / "m.npz").write_bytes(content[:at] if cut else content)
    with contextlib.suppress(MotionError):
        load_motion(tmp_path / "m.npz")


def derivative_error(m: Motion) -> float:
    return float(np.abs(np.gradient(m.q, 1.0 / m.rate, axis=0) - m.v)[1:-1].max())


@given(st.floats(0.2, 3.0), st.floats(-2.0, 2.0))
def test_a_reach_is_straight_and_from_rest_to_rest(duration: float, to: float) -> None:
    m = reach(JOINTS, np.array([0.1, 0.2]), np.array([to, -to]), duration=duration)
    np.testing.assert_allclose(m.q[0], [0.1, 0.2])
    np.testing.assert_allclose(m.q[-1], [to, -to], atol=1e-12)
    np.testing.assert_allclose(m.v[[0, -1]], 0.0, atol=1e-12)
    way = m.q - m.q[0]
    np.testing.assert_allclose(way[:, 0] * (-to - 0.2), way[:, 1] * (to - 0.1), atol=1e-9)
    assert m.duration == pytest.approx(duration, abs=0.002 + 1e-9)


def test_velocities_are_the_derivatives() -> None:
    assert derivative_error(reach(JOINTS, np.zeros(2), np.ones(2))) < 2e-3
    m = swing(JOINTS, np.array([0.5, -0.5]), np.array([0.2, 0.1]), np.array([1.0, 2.0]), np.array([0.3, 1.0]))
    assert derivative_error(m) < 5e-3
    np.testing.assert_allclose(m.q[0], [0.5, -0.5])
    np.testing.assert_allclose(m.v[0], 0.0, atol=1e-12)
    assert (m.steps, m.rate) == (200, 250.0)
