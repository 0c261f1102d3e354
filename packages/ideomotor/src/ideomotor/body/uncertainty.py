r"""Covariances as shapes: the axes of the ellipsoid that a Gaussian's sigma level set is.

For :math:`\Sigma = R \,\mathrm{diag}(\lambda)\, R^T` the points with Mahalanobis distance ``sigma`` from the
mean form an ellipsoid with semi-axes :math:`\sigma\sqrt{\lambda_i}` along the columns of :math:`R`.
"""

from dataclasses import dataclass

import numpy as np

from ideomotor.errors import IdeomotorError


class CovarianceError(IdeomotorError):
    """A matrix that is not a covariance."""


@dataclass(frozen=True)
class Ellipsoid:
    """Level set of a Gaussian in d dimensions."""

    radii: np.ndarray  # (d,) semi-axes, largest first [unit of the quantity]
    rotation: np.ndarray  # (d, d) column i is the direction of radii[i]; a proper rotation


def ellipsoid(covariance: np.ndarray, sigma: float = 2.0) -> Ellipsoid:
    """Return the ``sigma`` level set of a Gaussian with ``covariance``, shape (d, d).

    Raises:
        CovarianceError: if the matrix is not square, finite, symmetric and positive semi-definite.
    """
    S = np.asarray(covariance, dtype=float)
    if S.ndim != 2 or S.shape[0] != S.shape[1] or not np.isfinite(S).all():
        raise CovarianceError(f"covariance {S.tolist()}, expected a finite square matrix")
    tolerance = 1e-9 * max(float(np.abs(S).max()), 1e-30)
    if np.abs(S - S.T).max() > 1e3 * tolerance:
        raise CovarianceError(f"covariance {S.tolist()} is not symmetric")
    eigenvalues, R = np.linalg.eigh(S)  # ascending
    if eigenvalues[0] < -1e3 * tolerance:
        raise CovarianceError(f"covariance {S.tolist()} has the negative eigenvalue {eigenvalues[0]:.3g}")
    radii, R = sigma * np.sqrt(np.maximum(eigenvalues[::-1], 0.0)), R[:, ::-1].copy()
    if np.linalg.det(R) < 0:
        R[:, -1] *= -1.0
    return Ellipsoid(radii, R)
