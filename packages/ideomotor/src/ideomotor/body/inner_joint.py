r"""A joint inside the held object: its model in the ee frame and its robust fit.

.. math::
    \text{revolute: } y_{tk} = c + \mathrm{Exp}(u \theta_t)\, a_k, \qquad
    \text{prismatic: } y_{tk} = a_k + u\, \theta_t, \qquad \theta_t \sim N(0, A^2)

Gauss-Newton over the constant parameters; the T joint positions are eliminated by a Schur complement.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ideomotor.body.extension import JointType
from ideomotor.body.fit import skew

SATURATION = 16.0  # an outlier costs as much as a residual of 4 sigma (Geman-McClure)
LIMIT_MARGIN = 0.1  # share of the range seen that is added at either end
HINGE_ACROSS = 0.2  # standard deviation of a hinge off the line between its neighbours, as a share of their distance
DIRECTION_STD = 0.06  # [rad] of a hinge's axis from the normal of its arm, of a slide's axis from the object
KNOWN = 1e8  # [1/m^2] information on what is known by definition
LEAST_SCALE2 = 0.03  # a keypoint's variance is at least this share of what the detector claims
MEDIAN_CHI2_3 = 2.366  # median of chi-square with 3 degrees of freedom


@dataclass(frozen=True)
class Joint:
    """A joint inside the held object, in the end-effector frame, and where its keypoints are at position zero."""

    type: JointType  # revolute or prismatic
    first_moving: int  # the first keypoint beyond the joint
    axis: np.ndarray  # (3,) unit vector
    point: np.ndarray  # (3,) on the axis [m]
    body: np.ndarray  # (m, 3) moving keypoints at position zero, relative to ``point`` if revolute [m]
    position: np.ndarray  # (T,) of every frame [rad] or [m]
    amplitude: float  # standard deviation of the positions
    covariance: np.ndarray  # (P, P) of (turn of the axis along `tangent` (2), point (3) if revolute, body (3 m))

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
    def radius(self) -> float:
        """Distance of the farthest moving keypoint from the axis of a revolute joint [m]."""
        return float(np.linalg.norm(self.body @ skew(self.axis), axis=1).max())

    @property
    def limits(self) -> tuple[float, float]:
        """The range seen (1st to 99th percentile), with a margin [rad] or [m]."""
        low, high = np.quantile(self.position, [0.01, 0.99])
        margin = LIMIT_MARGIN * (high - low)
        return float(low - margin), float(high + margin)


def fit_joint_steps(
    y: np.ndarray, A: np.ndarray, rigid: np.ndarray, split: int, kind: JointType, iterations: int
) -> Iterator[Joint]:
    """Fit one kind of joint before keypoint ``split``, robustly; its covariance takes frames as independent.

    Args:
        y: all keypoints in the ee frame, shape (T, K, 3) [m].
        A: their information, shape (T, K, 3, 3) [1/m^2].
        rigid: where each keypoint would be if it did not move, shape (K, 3) [m].
        split: the first keypoint beyond the joint, at least 1.
        kind: revolute or prismatic.
        iterations: most Gauss-Newton steps, at least 1.

    Yields:
        The joint after each Gauss-Newton step.
    """
    y, A = y[:, split:], A[:, split:]  # (T, m, 3), (T, m, 3, 3)
    prior = JointPrior.at(rigid, split)
    joint = _initial_joint(y, rigid, split, kind, prior.hinge)
    for _ in range(iterations):
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
    before: np.ndarray  # (3,) the last keypoint that does not move [m]

    @classmethod
    def at(cls, rigid: np.ndarray, split: int) -> "JointPrior":
        """Return the prior of a joint before keypoint ``split`` of those in ``rigid``, (K, 3)."""
        return cls.between(rigid[split - 1], rigid[split])

    @classmethod
    def between(cls, before: np.ndarray, after: np.ndarray) -> "JointPrior":
        """Return the prior of a joint between two keypoints."""
        span = after - before
        length = float(np.linalg.norm(span))
        along = np.outer(span, span) / max(length, 1e-9) ** 2
        std_along, std_across = 0.3 * length + 0.005, HINGE_ACROSS * length + 0.005  # [m]
        return cls(0.5 * (before + after), along / std_along**2 + (np.eye(3) - along) / std_across**2, before)

    def length(self, joint: Joint) -> float:
        """Return the description length of where and how the joint is."""
        tilt = self._tilt(joint)[0]
        length = float(robust_loss(np.array(tilt @ tilt / DIRECTION_STD**2)))
        if joint.type is JointType.REVOLUTE:
            off = joint.point - self.hinge
            length += float(off @ self.information @ off)
        return length

    def add_to(self, H: np.ndarray, g: np.ndarray, joint: Joint) -> None:
        """Add information and gradient, in place."""
        if joint.type is JointType.REVOLUTE:
            H[2:5, 2:5] += self.information
            g[2:5] += self.information @ (joint.point - self.hinge)
        tilt, J = self._tilt(joint)
        w = robust_weight(np.array(tilt @ tilt / DIRECTION_STD**2)) / DIRECTION_STD**2
        H[:2, :2] += w * J.T @ J
        g[:2] += w * J.T @ tilt

    def _tilt(self, joint: Joint) -> tuple[np.ndarray, np.ndarray]:
        """Return the sines that are expected to be zero, and their derivatives by turns of the axis, (.., 2)."""
        E, u = joint.tangent, joint.axis
        far = int(np.argmax(np.linalg.norm(joint.body, axis=1)))
        if joint.type is JointType.REVOLUTE:
            arm = joint.body[far] / (np.linalg.norm(joint.body[far]) + 1e-9)
            return np.array([u @ arm]), (-arm @ skew(u) @ E)[None]  # the axis is normal to the arm
        arm = joint.body[far] - self.before
        arm = arm / (np.linalg.norm(arm) + 1e-9)
        return skew(arm) @ u, -skew(arm) @ skew(u) @ E  # the axis is along the object


def _gauss_newton(joint: Joint, y: np.ndarray, A: np.ndarray, prior: JointPrior) -> tuple[Joint, float]:
    """Return the joint after one robust step, the positions eliminated by a Schur complement, and the step's size."""
    r = joint.keypoints(joint.position) - y  # (T, m, 3)
    d2 = squared_distance(r, A)
    scale2 = np.maximum(np.median(d2, axis=0) / MEDIAN_CHI2_3, LEAST_SCALE2)  # (m,) claims may be too large as well
    W = A * (robust_weight(d2 / scale2) / scale2)[..., None, None]  # (T, m, 3, 3)
    J, J_theta = joint_jacobians(joint)  # (T, m, 3, P), (T, m, 3)
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
    zero = np.zeros(P)  # where position zero is, is a convention (the mean) and no uncertainty of the body
    zero[-joint.body.size :] = (
        joint.body @ skew(joint.axis).T
        if joint.type is JointType.REVOLUTE
        else np.tile(joint.axis, (len(joint.body), 1))
    ).ravel()
    zero /= np.linalg.norm(zero) + 1e-12
    covariance = np.linalg.inv(H + KNOWN * np.outer(zero, zero))
    joint = replace(joint, amplitude=max(amplitude, 1e-3), covariance=covariance)
    return _moved(joint, step, position), float(np.abs(step).max())


def joint_jacobians(joint: Joint) -> tuple[np.ndarray, np.ndarray]:
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
        position = mean_off @ axis
        amplitude = max(float(position.std()), 1e-3)
        return Joint(kind, split, axis, rigid[split - 1], centre, position, amplitude, np.zeros((0, 0)))
    arm = centre - hinge  # (m, 3)
    axis = np.linalg.eigh(scatter + 0.1 * arm.T @ arm)[1][:, 0]  # normal to the motion and to the arm
    v = arm + off
    sine = np.einsum("mi,tmi->t", arm @ skew(axis).T, v)  # (axis x arm) . v
    cosine = np.einsum("mi,tmi->t", arm - np.outer(arm @ axis, axis), v)
    position = np.arctan2(sine, cosine)
    return Joint(kind, split, axis, hinge, arm, position, max(float(position.std()), 1e-3), np.zeros((0, 0)))


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
        J_theta = joint_jacobians(here)[1][0]  # (m, 3)
        W_theta = (information @ J_theta[..., None])[..., 0] * w[:, None]
        h = float((J_theta * W_theta).sum()) + joint.amplitude**-2
        position -= (float((W_theta * r).sum()) + position / joint.amplitude**2) / h
    low, high = joint.limits
    return float(np.clip(position, low, high))


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
