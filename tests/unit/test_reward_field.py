"""The reward field is the cost of the straight way to the goal."""

from dataclasses import replace

import numpy as np
import pytest

from ideomotor.rewards.field import FieldError, field_slices, straight_cost
from ideomotor.rewards.weights import Uniform, Weights

P = np.random.default_rng(0).normal(0.0, 0.1, (7, 3))


def without_pull(weight: np.ndarray) -> Weights:
    return replace(Uniform().weights(weight, weight[:, 0]), weight=weight)


class ByProgress:
    """Motion along x and y is 10 times as dear at the end as at the beginning, along z it costs 1."""

    def weights(self, relative: np.ndarray, progress: np.ndarray) -> Weights:
        weight = np.ones_like(relative)
        weight[:, 0::3] = weight[:, 1::3] = (1.0 + 9.0 * progress)[:, None]
        return without_pull(weight)


class ByState:
    """A weight is the squared distance [dm^2] from the goal along its axis."""

    def weights(self, relative: np.ndarray, progress: np.ndarray) -> Weights:
        return without_pull((10 * relative) ** 2)


class Pulled:
    """Nothing is dear, and 8 pulls to 1 cm above the goal."""

    def weights(self, relative: np.ndarray, progress: np.ndarray) -> Weights:
        above = np.tile([0.0, 0.0, 0.01], relative.shape[1] // 3)
        return replace(Uniform().weights(relative, progress), pull=0 * relative + 8.0, waypoint=0 * relative + above)


def test_without_preferences_it_is_the_distance() -> None:
    """Times the length of the way, whatever the number of keypoints and steps; beyond that length its square."""
    distance = np.linalg.norm(P, axis=1)
    for keypoints, steps in ((1, 1), (4, 9)):
        np.testing.assert_allclose(straight_cost(Uniform(), P, keypoints, 1.0, steps), distance)
    np.testing.assert_allclose(straight_cost(Uniform(), P, 2, 1e-3), distance**2)


def test_weights_by_progress_are_those_of_what_is_left_of_the_way() -> None:
    """Half the way is left: the mean weight from s = 0.5 to 1 is 7.75. Farther than the way is long: that from 0."""
    p = np.array([[0.1, 0.0, 0.0], [0.0, -0.1, 0.0], [0.0, 0.0, 0.1], [0.3, 0.0, 0.0]])
    cost = straight_cost(ByProgress(), p, 2, 0.2)
    np.testing.assert_allclose(cost, [0.155, 0.155, 0.02, 0.09 * 5.5])


def test_weights_by_state_are_those_along_the_way() -> None:
    r"""$\int_0^1 (10 u x)^2 x^2 du = 100 x^4 / 3$, the whole way."""
    cost = straight_cost(ByState(), P, 3, 1e-3, steps=400)
    np.testing.assert_allclose(cost, 100 * (P**4).sum(1) / 3, rtol=1e-5)


def test_what_pulls_is_paid_for_along_what_is_left_of_the_way() -> None:
    r"""Half of $8 \int_0^1 u^2 p^2 + 0.01^2 du$ beside the goal, of $8 \int_0^1 (u p - 0.01)^2 du$ above it."""
    p = np.array([[0.03, 0.0, 0.0], [0.0, 0.0, 0.03], [0.0, 0.0, 0.0]])
    expected = np.array([2 * 9e-4 + 4 * (3e-4 + 1e-4), 2 * 9e-4 + 4 * (3e-4 - 3e-4 + 1e-4), 0.0])
    np.testing.assert_allclose(straight_cost(Pulled(), p, 2, 0.06, steps=400), expected, rtol=1e-5)


def test_slices_go_through_the_goal() -> None:
    vertical, horizontal = field_slices(ByProgress(), 2, 0.2, 0.1, points=5)
    assert (vertical.axes, horizontal.axes) == (("x", "z"), ("x", "y"))
    for field, flat in ((vertical, 1), (horizontal, 2)):
        assert field.displacement.shape == (5, 5, 3)
        assert field.cost[2, 2] == 0.0
        np.testing.assert_array_equal(field.displacement[..., flat], 0.0)
    np.testing.assert_array_equal(vertical.displacement[0, -1], [0.1, 0.0, -0.1])  # right, down
    np.testing.assert_array_equal(horizontal.displacement[-1, 0], [-0.1, 0.1, 0.0])  # left, up
    assert vertical.cost[2, -1] == pytest.approx(0.155)  # beside the goal
    assert vertical.cost[-1, 2] == pytest.approx(0.02)  # above it


@pytest.mark.parametrize(
    ("p", "numbers", "message"),
    [
        (np.zeros((2, 2)), (1, 1.0, 1), r"displacement has shape \(2, 2\)"),
        (np.full((1, 3), np.nan), (1, 1.0, 1), "expected finite"),
        (np.zeros((1, 3)), (0, 1.0, 1), "0 keypoints"),
        (np.zeros((1, 3)), (1, 0.0, 1), r"length=0\.0"),
        (np.zeros((1, 3)), (1, 1.0, 0), "0 steps"),
    ],
)
def test_what_is_not_defined_is_refused(p: np.ndarray, numbers: tuple[int, float, int], message: str) -> None:
    with pytest.raises(FieldError, match=message):
        straight_cost(Uniform(), p, *numbers)


@pytest.mark.parametrize(("extent", "points"), [(0.0, 5), (np.nan, 5), (0.1, 1)])
def test_slices_of_no_size_are_refused(extent: float, points: int) -> None:
    with pytest.raises(FieldError, match="extent="):
        field_slices(Uniform(), 1, 1.0, extent, points)
