"""Synthetic scenes for the body schema: an iiwa waves an object before a camera; no images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ideomotor.body.camera import Intrinsics
from ideomotor.body.chain import KinematicChain
from ideomotor.body.excitation import ExcitationConfig, excitation_trajectory
from ideomotor.body.fit import Observations, stack_observations
from ideomotor.body.inner_joint import rotations
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.urdf import load_urdf

CAMERA = Intrinsics(320, 240, 300.0, 300.0, 159.5, 119.5)
NAMES = ("kp_0", "kp_1", "kp_2", "kp_3")
RATE = 30.0  # [Hz]
Q0 = np.array([0.0, 0.6, 0.0, -1.4, 0.0, 1.0, 0.0])
URDF = Path(__file__).parents[2] / "urdf" / "iiwa7.urdf.xacro"
CLAIMED_PX, CLAIMED_DEPTH = 1.5, 0.006  # what the detector says of itself


Moving = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]  # stamps (T,), rest (K, 3) -> (T, K, 3)


@dataclass(frozen=True)
class Noise:
    """Errors of the detector: white, correlated over 0.3 s, and gross."""

    px: float = 1.0
    depth: float = 0.005
    bias_px: float = 0.0
    bias_depth: float = 0.0
    outliers: float = 0.0


TYPICAL = Noise(px=1.0, depth=0.004, bias_px=1.0, bias_depth=0.004)  # 5 to 6 mm at 1.2 m


@dataclass(frozen=True)
class Scene:
    """What a test may know."""

    stamp: np.ndarray  # (T,)
    q: np.ndarray  # (T, n)
    T_base_ee: np.ndarray  # (T, 4, 4)
    T_base_camera: np.ndarray  # (4, 4) true
    true_ee: np.ndarray  # (T, K, 3) keypoints in the ee frame
    keypoints: list[Keypoints]
    rng: np.random.Generator

    def observations(self, T_base_camera: np.ndarray | None = None) -> Observations:
        return stack_observations(
            self.keypoints, self.T_base_ee, self.T_base_camera if T_base_camera is None else T_base_camera
        )


@cache
def iiwa() -> KinematicChain:
    return KinematicChain.from_urdf(load_urdf(URDF), ee_link="iiwa_link_ee")


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    z = (target - eye) / np.linalg.norm(target - eye)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = np.stack([x, np.cross(z, x), z], axis=1), eye
    return T


def stick(rng: np.random.Generator) -> np.ndarray:
    """Keypoints (4, 3) of a stick of random length and direction."""
    d = np.array([0.0, 0.0, 1.0]) + 0.2 * rng.normal(size=3)
    d /= np.linalg.norm(d)
    return np.array([0.0, 0.0, 0.05]) + d * rng.uniform(0.15, 0.3) * np.arange(1, 5)[:, None] / 4


def correlated(rng: np.random.Generator, stamp: np.ndarray, std: float, shape: tuple[int, ...]) -> np.ndarray:
    """Ornstein-Uhlenbeck noise, correlation time 0.3 s, shape (T, *shape)."""
    x = np.zeros((len(stamp), *shape))
    x[0] = std * rng.normal(size=shape)
    for i in range(1, len(stamp)):
        a = np.exp(-(stamp[i] - stamp[i - 1]) / 0.3)
        x[i] = a * x[i - 1] + std * np.sqrt(1 - a**2) * rng.normal(size=shape)
    return x


def observe(rng: np.random.Generator, stamp: np.ndarray, in_camera: np.ndarray, noise: Noise) -> list[Keypoints]:
    T, K = in_camera.shape[:2]
    uv = CAMERA.project(in_camera) + noise.px * rng.normal(size=(T, K, 2))
    uv += correlated(rng, stamp, noise.bias_px, (K, 2))
    depth = in_camera[..., 2] + noise.depth * rng.normal(size=(T, K)) + correlated(rng, stamp, noise.bias_depth, (K,))
    wrong = rng.random((T, K)) < noise.outliers
    uv[wrong] = rng.uniform([0, 0], [320, 240], size=(wrong.sum(), 2))
    depth[wrong] = rng.uniform(0.4, 2.2, size=wrong.sum())
    C, var, sure = np.tile(np.eye(2) * CLAIMED_PX**2, (K, 1, 1)), np.full(K, CLAIMED_DEPTH**2), np.full(K, 0.95)
    return [Keypoints(stamp[t], NAMES[:K], uv[t], C, depth[t], var, sure) for t in range(T)]


def make_scene(
    seed: int, frames: int = 90, noise: Noise = TYPICAL, moving: Moving | None = None, still: bool = False
) -> Scene:
    """A waving motion; ``moving(rng, stamp, rest (K, 3)) -> (T, K, 3)`` gives an object that is not rigid."""
    rng = np.random.default_rng(seed)
    stamp = np.arange(frames) / RATE
    config = ExcitationConfig(duration=max(3.0, frames / RATE))
    wave = excitation_trajectory(iiwa(), Q0 + 0.1 * rng.normal(size=7), rng, config)
    q = np.array([wave.at(0.0 if still else t) for t in stamp])
    T_base_ee = iiwa().forward_batch(q)
    home = iiwa().forward(Q0)[:3, 3]
    eye = home + np.array([1.1, rng.uniform(-0.5, 0.5), rng.uniform(-0.1, 0.6)])
    T_base_camera = look_at(eye, home + 0.05 * rng.normal(size=3))
    rest = stick(rng)
    true_ee = np.tile(rest, (frames, 1, 1)) if moving is None else moving(rng, stamp, rest)
    keypoints = observe(rng, stamp, to_camera(T_base_camera, T_base_ee, true_ee), noise)
    return Scene(stamp, q, T_base_ee, T_base_camera, true_ee, keypoints, rng)


def to_camera(T_base_camera: np.ndarray, T_base_ee: np.ndarray, in_ee: np.ndarray) -> np.ndarray:
    T = np.linalg.inv(T_base_camera) @ T_base_ee
    return in_ee @ T[:, :3, :3].transpose(0, 2, 1) + T[:, None, :3, 3]


def hinged(rng: np.random.Generator, stamp: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """A hinge 6 to 15 cm before the tip that swings by tens of degrees."""
    start = 2 * rest[0] - rest[1]
    length = np.linalg.norm(rest[-1] - start)
    d = (rest[-1] - start) / length
    at = max(length - rng.uniform(0.06, 0.15), 0.04)
    axis = np.cross(d, rng.normal(size=3))
    axis /= np.linalg.norm(axis)
    swing = rng.uniform(0.3, 0.8) * np.sin(2 * np.pi * rng.uniform(0.3, 0.9) * stamp + rng.uniform(0, 6))
    R = rotations(axis, swing + rng.uniform(-0.3, 0.3))
    beyond = (rest - start) @ d > at
    true_ee = np.tile(rest, (len(stamp), 1, 1))
    true_ee[:, beyond] = start + at * d + (rest[beyond] - start - at * d) @ R.transpose(0, 2, 1)
    return true_ee


def sliding(rng: np.random.Generator, stamp: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """The last keypoints slide along the stick, 30 to 80 mm."""
    x = np.sin(2 * np.pi * rng.uniform(0.2, 0.6) * stamp + rng.uniform(0, 6))
    x = rng.uniform(0.03, 0.08) * (x - x.min()) / np.ptp(x)
    true_ee = np.tile(rest, (len(stamp), 1, 1))
    d = (rest[-1] - rest[0]) / np.linalg.norm(rest[-1] - rest[0])
    true_ee[:, rng.integers(1, 4) :] += x[:, None, None] * d
    return true_ee
