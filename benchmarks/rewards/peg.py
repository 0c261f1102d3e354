"""Peg-in-hole with contact: learned from placings into upright holes, tested on holes elsewhere, tilted.

The peg and its grasp are known exactly, as those of a machined peg are (an estimate by vision errs by more than the
clearance); so is the hole's pose. What is tested is whether the learned reward leads the peg into the hole's axis
before it goes down, at every speed, with nothing but position commands and the contact's forces.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks.rewards.execution import STEP, execute
from benchmarks.rewards.placing import FINE, learned
from benchmarks.rewards.task import Task, TaskError
from benchmarks.runner import Cases
from ideomotor.body.chain import KinematicChain
from ideomotor.planning.held_points import HeldPoints
from ideomotor.planning.inverse_kinematics import InverseKinematics, Target
from ideomotor.planning.reward_planner import PathProblem, plan
from ideomotor.planning.scripted import ScriptedMotionError, paced, scripted_placing
from ideomotor.rewards.weights import Reward
from ideomotor_learn.rewards.learn import Shown
from ideomotor_sim.camera import CameraConfig, look_at
from ideomotor_sim.peg import hole_for, peg
from ideomotor_sim.scene import plain_scene
from ideomotor_sim.transforms import pose_from
from ideomotor_sim.world import World

CLEARANCES = (1e-3, 3e-4)  # [m] in total
SPEEDS = (0.5, 1.0, 2.0)
HOLES = 8  # a seed, for each clearance and speed: 40 with five seeds
INSERTED = 0.028  # [m] how deep the peg goes; the hole is 30 mm deep
LENGTH = 0.1  # [m] of the peg out of the gripper
FRACTIONS = np.array([0.25, 0.5, 0.75, 1.0])  # of the peg, where its keypoints are

LOW, HIGH = np.array([0.50, -0.10, 0.08]), np.array([0.60, 0.10, 0.14])  # mouths of the demonstrations [m]
FAR_LOW, FAR_HIGH = np.array([0.42, -0.30, 0.05]), np.array([0.68, 0.30, 0.22])  # of the tests, outside of those [m]
TILT = np.deg2rad(10.0)  # most of a tested hole; demonstrated ones are upright
ASIDE, ABOVE = (0.15, 0.25), (0.15, 0.20)  # [m] where the peg's end starts, from where it is to go
POSTURE = np.array([0.0, 0.5, 0.0, -1.6, 0.0, 1.0, 0.0])  # [rad] where inverse kinematics begins
DOWN = np.diag([1.0, -1.0, -1.0])  # of the end-effector link over an upright hole
ATTEMPTS = 500
REACHED = (2e-4, 2e-3)  # [m], [rad]


@dataclass(frozen=True)
class Bench:
    """A robot with a peg, in the world of one hole."""

    world: World
    points: HeldPoints

    @property
    def chain(self) -> KinematicChain:
        """The robot, to its gripper."""
        return self.points.chain

    def T_base_ee(self, T_base_end: np.ndarray) -> np.ndarray:
        """Return the pose of the gripper whose peg ends at a pose (z into the hole), shape (4, 4)."""
        T = T_base_end.copy()
        T[:3, 3] -= LENGTH * T[:3, 2]
        return T


@contextmanager
def open_bench(task: Task, clearance: float) -> Iterator[Bench]:
    """Build the world."""
    robot = task.robot()
    tool = peg("round", length=LENGTH)
    hole = hole_for(tool, clearance, pose_from(np.array([0.55, 0.0, 0.1]), np.eye(3)))
    view = look_at(np.array([1.3, 0.5, 0.8]), np.array([0.55, 0.0, 0.2]))
    world = World(robot, tool, plain_scene(), CameraConfig(), view, hole=hole)
    chain = KinematicChain.from_urdf(robot.urdf, ee_link=robot.ee_link)
    try:
        yield Bench(world, HeldPoints(chain, LENGTH * FRACTIONS[:, None] * np.array([0.0, 0.0, 1.0])))
    finally:
        world.close()


def demonstrations(bench: Bench, steps: Sequence[int], rng: np.random.Generator) -> list[Shown]:
    """Return placings of the peg into upright holes, of different lengths."""
    shown = []
    for i, count in enumerate(steps):
        for _ in range(ATTEMPTS):
            T_base_hole = pose_from(rng.uniform(LOW, HIGH), np.eye(3))
            start, goal = _start_and_goal(bench, T_base_hole, rng)
            if start is None or goal is None:
                continue
            try:
                path = scripted_placing(bench.chain, start, bench.chain.forward(goal), rng=rng)
            except ScriptedMotionError:
                continue
            q = paced(path, count, rng)
            shown.append(Shown(f"insertion {i}", bench.points, q[0], bench.points.at(q)))
            break
        else:
            raise TaskError(f"no insertion that can be demonstrated in {ATTEMPTS} attempts")
    return shown


def success(bench: Bench, reward: Reward, mean_steps: int, rng: np.random.Generator) -> list[float]:
    """Return for every hole and speed whether the peg went in as deep as it should: 100 or 0."""
    results = []
    for _ in range(HOLES):
        T_base_hole, start, goal = _tested(bench, rng)
        g = bench.points.at(goal[None])[0]
        problem = PathProblem(bench.points, reward, start, g, T_base_hole[:3, :3])
        for speed in SPEEDS:
            steps = max(1, round(mean_steps / speed))
            path = plan(problem, max(steps, FINE))
            bench.world.reset(0)
            bench.world.move_hole(T_base_hole)
            execute(bench.world, bench.chain, path.q, steps * STEP)
            results.append(100.0 * bench.world.insertion().reached(INSERTED))
    return results


def _tested(bench: Bench, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return T_base_hole outside of the demonstrated range, and configurations of start and goal."""
    for _ in range(ATTEMPTS):
        mouth = rng.uniform(FAR_LOW, FAR_HIGH)
        if ((mouth >= LOW) & (mouth <= HIGH)).all():
            continue
        azimuth, tilt = rng.uniform(-np.pi, np.pi), rng.uniform(0.0, TILT)
        R = Rotation.from_rotvec(tilt * np.array([np.cos(azimuth), np.sin(azimuth), 0.0])).as_matrix()
        T_base_hole = pose_from(mouth, R)
        start, goal = _start_and_goal(bench, T_base_hole, rng)
        if start is not None and goal is not None:
            return T_base_hole, start, goal
    raise TaskError(f"no hole within reach in {ATTEMPTS} attempts")


def _start_and_goal(
    bench: Bench, T_base_hole: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return configurations with the peg beside and above the hole, upright, and inserted; None out of reach."""
    T_end = T_base_hole @ pose_from(np.array([0.0, 0.0, -INSERTED]), DOWN)
    azimuth, aside = rng.uniform(-np.pi, np.pi), rng.uniform(*ASIDE)
    offset = np.array([aside * np.cos(azimuth), aside * np.sin(azimuth), rng.uniform(*ABOVE)])
    T_start = pose_from(T_end[:3, 3] + offset, DOWN)
    ik = InverseKinematics(bench.chain)
    goal = ik.descend(Target(bench.T_base_ee(T_end)), POSTURE, POSTURE)
    start = ik.descend(Target(bench.T_base_ee(T_start)), POSTURE, goal.q)
    return tuple(s.q if s.error.within(*REACHED) else None for s in (start, goal))  # type: ignore[return-value]


def measure(task: Task, families: tuple[str, ...], seeds: tuple[int, ...]) -> dict[str, Cases]:
    """Return successes [%] by key, one case a hole and speed: ours without prefix (the first family)."""
    result: dict[str, Cases] = {}
    for seed, clearance in product(seeds, CLEARANCES):
        with open_bench(task, clearance) as bench:
            for i, family in enumerate(families):
                rng = np.random.default_rng([seed, 4])  # the same demonstrations and holes for all
                reward = learned(demonstrations(bench, task.demonstration_steps, rng), family, seed)
                key = f"{family}_" * (i > 0) + f"peg_success_{1e3 * clearance:g}mm_pct"
                found = success(bench, reward, task.mean_steps, rng)
                result.setdefault(key, []).extend((seed, value) for value in found)
    return result
