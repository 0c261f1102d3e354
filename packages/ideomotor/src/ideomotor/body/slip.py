r"""Has the grasp moved? A change detector over the innovations of all keypoints.

For windows of several lengths n ending now, the displacement of keypoint k in the ee frame is

.. math:: D_k = H_k^{-1} \sum_t w_{tk} A_{tk} \nu_{tk}, \quad H_k = \sum_t w_{tk} A_{tk}, \qquad
          S_k = D_k^T \big( n\, g_n s_k^2 H_k^{-1} + P_k \big)^{-1} D_k ,

with innovations :math:`\nu`, their information A, robust weights w about the window's median, :math:`P_k` the
covariance of the estimate and :math:`g_n = 1^T C 1 / n^2` what averaging n correlated errors is worth. The object has
slipped when the mean of the (bounded) :math:`S_k` is beyond what the detector's errors do, and most keypoints moved.
One keypoint alone cannot raise an alarm.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from ideomotor.body.inner_joint import robust_loss, robust_weight, squared_distance
from ideomotor.body.noise import NoiseModel
from ideomotor.config import Config, value


@dataclass(frozen=True, kw_only=True)
class SlipConfig(Config):
    """When the grasp counts as moved."""

    threshold: float = value(40.0, "Mean squared displacement that is a slip [sigma^2].", ge=1.0, le=1e4)
    min_displacement: float = value(0.012, "Smallest displacement that is a slip [m].", ge=0.0, le=1.0)
    moved_share: float = value(0.7, "Share of the keypoints that must have moved.", ge=0.1, le=1.0)
    lost_time: float = value(0.7, "Keypoints that agree with nothing for so long count as a slip [s].", ge=0.1, le=10.0)


@dataclass(frozen=True)
class Slip:
    """A detected change of the grasp."""

    time: float  # when it began [s]
    displacement: np.ndarray  # (K, 3) of the keypoints in the ee frame [m]; NaN where a keypoint was not consistent


@dataclass(frozen=True)
class _Innovation:
    stamp: float
    residual: np.ndarray  # (K, 3) [m]
    information: np.ndarray  # (K, 3, 3) [1/m^2]


class SlipDetector:
    """Sees one innovation a frame; memory and work are bounded by the longest window."""

    WINDOWS = (9, 15, 24)  # frames; shorter ones take a short misdetection for a slip

    def __init__(self, config: SlipConfig | None = None) -> None:
        self._config = config or SlipConfig()
        self._recent: deque[_Innovation] = deque(maxlen=self.WINDOWS[-1])
        self._lost_since: float | None = None

    def reset(self) -> None:
        """Forget all innovations."""
        self._recent.clear()
        self._lost_since = None

    def update(
        self,
        stamp: float,
        residual: np.ndarray,
        information: np.ndarray,
        prediction_covariance: np.ndarray,
        noise: NoiseModel,
    ) -> Slip | None:
        """Take the innovation of one frame; return the slip if there was one.

        Args:
            stamp: time of the frame [s].
            residual: observed minus predicted keypoints in the ee frame, shape (K, 3) [m].
            information: of the observations, in the noise scale of the fit, shape (K, 3, 3) [1/m^2].
            prediction_covariance: of the predicted keypoints, shape (K, 3, 3) [m^2].
            noise: of whitened residuals.
        """
        self._recent.append(_Innovation(stamp, residual, information))
        nu = np.array([i.residual for i in self._recent])  # (N, K, 3)
        A = np.array([i.information for i in self._recent])  # (N, K, 3, 3)
        stamps = np.array([i.stamp for i in self._recent])
        for n in self.WINDOWS:
            if n > len(stamps):
                break
            displacement = self._displacement(nu[-n:], A[-n:], stamps[-n:], prediction_covariance, noise)
            if displacement is not None:
                return Slip(self._onset(stamps, nu, A, displacement), displacement)
        return self._lost(stamp, residual, information, prediction_covariance)

    def _displacement(
        self, nu: np.ndarray, A: np.ndarray, stamps: np.ndarray, P: np.ndarray, noise: NoiseModel
    ) -> np.ndarray | None:
        """Return the displacements, shape (K, 3) [m], if they are a slip."""
        centre = np.median(nu, axis=0)  # (K, 3)
        far = np.linalg.norm(centre, axis=1) > 0.5 * self._config.min_displacement
        if far.mean() < 0.5 * self._config.moved_share:
            return None  # the usual case, at once
        w = robust_weight(squared_distance(nu - centre, A))  # (N, K)
        consistent = w.mean(0) > 0.4  # (K,) most of the window agrees with its median
        seen = A.any(axis=(0, 2, 3))  # (K,)
        H = (w[..., None, None] * A).sum(0) + 1e-3 * np.eye(3)  # (K, 3, 3)
        D = np.linalg.solve(H, ((w[..., None, None] * A) @ nu[..., None]).sum(0))[..., 0]  # (K, 3)
        correlated = noise.covariance(stamps).mean()  # g_n in units of the fit's scale
        spread = len(nu) * max(correlated, 0.02) * np.linalg.inv(H) * w.mean(0)[:, None, None] + P
        S = (D * np.linalg.solve(spread, D[..., None])[..., 0]).sum(-1)  # (K,)
        threshold, usable = self._config.threshold, consistent & seen
        if usable.sum() < max(1, len(S) / 2):
            return None
        moved = usable & (threshold / 2 < S) & (np.linalg.norm(D, axis=1) > self._config.min_displacement)
        if moved.sum() < self._config.moved_share * usable.sum() or not moved[np.argmax(usable)]:
            return None  # a joint inside the object moves many keypoints, but not the one next to the gripper
        if np.minimum(S[usable], 3 * threshold).mean() < threshold:
            return None
        return np.where(usable[:, None], D, np.nan)

    @staticmethod
    def _onset(stamps: np.ndarray, nu: np.ndarray, A: np.ndarray, displacement: np.ndarray) -> float:
        """Return the time after which the displaced object explains the innovations best (maximum of a CUSUM)."""
        known = np.isfinite(displacement).all(1)
        D = np.where(known[:, None], displacement, 0.0)
        gain = robust_loss(squared_distance(nu, A)) - robust_loss(squared_distance(nu - D, A))  # (N, K)
        after = np.cumsum((gain * known).sum(1)[::-1])[::-1]  # gain of a change before frame t
        return float(stamps[int(np.argmax(after))])

    def _lost(self, stamp: float, residual: np.ndarray, A: np.ndarray, P: np.ndarray) -> Slip | None:
        """Return a slip when most keypoints have long been far from the prediction without agreeing on a new place."""
        d2 = squared_distance(residual, A) / (1 + np.einsum("kij,kji->k", A, P))
        far = (d2 > 25.0) & (np.linalg.norm(residual, axis=1) > 2 * self._config.min_displacement)
        if far.mean() < self._config.moved_share:
            self._lost_since = None
        elif self._lost_since is None:
            self._lost_since = stamp
        elif stamp - self._lost_since >= self._config.lost_time:
            since, self._lost_since = self._lost_since, None
            return Slip(since, np.full_like(residual, np.nan))
        return None
