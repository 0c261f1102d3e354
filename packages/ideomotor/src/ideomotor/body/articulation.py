r"""Does the held object have a joint? Model selection between rigid, revolute and prismatic.

Keypoints are ordered along the object; those from ``first_moving`` on lie beyond its joint (`inner_joint`), and one at
least before it: a joint before all of them cannot be told from a grasp that moves. Every split and both types are
fitted, the joint positions integrated out (Laplace), and the shortest description wins:

.. math::
    S = \frac{T_e}{T} \sum_t \Big[ \sum_k \varrho(d_{tk}^2) + \theta_t^2 / A^2 + \ln(1 + A^2 h_t) \Big] + P \ln T_e ,

:math:`T_e` the effective number of frames (the detector's errors are correlated), :math:`h_t` the information on
:math:`\theta_t`, P the number of constant parameters.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ideomotor.body.camera import Intrinsics
from ideomotor.body.extension import JointType
from ideomotor.body.fit import Fit, Observations
from ideomotor.body.inner_joint import (
    MEDIAN_CHI2_3,
    Joint,
    JointPrior,
    fit_joint_steps,
    joint_jacobians,
    robust_loss,
    robust_weight,
    squared_distance,
)
from ideomotor.body.noise import noise_model
from ideomotor.config import Config, value


@dataclass(frozen=True, kw_only=True)
class ArticulationConfig(Config):
    """When an object counts as movable."""

    min_stroke: float = value(0.012, "Least range of motion of a prismatic joint [m].", ge=0.0, le=1.0)
    min_angle: float = value(0.15, "Least range of motion of a revolute joint [rad].", ge=0.0, le=3.0)
    min_arc: float = value(0.012, "Least path of the farthest keypoint on a revolute joint [m].", ge=0.0, le=1.0)
    evidence: float = value(5.0, "Description length by which a movable object must beat a rigid one.", ge=0.0, le=1e4)
    iterations: int = value(10, "Gauss-Newton iterations of each candidate.", ge=1, le=100)
    correlation_time: float = value(0.3, "Time over which detector errors are correlated [s].", ge=0.01, le=10.0)


@dataclass(frozen=True)
class Points:
    """Keypoints as points in the end-effector frame; a ray is a point with no information along it."""

    stamp: np.ndarray  # (T,) [s]
    position: np.ndarray  # (T, K, 3) [m]
    information: np.ndarray  # (T, K, 3, 3) [1/m^2]


@dataclass(frozen=True)
class Selection:
    """Result of `select_joint`."""

    joint: Joint | None  # None: the object is rigid
    margin: float  # by how much the best movable object's description is shorter than the rigid one's; -inf: none moves
    effective_frames: float


def ee_points(observations: Observations, intrinsics: Intrinsics, fit: Fit) -> Points:
    """Return the observations as points in the ee frame; where there is no depth, as rays at the fit's depth."""
    obs = observations
    T = np.linalg.inv(fit.T_camera_corrected) @ obs.T_camera_ee
    R, t = T[:, :3, :3], T[:, :3, 3]
    expected = np.maximum((fit.position_ee @ R.transpose(0, 2, 1) + t[:, None])[..., 2], 0.05)  # (T, K)
    has_depth = np.isfinite(obs.depth) & (obs.depth_variance > 0) & (obs.depth > 0.05)
    p = intrinsics.backproject(obs.uv, np.where(has_depth, obs.depth, expected))  # (T, K, 3)
    iz = 1 / p[..., 2]
    J = np.zeros((*p.shape[:2], 2, 3))
    J[..., 0, 0], J[..., 0, 2] = intrinsics.fx * iz, -intrinsics.fx * p[..., 0] * iz**2
    J[..., 1, 1], J[..., 1, 2] = intrinsics.fy * iz, -intrinsics.fy * p[..., 1] * iz**2
    A = J.swapaxes(-1, -2) @ np.linalg.inv(obs.uv_covariance) @ J  # (T, K, 3, 3)
    A[..., 2, 2] += np.where(has_depth, 1 / np.where(has_depth, obs.depth_variance, 1.0), 0.0)
    A *= (obs.confidence > 0)[..., None, None]
    return Points(obs.stamp, (p - t[:, None]) @ R, R.transpose(0, 2, 1)[:, None] @ A @ R[:, None])


def select_joint(points: Points, config: ArticulationConfig | None = None) -> Selection:
    """Return the joint with the shortest description, or none if a rigid object explains the points as well."""
    *_, selection = selection_steps(points, config or ArticulationConfig())
    assert selection is not None
    return selection


def selection_steps(points: Points, config: ArticulationConfig) -> Iterator[Selection | None]:
    """Do what `select_joint` does in small steps (one Gauss-Newton step each), so that a 30 Hz loop can interleave it.

    Yields:
        None after every step but the last, then the selection.
    """
    K = points.position.shape[1]
    if K == 1:
        yield Selection(None, -np.inf, float(len(points.stamp)))
        return
    rigid = _fit_rigid(points)  # (K, 3)
    candidates = []
    for split in range(1, K):
        for kind in (JointType.REVOLUTE, JointType.PRISMATIC):
            steps = fit_joint_steps(points.position, points.information, rigid, split, kind, config.iterations)
            for joint in steps:
                newest = joint
                yield None
            candidates.append(newest)
    residuals = [_residuals(points, rigid, joint) for joint in candidates]
    scales = [float(np.median(squared_distance(r, points.information))) / MEDIAN_CHI2_3 for r in residuals]
    best = int(np.argmin(scales))
    scale2 = max(scales[best], 1e-6)  # of the detector's covariance, from the model that fits best
    effective = _effective_frames(points, residuals[best], scale2, config)
    share = effective / len(points.stamp)
    yield None
    scores = []
    for joint, r in zip(candidates, residuals, strict=True):
        constants = 3 * K + (4 if joint.type is JointType.REVOLUTE else 2)
        loss = robust_loss(squared_distance(r, points.information) / scale2).sum()
        score = share * (loss + _position_length(points, joint, scale2)) + constants * np.log(effective)
        score += JointPrior.at(rigid, joint.first_moving).length(joint)
        scores.append(score if _moves(joint, config) else np.inf)
    rigid_loss = robust_loss(squared_distance(points.position - rigid, points.information) / scale2).sum()
    choice = int(np.argmin(scores))
    margin = float(share * rigid_loss + 3 * K * np.log(effective) - scores[choice])
    if margin < config.evidence:
        yield Selection(None, margin, effective)
        return
    joint = candidates[choice]
    yield Selection(replace(joint, covariance=joint.covariance / share), margin, effective)


def _fit_rigid(points: Points) -> np.ndarray:
    """Return the robust position of each keypoint if it did not move, shape (K, 3) [m]."""
    position = np.median(points.position, axis=0)  # (K, 3)
    for _ in range(5):
        d2 = squared_distance(points.position - position, points.information)
        scale2 = np.maximum(np.median(d2, axis=0) / MEDIAN_CHI2_3, 1.0)  # (K,)
        W = points.information * robust_weight(d2 / scale2)[..., None, None]  # (T, K, 3, 3)
        b = (W @ points.position[..., None]).sum(0) + position[..., None]
        position = np.linalg.solve(W.sum(0) + np.eye(3), b)[..., 0]
    return position


def _residuals(points: Points, rigid: np.ndarray, joint: Joint) -> np.ndarray:
    """Return observed minus predicted positions of all keypoints, shape (T, K, 3) [m]."""
    r = points.position - rigid
    s = joint.first_moving
    r[:, s:] = points.position[:, s:] - joint.keypoints(joint.position)
    return r


def _position_length(points: Points, joint: Joint, scale2: float) -> float:
    """Return the description length of the joint positions: prior, and what integrating them out costs."""
    _, J_theta = joint_jacobians(joint)
    W_theta = (points.information[:, joint.first_moving :] @ J_theta[..., None])[..., 0]
    h = (J_theta * W_theta).sum((1, 2)) / scale2  # (T,)
    return float((joint.position**2 / joint.amplitude**2 + np.log1p(joint.amplitude**2 * h)).sum())


def _effective_frames(points: Points, residual: np.ndarray, scale2: float, config: ArticulationConfig) -> float:
    """Return the effective number of frames, from the residuals of the best model, shape (T, K, 3) [m]."""
    values, vectors = np.linalg.eigh(points.information)  # singular for rays
    root = np.sqrt(np.maximum(values, 0.0))[..., None] * vectors.swapaxes(-1, -2)
    e = (root @ residual[..., None])[..., 0] / np.sqrt(scale2)  # (T, K, 3) whitened
    w = np.sqrt(robust_weight((e**2).sum(-1)))[..., None] * np.ones(3)
    noise = noise_model(points.stamp, e * w, w, config.correlation_time)
    return float(np.clip(noise.effective_frames(points.stamp), 2.0, len(points.stamp)))


def _moves(joint: Joint, config: ArticulationConfig) -> bool:
    """Return whether the range of motion is large enough to be a joint's and not noise."""
    low, high = np.quantile(joint.position, [0.02, 0.98])
    if joint.type is JointType.PRISMATIC:
        return bool(high - low >= config.min_stroke)
    return bool(high - low >= config.min_angle and (high - low) * joint.radius >= config.min_arc)
