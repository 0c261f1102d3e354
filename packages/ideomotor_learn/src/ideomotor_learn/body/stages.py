"""The three stages of the keypoint detector, from the whole image to the pixels around one keypoint."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ideomotor.config import Config, value
from ideomotor_learn.body.layers import Residual, conv, peak


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Config):
    """Size of the network. The defaults are the shipped artefact's."""

    height: int = value(240, "Image height the network sees [px], a multiple of 16.", ge=32)
    width: int = value(320, "Image width the network sees [px], a multiple of 16.", ge=32)
    keypoints: int = value(4, "Number of keypoints K.", ge=1)
    channels: tuple[int, int, int, int] = value((16, 32, 48, 64), "Channels at strides 4, 8, 16, 32.")
    object_channels: tuple[int, int, int] = value((32, 56, 96), "Channels of the object stage at strides 2, 4, 8.")
    object_size: int = value(64, "Samples along a side of the object's crop, a multiple of 8.", ge=16)
    object_window: float = value(96.0, "Side of the object's crop times depth [px m].", ge=1.0)
    crop_channels: tuple[int, int] = value((32, 48), "Channels of the refinement at strides 2 and 4.")
    crop_size: int = value(32, "Samples along a side of the refinement's crop, a multiple of 4.", ge=8)
    crop_window: float = value(32.0, "Side of the crop times depth [px m].", ge=1.0)


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


class ObjectNet(nn.Module):
    """Stage 2: one crop that shows the whole object; tells its parts apart and finds all keypoints together."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        c2, c4, c8 = config.object_channels
        self.keypoints, self.size = config.keypoints, config.object_size
        self.enter = nn.Sequential(conv((6 + config.keypoints) * 4, c2), Residual(c2))
        self.down4 = nn.Sequential(conv(c2, c4, stride=2), Residual(c4))
        self.down8 = nn.Sequential(conv(c4, c8, stride=2), Residual(c8), Residual(c8))
        self.lateral4, self.up4 = conv(c8, c4, kernel=1), conv(c4, c4)
        self.lateral2, self.up2 = conv(c4, c2, kernel=1), conv(c2, c2)
        self.votes = nn.Conv2d(c2, 5 * config.keypoints, 1)  # attention, offset (2), depth attention, depth offset
        nn.init.zeros_(self.votes.weight)  # untrained it leaves stage 1's keypoints alone
        nn.init.zeros_(self.votes.bias)  # type: ignore[arg-type]

    def forward(self, crop: Tensor, hint: Tensor, believed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return votes.

        Args:
            crop: (B, 5, S, S) as from `sample_crops`.
            hint: (B, 1 + K, S, S) what stage 1 says there: object mask, keypoint maps.
            believed: (B, K, 2) where stage 1 puts the keypoints [samples from the crop's centre].

        Returns:
            Places (B, K, 2) [samples from the centre], relative depths (B, K) [0.1 m], log maps (B, K, S/2, S/2).
        """
        x2 = self.enter(F.pixel_unshuffle(torch.cat([crop, hint], dim=1), 2))
        x4 = self.down4(x2)
        y4 = self.up4(x4 + F.interpolate(self.lateral4(self.down8(x4)), scale_factor=2.0, mode="nearest"))
        y2 = self.up2(x2 + F.interpolate(self.lateral2(y4), scale_factor=2.0, mode="nearest"))
        half = self.size // 2
        votes = self.votes(y2).float().view(-1, self.keypoints, 5, half * half)  # (B, K, 5, n)
        g = (torch.arange(half, device=crop.device) + 0.5) * 2.0 - half  # [samples]
        x, y = g.repeat(half), g.repeat_interleave(half)  # (n,)
        far = (x - believed[..., :1]) ** 2 + (y - believed[..., 1:]) ** 2  # (B, K, n)
        log_map = (votes[:, :, 0] - far / (2.0 * (0.4 * half) ** 2)).log_softmax(-1)
        log_map = log_map.view(-1, self.keypoints, half, half)
        near = peak(log_map, 2.0, sigma=2.0).flatten(2)  # the mean of both ends of a hammer's head is neither
        place = torch.stack(
            [(near * (x + 4.0 * votes[:, :, 1])).sum(-1), (near * (y + 4.0 * votes[:, :, 2])).sum(-1)], dim=-1
        )
        depth = F.avg_pool2d(crop[:, 3:5], 2).flatten(2)  # (B, 2, n)
        valid = depth[:, 1:]  # (B, 1, n)
        weight = ((near + 1e-6).log() + votes[:, :, 3] + (valid + 1e-6).log()).softmax(-1)
        relative = (weight * (depth[:, :1] / (valid + 1e-6) + 0.3 * votes[:, :, 4])).sum(-1)
        return place, relative, log_map


class RefineNet(nn.Module):
    """Stage 3: one crop around one keypoint; every sample of the crop votes for the keypoint's place."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        c2, c4 = config.crop_channels
        self.keypoints, self.size = config.keypoints, config.crop_size
        self.enter = nn.Sequential(nn.Conv2d(5 * 4, c2, 3, 1, 1, bias=False), nn.BatchNorm2d(c2))
        self.context = nn.Linear(config.channels[1] + 2 + config.keypoints, c2)
        self.block2 = Residual(c2)
        self.down4 = nn.Sequential(conv(c2, c4, stride=2), Residual(c4))
        self.lateral2, self.up2 = conv(c4, c2, kernel=1), conv(c2, c2)
        self.votes = nn.Conv2d(c2, 5, 1)  # attention and offset (2) of uv, attention and offset of depth
        self.summary = nn.Sequential(nn.Linear(c4, c4), nn.ReLU(), nn.Linear(c4, 4))
        nn.init.zeros_(self.votes.weight)  # an untrained stage 3 leaves the keypoints alone
        nn.init.zeros_(self.votes.bias)  # type: ignore[arg-type]

    def forward(self, crop: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return votes for a batch of crops.

        Args:
            crop: (N, 5, S, S) colour, depth relative to the coarse one [0.1 m] (0 where invalid), validity.
            context: (N, C) stage 1's features at the keypoint, its depth [m], the spread of stage 2's map, one-hot
                keypoint index.

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
