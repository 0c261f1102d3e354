r"""Keypoints that divide a centre line evenly: what the gripper's place and the object's straightness add to the fit.

The detector's keypoints :math:`p_1 .. p_K` lie at equal distances along the object's centre line, which leaves the
gripper at :math:`r` in the plane z = 0 of the end-effector frame. A centre line is straight but for a few bends: the
second differences

.. math::
    d_k = x_{k-1} - 2 x_k + x_{k+1}, \qquad x = (r, p_1, .., p_K), \qquad k = 1 .. K-1

are zero except beside a bend. The set :math:`S` of those that are is chosen by the estimate :math:`\hat x` and its
covariance :math:`P`, with :math:`d_S = C_S x` and a bonus :math:`\lambda` in place of the log-determinants,

.. math::
    \max_S \; \lambda |S| - \tfrac12 (C_S \hat x)^T (C_S P C_S^T + \sigma_d^2 1)^{-1} C_S \hat x ,

and the keypoints are those of the Gaussian conditioned on :math:`d_S = 0`. An error of the detector that is the same in
every view is invisible to the fit; but a point halfway between two others cannot lie far from their middle.
"""

from itertools import chain, combinations

import numpy as np

GRIP_STD = np.array([0.010, 0.010, 0.002])  # [m] of r in the ee frame: grasps differ sideways, the plane is known
UNEVEN_STD = 0.001  # [m] sigma_d of a second difference that is called zero
STRAIGHT_BONUS = 2.0  # lambda [nat]: what a bend must be worth for each second difference it breaks


def straightened(position_ee: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return the most probable keypoints of an object that is straight but for a few bends.

    Args:
        position_ee: estimated keypoints in order along the object, from the gripper to the tip, shape (K, 3) [m].
        covariance: of the estimate, the detector's constant error included, shape (3 K, 3 K) [m^2].

    Returns:
        The keypoints, shape (K, 3) [m].
    """
    k = len(position_ee)
    x = np.concatenate([np.zeros(3), position_ee.ravel()])  # (3 (K + 1),)
    P = np.zeros((len(x), len(x)))
    P[:3, :3], P[3:, 3:] = np.diag(GRIP_STD**2), covariance
    differences = np.kron(_second_differences(k + 1), np.eye(3)).reshape(k - 1, 3, len(x))
    best, most = x, 0.0  # with no second difference zero
    for S in chain.from_iterable(combinations(range(k - 1), n) for n in range(1, k)):
        C = differences[list(S)].reshape(-1, len(x))  # (3 |S|, 3 (K + 1))
        gain = np.linalg.solve(C @ P @ C.T + UNEVEN_STD**2 * np.eye(len(C)), np.column_stack([C @ P, C @ x]))
        d = C @ x
        evidence = STRAIGHT_BONUS * len(S) - 0.5 * float(d @ gain[:, -1])
        if evidence > most:
            best, most = x - gain[:, :-1].T @ d, evidence
    return best[3:].reshape(k, 3)


def _second_differences(n: int) -> np.ndarray:
    """Return the matrix of x_{k-1} - 2 x_k + x_{k+1}, shape (n - 2, n)."""
    return np.eye(n)[:-2] - 2 * np.eye(n)[1:-1] + np.eye(n)[2:]
