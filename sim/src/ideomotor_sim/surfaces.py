"""Procedural colours and textures, drawn from a random generator."""

import colorsys
from dataclasses import dataclass

import cv2
import mujoco
import numpy as np

PATTERNS = ("flat", "gradient", "checker", "speckle")
_BUILTIN = {
    "flat": mujoco.mjtBuiltin.mjBUILTIN_FLAT,
    "gradient": mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
    "checker": mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
    "speckle": mujoco.mjtBuiltin.mjBUILTIN_FLAT,
}


@dataclass(frozen=True)
class Surface:
    """Colour and texture of a shape."""

    rgb: tuple[float, float, float]
    rgb_second: tuple[float, float, float]
    pattern: str = "flat"  # one of PATTERNS
    repeat: float = 1.0
    specular: float = 0.3
    shininess: float = 0.3


def random_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw a colour: any hue, from grey to saturated, from dark to light."""
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.random() ** 0.8, rng.uniform(0.08, 1.0))
    return float(red), float(green), float(blue)


def random_surface(rng: np.random.Generator) -> Surface:
    """Draw a surface; half of them are of one colour."""
    return Surface(
        rgb=random_colour(rng),
        rgb_second=random_colour(rng),
        pattern=str(rng.choice(PATTERNS, p=[0.5, 0.15, 0.2, 0.15])),
        repeat=float(rng.uniform(1.0, 6.0)),
        specular=float(rng.random()),
        shininess=float(rng.random()),
    )


def add_material(spec: mujoco.MjSpec, name: str, surface: Surface) -> str:
    """Add the material, with its texture if it has one, and return its name."""
    material = spec.add_material(name=name, specular=surface.specular, shininess=surface.shininess)
    if surface.pattern == "flat":
        material.rgba = [*surface.rgb, 1.0]
        return name
    spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_CUBE,
        builtin=_BUILTIN[surface.pattern],
        width=32,
        height=32,
        rgb1=surface.rgb,
        rgb2=surface.rgb_second,
        mark=mujoco.mjtMark.mjMARK_RANDOM if surface.pattern == "speckle" else mujoco.mjtMark.mjMARK_NONE,
        markrgb=surface.rgb_second,
        random=0.1,
    )
    _use_texture(material, name, surface.repeat)
    return name


def random_image(rng: np.random.Generator, size: int = 64) -> np.ndarray:
    """Draw an image, shape (size, size, 3) uint8: a blurred random field between a few colours."""
    cells = int(rng.integers(2, 24))
    coarse = rng.random((cells, cells)).astype(np.float32)
    method = cv2.INTER_NEAREST if rng.random() < 0.3 else cv2.INTER_CUBIC
    field = np.clip(cv2.resize(coarse, (size, size), interpolation=method), 0.0, 1.0)[..., None]  # (S, S, 1)
    first, second = np.array(random_colour(rng)), np.array(random_colour(rng))
    image = field * first + (1.0 - field) * second + rng.normal(0.0, 0.04, (size, size, 1))
    return (np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)


def add_image_material(spec: mujoco.MjSpec, name: str, image: np.ndarray, repeat: float) -> str:
    """Add a material of an image, shape (H, W, 3) uint8, for planes and boxes, and return its name."""
    height, width, _ = image.shape
    spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        width=width,
        height=height,
        nchannel=3,
        data=image.ravel().tolist(),
    )
    material = spec.add_material(name=name, specular=0.1, shininess=0.1)
    _use_texture(material, name, repeat)
    return name


def _use_texture(material: mujoco.MjsMaterial, texture: str, repeat: float) -> None:
    textures = list(material.textures)
    textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = texture
    material.textures = textures
    material.texrepeat = [repeat, repeat]
