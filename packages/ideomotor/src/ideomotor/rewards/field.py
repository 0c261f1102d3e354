r"""The reward field: what the straight way to the goal still costs from where the object may be.

With the whole object displaced by :math:`p` from its goal, every keypoint is, :math:`x_0 = (p, .., p)`. On a way of
length :math:`L` the share :math:`u = \min(\|p\| / L, 1)` is left. The object goes straight on in T steps,
:math:`x_t = (1 - t/T)\, x_0`, in each of which the progress grows by :math:`u / T`. What is left of the integral of
`ideomotor.rewards.weights` is

.. math::
    c(p) = \frac1{K T} \sum_{t=1}^T \tfrac1u\, w(\bar x_t, s_t)^T x_0^2 + u\, v(s_t)^T (\bar x_t - r(s_t))^2, \qquad
    \bar x_t = \big(1 - \tfrac{t - 1/2}{T}\big)\, x_0, \; s_t = 1 - u + u\, \tfrac{t - 1/2}{T}

and zero at the goal. Where all weights are 1 and nothing pulls it is :math:`L \|p\|` up to the distance L. What differs
from that is what was learned: it is low where the goal is approached from.
"""

from dataclasses import dataclass

import numpy as np

from ideomotor.errors import IdeomotorError
from ideomotor.rewards.weights import Reward

STEPS = 20  # T
_AT_THE_GOAL = 1e-12  # where nothing has to be moved


class FieldError(IdeomotorError):
    """A field that is not well defined."""


@dataclass(frozen=True, eq=False)
class FieldSlice:
    """The field on a plane through the goal, H x W points."""

    axes: tuple[str, str]  # of the task: along the columns, along the rows
    displacement: np.ndarray  # p, (H, W, 3) along the axes of the task [m]
    cost: np.ndarray  # (H, W) [m^2]


def straight_cost(
    reward: Reward, displacement: np.ndarray, keypoints: int, length: float, steps: int = STEPS
) -> np.ndarray:
    """Return c(p), shape (N,) [m^2].

    Args:
        reward: what is drawn.
        displacement: p, shape (N, 3) along the axes of the task [m].
        keypoints: K.
        length: L, that of the demonstrated ways [m].
        steps: T.

    Raises:
        FieldError: the displacements have another shape or are not finite, or a number is not positive.
    """
    p = np.asarray(displacement, dtype=float)
    if p.ndim != 2 or p.shape[1] != 3 or not np.isfinite(p).all():
        raise FieldError(f"displacement has shape {p.shape}: {p.tolist()}, expected finite, (N, 3)")
    if not (keypoints > 0 and steps > 0 and length > 0.0):
        raise FieldError(f"{keypoints} keypoints, {steps} steps, length={length}, expected positive numbers")
    x_0 = np.tile(p, keypoints)  # (N, D)
    u = np.minimum(np.linalg.norm(p, axis=1) / length, 1.0)  # (N,)
    motion, pulled = np.zeros(len(p)), np.zeros(len(p))
    for done in (np.arange(steps) + 0.5) / steps:
        x = (1.0 - done) * x_0  # (N, D)
        found = reward.weights(x, 1.0 - u + u * done)
        motion += (found.weight * x_0**2).sum(axis=1)
        pulled += (found.pull * (x - found.waypoint) ** 2).sum(axis=1)
    cost: np.ndarray = (motion / np.maximum(u, _AT_THE_GOAL) + u * pulled) / (keypoints * steps)
    return cost


def field_slices(
    reward: Reward, keypoints: int, length: float, extent: float, points: int = 41
) -> tuple[FieldSlice, FieldSlice]:
    """Return the field on the vertical plane (x, z) and on the horizontal plane (x, y) through the goal.

    Args:
        reward: what is drawn.
        keypoints: K.
        length: L, that of the demonstrated ways [m].
        extent: largest displacement along an axis [m].
        points: H = W.

    Raises:
        FieldError: a number is not positive, or there are fewer than two points.
    """
    if not 0.0 < extent < np.inf or points < 2:
        raise FieldError(f"extent={extent}, points={points}, expected positive, at least 2")
    line = np.linspace(-extent, extent, points)
    along, up = np.meshgrid(line, line)  # (H, W)
    nothing = np.zeros_like(along)
    planes = {("x", "z"): (along, nothing, up), ("x", "y"): (along, up, nothing)}
    slices = []
    for axes, columns in planes.items():
        p = np.stack(columns, axis=-1)  # (H, W, 3)
        cost = straight_cost(reward, p.reshape(-1, 3), keypoints, length)
        slices.append(FieldSlice(axes, p, cost.reshape(points, points)))
    vertical, horizontal = slices
    return vertical, horizontal
