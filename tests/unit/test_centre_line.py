"""Keypoints that divide a centre line evenly: what is straight is straightened, what is bent stays bent."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ideomotor.body.centre_line import straightened

COVARIANCE = np.diag(np.repeat([0.004, 0.004, 0.004, 0.002], 3) ** 2)  # (12, 12) [m^2]
FRACTIONS = np.arange(1, 5)[:, None] / 4


def straight(tip: np.ndarray, exit_ee: np.ndarray) -> np.ndarray:
    """Return the keypoints of a straight object that leaves the gripper at ``exit_ee``."""
    return exit_ee + FRACTIONS * (tip - exit_ee)


def bent(length: float, leg: float) -> np.ndarray:
    """Return the keypoints of an L: ``length`` along z, then ``leg`` along x."""
    arc = FRACTIONS[:, 0] * (length + leg)
    return np.stack([np.maximum(arc - length, 0.0), np.zeros(4), np.minimum(arc, length)], axis=-1)


@settings(max_examples=25)
@given(
    length=st.floats(0.12, 0.3),
    tilt=st.floats(-0.6, 0.6),
    sideways=st.floats(-0.008, 0.008),
    seed=st.integers(0, 2**16),
)
def test_errors_along_a_straight_object_shrink(length: float, tilt: float, sideways: float, seed: int) -> None:
    """Over random errors of the size the detector has, the mean error of the inner keypoints falls."""
    rng = np.random.default_rng(seed)
    truth = straight(length * np.array([np.sin(tilt), 0.0, np.cos(tilt)]), np.array([sideways, 0.0, 0.0]))
    before, after = [], []
    for _ in range(200):  # 20 left the mean to chance in one run of some hundred
        estimate = truth + (rng.normal(size=12) * np.sqrt(np.diag(COVARIANCE))).reshape(4, 3)
        before.append(np.linalg.norm(estimate - truth, axis=1)[:3].mean())
        after.append(np.linalg.norm(straightened(estimate, COVARIANCE) - truth, axis=1)[:3].mean())
    assert np.mean(after) < 0.75 * np.mean(before)


def test_an_exact_straight_object_stays_as_it_is() -> None:
    """Evenly divided points from the origin of the ee frame satisfy all constraints."""
    truth = straight(np.array([0.05, 0.02, 0.2]), np.zeros(3))
    np.testing.assert_allclose(straightened(truth, COVARIANCE), truth, atol=1e-12)


@pytest.mark.parametrize("leg", [0.06, 0.1])
def test_a_bend_stays(leg: float) -> None:
    """The tip of an L is not drawn onto the line of its handle; its handle is straightened."""
    truth = bent(0.16, leg)
    found = straightened(truth, COVARIANCE)
    assert np.linalg.norm(found - truth, axis=1).max() < 0.003
    disturbed = truth + np.array([[0.0, 0.006, 0.0], [0.0, -0.006, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert abs(straightened(disturbed, COVARIANCE)[0, 1]) < 0.004


def test_a_surer_tip_moves_less() -> None:
    """Of two disagreeing points the less certain one gives way."""
    estimate = straight(np.array([0.0, 0.0, 0.2]), np.zeros(3))
    estimate[3, 0] += 0.004
    sure = COVARIANCE.copy()
    sure[9:, 9:] /= 100
    assert abs(straightened(estimate, sure)[3, 0] - 0.004) < abs(straightened(estimate, COVARIANCE)[3, 0] - 0.004)


def test_one_keypoint_has_no_line() -> None:
    """There is no second difference of two points."""
    one = np.array([[0.0, 0.01, 0.1]])
    np.testing.assert_array_equal(straightened(one, 1e-6 * np.eye(3)), one)
