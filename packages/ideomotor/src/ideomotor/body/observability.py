"""Which degrees of freedom the motion has identified, and which motion would help."""

from dataclasses import dataclass

import numpy as np

from ideomotor.body.chain import KinematicChain
from ideomotor.body.fit import Fit, FitConfig, skew

POSITION_STD = 0.02  # [m] a keypoint is identified along a direction when it is known better than this
CAMERA_SHARE = 0.5  # a camera degree of freedom is identified when its standard deviation fell below this share
PROBE = 0.4  # [rad] or [m] motion of a joint that is tried out
LIMIT_MARGIN = 0.02  # [rad] or [m] a joint this near to its limit cannot move that way
CAMERA_AXES = (
    "along the camera's x axis (right)",
    "along the camera's y axis (down)",
    "along the camera's optical axis",
)
CAMERA_DOFS = (
    "camera position along its x axis", "camera position along its y axis", "camera position along its optical axis",
    "camera pitch (about its x axis)", "camera yaw (about its y axis)", "camera roll (about its optical axis)",
)  # fmt: skip


@dataclass(frozen=True)
class Direction:
    """A degree of freedom that the motion did not identify."""

    name: str
    std: float  # [m] or [rad]
    prior_std: float  # [m] or [rad]


@dataclass(frozen=True)
class Observability:
    """Verdict on a fit."""

    unobserved: tuple[Direction, ...]
    weakest_std: float  # largest standard deviation of any keypoint in any direction [m]

    @property
    def complete(self) -> bool:
        """Whether the motion identified every degree of freedom."""
        return not self.unobserved


def observability(fit: Fit, T_camera_ee: np.ndarray, names: tuple[str, ...], config: FitConfig) -> Observability:
    """Compare the posterior covariance with what is needed and with the prior.

    Each keypoint's covariance is decomposed; a principal direction with too large a standard deviation is named by the
    camera axis nearest to it in the newest view. The camera's degrees of freedom are compared with their prior.

    Args:
        fit: the estimate.
        T_camera_ee: newest pose of the end effector in the camera, shape (4, 4).
        names: of the keypoints, (K,).
        config: holds the priors.
    """
    R = (np.linalg.inv(fit.T_camera_corrected) @ T_camera_ee)[:3, :3]
    unobserved = []
    values, vectors = np.linalg.eigh(fit.position_covariance)  # (K, 3), (K, 3, 3)
    stds = np.sqrt(np.maximum(values, 0.0))
    for k, i in zip(*np.nonzero(stds > POSITION_STD), strict=True):
        in_camera = R @ vectors[k, :, i]
        axis = CAMERA_AXES[int(np.argmax(np.abs(in_camera)))]
        unobserved.append(Direction(f"{names[k]} {axis}", float(stds[k, i]), config.position_prior))
    if config.refine_camera:
        prior = np.repeat([config.camera_position_prior, config.camera_rotation_prior], 3)
        std = np.sqrt(np.diag(fit.camera_covariance))
        unobserved += [
            Direction(CAMERA_DOFS[i], float(std[i]), float(prior[i])) for i in np.nonzero(std > CAMERA_SHARE * prior)[0]
        ]
    return Observability(tuple(unobserved), float(stds.max()))


def suggest_motion(fit: Fit, chain: KinematicChain, q: np.ndarray, T_base_camera: np.ndarray, config: FitConfig) -> str:
    """Return the motion of one joint that reduces the largest uncertainty most, in words; empty if none helps.

    The information of one more view, taken after the joint has moved by `PROBE` (to first order in the Jacobian), is
    added to that of the estimate; the uncertainty compared is the largest eigenvalue of the covariance in units of what
    counts as identified.

    Args:
        fit: the estimate.
        chain: to the link that holds the object.
        q: configuration from where to move, shape (n,) [rad or m].
        T_base_camera: nominal camera pose, shape (4, 4).
        config: that of the fit.
    """
    T_base_ee, J = chain.forward(q), chain.jacobian(q)
    unit = np.full(len(fit.covariance), POSITION_STD)
    if config.refine_camera:
        unit[-6:] = CAMERA_SHARE * np.repeat([config.camera_position_prior, config.camera_rotation_prior], 3)
    information = np.linalg.inv(fit.covariance / np.outer(unit, unit) + 1e-12 * np.eye(len(unit)))
    T_camera_base = np.linalg.inv(T_base_camera @ fit.T_camera_corrected)

    def worst(T_base_moved: np.ndarray) -> float:
        B = _view(fit, T_camera_base @ T_base_moved, config.refine_camera) * unit
        return 1 / float(np.linalg.eigvalsh(information + B.T @ B)[0])

    stay = worst(T_base_ee)
    best, suggestion = 0.98 * stay, ""
    for j, name in enumerate(chain.joint_names):
        if name not in chain.actuated_names:
            continue
        for sign in (1, -1):
            room = chain.upper[j] - q[j] if sign > 0 else q[j] - chain.lower[j]
            move = sign * min(PROBE, float(room) - LIMIT_MARGIN)
            if abs(move) < LIMIT_MARGIN or sign * move < 0:
                continue
            gain = worst(_displaced(T_base_ee, J[:, j] * move))
            if gain < best:
                best, suggestion = gain, f"move {name} by {move:+.2f}"
    return suggestion


def _displaced(T: np.ndarray, twist: np.ndarray) -> np.ndarray:
    """Return T after a small motion (linear, angular) of its frame, along the base axes (Rodrigues)."""
    angle = float(np.linalg.norm(twist[3:])) + 1e-12
    U = skew(twist[3:] / angle)
    moved = T.copy()
    moved[:3, 3] += twist[:3]
    moved[:3, :3] = (np.eye(3) + np.sin(angle) * U + (1 - np.cos(angle)) * U @ U) @ T[:3, :3]
    return moved


def _view(fit: Fit, T_camera_ee: np.ndarray, camera: bool) -> np.ndarray:
    """Return whitened rows of one view of all keypoints at unit focal precision, shape (3 K, D).

    Directions across the ray are seen to 5 mm and those along it as well as the fit's depth allowed, at least to 10 cm.
    """
    K = len(fit.position_ee)
    R = T_camera_ee[:3, :3]
    p = fit.position_ee @ R.T + T_camera_ee[:3, 3]  # (K, 3)
    has_depth = fit.depth_weight.mean(0) > 0.2
    B = np.zeros((K, 3, len(fit.covariance)))
    for k in range(K):
        d = p[k] / np.linalg.norm(p[k])
        along = np.outer(d, d)
        W = (np.eye(3) - along) / 0.005 + along / (0.005 if has_depth[k] else 0.1)
        B[k, :, 3 * k : 3 * k + 3] = W @ R
        if camera:
            B[k, :, 3 * K :] = W @ np.hstack([-np.eye(3), skew(p[k])])
    return B.reshape(3 * K, -1)
