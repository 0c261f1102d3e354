"""Layers, images and crops of the keypoint detector: everything without a task of its own."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEPTH_MIN, DEPTH_MAX = 0.1, 4.0  # sensor depths outside are treated as invalid [m]
STRIDE = 8  # [px] of a cell of stage 1's maps
DEPTH_UNIT = 0.1  # [m] of the depths in crops
DEPTH_REACH = 0.3  # [m] what is farther from a crop's depth is background


def conv(c_in: int, c_out: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()
    )


class Residual(nn.Module):
    """x + f(x) with two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, of the input's shape."""
        return F.relu(x + self.second(self.first(x)))


def normalise(rgb: Tensor, depth: Tensor) -> Tensor:
    """Return (B, 5, H, W): colour in [-1, 1], depth [m] with 0 where invalid, validity 0 or 1.

    Args:
        rgb: (B, H, W, 3) uint8.
        depth: (B, H, W) [m]; NaN, zero and what is out of range are invalid.
    """
    valid = (depth > DEPTH_MIN) & (depth < DEPTH_MAX)  # false for NaN
    metres = torch.where(valid, depth, torch.zeros_like(depth))
    colour = rgb.permute(0, 3, 1, 2).contiguous().float().mul(1 / 127.5).sub(1.0)
    return torch.cat([colour, metres[:, None], valid[:, None].float()], dim=1)


def nearest_depth(image: Tensor, stride: int) -> Tensor:
    """Return (B, 1, h, w) the nearest valid depth of every cell [m] (a held object is in front); 1 where none."""
    depth = torch.where(image[:, 4:5] > 0, image[:, 3:4], torch.full_like(image[:, 3:4], DEPTH_MAX))
    nearest = -F.max_pool2d(-depth, stride)
    return torch.where(nearest < DEPTH_MAX, nearest, torch.ones_like(nearest))


def cell_centres(h: int, w: int, stride: float) -> tuple[Tensor, Tensor]:
    """Return the pixel coordinates u (w,) and v (h,) of the centres of the cells of a grid."""
    return (torch.arange(w) + 0.5) * stride - 0.5, (torch.arange(h) + 0.5) * stride - 0.5


def soft_argmax(heat: Tensor, stride: float) -> Tensor:
    r"""Return (B, K, 2) pixels :math:`z_k = \sum_{xy} (x, y) R_k(x, y)` of maps R (B, K, h, w) that sum to one."""
    u, v = (c.to(heat.device) for c in cell_centres(heat.shape[-2], heat.shape[-1], stride))
    return torch.stack([(heat.sum(-2) * u).sum(-1), (heat.sum(-1) * v).sum(-1)], dim=-1)


def peak(log_heat: Tensor, stride: float, sigma: float = 1.5) -> Tensor:
    """Return maps (B, K, h, w) that sum to one and keep only what is near the highest cell; sigma [cells].

    The mean of a map with two peaks lies on neither, so what follows stage 1 looks at the higher one.
    """
    h, w = log_heat.shape[-2:]
    u, v = (c.to(log_heat.device) for c in cell_centres(h, w, stride))
    best = log_heat.flatten(2).argmax(-1)  # (B, K)
    du, dv = u - u[best % w][..., None], v - v[best // w][..., None]  # (B, K, w), (B, K, h)
    far = (du**2)[..., None, :] + (dv**2)[..., :, None]  # (B, K, h, w)
    return (log_heat - far / (2 * (sigma * stride) ** 2)).flatten(2).softmax(-1).view_as(log_heat)


def map_spread(log_heat: Tensor) -> Tensor:
    """Return the spread (B, K) of maps (B, K, h, w), a standard deviation in half widths: large with two peaks."""
    heat, w = log_heat.exp(), log_heat.shape[-1]
    place = soft_argmax(heat, 1.0)
    u, v = (c.to(heat.device) for c in cell_centres(log_heat.shape[-2], w, 1.0))
    square = (u - place[..., :1])[..., None, :] ** 2 + (v - place[..., 1:])[..., :, None] ** 2  # (B, K, h, w)
    return (heat * square).sum((-2, -1)).sqrt() / (0.5 * w)


def coarse_depth(image: Tensor, near: Tensor, mask_logit: Tensor) -> Tensor:
    """Return (B, K) the mean nearest depth [m] of the cells of stride 4 near the peak that show the object."""
    depth = nearest_depth(image, STRIDE // 2)  # (B, 1, 2h, 2w)
    weight = F.interpolate(near, scale_factor=2.0, mode="nearest") * (mask_logit.sigmoid()[:, None] + 1e-3)
    return (weight * depth).sum((-2, -1)) / weight.sum((-2, -1))


def gaussian_maps(uv: Tensor, h: int, w: int, sigma: float = 1.5 * STRIDE) -> Tensor:
    """Return (B, K, h, w) maps exp(-|x - z|^2 / (2 sigma^2)) on the grid of stride 8; sigma [px]."""
    u, v = (c.to(uv.device) for c in cell_centres(h, w, STRIDE))
    gu = (-((u - uv[..., :1]) ** 2) / (2 * sigma**2)).exp()  # (B, K, w)
    gv = (-((v - uv[..., 1:]) ** 2) / (2 * sigma**2)).exp()  # (B, K, h)
    return gv[..., :, None] * gu[..., None, :]


def perpendicular(axis: Tensor) -> Tensor:
    """Return the axis (..., 2) turned by +90 degrees (from x to y)."""
    return torch.stack([-axis[..., 1], axis[..., 0]], dim=-1)


def image_axis(uv: Tensor) -> Tensor:
    """Return (B, K, 2) unit vectors from every keypoint's predecessor to it; the first takes the second's."""
    if uv.shape[1] == 1:
        return torch.stack([torch.ones_like(uv[..., 0]), torch.zeros_like(uv[..., 0])], dim=-1)
    difference = uv[:, 1:] - uv[:, :-1]
    difference = torch.cat([difference[:, :1], difference], dim=1)
    return difference / (difference.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt()


class Crops(NamedTuple):
    """N crops of each of B images: squares of S x S samples, turned along an axis."""

    centre: Tensor  # (B, N, 2) [px]
    axis: Tensor  # (B, N, 2) unit vector in the image, the crop's x axis
    step: Tensor  # (B, N) pixels between two samples
    depth: Tensor  # (B, N) [m] that depths in the crop are relative to

    def to_image(self, samples: Tensor) -> Tensor:
        """Return pixels (B, N, 2) of offsets from the centre along and across the axis (B, N, 2) [samples]."""
        x, y = samples[..., :1], samples[..., 1:]
        return self.centre + self.step[..., None] * (x * self.axis + y * perpendicular(self.axis))

    def from_image(self, uv: Tensor) -> Tensor:
        """Return the offsets (B, N, 2) [samples] of pixels (B, N, 2): the inverse of `to_image`."""
        d = uv - self.centre
        x, y = (d * self.axis).sum(-1), (d * perpendicular(self.axis)).sum(-1)
        return torch.stack([x, y], dim=-1) / self.step[..., None]


def crop_grid(crops: Crops, size: int, height: int, width: int) -> Tensor:
    """Return where the samples lie, (B, N S, S, 2), in the coordinates of `grid_sample` for a height x width image."""
    b, n = crops.depth.shape
    g = torch.arange(size, device=crops.depth.device) - (size - 1) / 2
    along = (crops.step[..., None, None] * g[None, None, None, :])[..., None]  # (B, N, 1, S, 1)
    across = (crops.step[..., None, None] * g[None, None, :, None])[..., None]  # (B, N, S, 1, 1)
    e, f = crops.axis[:, :, None, None, :], perpendicular(crops.axis)[:, :, None, None, :]
    uv = crops.centre[:, :, None, None, :] + along * e + across * f  # (B, N, S, S, 2)
    grid = torch.stack([(2 * uv[..., 0] + 1) / width - 1, (2 * uv[..., 1] + 1) / height - 1], dim=-1)
    return grid.reshape(b, n * size, size, 2)


def sample_crops(image: Tensor, crops: Crops, size: int) -> Tensor:
    """Return (B N, 5, S, S): colour, depth relative to the crop's [0.1 m], 0 where invalid or far, its validity."""
    (b, n), (height, width) = crops.depth.shape, image.shape[-2:]
    grid = crop_grid(crops, size, height, width)
    colour = F.grid_sample(image[:, :3], grid, mode="bilinear", align_corners=False)  # (B, 3, N S, S)
    sensed = F.grid_sample(image[:, 3:], grid, mode="nearest", align_corners=False)  # no mixed depths
    valid = sensed[:, 1:].view(b, 1, n, size, size)
    relative = (sensed[:, :1].view(b, 1, n, size, size) - crops.depth[:, None, :, None, None]) / DEPTH_UNIT
    near = valid * (relative.abs() < DEPTH_REACH / DEPTH_UNIT)
    crop = torch.cat([colour.view(b, 3, n, size, size), near * relative, near], dim=1)
    return crop.transpose(1, 2).reshape(b * n, 5, size, size)


def middle(x: Tensor) -> Tensor:
    """Return the median over dimension 1 (the mean of the middle two where their number is even)."""
    k = x.shape[1]
    ordered = x.sort(dim=1).values
    return 0.5 * (ordered[:, (k - 1) // 2] + ordered[:, k // 2])
