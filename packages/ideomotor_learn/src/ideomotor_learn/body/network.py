r"""The keypoint detector: where is the object, what is it, where exactly; and a decoder for training.

::

    rgb (H, W, 3) uint8, depth (H, W) [m]
      |
    stage 1  U-Net over the whole image, stride 4 .. 32 .. 8: object mask, K maps --soft-argmax--> keypoints, depths
      |        tells the held object from the clutter, to some 5 px
    stage 2  U-Net over one crop of 64 x 64 samples (30 cm) that shows the object, turned along it, scaled by 1/depth
      |        tells its parts apart (which end of a hammer's head is its face), to some 2 px
    stage 3  one crop of 32 x 32 samples (10 cm) around every keypoint, the same weights for all
               the last fraction of a pixel, the covariance, the confidence

Stages 2 and 3 vote: z = sum_i a_i (g_i + o_i), d = sum_i b_i (d_i + e_i) over the samples i of the crop, with
attentions a and b, offsets o and e, and the depths d_i that the sensor measured. Inference needs the image and
nothing else: joint positions enter only the losses.

Keypoint maps, soft-argmax and decoder: Minderer et al. 2019 (arXiv:1906.07889); its use for body schemas:
Bechtle et al. 2021 (arXiv:2011.03882). Deviations are listed in docs/keypoint_detector.md.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ideomotor_learn.body.layers import (
    DEPTH_UNIT,
    STRIDE,
    Crops,
    coarse_depth,
    conv,
    crop_grid,
    gaussian_maps,
    image_axis,
    map_spread,
    middle,
    normalise,
    peak,
    perpendicular,
    sample_crops,
    soft_argmax,
)
from ideomotor_learn.body.stages import CoarseNet, NetworkConfig, ObjectNet, RefineNet


class Prediction(NamedTuple):
    """What the network says about a batch of B images; (h, w) is the grid of stride 8."""

    # stage 1
    log_heat: Tensor  # (B, K, h, w) log of the keypoint maps, each sums to one
    mask_logit: Tensor  # (B, 2h, 2w) object or not, stride 4
    features: Tensor  # (B, C, h, w)
    uv_coarse: Tensor  # (B, K, 2) soft-argmax of the maps [px]
    depth_coarse: Tensor  # (B, K) [m]
    # stage 2
    crops: Crops  # the object's crop, repeated for every keypoint
    log_map: Tensor  # (B, K, S/2, S/2) log of its keypoint maps
    uv_object: Tensor  # (B, K, 2) [px]
    depth_object: Tensor  # (B, K) [m]
    # stage 3
    axis: Tensor  # (B, K, 2) unit vector in the image that the crop was turned along
    uv: Tensor  # (B, K, 2) [px]
    depth: Tensor  # (B, K) of the object's centre line [m]
    depth_support: Tensor  # (B, K) share of the crop with a valid sensor depth
    log_variance: Tensor  # (B, K, 3) of uv along and across the axis [px^2], of depth [m^2]
    confidence_logit: Tensor  # (B, K)


class Guide(NamedTuple):
    """Where training puts the crops, so that a stage learns before the one before it is any good."""

    uv_object: Tensor  # (B, K, 2) [px] keypoints that the object's crop is laid around
    uv: Tensor  # (B, K, 2) [px] centres of the keypoints' crops
    depth: Tensor  # (B, K) [m] of all crops
    use: Tensor  # (B, K) bool: so; else where the stage before says, displaced by jitter
    jitter: Tensor  # (B, K, 2) [px]


class KeypointNet(nn.Module):
    """All stages. `forward` is what training uses, `Inference` what is exported."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.coarse = CoarseNet(config)
        self.object = ObjectNet(config)
        self.refine = RefineNet(config)

    def forward(self, rgb: Tensor, depth: Tensor, guide: Guide | None = None) -> Prediction:
        """Detect keypoints.

        Args:
            rgb: (B, H, W, 3) uint8.
            depth: (B, H, W) [m], NaN or zero where invalid.
            guide: training only; where to put the crops.
        """
        image = normalise(rgb, depth)  # (B, 5, H, W)
        logit, depth_residual, mask_logit, features = self.coarse(image)
        log_heat = logit.flatten(2).log_softmax(-1).view_as(logit)
        uv_coarse = soft_argmax(log_heat.exp(), STRIDE)  # (B, K, 2)
        near = peak(log_heat.detach(), STRIDE)
        depth_coarse = coarse_depth(image, near, mask_logit.detach()) + (near * depth_residual).sum((-2, -1))  # (B, K)

        believed, metres = soft_argmax(near, STRIDE), depth_coarse.detach()
        if guide is not None:
            believed = torch.where(guide.use[..., None], guide.uv_object, believed + guide.jitter)
            metres = torch.where(guide.use, guide.depth, metres)
        crops = self.object_crop(believed, metres)
        hint = self.hint(mask_logit, log_heat, crops)
        crop = sample_crops(image, crops, self.config.object_size)
        crops = spread(crops, self.config.keypoints)
        place, relative, log_map = self.object(crop, hint, crops.from_image(believed))
        uv_object, depth_object = crops.to_image(place), crops.depth + DEPTH_UNIT * relative

        centre, metres = uv_object.detach(), depth_object.detach()
        if guide is not None:
            centre = torch.where(guide.use[..., None], guide.uv, centre + guide.jitter)
            metres = torch.where(guide.use, guide.depth, metres)
        refined = self.refine_at(image, features, centre, metres, map_spread(log_map.detach()))
        return Prediction(
            log_heat, mask_logit, features, uv_coarse, depth_coarse, crops, log_map, uv_object, depth_object, *refined
        )

    def object_crop(self, uv: Tensor, depth: Tensor) -> Crops:
        """Return one crop per image around keypoints (B, K, 2) at depths (B, K) [m]; a stray one does not move it."""
        centre, scale = middle(uv), middle(depth).clamp(0.4, 2.5)
        axis = centre - uv[:, 0]
        axis = axis / (axis.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt()
        step = self.config.object_window / self.config.object_size / scale
        return Crops(centre[:, None], axis[:, None], step[:, None], scale[:, None])

    def hint(self, mask_logit: Tensor, log_heat: Tensor, crops: Crops) -> Tensor:
        """Return (B, 1 + K, S, S): stage 1's mask and maps (1 at their highest) in the object's crop."""
        grid = crop_grid(crops, self.config.object_size, self.config.height, self.config.width)
        heat = (log_heat - log_heat.amax((-2, -1), keepdim=True)).exp()
        maps = [mask_logit.sigmoid()[:, None], heat]
        return torch.cat([F.grid_sample(m.detach(), grid, align_corners=False) for m in maps], dim=1)

    def refine_at(
        self, image: Tensor, features: Tensor, centre: Tensor, depth: Tensor, doubt: Tensor
    ) -> tuple[Tensor, ...]:
        """Run stage 3 around pixels (B, K, 2) at depths (B, K) [m], told of stage 2's doubt (B, K).

        Returns the last fields of `Prediction`.
        """
        b, k = depth.shape
        scale = depth.clamp(0.4, 2.5)
        step = self.config.crop_window / self.config.crop_size / scale  # (B, K) px per sample
        crops = Crops(centre, image_axis(centre), step, scale)
        crop = sample_crops(image, crops, self.config.crop_size)
        offset, relative, support, summary = self.refine(crop, self.context(features, centre, scale, doubt))
        summary = summary.view(b, k, 4)
        log_variance = torch.cat(
            [
                summary[..., :2].clamp(-8.0, 8.0) + 2.0 * step.log()[..., None],  # 1 sample^2 at zero
                summary[..., 2:3].clamp(-6.0, 6.0) + 2.0 * math.log(0.01),  # (1 cm)^2 at zero
            ],
            dim=-1,
        )
        uv, metres = crops.to_image(offset.view(b, k, 2)), scale + DEPTH_UNIT * relative.view(b, k)
        return crops.axis, uv, metres, support.view(b, k), log_variance, summary[..., 3]

    def context(self, features: Tensor, centre: Tensor, depth: Tensor, doubt: Tensor) -> Tensor:
        """Return (B K, C + 2 + K): stage 1's features at the keypoints, depth, stage 2's doubt, keypoint index."""
        b, k = depth.shape
        h, w = features.shape[-2:]
        x = (2 * centre[..., 0] + 1) / (w * STRIDE) - 1
        y = (2 * centre[..., 1] + 1) / (h * STRIDE) - 1
        at = F.grid_sample(features.float(), torch.stack([x, y], -1)[:, :, None], align_corners=False)  # (B, C, K, 1)
        index = torch.eye(k, device=depth.device).expand(b, k, k)
        return torch.cat([at[..., 0].transpose(1, 2), depth[..., None], doubt[..., None], index], dim=-1).reshape(
            b * k, -1
        )


def spread(crops: Crops, k: int) -> Crops:
    """Return one crop per image as the crop of each of k keypoints."""
    return Crops(*(x.expand(x.shape[0], k, *x.shape[2:]) for x in crops))


class Inference(nn.Module):
    """The exported graph: image and depth in, the fields of `ideomotor.body.keypoints.Keypoints` out."""

    def __init__(self, net: KeypointNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, rgb: Tensor, depth: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return uv (B, K, 2) [px], its covariance (B, K, 2, 2) [px^2], depth [m], its variance [m^2], confidence.

        Depth is NaN where the crop holds no valid sensor depth.
        """
        p = self.net(rgb, depth)
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
