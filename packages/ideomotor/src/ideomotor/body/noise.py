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
        return self.white * np.eye(len(stamp)) + self.correlated * correlation(stamp, self.correlation_time)

    def effective_frames(self, stamp: np.ndarray) -> float:
        """Return how many independent frames tell as much about a mean as these T do."""
        C = self.covariance(stamp)
        return float(np.trace(C) * len(stamp) / C.sum())


def correlation(stamp: np.ndarray, correlation_time: float) -> np.ndarray:
    """Return exp(-|t - s| / correlation_time), shape (T, T)."""
    return np.exp(-np.abs(stamp[:, None] - stamp[None, :]) / correlation_time)


def noise_model(
    stamp: np.ndarray, residual: np.ndarray, root_weight: np.ndarray, correlation_time: float
) -> NoiseModel:
    r"""Estimate both variances.

    With :math:`M = 1 - 11^T/T` and :math:`S = \sum_i e_i e_i^T` the two moments are linear in the variances:
    :math:`E\,\mathrm{tr} S = n_1 (\sigma_w^2 \mathrm{tr} M + \sigma_c^2 \mathrm{tr}(M \kappa))` and
    :math:`E\,\mathrm{tr}(G S) = n_2 (\sigma_w^2 \mathrm{tr}(G M) + \sigma_c^2 \mathrm{tr}(G M \kappa M))`
    with :math:`G = \kappa^{\circ 4} - 1`, n the numbers of series present at one time and at two.

    Args:
        stamp: times, shape (T,) [s].
        residual: whitened and weighted, shape (T, ...).
        root_weight: square roots of the weights in [0, 1], same shape.
        correlation_time: [s].
    """
    T = len(stamp)
    e, w = residual.reshape(T, -1), root_weight.reshape(T, -1)
    n1 = float((w**2).sum()) / T
    if T < 3 or n1 == 0:
        return NoiseModel(white=0.5, correlated=0.5, correlation_time=correlation_time)
    kappa = correlation(stamp, correlation_time)
    near = kappa**4 - np.eye(T)  # pairs of frames that are close in time tell white and correlated apart
    n2 = float((w * (near @ w)).sum() / max(near.sum(), 1e-12))
    M = np.eye(T) - 1 / T
    M_kappa = kappa - kappa.mean(0)  # M kappa
    moments = np.array([(e**2).sum(), (e * (near @ e)).sum()])
    A = np.array([
        [n1 * (T - 1), n1 * np.trace(M_kappa)],
        [n2 * (near * M).sum(), n2 * (near * (M_kappa - M_kappa.mean(1, keepdims=True))).sum()],
    ])  # fmt: skip
    total = max(moments[0] / (n1 * (T - 1)), 1e-3)
    white, correlated = np.linalg.lstsq(A, moments, rcond=None)[0]
    correlated = float(np.clip(correlated, 0.0, 10 * total))
    white = float(max((moments[0] / n1 - correlated * np.trace(M_kappa)) / (T - 1), 0.05 * total))
    return NoiseModel(white, correlated, correlation_time)


def estimation_covariance(
    H: np.ndarray, prior: np.ndarray, blocks: tuple[np.ndarray, ...], noise: NoiseModel, stamp: np.ndarray
) -> np.ndarray:
    r"""Return the covariance of a weighted least-squares estimate under correlated noise, shape (D, D).

    :math:`H^{-1} (\Lambda_0 + \sum_{k,i} B_{ki}^T C B_{ki}) H^{-1}`: the fit weighs frames as if they were independent,
    the noise model C says what that is worth.

    Args:
        H: information used by the fit, prior included, shape (D, D).
        prior: its prior part, shape (D, D).
        blocks: whitened derivatives by each keypoint's own position (T, K, 3, 3), by common parameters (T, K, 3, P).
        noise: of the whitened residuals.
        stamp: times of the frames, shape (T,) [s].
    """
    T, K = blocks[0].shape[:2]
    C = noise.covariance(stamp)
    own = blocks[0]  # (T, K, 3, 3)
    C_own = (C @ own.reshape(T, -1)).reshape(own.shape)
    meat = prior.copy()
    for k in range(K):
        meat[3 * k : 3 * k + 3, 3 * k : 3 * k + 3] += np.tensordot(own[:, k], C_own[:, k], axes=([0, 1], [0, 1]))
    if len(blocks) == 2:
        common, p = blocks[1], blocks[1].shape[-1]
        C_common = (C @ common.reshape(T, -1)).reshape(common.shape)
        for k in range(K):
            cross = np.tensordot(own[:, k], C_common[:, k], axes=([0, 1], [0, 1]))  # (3, P)
            meat[3 * k : 3 * k + 3, 3 * K :] += cross
            meat[3 * K :, 3 * k : 3 * k + 3] += cross.T
        meat[3 * K :, 3 * K :] += common.reshape(-1, p).T @ C_common.reshape(-1, p)
    H_inv = np.linalg.inv(H)
    covariance = H_inv @ meat @ H_inv
    return 0.5 * (covariance + covariance.T)
