"""Write a data set for the keypoint detector: ``python -m ideomotor_sim.dataset --out FOLDER --count N --seed S``.

The format is in docs/architecture.md. Episodes of eight samples share robot, grasp, tool, scene and camera; the arm's
configuration differs. Episode e of seed s depends on (s, e) alone, so a data set does not depend on the number of
workers. Training uses seeds below `EVALUATION_SEED`, evaluation that one and above.
"""

import argparse
import json
import logging
import multiprocessing
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import mujoco
import numpy as np
from tqdm import tqdm

from ideomotor.body.urdf import load_urdf
from ideomotor_sim.camera import CameraConfig
from ideomotor_sim.configurations import nearby_configurations, sample_view
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.robots import Robot, robot_spec
from ideomotor_sim.scene import Prop, Scene, sample_scene
from ideomotor_sim.surfaces import random_surface
from ideomotor_sim.tools import KEYPOINT_NAMES, TRAINING_KINDS, sample_tool
from ideomotor_sim.world import World

EVALUATION_SEED = 10_000_000
FORMAT = "ideomotor-keypoints-1"
EPISODE = 8  # samples
SHARD = 256  # samples
MASK_BLOCK = 4  # [px]

# Robots of the PyPI package example-robot-data that the training mix uses: path below its robots folder, and ee link.
EXTRA_ROBOTS = {
    "panda": ("panda_description/urdf/panda.urdf", "panda_hand_tcp"),
    "ur5": ("ur_description/urdf/ur5_robot.urdf", "tool0"),
    "kinova": ("kinova_description/robots/kinova.urdf", "j2s6s200_end_effector"),
    "xarm7": ("xarm_description/urdf/xarm7.urdf", "link_eef"),
    "z1": ("z1_description/urdf/z1.urdf", "link06"),
}
BARE = ("ur5", "xarm7", "z1")  # robots without a gripper: they get fingers of boxes


@dataclass(frozen=True)
class Source:
    """A robot of the mix, read once."""

    robot: Robot
    spec: mujoco.MjSpec
    share: float


def load_sources(robots: Sequence[tuple[Robot, float]]) -> list[Source]:
    """Read the robots of a mix; shares need not add up to one."""
    return [Source(robot, robot_spec(robot), share) for robot, share in robots]


def training_mix(reference: Robot) -> list[tuple[Robot, float]]:
    """Return the reference robot (60 %) and the robots of example-robot-data that are installed (40 %).

    Raises:
        SimulationError: if example-robot-data is not installed.
    """
    folder = example_robots_folder()
    if folder is None:
        raise SimulationError("the training mix needs: pip install 'ideomotor-sim[dataset]' (example-robot-data)")
    extra = [(name, folder / path, link) for name, (path, link) in EXTRA_ROBOTS.items() if (folder / path).is_file()]
    mix = [(Robot(name, load_urdf(path), link, path.parent), 0.4 / len(extra)) for name, path, link in extra]
    return [(reference, 0.6), *mix]


def example_robots_folder() -> Path | None:
    """Return the robots folder of the PyPI package example-robot-data, or None if it is not installed."""
    try:
        package = distribution("example-robot-data")
    except PackageNotFoundError:
        return None
    return Path(str(package.locate_file("cmeel.prefix/share/example-robot-data/robots")))


def sample_episode(
    sources: Sequence[Source], camera: CameraConfig, seed: int, episode: int, tools: Sequence[str] = TRAINING_KINDS
) -> dict[str, np.ndarray]:
    """Draw one episode: `EPISODE` samples, every array with a leading axis of that length."""
    rng = np.random.default_rng([seed, episode])
    share = np.array([source.share for source in sources])
    source = sources[rng.choice(len(sources), p=share / share.sum())]
    tool = sample_tool(str(rng.choice(list(tools))), rng)
    scene = _dress(sample_scene(rng), source.robot, rng)
    world = World(source.robot, tool, scene, camera, np.eye(4), seed=int(rng.integers(2**31)), spec=source.spec)
    view = sample_view(world, EPISODE, rng)
    world.set_camera_pose(view.T_base_camera)
    samples = []
    for q in view.configurations:
        q = _in_view(world, q, rng)
        travel = 0.0 if tool.joint is None else rng.uniform(tool.joint.lower, tool.joint.upper)
        world.set_configuration(dict(zip(world.joint_names, q, strict=True)), travel)
        samples.append(_sample(world))
    world.close()
    columns = max(len(source.spec.joints) for source in sources)
    arrays = {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
    padding = np.full((EPISODE, columns - arrays["joint_position"].shape[1]), np.nan, np.float32)
    arrays["joint_position"] = np.concatenate([arrays["joint_position"], padding], axis=1)
    arrays["episode"] = np.full(EPISODE, episode, np.int32)
    return arrays


def _in_view(world: World, q: np.ndarray, rng: np.random.Generator, attempts: int = 8) -> np.ndarray:
    """Return ``q``, or a configuration near it, that shows half of the keypoints; one in ten may show none."""
    anything = rng.random() < 0.1
    for candidate in [q, *nearby_configurations(world, q, attempts, rng, spread=0.25)]:
        world.set_configuration(dict(zip(world.joint_names, candidate, strict=True)))
        if anything or world.keypoint_truth().visible.sum() >= len(KEYPOINT_NAMES) // 2:
            return candidate
    return q


def _sample(world: World) -> dict[str, np.ndarray]:
    image, truth = world.render(), world.keypoint_truth()
    mask = world.object_mask(image.depth_exact)
    h, w = mask.shape
    blocks = mask.reshape(h // MASK_BLOCK, MASK_BLOCK, w // MASK_BLOCK, MASK_BLOCK).mean(axis=(1, 3))
    i = world.camera.intrinsics
    return {
        "rgb": image.rgb,
        "depth": np.rint(1000.0 * image.depth).astype(np.uint16),
        "intrinsics": np.array([i.fx, i.fy, i.cx, i.cy], np.float32),
        "T_camera_ee": world.T_camera_ee().astype(np.float32),
        "joint_position": world.joint_state().position.astype(np.float32),
        "keypoint_uv": truth.uv.astype(np.float32),
        "keypoint_depth": truth.depth.astype(np.float32),
        "keypoint_visible": truth.visible,
        "mask": np.rint(255.0 * blocks).astype(np.uint8),
    }


def _dress(scene: Scene, robot: Robot, rng: np.random.Generator) -> Scene:
    """Fix covers to random links, and fingers to a bare robot, so that the detector meets robots of many shapes."""
    attachments = []
    if robot.name in BARE or rng.random() < 0.15:
        attachments += [(robot.ee_link, prop) for prop in _fingers(rng)]
    links = [name for name in _link_names(robot.urdf) if name != robot.ee_link]
    for _ in range(rng.integers(0, 4)):
        shape = mujoco.mjtGeom.mjGEOM_BOX if rng.random() < 0.5 else mujoco.mjtGeom.mjGEOM_CYLINDER
        prop = Prop(shape, tuple(rng.uniform(0.02, 0.07, 3)), rng.normal(0.0, 0.03, 3), _UPRIGHT, random_surface(rng))
        attachments.append((links[int(rng.integers(len(links) - 3))], prop))
    return replace(scene, attachments=tuple(attachments))


_UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])


@cache
def _link_names(urdf: str) -> tuple[str, ...]:
    return tuple(link.get("name", "") for link in ET.fromstring(urdf).iter("link"))


def _fingers(rng: np.random.Generator) -> list[Prop]:
    """Two fingers and a palm, or a round chuck, behind the end-effector frame's origin."""
    surface, end = random_surface(rng), rng.uniform(0.0, 0.015)
    if rng.random() < 0.3:
        length = rng.uniform(0.02, 0.05)
        size = (rng.uniform(0.02, 0.035), length / 2.0, 0.0)
        return [Prop(mujoco.mjtGeom.mjGEOM_CYLINDER, size, np.array([0.0, 0.0, end - length / 2.0]), _UPRIGHT, surface)]
    length, gap, box = rng.uniform(0.04, 0.07), rng.uniform(0.012, 0.03), mujoco.mjtGeom.mjGEOM_BOX
    size = (rng.uniform(0.004, 0.012), rng.uniform(0.008, 0.02), length / 2.0)
    fingers = [
        Prop(box, size, np.array([side * (gap / 2.0 + size[0]), 0.0, end - length / 2.0]), _UPRIGHT, surface)
        for side in (-1.0, 1.0)
    ]
    palm = (rng.uniform(0.03, 0.06), rng.uniform(0.02, 0.05), 0.02)
    return [*fingers, Prop(box, palm, np.array([0.0, 0.0, end - length - 0.02]), _UPRIGHT, random_surface(rng))]


# --- writing ------------------------------------------------------------------------------------------------------

_worker_arguments: tuple[list[Source], CameraConfig, int, Sequence[str]] | None = None


def _start_worker(robots: Sequence[tuple[Robot, float]], camera: CameraConfig, seed: int, tools: Sequence[str]) -> None:
    global _worker_arguments
    _worker_arguments = (load_sources(robots), camera, seed, tools)


def _work(episode: int) -> dict[str, np.ndarray]:
    if _worker_arguments is None:
        raise RuntimeError("the worker was not started")
    sources, camera, seed, tools = _worker_arguments
    return sample_episode(sources, camera, seed, episode, tools)


def episodes(
    robots: Sequence[tuple[Robot, float]],
    camera: CameraConfig,
    seed: int,
    count: int,
    workers: int,
    tools: Sequence[str] = TRAINING_KINDS,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield ``count`` episodes in order."""
    if workers == 1:
        sources = load_sources(robots)
        for episode in range(count):
            yield sample_episode(sources, camera, seed, episode, tools)
        return
    context = multiprocessing.get_context("spawn")  # an OpenGL context does not survive a fork
    with context.Pool(workers, _start_worker, (robots, camera, seed, tools)) as pool:
        yield from pool.imap(_work, range(count), chunksize=4)


def write_dataset(
    out: Path,
    robots: Sequence[tuple[Robot, float]],
    camera: CameraConfig,
    seed: int,
    count: int,
    workers: int = 1,
    tools: Sequence[str] = TRAINING_KINDS,
) -> dict[str, float]:
    """Write ``count`` samples, rounded up to whole episodes, and return statistics of them.

    ``meta.json`` appears with the first shard and is complete (``samples``) after the last one.
    """
    out.mkdir(parents=True, exist_ok=True)
    total = -(-count // EPISODE)
    shards, pending, tally = 0, [], _Tally()
    progress = tqdm(episodes(robots, camera, seed, total, workers, tools), total=total, unit="episode")
    for number, episode in enumerate(progress, start=1):
        pending.append(episode)
        tally.add(episode)
        if len(pending) * EPISODE == SHARD or number == total:
            shard = {key: np.concatenate([e[key] for e in pending]) for key in pending[0]}
            np.savez(out / f"shard_{shards:05d}.npz", **shard)  # type: ignore[arg-type]
            shards, pending = shards + 1, []
            _write_meta(out, robots, seed, number * EPISODE, number == total, tally.statistics())
    return tally.statistics()


class _Tally:
    """Running statistics of the samples."""

    def __init__(self) -> None:
        self._visible: list[np.ndarray] = []
        self._area: list[np.ndarray] = []

    def add(self, episode: dict[str, np.ndarray]) -> None:
        self._visible.append(episode["keypoint_visible"])
        self._area.append(episode["mask"].mean(axis=(1, 2)) / 255.0)

    def statistics(self) -> dict[str, float]:
        visible, area = np.concatenate(self._visible), np.concatenate(self._area)
        return {
            "visible_keypoints_pct": round(100.0 * float(visible.mean()), 1),
            "visible_tip_pct": round(100.0 * float(visible[:, -1].mean()), 1),
            "no_keypoint_pct": round(100.0 * float((~visible.any(axis=1)).mean()), 1),
            "object_area_median_pct": round(100.0 * float(np.median(area)), 2),
        }


def _write_meta(
    out: Path,
    robots: Sequence[tuple[Robot, float]],
    seed: int,
    samples: int,
    complete: bool,
    statistics: dict[str, float],
) -> None:
    meta = {
        "format": FORMAT,
        "keypoints": KEYPOINT_NAMES,
        "seed": seed,
        "generator": "ideomotor_sim.dataset",
        "samples": samples,
        "complete": complete,
        "robots": {robot.name: round(share, 3) for robot, share in robots},
        "statistics": statistics,
    }
    temporary = out / "meta.json.tmp"
    temporary.write_text(json.dumps(meta, indent=2) + "\n")
    temporary.replace(out / "meta.json")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m ideomotor_sim.dataset", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--count", type=int, required=True, help="samples")
    parser.add_argument("--seed", type=int, required=True, help=f"below {EVALUATION_SEED} for training")
    parser.add_argument("--urdf", type=Path, default=Path("urdf/iiwa7.urdf.xacro"), help="reference robot")
    parser.add_argument("--ee-link", default="gripper_tcp", help="its end-effector link")
    parser.add_argument("--only", action="store_true", help="the reference robot alone, not the training mix")
    parser.add_argument(
        "--tools",
        nargs="+",
        choices=TRAINING_KINDS,
        default=TRAINING_KINDS,
        help="a kind named twice is drawn twice as often",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes")
    a = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO)
    reference = Robot(a.urdf.name.split(".")[0], load_urdf(a.urdf), a.ee_link, a.urdf.parent)
    robots = [(reference, 1.0)] if a.only else training_mix(reference)
    statistics = write_dataset(a.out, robots, CameraConfig(), a.seed, a.count, a.workers, a.tools)
    logging.getLogger(__name__).info("wrote %s: %s", a.out, statistics)


if __name__ == "__main__":
    main()
