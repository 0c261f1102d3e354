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
from scipy.linalg.lapack import dposv
from scipy.spatial.transform import Rotation

from ideomotor.body.camera import Intrinsics
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.noise import NoiseModel, correlation, estimation_covariance, information, variances
from ideomotor.config import Config, value
from ideomotor.errors import IdeomotorError

NEAREST = 0.05  # [m] no keypoint is nearer to the camera; keeps the projection differentiable
LONGEST_STEP = 0.2  # [m] of one Gauss-Newton step, for views where only the prior bounds the depth
SCALE_PSEUDO_COUNT = 100.0  # observations that the detector's own covariance is worth
START_BLUR = 0.006  # [m] error of the detector that neighbouring views share; two points this near agree
START_CANDIDATES = 16  # frames whose points are tried as a start
START_LOYALTY = 2.0  # so much denser must another start be than the fit before: a tip in use does not jump lightly
DIMENSIONS = np.array([[2.0], [1.0]])  # of the residuals of a pixel and of a depth
GENERATORS = np.array([[0, 0, 0, 0, 0, -1, 0, 1, 0], [0, 0, 1, 0, 0, 0, -1, 0, 0], [0, -1, 0, 1, 0, 0, 0, 0, 0]], float)
MEDIAN_CHI2 = np.array([[1.386], [0.455]])  # median of chi-square with so many degrees of freedom


class FitError(IdeomotorError):
    """Observations that cannot be fitted: wrong shapes, no frames, poses that are not finite."""


@dataclass(frozen=True, kw_only=True)
class FitConfig(Config):
    """How keypoint positions are estimated."""

    refine_camera: bool = value(False, "Also estimate a correction of the camera pose.")
    inlier_probability: float = value(0.8, "Upper bound of a keypoint's prior probability to be right.", ge=0.5, le=1.0)
    outlier_range: float = value(0.3, "Range in which wrong keypoints are spread: the object [m].", ge=0.01, le=100.0)
    depth_inlier_probability: float = value(0.9, "Prior probability that a depth is right.", ge=0.5, le=0.999)
    depth_range: float = value(0.5, "Range in which wrong depths are spread [m].", ge=0.1, le=100.0)
    position_prior: float = value(0.5, "Prior standard deviation of a keypoint in the ee frame [m].", ge=0.01, le=10.0)
    camera_position_prior: float = value(0.03, "Prior standard deviation of the camera position [m].", ge=1e-4, le=1.0)
    camera_rotation_prior: float = value(
        0.052, "Prior standard deviation of the camera rotation [rad].", ge=1e-4, le=1.0
    )
    correlation_time: float = value(0.3, "Time over which detector errors are correlated [s].", ge=0.01, le=10.0)
    iterations: int = value(25, "Most Gauss-Newton iterations.", ge=1, le=1000)
    tolerance: float = value(2e-5, "Iteration ends when no keypoint moves further [m].", ge=1e-9, le=1e-2)


DEFAULTS = FitConfig()


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

    1. Start where most of the back-projected points agree (the mean of both ends of an object is neither), or at the
       point nearest to all rays, or at ``start`` unless another place is clearly better.
    2. Repeat: inlier probabilities and noise scales (E step), one Gauss-Newton step (M step).
    3. Covariance from the noise model of the residuals, which are correlated over time; all but the positions is that
       of the last linearisation, from which the last step led no further than the tolerance.

    Raises:
        FitError: if the normal equations cannot be solved.
    """
    config = config or DEFAULTS
    problem = _Problem(observations, intrinsics, config)
    if start is None:
        position, _ = problem.start(observations)
        T_correction, scale = np.eye(4), None if config.refine_camera else np.ones((2, len(position)))
    else:
        position, elsewhere = problem.start(observations, start)
        T_correction, scale = start.T_camera_corrected, np.where(elsewhere, 1.0, start.scale.T)
    for _ in range(config.iterations):
        terms = problem.linearise(position, T_correction, scale)
        H, b = problem.normal_equations(terms, position, T_correction)
        _, step, info = dposv(H, -b)  # by Cholesky's factors
        if info != 0:
            raise FitError(f"the information matrix is not positive definite (LAPACK's dposv: info={info})")
        moved, largest = step[: position.size].reshape(-1, 3), np.abs(step).max()
        if largest > 0.5 * LONGEST_STEP:
            moved *= np.minimum(1.0, LONGEST_STEP / (np.linalg.norm(moved, axis=1, keepdims=True) + 1e-12))
        position, scale = position + moved, terms.scale
        T_correction = T_correction @ se3_exp(step[position.size :]) if config.refine_camera else T_correction
        if largest < config.tolerance:
            break
    kappa = correlation(observations.stamp, config.correlation_time)
    residual, root_weight = (x.reshape(-1, len(kappa)) for x in (terms.residual, terms.root_weight))  # (3 K, T)
    noise = NoiseModel(*variances(kappa, residual, root_weight), config.correlation_time)
    covariance = estimation_covariance(H, problem.prior_information, terms.rows, noise, kappa)
    return Fit(position, covariance, T_correction, terms.weight[0].T, terms.weight[1].T, terms.scale.T, noise)


@dataclass(frozen=True)
class _Linearisation:
    """The least squares at one point: whitened rows (u, v, depth) of every keypoint and frame."""

    weight: np.ndarray  # (2, K, T) that the keypoint was right, and that its depth was right too
    scale: np.ndarray  # (2, K) of pixel and depth noise
    residual: np.ndarray  # (3, K, T) whitened and weighted
    root_weight: np.ndarray  # (3, K, T) square root of the weights
    rows: np.ndarray  # (K, P, 3, T) derivatives of the residuals by rho_k and, refined, by xi: P = 3 or 9


class _Problem:
    """The constant part of the least squares of one set of observations.

    Arrays end in (K, T), time last: what is the same for all keypoints is repeated over K, and numpy's inner loops are
    long. A fit is a few hundred operations on a thousand numbers each, where their number counts and not their size.
    """

    def __init__(self, observations: Observations, intrinsics: Intrinsics, config: FitConfig) -> None:
        obs, camera, self.config = observations, intrinsics, config
        self.T_camera_ee = np.ascontiguousarray(obs.T_camera_ee.transpose(1, 2, 0))  # (4, 4, T)
        u, v = obs.uv.transpose(2, 1, 0)
        self.ray = np.array([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy])  # (2, K, T) x/z and y/z
        depth, variance = obs.depth.T, obs.depth_variance.T  # (K, T)
        has_depth = np.isfinite(depth) & (variance > 0)
        self.depth = np.where(has_depth, depth, 0.0)
        depth_std = np.sqrt(np.where(has_depth, variance, 1.0))
        self.whiten_depth = has_depth / depth_std  # zero without depth: neither residual nor derivative
        c = obs.uv_covariance.transpose(2, 3, 1, 0)  # (2, 2, K, T)
        l00 = np.sqrt(c[0, 0])  # Cholesky factor of each 2x2 covariance, inverted in closed form
        l10 = c[1, 0] / l00
        l11 = np.sqrt(c[1, 1] - l10**2)
        # The lower triangle (uu, vu, vv) of W, W^T W = Sigma^-1, by the derivative of (u, v) by the ray, (3, K, T).
        self.whiten = np.array([camera.fx / l00, -camera.fx * l10 / (l00 * l11), camera.fy / l11])
        metres = np.where(has_depth, depth, 1.0)
        self.variance = (2 * l00 * l11 * metres**2 / (camera.fx * camera.fy) + depth_std**2) / 3  # (K, T) [m^2], a mean
        p = np.minimum(obs.confidence.T, config.inlier_probability)
        p_depth, area = config.depth_inlier_probability, camera.fx * camera.fy * (config.outlier_range / metres) ** 2
        self.odds = np.array([  # (2, K, T) prior odds over the density of a residual of zero at scale 1
            p / np.maximum(1 - p, 1e-12) * (area / (2 * np.pi)) / (l00 * l11),
            (p_depth / (1 - p_depth) * config.depth_range / np.sqrt(2 * np.pi)) * self.whiten_depth,
        ])  # fmt: skip
        prior = np.full(p.shape[0] * 3, config.position_prior**-2)
        xi = np.repeat([config.camera_position_prior**-2, config.camera_rotation_prior**-2], 3)
        self.prior_information = np.concatenate([prior, xi]) if config.refine_camera else prior  # (D,), diagonal

    def points(self, position: np.ndarray, T_correction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return p_tk in the refined camera, shape (3, K, T), and the rotations camera <- ee, shape (3, 3, T)."""
        T = self.T_camera_ee
        if self.config.refine_camera:
            T = (np.linalg.inv(T_correction) @ T.reshape(4, -1)).reshape(T.shape)
        p = position @ T[:3, :3] + T[:3, 3:]  # (K, 3) @ (3, 3, T)
        np.maximum(p[2], NEAREST, out=p[2])
        return p, T[:3, :3]

    def residual(self, p: np.ndarray) -> np.ndarray:
        """Return the residuals of (u, v, depth) in the detector's sigmas, shape (3, K, T)."""
        dx, dy = p[:2] / p[2] - self.ray
        r = np.empty_like(p)
        r[0] = self.whiten[0] * dx
        r[1] = self.whiten[1] * dx + self.whiten[2] * dy
        r[2] = self.whiten_depth * (p[2] - self.depth)
        return r

    def start(self, observations: Observations, before: Fit | None = None) -> tuple[np.ndarray, np.ndarray]:
        r"""Return where most points agree, shape (K, 3), and whether that is elsewhere than ``before``, (K,) bool.

        Of the points x of some frames, and those of ``before``, the one with the highest density
        :math:`\sum_t c_t s_t^{-3} e^{-\|x - x_t\|^2 / 2 s_t^2}`, with confidence c and standard deviation s, moved to
        the mean of what agrees with it. Where less than three frames have a depth: the point nearest to all rays.
        """
        R, t = self.T_camera_ee[:3, :3], self.T_camera_ee[:3, 3:]  # (3, 3, T), (3, 1, T)
        points = np.array([self.ray[0] * self.depth, self.ray[1] * self.depth, self.depth]) - t  # (3, K, T)
        points = (R[:, :, None] * points[:, None]).sum(0).transpose(1, 2, 0)  # R^T (p - t), (K, T, 3)
        confidence = np.where(self.whiten_depth > 0, observations.confidence.T, 0.0)  # (K, T)
        blur = START_BLUR + self.config.refine_camera * self.config.camera_position_prior
        per_variance = 1 / (self.variance + blur**2)
        candidates = points[:, :: max(1, points.shape[1] // START_CANDIDATES)]  # (K, C, 3)
        if before is not None:
            candidates = np.concatenate([candidates, before.position_ee[:, None]], axis=1)
        d2 = ((candidates[:, :, None] - points[:, None]) ** 2).sum(-1)  # (K, C, T)
        near = confidence[:, None] * np.exp(-0.5 * d2 * per_variance[:, None])
        density = (near * per_variance[:, None] ** 1.5).sum(-1)  # (K, C)
        if before is not None:
            density[:, -1] *= START_LOYALTY
        k, best = np.arange(len(density)), density.argmax(-1)
        weight = near[k, best] * per_variance  # (K, T)
        position = (weight[:, None] @ points)[:, 0] / np.maximum(weight.sum(-1, keepdims=True), 1e-12)
        elsewhere = np.full(len(k), True)
        few = (confidence > 0).sum(-1) < 3  # (K,)
        if before is not None:
            elsewhere = np.where(few, before.weight.mean(0) < 0.5, best < candidates.shape[1] - 1)
            position = np.where(elsewhere[:, None], position, before.position_ee)
        for j in np.nonzero(few & elsewhere)[0]:
            seen = observations.confidence[:, j] > 0
            rays = np.stack([*self.ray[:, j, seen], np.ones(seen.sum())], axis=-1)
            T = observations.T_camera_ee[seen]
            position[j] = _nearest_to_rays(rays, T[:, :3, :3], T[:, :3, 3])
        return position, elsewhere

    def linearise(self, position: np.ndarray, T_correction: np.ndarray, scale: np.ndarray | None) -> _Linearisation:
        r"""Return inlier probabilities, updated scales, whitened residuals and their derivatives.

        A keypoint is right with its prior odds (the detector's confidence), and then normal about the projection,
        or else anywhere on the object (on an area A of the image); its depth likewise within the depth range:
        :math:`w = \frac{o}{1+o}`, :math:`o = \frac{\pi}{1-\pi} \frac{A}{2 \pi s^2 |\Sigma|^{1/2}} e^{-r^2/2s^2}`.
        The scale is that of the step before, shape (2, K), or that of the medians if None (a camera that is not where
        it should be displaces all points).
        """
        p, R = self.points(position, T_correction)
        r = self.residual(p)
        r2 = _squares(r)  # (2, K, T)
        s = _median_scale(r2) if scale is None else scale
        odds = self.odds / (s**DIMENSIONS)[..., None] * np.exp(r2 * (-0.5 / s**2)[..., None])
        w = odds / (1 + odds)
        w[1] *= w[0]  # a depth belongs to its pixel
        a = SCALE_PSEUDO_COUNT
        s = np.sqrt((a + (w * r2).sum(-1)) / (a + DIMENSIONS * w.sum(-1)))  # (2, K)
        root = np.sqrt(w)
        per_sigma = root / s[..., None]
        rows = self._rows(p, R[:, None], per_sigma)  # dp/drho = R
        if self.config.refine_camera:  # p' = Exp(-xi) p: dp/dxi = [-1, [p]x]
            D = np.zeros((3, p.shape[1], 6, p.shape[2]))
            D[[0, 1, 2], :, [0, 1, 2]] = -1.0
            D[:, :, 3:] = skew(p.transpose(1, 2, 0)).transpose(2, 0, 3, 1)
            rows = np.concatenate([rows, self._rows(p, D, per_sigma)], axis=1)
        twice = [0, 0, 1]  # u and v have the weight of their keypoint
        return _Linearisation(w, s, r * per_sigma[twice], root[twice], rows)

    def _rows(self, p: np.ndarray, D: np.ndarray, per_sigma: np.ndarray) -> np.ndarray:
        """Return the derivatives of the whitened residuals, shape (K, P, 3, T), given those of p, (3, K or 1, P, T)."""
        x, y = (p[:2] / p[2])[:, :, None]  # (K, 1, T)
        uu, vu, vv = (self.whiten * (per_sigma[0] / p[2]))[:, :, None]
        dx, dy = D[0] - x * D[2], D[1] - y * D[2]  # z times the derivative of the ray, (K, P, T)
        rows = np.empty((*dx.shape[:2], 3, dx.shape[2]))
        rows[:, :, 0] = uu * dx
        rows[:, :, 1] = vu * dx + vv * dy
        rows[:, :, 2] = (self.whiten_depth * per_sigma[1])[:, None] * D[2]
        return rows

    def normal_equations(
        self, terms: _Linearisation, position: np.ndarray, T_correction: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the information matrix H, shape (D, D), and the gradient b, shape (D,), prior included."""
        K, P = terms.rows.shape[:2]
        B = terms.rows.reshape(K, P, -1)  # (K, P, 3 T)
        H = information(B @ B.transpose(0, 2, 1))
        H.flat[:: len(H) + 1] += self.prior_information
        g = (B @ terms.residual.transpose(1, 0, 2).reshape(K, -1, 1))[..., 0]  # (K, P)
        if not self.config.refine_camera:
            return H, g.ravel() + self.prior_information * position.ravel()
        state = np.concatenate([position.ravel(), se3_log(T_correction)])
        return H, np.concatenate([g[:, :3].ravel(), g[:, 3:].sum(0)]) + self.prior_information * state


def _squares(residual: np.ndarray) -> np.ndarray:
    """Return the squared residuals of pixel and depth, shape (2, K, T), of those of (u, v, depth), (3, K, T)."""
    r2 = residual**2
    r2[1] += r2[0]
    return r2[1:]


def _median(x: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the medians of the ``count`` (K,) smallest numbers of each row of x (..., K, T), shape (..., K)."""
    ordered, k = np.sort(x, axis=-1), np.arange(len(count))
    return 0.5 * (ordered[..., k, (count - 1) // 2] + ordered[..., k, count // 2])


def _median_scale(r2: np.ndarray) -> np.ndarray:
    """Return noise scales, shape (2, K), at least 1, such that the median of r2 / scale^2 is that of chi-square."""
    K, T = r2.shape[1:]
    return np.sqrt(np.maximum(_median(r2, np.full(K, T)) / MEDIAN_CHI2, 1.0))


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


def skew(v: np.ndarray) -> np.ndarray:
    """Return [v]x with [v]x a = v x a, shape (..., 3, 3): the sum of v_i times the generators of SO(3)."""
    return (v @ GENERATORS).reshape(*v.shape, 3)


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
