"""Rotations of floating bases: round trips, composition, and pinocchio as the oracle."""

import numpy as np
import pinocchio as pin
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ideomotor.dynamics.rotations import relative_quaternion, rotation_matrix, rotation_vector, to_base, to_world

numbers = st.floats(-1.0, 1.0, allow_nan=False, width=32)


@st.composite
def quaternions(draw: st.DrawFn) -> np.ndarray:
    q = np.array(draw(st.tuples(numbers, numbers, numbers, numbers).filter(lambda x: np.linalg.norm(x) > 0.01)))
    return q / np.linalg.norm(q)


vectors = st.tuples(numbers, numbers, numbers).map(np.array)


@given(quaternions())
def test_matrices_are_pinocchios(q: np.ndarray) -> None:
    R = rotation_matrix(q)
    np.testing.assert_allclose(R, pin.Quaternion(q).toRotationMatrix(), atol=1e-12)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1.0)
    np.testing.assert_allclose(rotation_matrix(-q), R, atol=1e-15)


@given(quaternions())
def test_rotation_vectors_lead_back(q: np.ndarray) -> None:
    r = rotation_vector(q)
    assert np.linalg.norm(r) <= np.pi + 1e-9
    np.testing.assert_allclose(pin.exp3(r), rotation_matrix(q), atol=1e-9)


@given(vectors)
def test_small_rotations_keep_their_vectors(r: np.ndarray) -> None:
    """Down to nothing, without a jump where the formula changes."""
    for scale in (1.0, 1e-3, 1e-8, 1e-9, 1e-12, 0.0):
        q = pin.Quaternion(pin.exp3(scale * r)).coeffs() if scale > 1e-6 else np.r_[0.5 * scale * r, 1.0]
        np.testing.assert_allclose(rotation_vector(q), scale * r, atol=1e-14 + 1e-7 * scale)


@given(quaternions(), quaternions())
def test_relative_rotation(a: np.ndarray, b: np.ndarray) -> None:
    between = relative_quaternion(a, b)
    np.testing.assert_allclose(rotation_matrix(between), rotation_matrix(a).T @ rotation_matrix(b), atol=1e-12)
    np.testing.assert_allclose(rotation_vector(relative_quaternion(a, a)), 0.0, atol=1e-9)
    back = rotation_vector(relative_quaternion(b, a))
    if np.linalg.norm(back) < np.pi - 1e-3:  # at half a turn both directions are right
        np.testing.assert_allclose(back, -rotation_vector(between), atol=1e-9)


@given(quaternions(), vectors, vectors)
def test_vectors_side_by_side_turn_each_and_back(q: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    R, both = rotation_matrix(q), np.concatenate([a, b])
    np.testing.assert_allclose(to_base(R, both), np.concatenate([R.T @ a, R.T @ b]), atol=1e-12)
    np.testing.assert_allclose(to_world(R, to_base(R, both)), both, atol=1e-12)


def test_batches_are_their_rows() -> None:
    rng = np.random.default_rng(0)
    q = rng.normal(size=(5, 4))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    v = rng.normal(size=(5, 12))
    for i in range(5):
        np.testing.assert_array_equal(rotation_matrix(q)[i], rotation_matrix(q[i]))
        np.testing.assert_array_equal(rotation_vector(q)[i], rotation_vector(q[i]))
        np.testing.assert_allclose(to_base(rotation_matrix(q), v)[i], to_base(rotation_matrix(q[i]), v[i]), atol=1e-15)
    assert to_base(rotation_matrix(q), np.zeros((5, 0))).shape == (5, 0)
