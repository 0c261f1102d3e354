r"""Where held keypoints are in the end-effector frame: one robust least squares over pixels and depths.

Bechtle, Das, Meier 2020 (arXiv:2011.03882), phase 2, with a depth residual and a noise model:

.. math::
    \min_{\rho, \xi} \sum_t \sum_k
        w_{tk} \| \Pi(p_{tk}) - z_{tk} \|^2_{s_k^2 \Sigma_{tk}}
        + w^d_{tk} (e_z^T p_{tk} - d_{tk})^2 / (\bar s_k \sigma_{tk})^2
        + \| \rho \|^2 / \sigma_\rho^2 + \| \xi \|^2_{\Sigma_\xi},
    \qquad p_{tk} = \mathrm{Exp}(-\xi)\, {}^{c}T_{ee}(q_t)\, \rho_k .

Deviations from the paper are listed in docs/body_schema.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ideomotor.body.camera import Intrinsics
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.noise import NoiseModel, estimation_covariance, noise_model
from ideomotor.config import Config, value
from ideomotor.errors import IdeomotorError

NEAREST = 0.05  # [m] no keypoint is nearer to the camera; keeps the projection differentiable
LONGEST_STEP = 0.2  # [m] of one Gauss-Newton step, for views where only the prior bounds the depth
SCALE_PSEUDO_COUNT = 10.0  # observations that the detector's own covariance is worth


class FitError(IdeomotorError):
    """Observations that cannot be fitted: wrong shapes, no frames, poses that are not finite."""


@dataclass(frozen=True, kw_only=True)
class FitConfig(Config):
    """How keypoint positions are estimated."""

    refine_camera: bool = value(False, "Also estimate a correction of the camera pose.")
    inlier_probability: float = value(
        0.95, "Upper bound of a keypoint's prior probability to be right.", ge=0.5, le=1.0
    )
    depth_inlier_probability: float = value(0.9, "Prior probability that a depth is right.", ge=0.5, le=0.999)
    depth_range: float = value(2.0, "Range in which wrong depths are spread [m].", ge=0.1, le=100.0)
    position_prior: float = value(0.5, "Prior standard deviation of a keypoint in the ee frame [m].", ge=0.01, le=10.0)
    camera_position_prior: float = value(0.03, "Prior standard deviation of the camera position [m].", ge=1e-4, le=1.0)
    camera_rotation_prior: float = value(
        0.052, "Prior standard deviation of the camera rotation [rad].", ge=1e-4, le=1.0
    )
    correlation_time: float = value(0.3, "Time over which detector errors are correlated [s].", ge=0.01, le=10.0)
    iterations: int = value(25, "Most Gauss-Newton iterations.", ge=1, le=1000)
    tolerance: float = value(2e-5, "Iteration ends when no keypoint moves further [m].", ge=1e-9, le=1e-2)


@dataclass(frozen=True)
class Observations:
    """T frames of K keypoints, and where the end effector was."""

    stamp: np.ndarray  # (T,) [s]
    T_camera_ee: np.ndarray  # (T, 4, 4)
    uv: np.ndarray  # (T, K, 2) [px]
    uv_covariance: np.ndarray  # (T, K, 2, 2) [px^2]
    depth: np.ndarray  # (T, K) [m], NaN where there is none
    depth_variance: np.ndarray  # (T, K) [m^2]
    confidence: np.ndarray  # (T, K)

    def __post_init__(self) -> None:
        t, k = self.uv.shape[:2] if np.ndim(self.uv) == 3 else (-1, -1)
        shapes = {
            "stamp": (t,), "T_camera_ee": (t, 4, 4), "uv": (t, k, 2), "uv_covariance": (t, k, 2, 2),
            "depth": (t, k), "depth_variance": (t, k), "confidence": (t, k),
        }  # fmt: skip
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                raise FitError(f"{name} has shape {np.shape(getattr(self, name))}, expected {shape}")
        if t == 0 or k == 0:
            raise FitError(f"{t} frames of {k} keypoints, expected at least one of each")
        if not np.isfinite(self.T_camera_ee).all():
            raise FitError("T_camera_ee is not finite, expected poses of the end effector")


def stack_observations(
    keypoints: Sequence[Keypoints], T_base_ee: np.ndarray, T_base_camera: np.ndarray
) -> Observations:
    """Return the frames as arrays.

    Args:
        keypoints: T frames with the same K names.
        T_base_ee: end-effector poses, shape (T, 4, 4).
        T_base_camera: pose of the optical frame, shape (4, 4).

    Raises:
        FitError: if the numbers of frames or the names differ, or there are none.
    """
    names = {frame.names for frame in keypoints}
    if len(names) != 1 or len(keypoints) != len(T_base_ee):
        raise FitError(
            f"{len(keypoints)} frames with keypoint names {sorted(names)} and {len(T_base_ee)} poses, "
            "expected one pose a frame and the same names in all"
        )
    fields = ("stamp", "uv", "uv_covariance", "depth", "depth_variance", "confidence")
    arrays = {name: np.array([getattr(frame, name) for frame in keypoints]) for name in fields}
    return Observations(T_camera_ee=np.linalg.inv(T_base_camera) @ T_base_ee, **arrays)


@dataclass(frozen=True)
class Fit:
    """Keypoints in the end-effector frame. D = 3 K, or 3 K + 6 when the camera is refined."""

    position_ee: np.ndarray  # (K, 3) [m]
    covariance: np.ndarray  # (D, D) of (positions, camera correction (xyz, rotation vector))
    T_camera_corrected: np.ndarray  # (4, 4) refined camera frame in the nominal one; identity if not refined
    weight: np.ndarray  # (T, K) posterior probability that the keypoint was right
    depth_weight: np.ndarray  # (T, K) that keypoint and depth were right
    scale: np.ndarray  # (K, 2) of pixel and depth noise, relative to what the detector says
    noise: NoiseModel  # of the whitened residuals: white and correlated part

    @property
    def position_covariance(self) -> np.ndarray:
        """Covariance of each keypoint, shape (K, 3, 3) [m^2]."""
        k = len(self.position_ee)
        blocks = self.covariance[: 3 * k, : 3 * k].reshape(k, 3, k, 3)
        return blocks[np.arange(k), :, np.arange(k)]

    @property
    def camera_covariance(self) -> np.ndarray:
        """Covariance of the camera correction in the camera frame, shape (6, 6); zero when not refined."""
        k = len(self.position_ee)
        camera = self.covariance[3 * k :, 3 * k :]
        return camera if camera.size else np.zeros((6, 6))

    @property
    def inlier_ratio(self) -> float:
        """Share of the keypoints that agree with the fit."""
        return float(self.weight.mean())


def fit_keypoints(
    observations: Observations, intrinsics: Intrinsics, config: FitConfig | None = None, start: Fit | None = None
) -> Fit:
    """Return the robust maximum a posteriori positions, with covariance.

    1. Start at the median of the back-projected points, or at the point nearest to all rays (or at ``start``).
    2. Repeat: inlier probabilities and noise scales (E step), one Gauss-Newton step (M step).
    3. Covariance from the noise model of the residuals, which are correlated over time.

    Raises:
        FitError: if the normal equations cannot be solved.
    """
    config = config or FitConfig()
    problem = _Problem(observations, intrinsics, config)
    if start is None:
        position, T_correction = _initial_positions(observations, intrinsics), np.eye(4)
        scale = problem.initial_scale(position)
    else:
        position, T_correction, scale = start.position_ee, start.T_camera_corrected, start.scale
        astray = start.weight.mean(axis=0) < 0.5  # (K,) a start that most frames contradict would keep itself alive
        if astray.any():
            position = np.where(astray[:, None], _initial_positions(observations, intrinsics), position)
            scale = np.where(astray[:, None], problem.initial_scale(position), scale)
    for _ in range(config.iterations):
        terms = problem.linearise(position, T_correction, scale)
        H, b = problem.normal_equations(terms, position, T_correction)
        try:
            step = -np.linalg.solve(H, b)
        except np.linalg.LinAlgError as error:
            raise FitError(f"the information matrix is singular: {error}") from error
        k3 = position.size
        moved = step[:k3].reshape(-1, 3)
        moved *= np.minimum(1.0, LONGEST_STEP / (np.linalg.norm(moved, axis=1, keepdims=True) + 1e-12))
        position, scale = position + moved, terms.scale
        T_correction = T_correction @ se3_exp(step[k3:]) if config.refine_camera else T_correction
        if np.abs(step).max() < config.tolerance:
            break
    terms = problem.linearise(position, T_correction, scale)
    H, _ = problem.normal_equations(terms, position, T_correction)
    noise = noise_model(observations.stamp, terms.residual, terms.root_weight, config.correlation_time)
    covariance = estimation_covariance(H, problem.prior_information, terms.blocks, noise, observations.stamp)
    return Fit(position, covariance, T_correction, terms.weight, terms.depth_weight, terms.scale, noise)


@dataclass(frozen=True)
class _Linearisation:
    """The least squares at one point: whitened rows (u, v, depth) of every frame and keypoint."""

    weight: np.ndarray  # (T, K)
    depth_weight: np.ndarray  # (T, K)
    scale: np.ndarray  # (K, 2)
    residual: np.ndarray  # (T, K, 3) whitened and weighted
    root_weight: np.ndarray  # (T, K, 3) square root of the weights
    blocks: tuple[np.ndarray, ...]  # derivatives by rho_k (T, K, 3, 3) and, refined, by xi (T, K, 3, 6)


class _Problem:
    """The constant part of the least squares of one set of observations."""

    def __init__(self, observations: Observations, intrinsics: Intrinsics, config: FitConfig) -> None:
        self.obs, self.camera, self.config = observations, intrinsics, config
        self.has_depth = np.isfinite(observations.depth) & (observations.depth_variance > 0)  # (T, K)
        self.depth = np.where(self.has_depth, observations.depth, 0.0)  # (T, K)
        self.depth_std = np.sqrt(np.where(self.has_depth, observations.depth_variance, 1.0))  # (T, K)
        c = observations.uv_covariance
        l00 = np.sqrt(c[..., 0, 0])  # Cholesky factor of each 2x2 covariance, inverted in closed form
        l10 = c[..., 1, 0] / l00
        l11 = np.sqrt(c[..., 1, 1] - l10**2)
        self.whiten = np.zeros_like(c)  # (T, K, 2, 2), W^T W = Sigma^-1
        self.whiten[..., 0, 0], self.whiten[..., 1, 1] = 1 / l00, 1 / l11
        self.whiten[..., 1, 0] = -l10 / (l00 * l11)
        p = np.minimum(observations.confidence, config.inlier_probability)
        area = intrinsics.width * intrinsics.height
        self.log_odds = np.log(np.maximum(p, 1e-12) / np.maximum(1 - p, 1e-12)) + np.log(area / (2 * np.pi * l00 * l11))
        p = config.depth_inlier_probability
        self.depth_log_odds = np.log(p / (1 - p)) + np.log(config.depth_range / (np.sqrt(2 * np.pi) * self.depth_std))
        k = observations.uv.shape[1]
        prior = np.full(3 * k, config.position_prior**-2)
        camera = np.repeat([config.camera_position_prior**-2, config.camera_rotation_prior**-2], 3)
        self.prior_information = np.diag(np.concatenate([prior, camera]) if config.refine_camera else prior)  # (D, D)

    def points(self, position: np.ndarray, T_correction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return p_tk in the refined camera, shape (T, K, 3), and the rotations camera <- ee, shape (T, 3, 3)."""
        T = np.linalg.inv(T_correction) @ self.obs.T_camera_ee
        p = position @ T[:, :3, :3].transpose(0, 2, 1) + T[:, None, :3, 3]
        p[..., 2] = np.maximum(p[..., 2], NEAREST)
        return p, T[:, :3, :3]

    def whitened(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixel residuals, shape (T, K, 2), and depth residuals, shape (T, K), in the detector's sigmas."""
        r = self.camera.project(p) - self.obs.uv
        return (self.whiten @ r[..., None])[..., 0], np.where(
            self.has_depth, p[..., 2] - self.depth, 0.0
        ) / self.depth_std

    def initial_scale(self, position: np.ndarray) -> np.ndarray:
        """Return noise scales from the medians of the residuals, shape (K, 2), at least 1."""
        r, r_depth = self.whitened(self.points(position, np.eye(4))[0])
        uv2 = np.median((r**2).sum(-1), axis=0) / 1.386  # median of chi-square with 2 degrees of freedom
        depth2 = np.median(r_depth**2, axis=0) / 0.455  # with 1
        return np.sqrt(np.maximum(np.stack([uv2, depth2], axis=-1), 1.0))

    def linearise(self, position: np.ndarray, T_correction: np.ndarray, scale: np.ndarray) -> _Linearisation:
        r"""Return inlier probabilities, updated scales, whitened residuals and their derivatives.

        A keypoint is right with its prior odds (the detector's confidence), and then normal about the projection,
        or else anywhere in the image; its depth likewise within the depth range:
        :math:`w = \frac{o}{1+o}`, :math:`o = \frac{\pi}{1-\pi} \frac{W H}{2 \pi s^2 |\Sigma|^{1/2}} e^{-r^2/2s^2}`.
        """
        p, R = self.points(position, T_correction)
        r, r_depth = self.whitened(p)
        r2 = np.einsum("tki,tki->tk", r, r)
        w = _logistic(self.log_odds - 2 * np.log(scale[:, 0]) - 0.5 * r2 / scale[:, 0] ** 2)  # (T, K)
        w_depth = _logistic(self.depth_log_odds - np.log(scale[:, 1]) - 0.5 * (r_depth / scale[:, 1]) ** 2)
        w_depth = w * w_depth * self.has_depth  # a depth belongs to its pixel
        a = SCALE_PSEUDO_COUNT
        scale_uv = np.sqrt((a + (w * r2).sum(0)) / (a + 2 * w.sum(0)))
        scale_depth = np.sqrt((a + (w_depth * r_depth**2).sum(0)) / (a + w_depth.sum(0)))
        root = np.sqrt(np.stack([w, w, w_depth], axis=-1))  # (T, K, 3)
        per_sigma = root / np.stack([scale_uv, scale_uv, scale_depth], axis=-1)
        J = np.zeros((*w.shape, 3, 3))  # d(whitened u, v, depth) / dp
        x, y, iz = p[..., 0], p[..., 1], 1 / p[..., 2]
        J[..., 0, 0], J[..., 0, 2] = self.camera.fx * iz, -self.camera.fx * x * iz**2
        J[..., 1, 1], J[..., 1, 2] = self.camera.fy * iz, -self.camera.fy * y * iz**2
        J[..., :2, :] = self.whiten @ J[..., :2, :]
        J[..., 2, 2] = 1 / self.depth_std
        J *= per_sigma[..., None]
        blocks: tuple[np.ndarray, ...] = (J @ R[:, None],)  # dp/drho = R
        if self.config.refine_camera:
            G = np.zeros((*w.shape, 3, 6))  # p' = Exp(-xi) p: dp/dxi = [-1, [p]x]
            G[..., :3], G[..., 3:] = -np.eye(3), skew(p)
            blocks = (blocks[0], J @ G)
        residual = np.concatenate([r, r_depth[..., None]], axis=-1) * per_sigma
        return _Linearisation(w, w_depth, np.stack([scale_uv, scale_depth], axis=-1), residual, root, blocks)

    def normal_equations(
        self, terms: _Linearisation, position: np.ndarray, T_correction: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the information matrix H, shape (D, D), and the gradient b, shape (D,), prior included."""
        k3 = position.size
        H = self.prior_information.copy()
        B = terms.blocks[0]
        state = np.concatenate([position.ravel(), se3_log(T_correction) if self.config.refine_camera else []])
        b = H @ state
        rows = B.transpose(1, 0, 2, 3).reshape(k3 // 3, -1, 3)  # (K, 3 T, 3)
        r = terms.residual.transpose(1, 0, 2).reshape(k3 // 3, -1, 1)
        for k, block in enumerate(rows.transpose(0, 2, 1) @ rows):
            H[3 * k : 3 * k + 3, 3 * k : 3 * k + 3] += block
        b[:k3] += (rows.transpose(0, 2, 1) @ r).ravel()
        if self.config.refine_camera:
            camera = terms.blocks[1].transpose(1, 0, 2, 3).reshape(k3 // 3, -1, 6)  # (K, 3 T, 6)
            coupling = (rows.transpose(0, 2, 1) @ camera).reshape(k3, 6)
            H[:k3, k3:] += coupling
            H[k3:, :k3] += coupling.T
            H[k3:, k3:] += (camera.transpose(0, 2, 1) @ camera).sum(0)
            b[k3:] += (camera.transpose(0, 2, 1) @ r).sum(0).ravel()
        return H, b


def _initial_positions(observations: Observations, intrinsics: Intrinsics) -> np.ndarray:
    """Return the component-wise median of the back-projected points, or the point nearest to all rays, (K, 3)."""
    R, t = observations.T_camera_ee[:, :3, :3], observations.T_camera_ee[:, :3, 3]
    points = (intrinsics.backproject(observations.uv, observations.depth) - t[:, None]) @ R  # (T, K, 3) in ee
    position = np.zeros((observations.uv.shape[1], 3))
    for k in range(len(position)):
        use = np.isfinite(observations.depth[:, k]) & (observations.confidence[:, k] > 0)
        if use.sum() >= 3:
            position[k] = np.median(points[use, k], axis=0)
        else:
            seen = observations.confidence[:, k] > 0
            position[k] = _nearest_to_rays(
                intrinsics.backproject(observations.uv[seen, k], np.ones(seen.sum())), R[seen], t[seen]
            )
    return position


def _nearest_to_rays(direction: np.ndarray, R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return the geometric median of rays from the camera, in the ee frame, shape (3,) (Weiszfeld's iteration)."""
    d = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    P = np.eye(3) - d[:, :, None] * d[:, None, :]  # (T, 3, 3) projects out the ray
    weight, rho = np.ones(len(d)), np.zeros(3)
    for _ in range(15):
        M = R.transpose(0, 2, 1) @ P * weight[:, None, None]
        rho = np.linalg.solve((M @ R).sum(0) + 1e-3 * np.eye(3), -(M @ t[..., None]).sum(0)[:, 0])
        distance = np.linalg.norm((P @ (R @ rho + t)[..., None])[..., 0], axis=1)
        weight = 1 / np.maximum(distance, 1e-3)
        weight /= max(weight.mean(), 1e-12) if len(weight) else 1.0
    return rho


def _logistic(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return 1 / (1 + np.exp(-np.clip(x, -500.0, 500.0)))


def skew(v: np.ndarray) -> np.ndarray:
    """Return [v]x with [v]x a = v x a, shape (..., 3, 3)."""
    m = np.zeros((*v.shape[:-1], 3, 3))
    m[..., 0, 1], m[..., 0, 2], m[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    return m - np.swapaxes(m, -1, -2)


def se3_exp(xi: np.ndarray) -> np.ndarray:
    """Return the transform (4, 4) of xi = (xyz, rotation vector): translation xyz, then rotation about its end.

    A retraction of SE(3), not its exponential: position and rotation of the camera do not mix.
    """
    T = np.eye(4)
    T[:3, 3] = xi[:3]
    T[:3, :3] = Rotation.from_rotvec(xi[3:]).as_matrix()
    return T


def se3_log(T: np.ndarray) -> np.ndarray:
    """Return xi, shape (6,), with se3_exp(xi) = T."""
    return np.concatenate([T[:3, 3], Rotation.from_matrix(T[:3, :3]).as_rotvec()])
