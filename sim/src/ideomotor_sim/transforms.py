"""Rigid transforms as the simulator needs them: numpy in, numpy out, MuJoCo's wxyz quaternions at the border."""

import mujoco
import numpy as np


def pose_from(position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Return the pose, shape (4, 4), of a position, shape (3,), and a rotation matrix, shape (3, 3)."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation, position
    return T


def inverse(T_a_b: np.ndarray) -> np.ndarray:
    """Return T_b_a, shape (4, 4)."""
    R = T_a_b[:3, :3].T
    return pose_from(-R @ T_a_b[:3, 3], R)


def transform(T_a_b: np.ndarray, position_b: np.ndarray) -> np.ndarray:
    """Return points, shape (..., 3), of frame b in frame a."""
    return position_b @ T_a_b[:3, :3].T + T_a_b[:3, 3]


def rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Return the rotation, shape (3, 3), by ``angle`` [rad] about the unit vector ``axis`` (Rodrigues)."""
    x, y, z = axis
    W = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * W + (1.0 - np.cos(angle)) * W @ W


def rotation_from_rpy(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Return Rz(yaw) Ry(pitch) Rx(roll), shape (3, 3): URDF's fixed-axis angles [rad]."""
    x, y, z = np.eye(3)
    return rotation_about(z, yaw) @ rotation_about(y, pitch) @ rotation_about(x, roll)


def quaternion_from(R: np.ndarray) -> np.ndarray:
    """Return MuJoCo's quaternion wxyz, shape (4,), of a rotation matrix."""
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(R, dtype=float).reshape(9))
    return quaternion
