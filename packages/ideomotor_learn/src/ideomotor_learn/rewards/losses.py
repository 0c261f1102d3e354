r"""Distances between two trajectories of keypoints, the outer losses of learning a reward. Pure functions.

A trajectory is a tensor of T states with D coordinates [m], the K keypoints of a state one after another (D = 3 K).

=====================  ==================  ===================================================================
function               lengths             what it ignores
=====================  ==================  ===================================================================
`step_l2`              must be equal       nothing: state t is compared with state t
`soft_dtw`             may differ          when things happen, up to the order (Cuturi, Blondel 2017, arXiv:1703.01541)
`soft_dtw_divergence`  may differ          the same; zero only for equal ones (Blondel et al. 2021, arXiv:2010.08354)
`path_distance`        may differ          when things happen, and how densely the path is sampled
=====================  ==================  ===================================================================
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ideomotor.errors import IdeomotorError

_FAR = 1e30  # [m^2] instead of infinity, whose differences are NaN in derivatives
_POINT = 1e-24  # [m^2] a segment of less than this squared length is a point


class LossError(IdeomotorError):
    """Two trajectories that cannot be compared."""


def step_l2(x: Tensor, y: Tensor) -> Tensor:
    r""":math:`\frac1T \sum_t \|x_t - y_t\|^2` [m^2]; x and y (..., T, D), result (...).

    Raises:
        LossError: the trajectories differ in length or coordinates.
    """
    if x.shape != y.shape:
        raise LossError(f"x has shape {tuple(x.shape)}, y {tuple(y.shape)}; step_l2 compares equal ones only")
    return (x - y).pow(2).sum(-1).mean(-1)


def soft_dtw(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    r"""Return the soft minimum of the cost of all alignments [m^2], a scalar; see `soft_dtw_batch`.

    Args:
        x: (T1, D) [m].
        y: (T2, D) [m].
        gamma: softness, > 0 [m^2].

    Raises:
        LossError: shapes do not fit, or gamma is not positive.
    """
    if x.ndim != 2 or y.ndim != 2:
        raise LossError(f"x has shape {tuple(x.shape)}, y {tuple(y.shape)}; expected (T1, D) and (T2, D)")
    length = torch.tensor([len(x)]), torch.tensor([len(y)])
    return soft_dtw_batch(x[None], y[None], *length, gamma)[0]


def soft_dtw_batch(x: Tensor, y: Tensor, length_x: Tensor, length_y: Tensor, gamma: float) -> Tensor:
    r"""Return soft-DTW of B pairs [m^2], shape (B,).

    .. math::
        R_{ij} = \|x_i - y_j\|^2 + {\min}^\gamma (R_{i-1,j-1}, R_{i-1,j}, R_{i,j-1}), \qquad
        {\min}^\gamma a = -\gamma \log \sum_i e^{-a_i / \gamma}

    at the pair's last states. It may be negative. All cells of an anti-diagonal i + j = k are computed at once.

    Args:
        x: (B, T1, D) [m]; what follows the end of a trajectory may be anything finite.
        y: (B, T2, D) [m], likewise.
        length_x: (B,) states of each x, 1 to T1.
        length_y: (B,) states of each y, 1 to T2.
        gamma: softness, > 0 [m^2].

    Raises:
        LossError: shapes or lengths do not fit, or gamma is not positive.
    """
    _check_pairs(x, y, length_x, length_y)
    if not gamma > 0.0:
        raise LossError(f"gamma={gamma}, expected > 0")
    B, T1, T2 = len(x), x.shape[1], y.shape[1]
    cost = (x[:, :, None] - y[:, None]).pow(2).sum(-1)  # (B, T1, T2)
    # Rows of T1 + T2 cells read as rows of one less: row i moves i to the right, so that column k is anti-diagonal k.
    padded = F.pad(cost, (0, T1), value=_FAR).flatten(1)[:, : T1 * (T1 + T2 - 1)]
    diagonals = padded.reshape(B, T1, T1 + T2 - 1).unbind(-1)  # of (B, T1); cells outside the table are far
    before = F.pad(torch.full_like(diagonals[0], _FAR), (1, 0), value=0.0)  # (B, T1 + 1) row -1 first: R_{-1,-1} = 0
    last = torch.full_like(before, _FAR)
    R = []
    for diagonal in diagonals:
        neighbours = torch.stack([before[:, :-1], last[:, :-1], last[:, 1:]])  # (3, B, T1) of (i, j) less (1, 1), ...
        R.append(diagonal - gamma * (neighbours / -gamma).logsumexp(0))
        before, last = last, F.pad(R[-1], (1, 0), value=_FAR)
    return torch.stack(R)[length_x + length_y - 2, torch.arange(B), length_x - 1]


def soft_dtw_divergence(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    r""":math:`s(x, y) - \frac12 s(x, x) - \frac12 s(y, y)` with s of `soft_dtw`: not negative, zero for x = y.

    Raises:
        LossError: as `soft_dtw`.
    """
    return soft_dtw(x, y, gamma) - (soft_dtw(x, x, gamma) + soft_dtw(y, y, gamma)) / 2


def path_distance(x: Tensor, y: Tensor) -> Tensor:
    r"""Mean squared distance of the states of x from the polyline y, and of those of y from the polyline x [m^2].

    .. math::
        \frac{1}{T_1} \sum_i \min_{p \in [y]} \|x_i - p\|^2 + \frac{1}{T_2} \sum_j \min_{p \in [x]} \|y_j - p\|^2

    The second term is what a path pays that cuts a corner, or stops early. Distances are to segments, not to their
    ends, so the number of steps of a path does not matter.

    Args:
        x: (..., T1, D) [m].
        y: (..., T2, D) [m].

    Returns:
        shape (...).

    Raises:
        LossError: the trajectories differ in coordinates, or one is empty.
    """
    if min(x.ndim, y.ndim) < 2 or x.shape[-1] != y.shape[-1] or not x.shape[-2] or not y.shape[-2]:
        raise LossError(f"x has shape {tuple(x.shape)}, y {tuple(y.shape)}; expected (..., T1, D) and (..., T2, D)")
    return _from_polyline(x, y).mean(-1) + _from_polyline(y, x).mean(-1)


def _from_polyline(points: Tensor, path: Tensor) -> Tensor:
    """Return the squared distance [m^2] of (..., T, D) points from a polyline of (..., S, D) corners, (..., T)."""
    start, end = (path[..., :-1, :], path[..., 1:, :]) if path.shape[-2] > 1 else (path, path)
    along = end - start  # (..., S - 1, D)
    arm = points[..., :, None, :] - start[..., None, :, :]  # (..., T, S - 1, D)
    share = (arm * along[..., None, :, :]).sum(-1) / along.pow(2).sum(-1).clamp(min=_POINT)[..., None, :]
    gap = arm - share.clamp(0.0, 1.0)[..., None] * along[..., None, :, :]  # (..., T, S - 1, D)
    return gap.pow(2).sum(-1).amin(-1)


def _check_pairs(x: Tensor, y: Tensor, length_x: Tensor, length_y: Tensor) -> None:
    if x.ndim != 3 or y.ndim != 3 or (len(x), x.shape[-1]) != (len(y), y.shape[-1]):
        raise LossError(f"x has shape {tuple(x.shape)}, y {tuple(y.shape)}; expected (B, T1, D) and (B, T2, D)")
    for name, length, z in (("length_x", length_x, x), ("length_y", length_y, y)):
        if length.shape != (len(z),) or ((length < 1) | (length > z.shape[1])).any():
            raise LossError(f"{name}={length.tolist()}, expected {len(z)} from 1 to {z.shape[1]}")
