"""The distance of two paths does not know their pace, but pays for corners that are cut."""

import numpy as np
import pytest

from ideomotor.planning.path_error import PathError, path_error

CORNER = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0]])[:, None]  # one keypoint, 2 m of way


def at(time: np.ndarray) -> np.ndarray:
    """Return the corner at times from 0 to 1, shape (N, 1, 3)."""
    return np.stack([np.interp(time, [0, 0.5, 1], CORNER[:, 0, i]) for i in range(3)], axis=1)[:, None]


@pytest.mark.parametrize("pace", [np.linspace(0, 1, 399) ** 3, np.linspace(0, 1, 401) ** 0.3, np.array([0, 0.5, 1])])
def test_pace_and_number_of_states_do_not_matter(pace: np.ndarray) -> None:
    assert path_error(at(pace), at(np.linspace(0, 1, 51))) < 2e-3


def test_a_displaced_path() -> None:
    """By 5 mm: that is the distance of its keypoints, whatever their number."""
    for K in (1, 3):
        path = np.tile(CORNER, (1, K, 1))
        assert path_error(path, path + np.array([0.0, 0.0, 0.005])) == pytest.approx(0.005)
        assert path_error(path, path) < 1e-9


def test_a_cut_corner_is_paid_for() -> None:
    """The diagonal is at most 0.71 m from the corner; seen from the corner's path the mean is half of that."""
    diagonal = CORNER[[0, 2]]
    assert path_error(CORNER, diagonal) == path_error(diagonal, CORNER)
    assert path_error(CORNER, diagonal) == pytest.approx(0.5**0.5 / 2, rel=0.02)


def test_stopping_early_is_paid_for() -> None:
    """The second half of the way is 0 to 1 m from the end of the first."""
    assert path_error(CORNER[:2], CORNER) == pytest.approx(0.25, rel=0.02)
    assert path_error(CORNER[:1], CORNER) == path_error(CORNER, CORNER[:1]) > 0.5


@pytest.mark.parametrize(
    "other", [np.zeros((3, 2, 3)), np.zeros((0, 1, 3)), np.zeros((3, 3)), np.full((3, 1, 3), np.nan)]
)
def test_what_cannot_be_compared_is_refused(other: np.ndarray) -> None:
    for pair in ((CORNER, other), (other, CORNER)):
        with pytest.raises(PathError, match="paths have shapes"):
            path_error(*pair)
