"""Augmentation of one sample, consistent with its intrinsics and pose: what it does to pixels it does to them."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ideomotor.config import Config, value

if TYPE_CHECKING:
    from ideomotor_learn.body.dataset import Sample


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Config):
    """How strongly training images are varied. All zero: not at all."""

    flip: float = value(0.5, "Probability of mirroring the image [1].", ge=0.0, le=1.0)
    zoom: float = value(0.5, "Probability of a random crop and resize [1].", ge=0.0, le=1.0)
    zoom_range: float = value(0.2, "Largest relative change of scale [1].", ge=0.0, le=0.5)
    permute: float = value(0.2, "Probability of permuting the colour channels [1].", ge=0.0, le=1.0)
    colour: float = value(0.25, "Largest relative change of gain, offset and gamma [1].", ge=0.0, le=0.9)
    noise: float = value(6.0, "Largest standard deviation of image noise [of 255].", ge=0.0)
    depth_noise: float = value(
        0.003, "Largest standard deviation of added depth noise at 1 m, grows with its square [m].", ge=0.0
    )
    holes: float = value(0.3, "Probability of up to four rectangles without depth [1].", ge=0.0, le=1.0)


def augment(sample: "Sample", config: AugmentConfig, rng: np.random.Generator) -> "Sample":
    """Return a varied copy of a sample."""
    if rng.random() < config.zoom:
        sample = zoom(sample, 1.0 + config.zoom_range * rng.uniform(-1, 1), rng.uniform(-1, 1, 2))
    if rng.random() < config.flip:
        sample = mirror(sample)
    rgb = sample.rgb
    if config.colour > 0:
        rgb = cv2.LUT(rgb, _colour_table(config.colour, rng))
    if rng.random() < config.permute:
        rgb = rgb[..., rng.permutation(3)]
    if config.noise > 0:
        rgb = _add_noise(rgb, config.noise * rng.random(), rng)
    depth = sample.depth
    if config.depth_noise > 0:
        depth = _add_depth_noise(depth, config.depth_noise * rng.random(), rng)
    if rng.random() < config.holes:
        depth = _punch(depth, rng)
    return replace(sample, rgb=np.ascontiguousarray(rgb), depth=np.ascontiguousarray(depth))


def mirror(sample: "Sample") -> "Sample":
    r"""Mirror left and right: :math:`u' = W - 1 - u`, hence :math:`f_x' = -f_x, c_x' = W - 1 - c_x`."""
    width = sample.depth.shape[1]
    fx, fy, cx, cy = sample.intrinsics
    u, v = sample.uv[:, 0], sample.uv[:, 1]
    return replace(
        sample,
        rgb=sample.rgb[:, ::-1],
        depth=sample.depth[:, ::-1],
        mask=None if sample.mask is None else sample.mask[:, ::-1],
        intrinsics=np.array([-fx, fy, width - 1 - cx, cy], np.float32),
        uv=np.stack([width - 1 - u, v], axis=-1),
    )


def zoom(sample: "Sample", scale: float, shift: np.ndarray) -> "Sample":
    """Scale the image about its centre and shift it by a share (-1..1) of what the scaling moves its border.

    ``u' = scale u + t``; depth is sampled without mixing; what enters from outside is black and without depth.
    """
    height, width = sample.depth.shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    t = (1 - scale) * centre + np.asarray(shift) * abs(1 - scale) * centre
    A = np.array([[scale, 0, t[0]], [0, scale, t[1]]])
    mask = sample.mask
    if mask is not None:
        t_mask = (t - 1.5 * (1 - scale)) / 4  # a mask pixel m lies at u = 4 m + 1.5
        B = np.array([[scale, 0, t_mask[0]], [0, scale, t_mask[1]]])
        mask = cv2.warpAffine(np.asarray(mask), B, mask.shape[::-1], flags=cv2.INTER_LINEAR)
    fx, fy, cx, cy = sample.intrinsics
    uv = scale * sample.uv + t
    inside = ((uv >= -0.5) & (uv <= np.array([width, height]) - 0.5)).all(-1)
    return replace(
        sample,
        rgb=cv2.warpAffine(sample.rgb, A, (width, height), flags=cv2.INTER_LINEAR),
        depth=cv2.warpAffine(sample.depth, A, (width, height), flags=cv2.INTER_NEAREST),
        mask=mask,
        intrinsics=np.array([scale * fx, scale * fy, scale * cx + t[0], scale * cy + t[1]], np.float32),
        uv=uv.astype(np.float32),
        visible=sample.visible & inside,
    )


def _colour_table(strength: float, rng: np.random.Generator) -> np.ndarray:
    """Return a look-up table (1, 256, 3) of gain, offset and gamma, in part per channel."""
    x = np.arange(256)[:, None] / 255.0
    gain = (1 + strength * rng.uniform(-1, 1)) * (1 + 0.4 * strength * rng.uniform(-1, 1, 3))
    offset = 0.3 * strength * rng.uniform(-1, 1) + 0.1 * strength * rng.uniform(-1, 1, 3)
    gamma = np.exp(strength * rng.uniform(-1, 1))
    return (255 * np.clip(gain * x**gamma + offset, 0, 1)).astype(np.uint8)[None]


_BANK = np.random.default_rng(0).standard_normal(1 << 20).astype(np.float32)  # drawing anew costs 4 ms an image


def _noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Return Gaussian noise cut from a fixed bank at a random place."""
    n = int(np.prod(shape))
    start = int(rng.integers(len(_BANK) - n))
    return sigma * _BANK[start : start + n].reshape(shape)


def _add_noise(rgb: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.add(np.ascontiguousarray(rgb), _noise(rgb.shape, sigma, rng), dtype=cv2.CV_8U)


def _add_depth_noise(depth: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Add noise of ``sigma (d / 1 m)^2`` where there is a depth."""
    mm = depth.astype(np.float32)
    noisy = mm + _noise(depth.shape, sigma * 1e-3, rng) * mm * mm  # sigma [m] at 1 m: 1e-3 sigma mm^2 [mm]
    return np.where(depth > 0, np.clip(noisy, 1, 65535), 0).astype(np.uint16)


def _punch(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Take the depth away in one to four rectangles."""
    depth = depth.copy()
    h, w = depth.shape
    for _ in range(int(rng.integers(1, 5))):
        y, x = int(rng.integers(h)), int(rng.integers(w))
        depth[y : y + int(rng.integers(2, h // 8)), x : x + int(rng.integers(2, w // 8))] = 0
    return depth
