r"""The keypoint detector: K keypoint maps, soft-argmax, a refinement of every keypoint, a decoder for training.

::

    rgb (H, W, 3) uint8, depth (H, W) [m]                 stage 2, the same weights for every keypoint
      | 5 channels: colour, depth, depth is valid           crop turned along the object, scaled by 1/depth
      v                                                       |
    stem /4 -> /8 -> /16 -> /32   (U-Net)                   20x20 -> 10x10 -> 20x20
                      back to /8                              |           '-> log variances, confidence
      |        |            |                                 v
    features  mask   K maps --softmax--> uv, depth  ----->  votes: uv offset, depth = sensor depth + offset

Stage 1 sees the whole image at a stride of 8 and tells the held object from the clutter; stage 2 sees the
pixels around one keypoint at full resolution, so its error is a fraction of a pixel. Inference needs the
image and nothing else: joint positions enter only the losses.

Structure of keypoint maps, soft-argmax and decoder: Minderer et al. 2019 (arXiv:1906.07889); its use for
body schemas: Bechtle et al. 2021 (arXiv:2011.03882). Deviations are listed in docs/keypoint_detector.md.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ideomotor.config import Config, value

DEPTH_MIN, DEPTH_MAX = 0.1, 4.0  # sensor depths outside are treated as invalid [m]
PASSES = 2  # of stage 2 at inference: the second sees the keypoint in the middle of its crop
STRIDE = 8  # [px] of a cell of the keypoint maps


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Config):
    """Size of the network. The defaults are the shipped artefact's."""

    height: int = value(240, "Image height the network sees [px], a multiple of 16.", ge=32)
    width: int = value(320, "Image width the network sees [px], a multiple of 16.", ge=32)
    keypoints: int = value(4, "Number of keypoints K.", ge=1)
    channels: tuple[int, int, int, int] = value((16, 32, 48, 64), "Channels at strides 4, 8, 16, 32.")
    crop_channels: tuple[int, int] = value((32, 48), "Channels of the refinement at strides 2 and 4.")
    crop_size: int = value(32, "Samples along a side of the refinement's crop, a multiple of 4.", ge=8)
    crop_window: float = value(32.0, "Side of the crop times depth [px m].", ge=1.0)


class Prediction(NamedTuple):
    """What the network says about a batch of B images; (h, w) is the grid of stride 8."""

    log_heat: Tensor  # (B, K, h, w) log of the keypoint maps, each sums to one
    mask_logit: Tensor  # (B, 2h, 2w) object or not, stride 4
    features: Tensor  # (B, C, h, w)
    uv_coarse: Tensor  # (B, K, 2) soft-argmax of the maps [px]
    depth_coarse: Tensor  # (B, K) [m]
    axis: Tensor  # (B, K, 2) unit vector in the image that the crop was turned along
    step: Tensor  # (B, K) pixels between two samples of the crop
    uv: Tensor  # (B, K, 2) refined [px]
    depth: Tensor  # (B, K) refined, of the object's centre line [m]
    depth_support: Tensor  # (B, K) share of the crop with a valid sensor depth
    log_variance: Tensor  # (B, K, 3) of uv along and across the axis [px^2], of depth [m^2]
    confidence_logit: Tensor  # (B, K)


class Refinement(NamedTuple):
    """What one pass of stage 2 says; the last fields of `Prediction`."""

    axis: Tensor
    step: Tensor
    uv: Tensor
    depth: Tensor
    depth_support: Tensor
    log_variance: Tensor
    confidence_logit: Tensor


class Guide(NamedTuple):
    """Where training puts the crops, so that stage 2 learns before stage 1 finds the object."""

    uv: Tensor  # (B, K, 2) [px]
    depth: Tensor  # (B, K) [m]
    use: Tensor  # (B, K) bool: the crop is put there; else where stage 1 says, displaced by jitter
    jitter: Tensor  # (B, K, 2) [px]


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


def coarse_depth(image: Tensor, near: Tensor, mask_logit: Tensor) -> Tensor:
    """Return (B, K) the mean nearest depth [m] of the cells of stride 4 near the peak that show the object."""
    depth = nearest_depth(image, STRIDE // 2)  # (B, 1, 2h, 2w)
    weight = F.interpolate(near, scale_factor=2.0, mode="nearest") * (mask_logit.sigmoid()[:, None] + 1e-3)
    return (weight * depth).sum((-2, -1)) / weight.sum((-2, -1))


class CoarseNet(nn.Module):
    """Stage 1: a U-Net from stride 4 to 32 and back to 8."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        c4, c8, c16, c32 = config.channels
        self.stem = nn.Sequential(nn.Conv2d(5, c4, 6, 4, 1, bias=False), nn.BatchNorm2d(c4), nn.ReLU())
        self.down8 = nn.Sequential(conv(c4, c8, stride=2), Residual(c8))
        self.down16 = nn.Sequential(conv(c8, c16, stride=2), Residual(c16), Residual(c16))
        self.down32 = nn.Sequential(conv(c16, c32, stride=2), Residual(c32), Residual(c32))
        self.lateral16, self.up16 = conv(c32, c16, kernel=1), conv(c16, c16)
        self.lateral8, self.up8 = conv(c16, c8, kernel=1), conv(c8, c8)
        self.maps = nn.Conv2d(c8, 2 * config.keypoints + 4, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return map logits and depth residuals [m], (B, K, h, w), mask logits (B, 2h, 2w), features."""
        x4 = self.stem(image)
        x8 = self.down8(x4)
        x16 = self.down16(x8)
        x32 = self.down32(x16)
        y16 = self.up16(x16 + F.interpolate(self.lateral16(x32), size=x16.shape[-2:], mode="nearest"))
        y8 = self.up8(x8 + F.interpolate(self.lateral8(y16), size=x8.shape[-2:], mode="nearest"))
        k = (self.maps.out_channels - 4) // 2
        heat, depth, mask = self.maps(y8).float().split([k, k, 4], dim=1)
        return heat, 0.2 * depth, F.pixel_shuffle(mask, 2)[:, 0], y8


class RefineNet(nn.Module):
    """Stage 2: one crop around one keypoint; every sample of the crop votes for the keypoint's place."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        c2, c4 = config.crop_channels
        self.keypoints, self.size = config.keypoints, config.crop_size
        self.enter = nn.Sequential(nn.Conv2d(5 * 4, c2, 3, 1, 1, bias=False), nn.BatchNorm2d(c2))
        self.context = nn.Linear(config.channels[1] + 1 + config.keypoints, c2)
        self.block2 = Residual(c2)
        self.down4 = nn.Sequential(conv(c2, c4, stride=2), Residual(c4))
        self.lateral2, self.up2 = conv(c4, c2, kernel=1), conv(c2, c2)
        self.votes = nn.Conv2d(c2, 5, 1)  # attention and offset (2) of uv, attention and offset of depth
        self.summary = nn.Sequential(nn.Linear(c4, c4), nn.ReLU(), nn.Linear(c4, 4))
        nn.init.zeros_(self.votes.weight)  # an untrained stage 2 leaves stage 1's keypoints alone
        nn.init.zeros_(self.votes.bias)  # type: ignore[arg-type]

    def forward(self, crop: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return votes for a batch of crops.

        Args:
            crop: (N, 5, S, S) colour, depth relative to the coarse one [0.1 m] (0 where invalid), validity.
            context: (N, C) stage 1's features at the keypoint, coarse depth [m], one-hot keypoint index.

        Returns:
            Offset (N, 2) along and across the axis [samples], relative depth (N,) [0.1 m], share of valid
            depths (N,), summary (N, 4): log variances along, across, depth, and the confidence's logit.
        """
        x = F.pixel_unshuffle(crop, 2)
        x2 = self.block2(F.relu(self.enter(x) + self.context(context)[:, :, None, None]))
        x4 = self.down4(x2)
        y2 = self.up2(x2 + F.interpolate(self.lateral2(x4), scale_factor=2.0, mode="nearest"))
        votes = self.votes(y2).float().flatten(2)  # (N, 5, n)
        half = self.size // 2
        g = (torch.arange(half, device=crop.device) + 0.5) * 2.0 - half  # samples from the crop's centre
        along, across = g.repeat(half), g.repeat_interleave(half)  # (n,)
        attention = (votes[:, 0] - (along**2 + across**2) / (0.25 * half * half)).softmax(-1)  # (N, n)
        offset = torch.stack(
            [
                (attention * (along + half * votes[:, 1])).sum(-1),
                (attention * (across + half * votes[:, 2])).sum(-1),
            ],
            dim=-1,
        )
        depth = F.avg_pool2d(crop[:, 3:5], 2).flatten(2)  # (N, 2, n) mean of valid depths = ratio
        valid = depth[:, 1]
        logit = votes[:, 3] - (along**2 + across**2) / (0.05 * half * half) + (valid + 1e-6).log()
        weight = logit.softmax(-1)  # (N, n)
        relative = (weight * (depth[:, 0] / (valid + 1e-6) + votes[:, 4])).sum(-1)
        return offset, relative, valid.mean(-1), self.summary(x4.mean((-2, -1))).float()


class KeypointNet(nn.Module):
    """Both stages. `forward` is what training uses, `Inference` what is exported."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.coarse = CoarseNet(config)
        self.refine = RefineNet(config)

    def forward(self, rgb: Tensor, depth: Tensor, guide: Guide | None = None, passes: int = 1) -> Prediction:
        """Detect keypoints.

        Args:
            rgb: (B, H, W, 3) uint8.
            depth: (B, H, W) [m], NaN or zero where invalid.
            guide: training only; where to put the crops.
            passes: of stage 2, each around the keypoints of the one before.
        """
        image = normalise(rgb, depth)  # (B, 5, H, W)
        logit, depth_residual, mask_logit, features = self.coarse(image)
        log_heat = logit.flatten(2).log_softmax(-1).view_as(logit)
        uv_coarse = soft_argmax(log_heat.exp(), STRIDE)  # (B, K, 2)
        near = peak(log_heat.detach(), STRIDE)
        depth_coarse = coarse_depth(image, near, mask_logit.detach()) + (near * depth_residual).sum((-2, -1))  # (B, K)

        centre, scale = soft_argmax(near, STRIDE), depth_coarse.detach()
        if guide is not None:
            centre = torch.where(guide.use[..., None], guide.uv, centre + guide.jitter)
            scale = torch.where(guide.use, guide.depth, scale)
        refined = self.refine_at(image, features, centre, scale)
        for _ in range(passes - 1):
            refined = self.refine_at(image, features, refined.uv, refined.depth)
        return Prediction(log_heat, mask_logit, features, uv_coarse, depth_coarse, *refined)

    def refine_at(self, image: Tensor, features: Tensor, centre: Tensor, depth: Tensor) -> Refinement:
        """Run stage 2 on crops around pixels (B, K, 2) at depths (B, K) [m]."""
        scale = depth.clamp(0.4, 2.5)
        axis = image_axis(centre)
        step = self.config.crop_window / self.config.crop_size / scale  # (B, K) px per sample
        crop = self.crop(image, centre, axis, step, scale)
        offset, relative, support, summary = self.refine(crop, self.context(features, centre, scale))
        b, k = scale.shape
        offset = offset.view(b, k, 2) * step[..., None]  # [px], along and across
        uv = centre + offset[..., :1] * axis + offset[..., 1:] * perpendicular(axis)
        summary = summary.view(b, k, 4)
        log_variance = torch.cat(
            [
                summary[..., :2].clamp(-8.0, 8.0) + 2.0 * step.log()[..., None],  # 1 sample^2 at zero
                summary[..., 2:3].clamp(-6.0, 6.0) + 2.0 * math.log(0.01),  # (1 cm)^2 at zero
            ],
            dim=-1,
        )
        metres = scale + 0.1 * relative.view(b, k)
        return Refinement(axis, step, uv, metres, support.view(b, k), log_variance, summary[..., 3])

    def crop(self, image: Tensor, centre: Tensor, axis: Tensor, step: Tensor, depth: Tensor) -> Tensor:
        """Return (B K, 5, S, S) samples around every keypoint, turned along `axis`, `step` pixels apart."""
        b, k = depth.shape
        s, (height, width) = self.config.crop_size, image.shape[-2:]
        g = torch.arange(s, device=image.device) - (s - 1) / 2
        along = step[..., None, None] * g[None, None, None, :]  # (B, K, 1, S)
        across = step[..., None, None] * g[None, None, :, None]  # (B, K, S, 1)
        e, f = axis[:, :, None, None, :], perpendicular(axis)[:, :, None, None, :]
        uv = centre[:, :, None, None, :] + along[..., None] * e + across[..., None] * f  # (B, K, S, S, 2)
        grid = torch.stack([(2 * uv[..., 0] + 1) / width - 1, (2 * uv[..., 1] + 1) / height - 1], dim=-1)
        grid = grid.reshape(b, k * s, s, 2)
        colour = F.grid_sample(image[:, :3], grid, mode="bilinear", align_corners=False)  # (B, 3, K S, S)
        sensed = F.grid_sample(image[:, 3:], grid, mode="nearest", align_corners=False)  # no mixed depths
        valid = sensed[:, 1:].view(b, 1, k, s, s)
        relative = (sensed[:, :1].view(b, 1, k, s, s) - depth[:, None, :, None, None]) * 10.0
        near = valid * (relative.abs() < 3.0)  # farther than 30 cm is background
        crop = torch.cat([colour.view(b, 3, k, s, s), near * relative, near], dim=1)
        return crop.transpose(1, 2).reshape(b * k, 5, s, s)

    def context(self, features: Tensor, centre: Tensor, depth: Tensor) -> Tensor:
        """Return (B K, C + 1 + K): stage 1's features at the keypoints, coarse depth, keypoint index."""
        b, k = depth.shape
        h, w = features.shape[-2:]
        x = (2 * centre[..., 0] + 1) / (w * STRIDE) - 1
        y = (2 * centre[..., 1] + 1) / (h * STRIDE) - 1
        at = F.grid_sample(features.float(), torch.stack([x, y], -1)[:, :, None], align_corners=False)  # (B, C, K, 1)
        index = torch.eye(k, device=depth.device).expand(b, k, k)
        return torch.cat([at[..., 0].transpose(1, 2), depth[..., None], index], dim=-1).reshape(b * k, -1)


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


class Inference(nn.Module):
    """The exported graph: image and depth in, the fields of `ideomotor.body.keypoints.Keypoints` out."""

    def __init__(self, net: KeypointNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, rgb: Tensor, depth: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return uv (B, K, 2) [px], its covariance (B, K, 2, 2) [px^2], depth [m], its variance [m^2], confidence.

        Depth is NaN where the crop holds no valid sensor depth.
        """
        p = self.net(rgb, depth, passes=PASSES)
        variance = p.log_variance.exp()
        e, f = p.axis, perpendicular(p.axis)
        covariance = (
            variance[..., 0, None, None] * e[..., :, None] * e[..., None, :]
            + variance[..., 1, None, None] * f[..., :, None] * f[..., None, :]
        )
        none = torch.full_like(p.depth, float("nan"))
        sensed = torch.where(p.depth_support > 0.002, p.depth, none)
        return p.uv, covariance, sensed, variance[..., 2], p.confidence_logit.sigmoid()


class Decoder(nn.Module):
    r"""Paints the image from keypoints and another frame of the same episode (training only).

    .. math:: \hat I_t = I_r + \psi([G(z_t), G(z_r), I_r, \varphi(I_r)])

    with :math:`G` Gaussian maps at the keypoints and r the reference frame; stride 4.
    """

    def __init__(self, config: NetworkConfig, channels: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(2 * config.keypoints + 12 + config.channels[1], channels),
            conv(channels, channels),
            conv(channels, channels),
            nn.Conv2d(channels, 12, 1),
        )

    def forward(self, uv: Tensor, uv_reference: Tensor, reference: Tensor, features: Tensor) -> Tensor:
        """Return the painted image (B, 3, H/4, W/4).

        Args:
            uv: (B, K, 2) keypoints of the frame to paint [px].
            uv_reference: (B, K, 2) keypoints of the reference frame [px].
            reference: (B, 3, H/4, W/4) reference image.
            features: (B, C, H/8, W/8) stage 1's features of the reference frame.
        """
        h, w = features.shape[-2:]
        maps = [gaussian_maps(uv, h, w), gaussian_maps(uv_reference, h, w)]
        return reference + F.pixel_shuffle(
            self.body(torch.cat([*maps, F.pixel_unshuffle(reference, 2), features], dim=1)).float(), 2
        )


def gaussian_maps(uv: Tensor, h: int, w: int, sigma: float = 1.5 * STRIDE) -> Tensor:
    """Return (B, K, h, w) maps exp(-|x - z|^2 / (2 sigma^2)) on the grid of stride 8; sigma [px]."""
    u, v = (c.to(uv.device) for c in cell_centres(h, w, STRIDE))
    gu = (-((u - uv[..., :1]) ** 2) / (2 * sigma**2)).exp()  # (B, K, w)
    gv = (-((v - uv[..., 1:]) ** 2) / (2 * sigma**2)).exp()  # (B, K, h)
    return gv[..., :, None] * gu[..., None, :]
