r"""How good a keypoint detector is, on labelled samples. Plain functions, also used by the benchmark.

What decides the accuracy of the extended chain is the *systematic* error of an object: the noise of a frame
averages out over 90 of them, a bias does not. `episode_bias` is therefore the figure to look at.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ideomotor.body.camera import Intrinsics
from ideomotor.body.detector import KeypointDetector
from ideomotor.body.keypoints import Keypoints
from ideomotor_learn.body.dataset import DataSet


def detect_samples(detector: KeypointDetector, data: DataSet, indices: Iterable[int]) -> list[Keypoints]:
    """Run the detector on samples of a data set."""
    found = []
    for i in indices:
        sample = data.sample(int(i))
        depth = sample.depth.astype(np.float32) * np.float32(1e-3)
        found.append(detector.detect(np.asarray(sample.rgb), depth, sample_intrinsics(data, int(i)), 0.0))
    return found


def sample_intrinsics(data: DataSet, i: int) -> Intrinsics:
    """Return the intrinsics of sample i."""
    height, width = data.sample(i).depth.shape
    fx, fy, cx, cy = (float(x) for x in data.intrinsics[i])
    return Intrinsics(width, height, fx, fy, cx, cy)


@dataclass(frozen=True)
class Errors:
    """Errors of N detections; NaN where there is no label."""

    pixel: np.ndarray  # (N, K, 2) predicted minus true [px]
    depth: np.ndarray  # (N, K) predicted minus true [m]
    position_ee: np.ndarray  # (N, K, 3) predicted, in the end-effector frame [m]
    true_position_ee: np.ndarray  # (N, K, 3) [m]
    on_object: np.ndarray  # (N, K) bool: within a 4 px block (or next to one) that shows the object
    visible: np.ndarray  # (N, K) bool
    confidence: np.ndarray  # (N, K)
    squared_normalised: np.ndarray  # (N, K, 3) along, across the object and depth: error^2 / variance
    episode: np.ndarray  # (N,)


def measure(found: list[Keypoints], data: DataSet, indices: np.ndarray) -> Errors:
    """Compare detections with the labels of the samples they were made from."""
    indices = np.asarray(indices)
    uv, z = np.stack([f.uv for f in found]), np.stack([f.depth for f in found])
    pixel, depth = uv - data.uv[indices], z - data.keypoint_depth[indices]
    position, true = np.empty((*z.shape, 3)), np.empty((*z.shape, 3))
    on = np.zeros(z.shape, bool)
    normalised = np.empty((*z.shape, 3))
    for n, i in enumerate(indices):
        camera, T = sample_intrinsics(data, int(i)), data.T_camera_ee[i].astype(float)
        position[n] = (camera.backproject(uv[n], z[n]) - T[:3, 3]) @ T[:3, :3]
        true[n] = (camera.backproject(data.uv[i], data.keypoint_depth[i]) - T[:3, 3]) @ T[:3, :3]
        on[n] = _on_mask(uv[n], data.sample(int(i)).mask)
        values, vectors = np.linalg.eigh(found[n].uv_covariance)  # (K, 2), (K, 2, 2)
        normalised[n, :, :2] = np.einsum("kji,kj->ki", vectors, pixel[n]) ** 2 / values
        normalised[n, :, 2] = depth[n] ** 2 / found[n].depth_variance
    confidence = np.stack([f.confidence for f in found])
    return Errors(
        pixel, depth, position, true, on, data.visible[indices], confidence, normalised, data.episode[indices]
    )


def _on_mask(uv: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Return (K,) bool: the 4 px block of the pixel, or one next to it, shows the object."""
    if mask is None:
        return np.zeros(len(uv), bool)
    h, w = mask.shape
    padded = np.pad(np.asarray(mask) > 0, 1)
    near = np.zeros((h, w), bool)
    for dy in range(3):
        for dx in range(3):
            near |= padded[dy : dy + h, dx : dx + w]
    cell = np.floor((uv + 0.5) / 4).astype(int)
    inside = ((cell >= 0) & (cell < [w, h])).all(-1)
    cell = np.clip(cell, 0, [w - 1, h - 1])
    return inside & near[cell[:, 1], cell[:, 0]]


def robust_mean(x: np.ndarray, rounds: int = 10) -> np.ndarray:
    """Return the geometric-median-like mean (3,) of points (N, 3): weights 1 / (1 + (r / s)^2), s the median r."""
    mean = np.median(x, axis=0)
    for _ in range(rounds):
        r = np.linalg.norm(x - mean, axis=1)
        weight = 1.0 / (1.0 + (r / max(float(np.median(r)), 1e-6)) ** 2)
        mean = weight @ x / weight.sum()
    return np.asarray(mean)


@dataclass(frozen=True)
class Bias:
    """Systematic error of a keypoint over one episode, in the end-effector frame [m]."""

    episode: int
    error: float  # norm
    along: float  # along the object (from the keypoint before), positive: beyond the truth
    across: float  # norm of the rest
    frames: int


def episode_bias(errors: Errors, keypoint: int = -1, minimum: int = 5) -> list[Bias]:
    """Return the systematic error of every episode with at least `minimum` frames that show the keypoint."""
    found = []
    for number in np.unique(errors.episode):
        use = (errors.episode == number) & errors.visible[:, keypoint]
        use &= np.isfinite(errors.position_ee[:, keypoint]).all(-1) & np.isfinite(errors.true_position_ee).all((-1, -2))
        if use.sum() < minimum:
            continue
        true = errors.true_position_ee[use].mean(0)  # (K, 3)
        bias = robust_mean(errors.position_ee[use, keypoint] - errors.true_position_ee[use, keypoint])
        axis = true[keypoint] - true[keypoint - 1] if keypoint != 0 else true[0]
        axis = axis / max(float(np.linalg.norm(axis)), 1e-9)
        along = float(bias @ axis)
        found.append(
            Bias(
                int(number),
                float(np.linalg.norm(bias)),
                along,
                float(np.linalg.norm(bias - along * axis)),
                int(use.sum()),
            )
        )
    return found


def summarise(errors: Errors) -> dict[str, float]:
    """Return the figures of the manifest: errors in px and mm, biases, calibration."""
    seen = errors.visible & np.isfinite(errors.pixel).all(-1)
    pixel = np.linalg.norm(errors.pixel, axis=-1)  # (N, K)
    figures: dict[str, float] = {"frames": float(len(pixel))}
    for k in range(pixel.shape[1]):
        p, d = pixel[seen[:, k], k], np.abs(errors.depth[seen[:, k], k])
        d = d[np.isfinite(d)]
        if len(p) and len(d):
            figures[f"kp_{k}_uv_median_px"], figures[f"kp_{k}_uv_mean_px"] = float(np.median(p)), float(p.mean())
            figures[f"kp_{k}_uv_p95_px"] = float(np.quantile(p, 0.95))
            figures[f"kp_{k}_depth_median_mm"] = 1e3 * float(np.median(d))
        biases = 1e3 * np.array([b.error for b in episode_bias(errors, k)])
        if len(biases):
            figures[f"kp_{k}_bias_median_mm"] = float(np.median(biases))
            figures[f"kp_{k}_bias_p95_mm"] = float(np.quantile(biases, 0.95))
    tip = episode_bias(errors)
    if tip:
        figures["tip_bias_along_median_mm"] = 1e3 * float(np.median([b.along for b in tip]))
        figures["tip_bias_along_abs_median_mm"] = 1e3 * float(np.median(np.abs([b.along for b in tip])))
        figures["tip_bias_across_median_mm"] = 1e3 * float(np.median([b.across for b in tip]))
    if seen.any():
        figures["on_object_pct"] = 100.0 * float(errors.on_object[seen].mean())
        inside = errors.squared_normalised[seen] < 3.84  # 95 % of chi^2 with one degree of freedom
        figures["coverage_95_uv_pct"] = 100.0 * float(inside[:, :2].mean())
        figures["coverage_95_depth_pct"] = 100.0 * float(inside[:, 2].mean())
        good = (errors.visible & errors.on_object).astype(float)
        figures["confidence_brier"] = float(((errors.confidence - good) ** 2).mean())
    return figures
