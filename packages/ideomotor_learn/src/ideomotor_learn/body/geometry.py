"""Batched pinhole geometry on tensors; conventions as in ideomotor.body.camera."""

import torch
from torch import Tensor


def backproject(uv: Tensor, depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Return points in the optical frame (B, K, 3) [m] of pixels (B, K, 2) at depths (B, K); intrinsics (B, 4)."""
    fx, fy, cx, cy = intrinsics[:, None].unbind(-1)  # each (B, 1)
    return torch.stack([(uv[..., 0] - cx) / fx * depth, (uv[..., 1] - cy) / fy * depth, depth], dim=-1)


def project(position: Tensor, intrinsics: Tensor) -> Tensor:
    """Return pixels (B, K, 2) of points in the optical frame (B, K, 3) [m]; intrinsics (B, 4)."""
    fx, fy, cx, cy = intrinsics[:, None].unbind(-1)
    x, y, z = position.unbind(-1)
    return torch.stack([fx * x / z + cx, fy * y / z + cy], dim=-1)


def to_ee(position_camera: Tensor, T_camera_ee: Tensor) -> Tensor:
    """Return (B, K, 3) points in the end-effector frame: ``p_ee = R^T (p_camera - t)``; poses (B, 4, 4)."""
    R, t = T_camera_ee[:, :3, :3], T_camera_ee[:, :3, 3]
    difference = position_camera - t[:, None]  # (B, K, 3)
    return (difference[..., :, None] * R[:, None]).sum(-2)  # elementwise: exact under reduced precision
