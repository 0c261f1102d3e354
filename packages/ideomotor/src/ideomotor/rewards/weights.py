r"""What a time-invariant reward says of states: how dear it is there to move a keypoint along an axis, and to be there.

The cost of a trajectory is the energy of its keypoints in a metric :math:`w` that depends on the state relative to the
goal, or on the progress :math:`s = t / T`, the distance from waypoints :math:`r(s)` relative to the goal, weighted by a
pull :math:`v(s)`, and the distance of its end from the goal (after arXiv:2107.03186, re-derived: docs/rewards.md),

.. math::
    c(\tau) = \frac1K \Big( \sum_{t=1}^T T\, w(\bar x_t, \bar s_t)^T (z_t - z_{t-1})^2
    + \frac1T v(\bar s_t)^T (\bar x_t - r(\bar s_t))^2 + \kappa \|z_T - g\|^2 \Big), \qquad x = z - g .

The sums are Riemann sums of :math:`\int_0^1 w^T \dot z^2 + v^T (x - r)^2\, ds`: their minimiser does not depend on the
number of steps T.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Weights:
    """Weights of D = 3 K coordinates at N states."""

    weight: np.ndarray  # (N, D), positive
    gradient: np.ndarray  # (N, D, D) of each weight by the state relative to the goal [1/m]
    pull: np.ndarray  # (N, D) v, 0 or more
    waypoint: np.ndarray  # (N, D) r, relative to the goal along the axes of the task [m]


class Reward(Protocol):
    """A learned reward, as planners use it."""

    def weights(self, relative: np.ndarray, progress: np.ndarray) -> Weights:
        """Return the weights.

        Args:
            relative: keypoints minus goal, along the axes of the task frame, shape (N, D) [m].
            progress: share of the steps that are done, shape (N,), 0 to 1.
        """
        ...


@dataclass(frozen=True)
class Uniform:
    """The reward that prefers nothing: the straight way."""

    def weights(self, relative: np.ndarray, progress: np.ndarray) -> Weights:
        """Return ones."""
        n, d = relative.shape
        return Weights(np.ones((n, d)), np.zeros((n, d, d)), np.zeros((n, d)), np.zeros((n, d)))
