"""Orientation of floating bases, batched: quaternions x y z w of unit norm along the last axis."""

import numpy as np


def rotation_matrix(quaternion: np.ndarray) -> np.ndarray:
    """Return the matrices (..., 3, 3) of quaternions (..., 4)."""
    x, y, z, w = np.moveaxis(quaternion, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def rotation_vector(quaternion: np.ndarray) -> np.ndarray:
    """Return the rotation vectors (..., 3) [rad] of quaternions (..., 4), at most pi long."""
    signed = np.where(quaternion[..., 3:] < 0.0, -quaternion, quaternion)  # q and -q are one rotation
    sine = np.linalg.norm(signed[..., :3], axis=-1, keepdims=True)
    half = np.arctan2(sine, signed[..., 3:])
    return np.asarray(signed[..., :3] * np.where(sine > 1e-9, 2.0 * half / np.maximum(sine, 1e-9), 2.0))


def relative_quaternion(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the quaternions (..., 4) of the rotations ``a^-1 b``."""
    av, aw, bv, bw = -a[..., :3], a[..., 3:], b[..., :3], b[..., 3:]
    vector = aw * bv + bw * av + np.cross(av, bv)
    return np.concatenate([vector, aw * bw - (av * bv).sum(-1, keepdims=True)], axis=-1)


def to_base(rotation: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Turn world vectors (..., 3c), c of them side by side, into the axes of ``rotation`` (..., 3, 3)."""
    split = vectors.reshape(*vectors.shape[:-1], vectors.shape[-1] // 3, 3)
    return np.asarray((split @ rotation).reshape(vectors.shape))


def to_world(rotation: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Turn vectors (..., 3c) in the axes of ``rotation`` (..., 3, 3) into world vectors."""
    return to_base(np.swapaxes(rotation, -1, -2), vectors)
