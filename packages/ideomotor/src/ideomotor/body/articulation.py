r"""Does the held object have a joint? Model selection between rigid, revolute and prismatic.

Keypoints are ordered along the object; those from ``first_moving`` on lie beyond its joint. In the ee frame

.. math::
    \text{revolute: } y_{tk} = c + \mathrm{Exp}(u \theta_t)\, a_k, \qquad
    \text{prismatic: } y_{tk} = a_k + u\, \theta_t, \qquad \theta_t \sim N(0, A^2),

with the joint positions :math:`\theta_t` integrated out (Schur complement, Laplace). Every split and both types are fitted,
and the least description length wins:

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
from ideomotor.body.fit import Fit, Observations, skew
from ideomotor.body.noise import noise_model
from ideomotor.config import Config, value

SATURATION = 16.0  # an outlier costs as much as a residual of 4 sigma (Geman-McClure)
LIMIT_MARGIN = 0.1  # share of the range seen that is added at either end
HINGE_ACROSS = 0.2  # standard deviation of a hinge off the line between its neighbours, as a share of their distance
DIRECTION_STD = 0.06  # [rad] of a hinge's axis from the normal of its arm, of a slide's axis from the object
MEDIAN_CHI2_3 = 2.366  # median of chi-square with 3 degrees of freedom


@dataclass(frozen=True, kw_only=True)
class ArticulationConfig(Config):
    """When an object counts as movable."""

    min_stroke: float = value(0.02, "Least range of motion of a prismatic joint [m].", ge=0.0, le=1.0)
    min_angle: float = value(0.25, "Least range of motion of a revolute joint [rad].", ge=0.0, le=3.0)
    min_arc: float = value(0.02, "Least path of the farthest keypoint on a revolute joint [m].", ge=0.0, le=1.0)
    evidence: float = value(20.0, "Description length by which a movable object must beat a rigid one.", ge=0.0, le=1e4)
    iterations: int = value(10, "Gauss-Newton iterations of each candidate.", ge=1, le=100)
    correlation_time: float = value(0.3, "Time over which detector errors are correlated [s].", ge=0.01, le=10.0)


@dataclass(frozen=True)
class Points:
    """Keypoints as points in the end-effector frame; a ray is a point with no information along it."""

    stamp: np.ndarray  # (T,) [s]
    position: np.ndarray  # (T, K, 3) [m]
    information: np.ndarray  # (T, K, 3, 3) [1/m^2]


@dataclass(frozen=True)
class Joint:
    """A joint inside the held object, in the end-effector frame, and where its keypoints are at position zero."""

    type: JointType  # revolute or prismatic
    first_moving: int  # the first keypoint beyond the joint
    axis: np.ndarray  # (3,) unit vector
    point: np.ndarray  # (3,) on the axis [m]
    body: np.ndarray  # (m, 3) moving keypoints at position zero, relative to ``point`` if revolute [m]
    position: np.ndarray  # (T,) of every frame [rad] or [m]
    amplitude: float = 1.0  # standard deviation of the positions
    covariance: np.ndarray | None = None  # of (rotation of axis (2), point (3), body (3 m)); see `tangent`

    def keypoints(self, position: np.ndarray) -> np.ndarray:
        """Return the moving keypoints at joint positions of shape (T,), shape (T, m, 3) [m]."""
        position = np.asarray(position)
        if self.type is JointType.PRISMATIC:
            return self.body + position[:, None, None] * self.axis  # (T, m, 3)
        return self.point + self.body @ rotations(self.axis, position).transpose(0, 2, 1)

    @property
    def tangent(self) -> np.ndarray:
        """Two unit vectors orthogonal to the axis, shape (3, 2)."""
        U = skew(self.axis)
        e1 = U[:, np.argmin(np.abs(self.axis))]  # axis x the unit vector farthest from it
        e1 = e1 / np.linalg.norm(e1)
        return np.stack([e1, U @ e1], axis=1)

    @property
    def limits(self) -> tuple[float, float]:
        """The range seen (1st to 99th percentile), with a margin [rad] or [m]."""
        low, high = np.quantile(self.position, [0.01, 0.99])
        margin = LIMIT_MARGIN * (high - low)
        return float(low - margin), float(high + margin)


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
    rigid = _fit_rigid(points)  # (K, 3)
    candidates = []
    for split in range(K):
        for kind in (JointType.REVOLUTE, JointType.PRISMATIC):
            joint = None
            for joint in fit_joint_steps(points, rigid, split, kind, config):
                yield None
            candidates.append(joint)
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
        scores.append(score if _moves(joint, config) else np.inf)
    rigid_loss = robust_loss(squared_distance(points.position - rigid, points.information) / scale2).sum()
    choice = int(np.argmin(scores))
    margin = float(share * rigid_loss + 3 * K * np.log(effective) - scores[choice])
    if margin < config.evidence:
        yield Selection(None, margin, effective)
        return
    joint = candidates[choice]
    yield Selection(replace(joint, covariance=joint.covariance * scale2 / share), margin, effective)


def fit_joint_steps(
    points: Points, rigid: np.ndarray, split: int, kind: JointType, config: ArticulationConfig
) -> Iterator[Joint]:
    """Fit one kind of joint before keypoint ``split``, robustly; covariance in units of the detector's.

    Yields:
        The joint after each Gauss-Newton step.
    """
    y, A = points.position[:, split:], points.information[:, split:]  # (T, m, 3), (T, m, 3, 3)
    prior = JointPrior.between(rigid[split - 1] if split else np.zeros(3), rigid[split])
    joint = _initial_joint(y, rigid, split, kind, prior.hinge)
    for _ in range(config.iterations):
        joint, step = _gauss_newton(joint, y, A, prior)
        yield joint
        if step < 1e-4:
            return


@dataclass(frozen=True)
class JointPrior:
    """Where a joint inside an object is expected: on the line between two keypoints, across or along it.

    The directions are weak expectations (Geman-McClure): a joint that clearly has another direction pays a constant.
    """

    hinge: np.ndarray  # (3,) [m]
    information: np.ndarray  # (3, 3) on the hinge [1/m^2]
    before: np.ndarray  # (3,) the last keypoint that does not move, or the ee frame's origin [m]

    @classmethod
    def between(cls, before: np.ndarray, after: np.ndarray) -> "JointPrior":
        """Return the prior of a joint between two keypoints."""
        span = after - before
        length = float(np.linalg.norm(span))
        along = np.outer(span, span) / max(length, 1e-9) ** 2
        std_along, std_across = 0.3 * length + 0.005, HINGE_ACROSS * length + 0.005  # [m]
        return cls(0.5 * (before + after), along / std_along**2 + (np.eye(3) - along) / std_across**2, before)

    def add_to(self, H: np.ndarray, g: np.ndarray, joint: Joint) -> None:
        """Add information and gradient, in place."""
        E, u = joint.tangent, joint.axis
        far = int(np.argmax(np.linalg.norm(joint.body, axis=1)))
        J = np.zeros((1 if joint.type is JointType.REVOLUTE else 2, len(g)))
        if joint.type is JointType.REVOLUTE:
            H[2:5, 2:5] += self.information
            g[2:5] += self.information @ (joint.point - self.hinge)
            arm = joint.body[far] / (np.linalg.norm(joint.body[far]) + 1e-9)
            tilt = np.array([u @ arm])  # the axis is normal to the arm
            J[0, :2] = -arm @ skew(u) @ E
        else:
            arm = joint.body[far] - self.before
            arm /= np.linalg.norm(arm) + 1e-9
            tilt = np.cross(arm, u) @ E * np.sign(u @ arm)  # the axis is along the object
            J[:, :2] = (E.T @ skew(arm) @ -skew(u) @ E) * np.sign(u @ arm)
        w = robust_weight(np.array(tilt @ tilt / DIRECTION_STD**2)) / DIRECTION_STD**2
        H += w * J.T @ J
        g += w * J.T @ tilt


def _gauss_newton(joint: Joint, y: np.ndarray, A: np.ndarray, prior: JointPrior) -> tuple[Joint, float]:
    """Return the joint after one robust step, the positions eliminated by a Schur complement, and the step's size."""
    T, m = y.shape[:2]
    r = joint.keypoints(joint.position) - y  # (T, m, 3)
    d2 = squared_distance(r, A)
    scale2 = max(float(np.median(d2)) / MEDIAN_CHI2_3, 1.0)
    W = A * (robust_weight(d2 / scale2) / scale2)[..., None, None]  # (T, m, 3, 3)
    J, J_theta = _jacobians(joint)  # (T, m, 3, P), (T, m, 3)
    P = J.shape[-1]
    W_J = W @ J
    W_theta = (W @ J_theta[..., None])[..., 0]
    h = np.einsum("tmi,tmi->t", J_theta, W_theta) + joint.amplitude**-2  # (T,)
    v = np.einsum("tmi,tmip->tp", J_theta, W_J)  # (T, P)
    g_theta = np.einsum("tmi,tmi->t", W_theta, r) + joint.position / joint.amplitude**2
    H = J.reshape(-1, P).T @ W_J.reshape(-1, P) - v.T @ (v / h[:, None])
    g = W_J.reshape(-1, P).T @ r.ravel() - v.T @ (g_theta / h)
    prior.add_to(H, g, joint)
    H += np.eye(P) * 1e-4  # [1/m^2], [1/rad^2]: a body of 100 m is not expected
    step = -np.linalg.solve(H, g)
    step *= min(1.0, 0.3 / (np.linalg.norm(step) + 1e-12))
    position = joint.position - (g_theta + v @ step) / h
    position = np.clip(position, -3.0, 3.0)
    amplitude = float(np.sqrt(position.var() + (1 / h).mean()))  # EM: the positions are uncertain themselves
    joint = replace(joint, amplitude=max(amplitude, 1e-3), covariance=np.linalg.inv(H))
    return _moved(joint, step, position), float(np.abs(step).max())


def _jacobians(joint: Joint) -> tuple[np.ndarray, np.ndarray]:
    r"""Return derivatives by (axis (2), point (3), body (3 m)), shape (T, m, 3, P), and by position, (T, m, 3).

    With u turned by :math:`E \omega`: revolute :math:`\partial f / \partial \omega = (R [a]_\times - [R a]_\times) E`,
    prismatic :math:`-\theta [u]_\times E`.
    """
    T, m = len(joint.position), len(joint.body)
    revolute = joint.type is JointType.REVOLUTE
    first_body = 5 if revolute else 2
    J = np.zeros((T, m, 3, first_body + 3 * m))
    E = joint.tangent  # (3, 2)
    if revolute:
        R = rotations(joint.axis, joint.position)  # (T, 3, 3)
        arm = joint.body @ R.transpose(0, 2, 1)  # (T, m, 3)
        J[..., :2] = (R[:, None] @ skew(joint.body) - skew(arm)) @ E
        J[..., 2:5] = np.eye(3)
        J_theta = arm @ skew(joint.axis).T
    else:
        R = np.broadcast_to(np.eye(3), (T, 3, 3))
        J[..., :2] = -joint.position[:, None, None, None] * (skew(joint.axis) @ E)
        J_theta = np.broadcast_to(joint.axis, (T, m, 3))
    for k in range(m):
        J[:, k, :, first_body + 3 * k : first_body + 3 * k + 3] = R
    return J, J_theta


def _moved(joint: Joint, step: np.ndarray, position: np.ndarray) -> Joint:
    """Apply a step of the constant parameters; choose the mean position as zero."""
    mean = float(position.mean())
    axis = rotation(joint.tangent @ step[:2]) @ joint.axis
    axis /= np.linalg.norm(axis)
    if joint.type is JointType.REVOLUTE:
        body = joint.body + step[5:].reshape(-1, 3)
        body = body @ rotations(axis, np.array([mean]))[0].T
        point = joint.point + step[2:5]
    else:
        body, point = joint.body + step[2:].reshape(-1, 3) + mean * axis, joint.point
    return replace(joint, axis=axis, point=point, body=body, position=position - mean)


def _initial_joint(y: np.ndarray, rigid: np.ndarray, split: int, kind: JointType, hinge: np.ndarray) -> Joint:
    """Start from the scatter of the moving keypoints: along it, or about the normal of its plane."""
    centre = rigid[split:]  # (m, 3)
    off = y - centre  # (T, m, 3)
    distance = np.linalg.norm(off, axis=-1)
    near = distance < 3 * np.median(distance, axis=0) + 0.02  # (T, m) gross outliers are left out
    off = off * near[..., None]
    scatter = np.einsum("tmi,tmj->ij", off, off) / max(near.sum(), 1)
    mean_off = off.sum(1) / np.maximum(near.sum(1), 1)[:, None]  # (T, 3)
    if kind is JointType.PRISMATIC:
        axis = np.linalg.eigh(mean_off.T @ mean_off)[1][:, -1]
        axis = axis if axis @ centre[-1] >= 0 else -axis  # positive: outwards
        point = rigid[split - 1] if split else np.zeros(3)
        position = mean_off @ axis
        return Joint(kind, split, axis, point, centre, position, max(float(position.std()), 1e-3))
    arm = centre - hinge  # (m, 3)
    axis = np.linalg.eigh(scatter + 0.1 * arm.T @ arm)[1][:, 0]  # normal to the motion and to the arm
    v = arm + off
    sine = np.einsum("mi,tmi->t", arm @ skew(axis).T, v)  # (axis x arm) . v
    cosine = np.einsum("mi,tmi->t", arm - np.outer(arm @ axis, axis), v)
    position = np.arctan2(sine, cosine)
    return Joint(kind, split, axis, hinge, arm, position, max(float(position.std()), 1e-3))


def locate_joint(joint: Joint, points: np.ndarray, information: np.ndarray, start: float) -> float:
    """Return the joint position in one frame [rad] or [m] (Gauss-Newton, robust, prior of the range seen).

    Args:
        joint: the fitted joint.
        points: moving keypoints in the ee frame, shape (m, 3) [m].
        information: shape (m, 3, 3) [1/m^2].
        start: position in the frame before.
    """
    position = start
    for _ in range(4):
        here = replace(joint, position=np.array([position]))
        r = here.keypoints(here.position)[0] - points  # (m, 3)
        w = robust_weight(squared_distance(r, information))
        J_theta = _jacobians(here)[1][0]  # (m, 3)
        W_theta = (information @ J_theta[..., None])[..., 0] * w[:, None]
        h = float((J_theta * W_theta).sum()) + joint.amplitude**-2
        position -= (float((W_theta * r).sum()) + position / joint.amplitude**2) / h
    low, high = joint.limits
    return float(np.clip(position, low, high))


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
    _, J_theta = _jacobians(joint)
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
    radius = np.linalg.norm(joint.body @ skew(joint.axis), axis=1).max()
    return bool(high - low >= config.min_angle and (high - low) * radius >= config.min_arc)


def squared_distance(r: np.ndarray, information: np.ndarray) -> np.ndarray:
    """Return r^T A r, shape (...), of residuals (..., 3)."""
    return ((information @ r[..., None])[..., 0] * r).sum(-1)


def robust_loss(d2: np.ndarray) -> np.ndarray:
    """Geman-McClure loss of squared distances: d2 near zero, SATURATION far away."""
    return SATURATION * d2 / (SATURATION + d2)


def robust_weight(d2: np.ndarray) -> np.ndarray:
    """Derivative of `robust_loss`."""
    return (SATURATION / (SATURATION + d2)) ** 2


def rotation(rotvec: np.ndarray) -> np.ndarray:
    """Return the rotation matrix of a rotation vector, shape (3, 3)."""
    angle = float(np.linalg.norm(rotvec))
    return np.eye(3) if angle < 1e-15 else rotations(rotvec / angle, np.array([angle]))[0]


def rotations(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return rotations about a unit axis (Rodrigues), shape (T, 3, 3), for angles of shape (T,)."""
    U = skew(axis)
    s, c = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return np.eye(3) + s * U + (1 - c) * (U @ U)
