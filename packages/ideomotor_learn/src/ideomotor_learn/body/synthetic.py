"""A data set drawn with numpy: a capsule on a noisy background. For tests, and for trying out the training."""

import json
from pathlib import Path

import numpy as np

from ideomotor_learn.body.dataset import FORMAT

NAMES = ("kp_0", "kp_1", "kp_2", "kp_3")


def write_synthetic(
    folder: Path,
    rng: np.random.Generator,
    *,
    episodes: int,
    frames: int,
    height: int = 64,
    width: int = 96,
    lengths: tuple[float, float] = (0.15, 0.3),
    hue: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Write one shard of `episodes` grasps with `frames` images each.

    Args:
        folder: where to.
        rng: source of everything random.
        episodes: number of grasped capsules.
        frames: images of each.
        height: of the images [px].
        width: of the images [px].
        lengths: range of the capsules' length [m].
        hue: range of the red channel of the capsules' colour [1].
    """
    folder.mkdir(parents=True, exist_ok=True)
    samples: list[dict[str, np.ndarray]] = []
    for episode in range(episodes):
        length, radius = rng.uniform(*lengths), rng.uniform(0.01, 0.02)
        colour = 255 * np.array([rng.uniform(*hue), *rng.uniform(0, 1, 2)])
        root, direction = rng.normal(0, 0.01, 3), np.array([*rng.normal(0, 0.2, 2), 1.0])
        direction /= np.linalg.norm(direction)
        for _ in range(frames):
            samples.append(
                {
                    "episode": np.array(episode, np.int32),
                    **_draw(root, length * direction, radius, colour, height, width, rng),
                }
            )
    arrays = {key: np.stack([s[key] for s in samples]) for key in samples[0]}
    np.savez(folder / "shard_00000.npz", **arrays)  # type: ignore[arg-type]
    meta = {"format": FORMAT, "keypoints": list(NAMES), "seed": 0, "generator": "synthetic", "samples": len(samples)}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def _draw(
    root: np.ndarray,
    extent: np.ndarray,
    radius: float,
    colour: np.ndarray,
    height: int,
    width: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Return one sample of a capsule from `root` to `root + extent` in the end-effector frame."""
    fx = 0.9 * width
    cx, cy = (width - 1) / 2, (height - 1) / 2
    T = np.eye(4)
    angle = rng.uniform(0, 2 * np.pi)
    z = np.array([np.cos(angle), np.sin(angle), rng.uniform(-0.3, 0.3)])
    z /= np.linalg.norm(z)
    x = np.cross([0.0, 0.0, 1.0], z)
    x /= np.linalg.norm(x)
    T[:3, :3] = np.stack([x, np.cross(z, x), z], axis=1)
    T[:3, 3] = [*rng.uniform(-0.1, 0.1, 2), rng.uniform(0.9, 1.2)]
    s = np.array([0.25, 0.5, 0.75, 1.0])
    points = (root + s[:, None] * extent) @ T[:3, :3].T + T[:3, 3]  # (4, 3) in the optical frame
    start, end = (p @ T[:3, :3].T + T[:3, 3] for p in (root, root + extent))

    def pixel(p: np.ndarray) -> np.ndarray:
        return np.stack([fx * p[..., 0] / p[..., 2] + cx, fx * p[..., 1] / p[..., 2] + cy], axis=-1)

    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(float)  # (H, W, 2)
    a, b = pixel(start), pixel(end)
    along = np.clip(((grid - a) @ (b - a)) / max(float((b - a) @ (b - a)), 1e-9), 0, 1)
    centre = start[2] + along * (end[2] - start[2])
    inside = np.linalg.norm(grid - (a + along[..., None] * (b - a)), axis=-1) < radius * fx / centre
    rgb = rng.integers(60, 200, 3) + rng.normal(0, 12, (height, width, 3))
    rgb[inside] = colour * (0.7 + 0.3 * along[inside, None]) + rng.normal(0, 5, (int(inside.sum()), 3))
    depth = np.where(inside, centre - radius, 1.8) + rng.normal(0, 0.002, (height, width))
    depth[rng.random((height, width)) < 0.03] = 0.0
    uv = pixel(points)
    shown = ((uv >= 0) & (uv <= [width - 1, height - 1])).all(-1)
    blocks = inside.reshape(height // 4, 4, width // 4, 4).mean((1, 3))
    return {
        "rgb": np.clip(rgb, 0, 255).astype(np.uint8),
        "depth": np.clip(1000 * depth, 0, 65535).astype(np.uint16),
        "intrinsics": np.array([fx, fx, cx, cy], np.float32),
        "T_camera_ee": T.astype(np.float32),
        "joint_position": np.zeros(7, np.float32),
        "keypoint_uv": uv.astype(np.float32),
        "keypoint_depth": points[:, 2].astype(np.float32),
        "keypoint_visible": shown,
        "mask": (255 * blocks).astype(np.uint8),
    }
