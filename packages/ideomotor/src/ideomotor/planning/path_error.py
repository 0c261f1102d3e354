"""How far two paths of keypoints are from each other, whatever their pace and number of states."""

import numpy as np

from ideomotor.errors import IdeomotorError

_STATES = 100  # evenly along the way, that are compared
_POINT = 1e-18  # [m^2] a segment of less than this squared length is a point


class PathError(IdeomotorError):
    """Paths that cannot be compared."""


def path_error(a: np.ndarray, b: np.ndarray) -> float:
    """Return the distance of two paths [m].

    The larger of: mean distance of the states of ``a`` from the polyline ``b``, evenly along the way of ``a``, and the
    other way round: a path that cuts a corner, or stops early, pays for it. A distance is the RMS over the keypoints.

    Args:
        a: shape (N, K, 3) [m], N >= 1.
        b: shape (M, K, 3) [m], M >= 1.

    Raises:
        PathError: the paths have other shapes, or are not finite.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    for path in (a, b):
        if path.ndim != 3 or not path.size or path.shape[1:] != (a.shape[1], 3) or not np.isfinite(path).all():
            raise PathError(f"paths have shapes {a.shape} and {b.shape}, expected finite, (N, K, 3) and (M, K, 3)")
    even_a, even_b = (evenly(path, _STATES).reshape(_STATES, -1) for path in (a, b))
    return max(_from_polyline(even_a, even_b), _from_polyline(even_b, even_a))


def evenly(path: np.ndarray, states: int) -> np.ndarray:
    """Return a path, shape (N, K, 3), at states evenly along its way, shape (states, K, 3): its pace is forgotten."""
    flat = path.reshape(len(path), -1)
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(flat, axis=0), axis=1))])
    at = np.linspace(0.0, way[-1], states)
    return np.stack([np.interp(at, way, x) for x in flat.T], axis=1).reshape(states, *path.shape[1:])


def _from_polyline(points: np.ndarray, line: np.ndarray) -> float:
    """Return the mean distance of points, shape (N, D), from a polyline, shape (M, D)."""
    start, along = line[:-1], np.diff(line, axis=0)
    arm = points[:, None] - start  # (N, M - 1, D)
    share = np.clip((arm * along).sum(-1) / np.maximum((along**2).sum(-1), _POINT), 0.0, 1.0)
    squared = ((arm - share[..., None] * along) ** 2).sum(-1).min(axis=1)  # (N,)
    return float(np.sqrt(squared / (points.shape[1] / 3)).mean())
