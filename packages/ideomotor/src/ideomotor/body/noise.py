r"""Noise of a keypoint detector over time: a white part and a part that is correlated.

A detector's error depends on the view, so that it stays nearly the same while the view does: 90 frames are not 90
measurements. Whitened residuals e of S series at T times are modelled as

.. math:: \mathrm{cov}(e_t, e_s) = \sigma_w^2 \delta_{ts} + \sigma_c^2 \kappa_{ts},
          \qquad \kappa_{ts} = \exp(-|t - s| / \tau_c),

with the correlation time known and both variances estimated from the residuals (method of moments for variance
components, with the residuals' mean removed as the fit does).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class NoiseModel:
    """Variances of the whitened residuals, and the correlation time."""

    white: float  # sigma_w^2
    correlated: float  # sigma_c^2
    correlation_time: float  # [s]

    def covariance(self, stamp: np.ndarray) -> np.ndarray:
        """Return the covariance of one series at these times [s], shape (T, T)."""
        C = self.correlated * correlation(stamp, self.correlation_time)
        C.flat[:: len(C) + 1] += self.white
        return C

    def effective_frames(self, stamp: np.ndarray) -> float:
        """Return how many independent frames tell as much about a mean as these T do."""
        C = self.covariance(stamp)
        return float(np.trace(C) * len(stamp) / C.sum())


def correlation(stamp: np.ndarray, correlation_time: float) -> np.ndarray:
    """Return exp(-|t - s| / correlation_time), shape (T, T)."""
    age = stamp / correlation_time
    distance = age[:, None] - age
    np.abs(distance, out=distance)
    return np.exp(-distance, out=distance)


def noise_model(
    stamp: np.ndarray, residual: np.ndarray, root_weight: np.ndarray, correlation_time: float
) -> NoiseModel:
    """Estimate both variances of residuals, see `variances`.

    Args:
        stamp: times, shape (T,) [s].
        residual: whitened and weighted, shape (T, ...).
        root_weight: square roots of the weights in [0, 1], same shape.
        correlation_time: [s].
    """
    T = len(stamp)
    kappa = correlation(stamp, correlation_time)
    white, correlated = variances(kappa, residual.reshape(T, -1).T, root_weight.reshape(T, -1).T)
    return NoiseModel(white, correlated, correlation_time)


def variances(kappa: np.ndarray, residual: np.ndarray, root_weight: np.ndarray) -> tuple[float, float]:
    r"""Return the variances of the white and of the correlated part.

    With :math:`M = 1 - 11^T/T` and :math:`S = \sum_i e_i e_i^T` the two moments are linear in the variances:
    :math:`E\,\mathrm{tr} S = n_1 (\sigma_w^2 \mathrm{tr} M + \sigma_c^2 \mathrm{tr}(M \kappa))` and
    :math:`E\,\mathrm{tr}(G S) = n_2 (\sigma_w^2 \mathrm{tr}(G M) + \sigma_c^2 \mathrm{tr}(G M \kappa M))`
    with :math:`G = \kappa^{\circ 4} - 1`, n the numbers of series present at one time and at two.

    Args:
        kappa: the correlation at the times of the residuals, shape (T, T).
        residual: whitened and weighted, shape (S, T).
        root_weight: square roots of the weights in [0, 1], shape (S, T).
    """
    e, w, T = residual, root_weight, len(kappa)
    n1 = float(np.vdot(w, w)) / T
    if T < 3 or n1 == 0:
        return 0.5, 0.5
    near = np.square(np.square(kappa))  # G: pairs of frames that are close in time tell white and correlated apart
    near.flat[:: T + 1] = 0.0
    pairs, kappa_mean = near @ np.ones(T), kappa @ np.ones(T) / T  # G 1, kappa 1 / T
    pair_sum = max(float(pairs.sum()), 1e-12)
    n2 = float(np.vdot(w, w @ near)) / pair_sum
    e2, e_near_e = float(np.vdot(e, e)), float(np.vdot(e, e @ near))
    # The traces written out, with M = 1 - 11^T/T and no diagonal in G.
    a11, a12 = n1 * (T - 1), n1 * float(T - kappa_mean.sum())
    a21 = -n2 * pair_sum / T
    a22 = n2 * float(np.vdot(near, kappa) - 2 * pairs @ kappa_mean + pair_sum * kappa_mean.mean())
    total = max(e2 / a11, 1e-3)
    determinant = a11 * a22 - a12 * a21
    if abs(determinant) > 1e-9 * abs(a11 * a22):
        correlated = min(max((a11 * e_near_e - a21 * e2) / determinant, 0.0), 10 * total)
    else:  # no frames that are close in time, or nothing but: the parts cannot be told apart
        correlated = 0.5 * e2 / a11
    return max((e2 - correlated * a12) / a11, 0.05 * total), correlated


def information(gram: np.ndarray) -> np.ndarray:
    r"""Return the information on all parameters of K keypoints with P - 3 parameters in common.

    Args:
        gram: :math:`B_k^T B_k` of each keypoint, its own position first, shape (K, P, P).

    Returns:
        Shape (D, D), D = 3 K + P - 3.
    """
    K, P = gram.shape[:2]
    own, D, k = 3 * K, 3 * K + P - 3, np.arange(K)
    H = np.zeros((D, D))
    H.reshape(D // 3, 3, D // 3, 3)[k, :, k] = gram[:, :3, :3]
    if P > 3:
        H[:own, own:] = gram[:, :3, 3:].reshape(own, -1)
        H[own:, :own] = H[:own, own:].T
        H[own:, own:] = gram[:, 3:, 3:].sum(0)
    return H


def estimation_covariance(
    H: np.ndarray, prior: np.ndarray, rows: np.ndarray, noise: NoiseModel, kappa: np.ndarray
) -> np.ndarray:
    r"""Return the covariance of a weighted least-squares estimate under correlated noise, shape (D, D).

    :math:`H^{-1} (\Lambda_0 + \sum_{k,i} B_{ki}^T C B_{ki}) H^{-1}`: the fit weighs frames as if they were independent,
    the noise model C says what that is worth.

    Args:
        H: information used by the fit, prior included, shape (D, D).
        prior: the diagonal of its prior part, shape (D,).
        rows: whitened derivatives by each keypoint's own position, then by common parameters, shape (K, P, 3, T).
        noise: of the whitened residuals.
        kappa: the correlation at the times of the frames, shape (T, T).
    """
    K, P, _, T = rows.shape
    B = rows.reshape(K, P, -1)
    kappa_B = (rows.reshape(-1, T) @ kappa).reshape(B.shape)
    meat = noise.correlated * information(kappa_B @ B.transpose(0, 2, 1)) + noise.white * H  # H has B^T B and the prior
    meat.flat[:: len(H) + 1] += (1.0 - noise.white) * prior
    H_inv = np.linalg.inv(H)
    covariance = H_inv @ meat @ H_inv
    return 0.5 * (covariance + covariance.T)
