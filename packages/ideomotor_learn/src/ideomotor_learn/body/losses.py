r"""Losses of the keypoint detector, each a pure function. Symbols: docs/keypoint_detector.md.

Self-supervised (Minderer et al. 2019, arXiv:1906.07889): `reconstruction`, `separation`.
Multi-modal (after Bechtle et al. 2021, arXiv:2011.03882; the form is ours): `rigidity`, `nearness`.
Supervised, where the simulator's labels are: `map_cross_entropy`, `coarse_position`, `object_map_cross_entropy`,
`position`, `likelihood`, `mask_cross_entropy`, `confidence_cross_entropy`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ideomotor_learn.body.geometry import backproject, project, to_ee
from ideomotor_learn.body.layers import STRIDE, cell_centres, perpendicular
from ideomotor_learn.body.network import Prediction


def weighted_mean(x: Tensor, weight: Tensor) -> Tensor:
    r"""Return :math:`\sum w x / \max(\sum w, 1)`."""
    return (weight * x).sum() / weight.sum().clamp(min=1.0)


def reconstruction(painted: Tensor, image: Tensor) -> Tensor:
    r""":math:`\| \hat I - I \|^2`, mean over batch, channels and pixels."""
    return F.mse_loss(painted, image)


def separation(uv: Tensor, sigma: float) -> Tensor:
    r""":math:`\sum_{k \ne l} \exp(-\|z_k - z_l\|^2 / (2 \sigma^2))`, mean over the batch; uv (B, K, 2), sigma [px]."""
    squared = (uv[:, :, None] - uv[:, None]).pow(2).sum(-1)  # (B, K, K)
    off_diagonal = 1.0 - torch.eye(uv.shape[1], device=uv.device)
    return ((-squared / (2 * sigma**2)).exp() * off_diagonal).sum((1, 2)).mean()


def rigidity(uv: Tensor, depth: Tensor, intrinsics: Tensor, T_camera_ee: Tensor, cap: float) -> Tensor:
    r"""Keypoints of a grasped object move with the gripper.

    .. math:: \min(\| \rho_k(i) - \rho_k(j) \|, c) \quad
              \rho_k = T_{camera,ee}^{-1} \Pi^{-1}(z_k, d_k)

    for frames i, j = i + B/2 of one episode, mean over pairs and keypoints; the cap c [m] bounds the pull of
    articulated objects and of outliers.
    """
    rho = to_ee(backproject(uv, depth, intrinsics), T_camera_ee)  # (B, K, 3)
    first, second = rho.chunk(2)
    distance = ((first - second).pow(2).sum(-1) + 1e-8).sqrt()
    return distance.clamp(max=cap).mean()


def nearness(uv: Tensor, intrinsics: Tensor, T_camera_ee: Tensor, radius: float) -> Tensor:
    r"""Keypoints of a grasped object lie near the gripper.

    .. math:: \max(0, \|z_k - \Pi(t_{camera,ee})\| - r f / d_{ee})^2 / (r f / d_{ee})^2

    mean over batch and keypoints; radius r [m], so that the hinge is as wide near as far.
    """
    ee = T_camera_ee[:, None, :3, 3]  # (B, 1, 3)
    r = radius * intrinsics[:, 1:2] / ee[..., 2]  # (B, 1) [px]
    distance = ((uv - project(ee, intrinsics)).pow(2).sum(-1) + 1e-8).sqrt()  # (B, K)
    return (F.relu(distance - r) / r).pow(2).mean()


def map_cross_entropy(
    log_heat: Tensor, uv: Tensor, weight: Tensor, stride: float = STRIDE, sigma: float = 0.6
) -> Tensor:
    r""":math:`-\sum_{xy} G_\sigma(z_k) \log R_k`, weighted mean; G a Gaussian of unit sum around the true pixel.

    Args:
        log_heat: (B, K, h, w) log of maps that sum to one.
        uv: (B, K, 2) true pixels.
        weight: (B, K).
        stride: pixels per cell of the maps.
        sigma: of the Gaussian [cells].
    """
    h, w = log_heat.shape[-2:]
    sigma = sigma * stride
    u, v = (c.to(uv.device) for c in cell_centres(h, w, stride))
    gu = (-((u - uv[..., :1]) ** 2) / (2 * sigma**2)).softmax(-1)  # (B, K, w)
    gv = (-((v - uv[..., 1:]) ** 2) / (2 * sigma**2)).softmax(-1)  # (B, K, h)
    target = gv[..., :, None] * gu[..., None, :]
    return weighted_mean(-(target * log_heat).sum((-2, -1)), weight)


def coarse_position(p: Prediction, uv: Tensor, depth: Tensor, weight: Tensor) -> Tensor:
    """Huber loss of stage 1's pixels [cells] and of its depth [dm], weighted mean."""
    pixels = F.smooth_l1_loss(p.uv_coarse / STRIDE, uv / STRIDE, reduction="none", beta=0.5).sum(-1)
    depths = F.smooth_l1_loss(10 * p.depth_coarse, 10 * depth, reduction="none", beta=0.2)
    return weighted_mean(pixels + depths, weight)


def residual(uv: Tensor, depth: Tensor, axis: Tensor, true_uv: Tensor, true_depth: Tensor) -> Tensor:
    """Return (B, K, 3): predicted minus true pixel along and across the axis [px], predicted minus true depth [m]."""
    difference = uv - true_uv
    along = (difference * axis).sum(-1)
    across = (difference * perpendicular(axis)).sum(-1)
    return torch.stack([along, across, depth - true_depth], dim=-1)


def object_map_cross_entropy(p: Prediction, uv: Tensor, weight: Tensor) -> Tensor:
    """`map_cross_entropy` of stage 2's maps, for the keypoints that lie in the object's crop."""
    half = p.log_map.shape[-1]
    samples = p.crops.from_image(uv) + half - 0.5  # from the crop's first sample
    inside = ((samples >= 0) & (samples <= 2 * half - 1)).all(-1)
    return map_cross_entropy(p.log_map, samples, weight * inside, stride=2)


def position(residual: Tensor, depth: Tensor, focal: Tensor, weight: Tensor, beta: float = 0.3) -> Tensor:
    r"""Huber loss of the error in space [cm]: :math:`(e_u d / f, e_v d / f, e_d)`, weighted mean.

    Args:
        residual: (B, K, 3) from `residual`.
        depth: (B, K) true [m].
        focal: (B,) [px].
        weight: (B, K).
        beta: where the loss turns from quadratic to linear [cm].
    """
    metres_per_pixel = depth / focal[:, None]
    centimetres = 100 * residual * torch.stack([metres_per_pixel, metres_per_pixel, torch.ones_like(depth)], dim=-1)
    loss = F.smooth_l1_loss(centimetres, torch.zeros_like(centimetres), reduction="none", beta=beta)
    return weighted_mean(loss.sum(-1), weight)


def likelihood(residual: Tensor, log_variance: Tensor, weight: Tensor, knee: float = 3.0) -> Tensor:
    r"""Robust negative log likelihood that calibrates the variances.

    .. math:: \tfrac12 \sum_i \rho(e_i / \sigma_i) + \log \sigma_i^2, \quad
              \rho(x) = x^2 \text{ for } |x| < c, \; 2 c |x| - c^2 \text{ beyond}

    The residual is detached: a variance may not buy itself a worse mean.
    """
    x = residual.detach().abs() * (-0.5 * log_variance).exp()
    rho = torch.where(x < knee, x * x, 2 * knee * x - knee * knee)
    return weighted_mean(0.5 * (rho + log_variance).sum(-1), weight)


def mask_cross_entropy(logit: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy of the object mask (B, h, w), weighted mean over images; object cells count 5 times."""
    loss = F.binary_cross_entropy_with_logits(logit, mask, reduction="none", weight=1.0 + 4.0 * mask)
    return weighted_mean(loss.mean((-2, -1)), weight)


def on_object(uv: Tensor, mask: Tensor) -> Tensor:
    """Return (B, K) bool: the pixel lies on the object, up to the mask's resolution of 4 px; mask (B, H/4, W/4)."""
    h, w = mask.shape[-2:]
    grid = torch.stack([(2 * uv[..., 0] + 1) / (4 * w) - 1, (2 * uv[..., 1] + 1) / (4 * h) - 1], dim=-1)
    share = F.grid_sample(mask[:, None], grid[:, :, None], align_corners=False)[:, 0, :, 0]  # (B, K)
    return share > 0.05


def confidence_cross_entropy(p: Prediction, visible: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy of the confidence against "visible and predicted on the object", weighted mean."""
    target = (visible & on_object(p.uv.detach(), mask)).float()
    return weighted_mean(F.binary_cross_entropy_with_logits(p.confidence_logit, target, reduction="none"), weight)
