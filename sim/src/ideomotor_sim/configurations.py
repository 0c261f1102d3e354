"""Random arm configurations and camera poses in which the held object can be seen."""

from dataclasses import dataclass

import mujoco
import numpy as np

from ideomotor_sim.camera import look_at
from ideomotor_sim.transforms import transform
from ideomotor_sim.world import World

SAMPLING_ATTEMPTS = 60


@dataclass(frozen=True)
class View:
    """Arm configurations around a working one, and a camera that looks at what the arm holds there."""

    configurations: np.ndarray  # (N, n) [rad], in the order of World.joint_names
    T_base_camera: np.ndarray  # (4, 4)


def working_configuration(world: World, rng: np.random.Generator) -> np.ndarray:
    """Draw a configuration, shape (n,), whose end effector is 0.3 m to 0.9 m away from the base and above the table."""
    lower, upper = world.limits()
    q = (lower + upper) / 2.0
    for _ in range(SAMPLING_ATTEMPTS):
        q = rng.uniform(0.9 * lower + 0.1 * upper, 0.1 * lower + 0.9 * upper)
        _place(world, q)
        x, y, z = world.T_base_ee()[:3, 3]
        tip = world.tip_position_base() if world.held else world.T_base_ee()[:3, 3]
        if 0.3 < np.hypot(x, y) < 0.9 and 0.1 < z < 1.1 and tip[2] > 0.03 and np.hypot(*tip[:2]) > 0.2:
            break
    return q


def nearby_configurations(
    world: World, centre: np.ndarray, count: int, rng: np.random.Generator, spread: float = 0.35
) -> np.ndarray:
    """Draw ``count`` configurations, shape (count, n), normally distributed around ``centre`` within the limits."""
    lower, upper = world.limits()
    return np.clip(centre + rng.normal(0.0, spread, (count, len(centre))), lower, upper)


def sample_camera(target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw T_base_camera, shape (4, 4): 0.65 m to 1.4 m from the target, all around, -10 to 60 deg above it."""
    distance, bearing = rng.uniform(0.65, 1.4), rng.uniform(-np.pi, np.pi)
    elevation = np.deg2rad(rng.uniform(-10.0, 60.0))
    direction = np.array([np.cos(bearing) * np.cos(elevation), np.sin(bearing) * np.cos(elevation), np.sin(elevation)])
    aim = target + rng.normal(0.0, 0.09 * distance, 3)
    return look_at(target + distance * direction, aim, rng.normal(0.0, 0.12))


def sample_view(world: World, count: int, rng: np.random.Generator, cameras: int = 8) -> View:
    """Draw configurations, and of some random cameras the first that sees most of the object in most of them."""
    centre = working_configuration(world, rng)
    configurations = nearby_configurations(world, centre, count, rng)
    probes = configurations[: min(3, count)]
    points = []
    for q in probes:
        _place(world, q)
        points.append(transform(world.T_base_ee(), world.keypoints_ee()))
    target = np.concatenate(points).mean(axis=0)
    best, best_share = world.T_base_camera, -1.0
    for _ in range(cameras):
        T_base_camera = sample_camera(target, rng)
        share = _visible_share(world, T_base_camera, probes)
        if share > best_share:
            best, best_share = T_base_camera, share
        if share > 0.6:
            break
    return View(configurations, best)


def _visible_share(world: World, T_base_camera: np.ndarray, configurations: np.ndarray) -> float:
    world.set_camera_pose(T_base_camera)
    share = 0.0
    for q in configurations:
        _place(world, q)
        share += world.keypoint_truth().visible.mean() / len(configurations)
    return float(share)


def _place(world: World, q: np.ndarray) -> None:
    """Forward kinematics alone: sampling needs no dynamics."""
    for name, value in zip(world.joint_names, q, strict=True):
        world.data.joint(name).qpos[0] = value
    mujoco.mj_kinematics(world.model, world.data)
