r"""Has the grasp moved? A slip is a plausible rigid displacement of the object as it is known.

Two explanations of the newest n frames compete: the object is where it was, and keypoints are misdetected; or it was
displaced by D in the end-effector frame. With keypoints y, their information A, the place p of the object before the
slip and the bounded loss :math:`\varrho` (a misdetection costs a constant),

.. math::
    D = \arg\min_D \sum_{t,k} \varrho\big(\|D p_{tk} - y_{tk}\|^2_{A_{tk}}\big) + \|\log D\|^2_{\Sigma_D}, \qquad
    G = \frac{1}{nK} \sum_{t,k} \varrho\big(\|p_{tk} - y_{tk}\|^2_{A_{tk}}\big)
                              - \varrho\big(\|D p_{tk} - y_{tk}\|^2_{A_{tk}}\big) .

The object has slipped when G is a fair share of the most it can be (an object that turns about the gripper moves its
outer keypoints only), D leaves little unexplained, and D is within its prior. Keypoints that a detector sees on
something else, or shifted along the object, are far from p too; but no such D explains them.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from ideomotor.body.fit import se3_log, skew
from ideomotor.body.inner_joint import SATURATION, robust_loss, robust_weight, rotation, squared_distance
from ideomotor.config import Config, value

ITERATIONS = 5  # of Gauss-Newton, most
FRAMES = (5, 64)  # fewest and most in a window
NEAR = 0.04  # a keypoint nearer to its place than that is in it, however unsure the detector is [m]
FARTHEST = 3.0  # a displacement beyond so many standard deviations of its prior is none [sigma]


@dataclass(frozen=True, kw_only=True)
class SlipConfig(Config):
    """When the grasp counts as moved."""

    window: float = value(0.36, "Time for which the frames must agree on a displacement [s].", ge=0.05, le=5.0)
    min_gain: float = value(0.25, "Share of the largest possible gain that is a slip.", ge=0.05, le=1.0)
    max_rest: float = value(
        0.2, "Share of the largest possible loss that a slip may leave unexplained.", ge=0.0, le=1.0
    )
    min_displacement: float = value(0.012, "Smallest displacement that is a slip [m].", ge=0.0, le=1.0)
    position_prior: float = value(0.05, "Standard deviation of a slip's translation [m].", ge=0.001, le=1.0)
    rotation_prior: float = value(0.6, "Standard deviation of a slip's rotation [rad].", ge=0.01, le=3.0)


@dataclass(frozen=True)
class Slip:
    """A detected change of the grasp."""

    time: float  # of the first frame after it [s]
    displacement: np.ndarray  # (K, 3) of the keypoints in the ee frame [m]


@dataclass(frozen=True)
class _Frame:
    stamp: float
    place: np.ndarray  # (K, 3) [m]
    position: np.ndarray  # (K, 3) [m]
    information: np.ndarray  # (K, 3, 3) [1/m^2]


class SlipDetector:
    """Sees one frame at a time; memory and work are bounded by the window."""

    def __init__(self, config: SlipConfig | None = None) -> None:
        self._config = config or SlipConfig()
        self._recent: deque[_Frame] = deque(maxlen=FRAMES[1])

    def reset(self) -> None:
        """Forget all frames."""
        self._recent.clear()

    def update(self, stamp: float, place: np.ndarray, position: np.ndarray, information: np.ndarray) -> Slip | None:
        """Take one frame; return the slip if there was one.

        Args:
            stamp: time of the frame [s].
            place: where the keypoints are in the ee frame unless the object slipped, shape (K, 3) [m].
            position: observed keypoints in the ee frame, shape (K, 3) [m].
            information: of the difference between the two, shape (K, 3, 3) [1/m^2].
        """
        self._recent.append(_Frame(stamp, place, position, information))
        while len(self._recent) > FRAMES[0] and stamp - self._recent[1].stamp >= self._config.window:
            self._recent.popleft()
        if len(self._recent) < FRAMES[0] or stamp - self._recent[0].stamp < self._config.window:
            return None
        p, y, A = (np.array([getattr(f, n) for f in self._recent]) for n in ("place", "position", "information"))
        loss, least = robust_loss(squared_distance(p - y, A)), self._config.min_gain * SATURATION  # (n, K)
        off = np.linalg.norm(np.median(y - p, axis=0), axis=1)  # (K,)
        if loss.mean() < least or np.median(off) < self._config.min_displacement:
            return None  # the usual case, at once
        D = _displacement(p, y, A, self._config)
        if D is None:
            return None
        rest = robust_loss(squared_distance(_moved(D, p) - y, A))  # (n, K)
        gain = loss - rest
        if gain.mean() < least or rest.mean() > self._config.max_rest * SATURATION:
            return None
        after = np.cumsum(gain.sum(1)[::-1])[::-1]  # gain of a change before frame t (CUSUM)
        return Slip(self._recent[int(np.argmax(after))].stamp, _moved(D, place) - place)


def in_place(place: np.ndarray, position: np.ndarray) -> bool:
    """Return whether at least one keypoint is where it was; arguments as of `SlipDetector.update`."""
    return bool((np.linalg.norm(position - place, axis=-1) < NEAR).any())


def _displacement(p: np.ndarray, y: np.ndarray, A: np.ndarray, config: SlipConfig) -> np.ndarray | None:
    """Return D, shape (4, 4), from n frames, shapes (n, K, 3) and (n, K, 3, 3); None if it is not plausible."""
    prior = np.repeat([config.position_prior**-2, config.rotation_prior**-2], 3)  # (6,)
    D = np.eye(4)
    for q, z, C in ((np.median(p, 0)[None], np.median(y, 0)[None], A.sum(0)[None]), (p, y, A)):
        for _ in range(ITERATIONS):
            r = _moved(D, q) - z  # (n, K, 3)
            # The medians are robust themselves; the frames are not.
            W = C if q is not p else C * robust_weight(squared_distance(r, C))[..., None, None]
            J = np.zeros((*r.shape, 6))  # of D q by (translation, rotation about the place where D takes the ee frame)
            J[..., :3], J[..., 3:] = np.eye(3), -skew(r + z - D[:3, 3])
            J, W_J = J.reshape(-1, 6), (W @ J).reshape(-1, 6)
            step = -np.linalg.solve(J.T @ W_J + np.diag(prior), W_J.T @ r.ravel() + prior * se3_log(D))
            D = D.copy()
            D[:3, 3] += step[:3]
            D[:3, :3] = rotation(step[3:]) @ D[:3, :3]
            if np.abs(step).max() < 1e-3:
                break
    return D if prior @ se3_log(D) ** 2 < FARTHEST**2 else None


def _moved(D: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return D p for points of shape (..., 3)."""
    return points @ D[:3, :3].T + D[:3, 3]
