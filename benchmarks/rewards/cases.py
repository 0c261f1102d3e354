"""Cases of the benchmark: a robot whose chain was extended with the object it holds, demonstrations, and tests.

Everything random follows from the seed. The planner and the demonstrations know the object as the body schema estimated
it from three seconds of waving; goals and errors are those of the object's true keypoints.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks.body_schema import cases as body_schema
from benchmarks.rewards.task import Task, TaskError
from ideomotor.body.chain import KinematicChain
from ideomotor.body.detector import KeypointDetector
from ideomotor.planning.held_points import HeldPoints
from ideomotor.planning.inverse_kinematics import InverseKinematics, Target
from ideomotor.planning.scripted import PlacingConfig, ScriptedMotionError, paced, scripted_placing
from ideomotor_learn.rewards.learn import Shown
from ideomotor_sim.world import World

logger = logging.getLogger(__name__)

ARTEFACT = Path("artefacts/keypoints")
WAVING_FRAMES = 90  # 3 s at 30 Hz
ATTEMPTS = 200  # to draw a start and a goal that can be demonstrated
DISPLACEMENTS = (0.5, 1.5)  # of the goal from the start, relative to what was drawn
START_TURN = np.deg2rad(30.0)  # of the start about the vertical through the goal
MEANT = PlacingConfig(variation=0.0)
REACHED = (5e-4, 5e-3)  # [m], [rad] inverse kinematics reaches a pose


@dataclass(frozen=True)
class Test:
    """A start and a goal that were not demonstrated."""

    q0: np.ndarray  # (n,) [rad] or [m]
    goal: np.ndarray  # (K, 3) the object's true keypoints at the goal, in the base frame [m]
    shown: np.ndarray | None  # (N, K, 3) its true keypoints along a scripted placing there [m]; None: there is none


@dataclass(frozen=True)
class Case:
    """One robot and object."""

    seed: int
    task: Task
    world: World
    known: HeldPoints  # keypoints as the body schema estimated them
    true: HeldPoints  # keypoints as they are
    paths: tuple[np.ndarray, ...]  # joint positions along each demonstration, evenly by the way, (N, n)
    demonstrations: tuple[np.ndarray, ...]  # joint positions of each, at its own length and pace, (T + 1, n)
    aligned: tuple[np.ndarray, ...]  # the same paths, all at one length and pace
    tests: tuple[Test, ...]
    out_of_distribution: tuple[Test, ...]

    def at_pace(self, steps: Sequence[int], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Return the demonstrations' paths at other lengths and uneven paces, each (steps + 1, n)."""
        return tuple(paced(path, count, rng) for path, count in zip(self.paths, steps, strict=True))

    def shown(self, demonstrations: tuple[np.ndarray, ...]) -> list[Shown]:
        """Return what is learned from demonstrations, as the robot knows it."""
        return [Shown(f"demonstration {i}", self.known, q[0], self.known.at(q)) for i, q in enumerate(demonstrations)]


@contextmanager
def open_case(task: Task, seed: int) -> Iterator[Case]:
    """Wave, extend the chain, demonstrate.

    Raises:
        TaskError: nothing could be demonstrated, or the object was not found.
    """
    options = body_schema.Options(seeds=(seed,), tools=(task.tool,), urdf=task.urdf, ee_link=task.ee_link)
    detector = KeypointDetector.load(ARTEFACT)
    with body_schema.open_case(options, seed, task.tool) as case:
        seen = body_schema.record(case, detector, WAVING_FRAMES)
        extension = body_schema.estimate(case, detector, seen, frames=WAVING_FRAMES).extension
        if extension is None or any(joint.axis is not None for joint in extension.joints):
            raise TaskError(f"seed {seed}: the body schema found no rigid {task.tool}")
        extended = case.chain.extended(extension)
        T_ee_base = np.linalg.inv(case.chain.forward(case.chain.mid))
        links = [T_ee_base @ extended.forward(case.chain.mid, link) for link in extension.keypoint_links]
        known = HeldPoints(case.chain, np.array([T[:3, 3] for T in links]))
        true = HeldPoints(case.chain, case.world.keypoints_ee())
        rng = np.random.default_rng([seed, 2])
        demonstrator = _Demonstrator(task, case.chain, extended, true, rng)
        paths = tuple(demonstrator.path() for _ in task.demonstration_steps)
        yield Case(
            seed=seed,
            task=task,
            world=case.world,
            known=known,
            true=true,
            paths=paths,
            demonstrations=tuple(
                paced(path, steps, rng) for path, steps in zip(paths, task.demonstration_steps, strict=True)
            ),
            aligned=tuple(paced(path, task.mean_steps, rng, unevenness=0.0) for path in paths),
            tests=tuple(demonstrator.test() for _ in range(task.tests)),
            out_of_distribution=tuple(test for _ in range(task.tests) for test in demonstrator.displaced()),
        )


class _Demonstrator:
    """Draws starts and goals, and shows how to place."""

    def __init__(
        self, task: Task, chain: KinematicChain, extended: KinematicChain, true: HeldPoints, rng: np.random.Generator
    ) -> None:
        if len(task.posture) != chain.n:
            raise TaskError(f"posture has {len(task.posture)} joints, the chain {list(chain.joint_names)}")
        self._task, self._chain, self._extended, self._true, self._rng = task, chain, extended, true, rng
        self._ik = InverseKinematics(chain)
        self._T_ee_tip = np.linalg.inv(chain.forward(chain.mid)) @ extended.forward(chain.mid)

    def path(self) -> np.ndarray:
        """Return joint positions along a placing between poses that were drawn, shape (N, n)."""
        return self._drawn()[1]

    def test(self) -> Test:
        """Return a test with the way that was meant: nobody can foresee how a demonstration would have varied."""
        _, path = self._drawn(MEANT)
        return Test(path[0], self._true.at(path[-1:])[0], self._true.at(path))

    def displaced(self) -> list[Test]:
        """Return tests outside of the training's range: the goal nearer and farther, the start turned both ways."""
        for _ in range(ATTEMPTS):
            (T_start, T_goal), _ = self._drawn()
            starts, goals = [T_start] * len(DISPLACEMENTS), []
            for share in DISPLACEMENTS:
                goals.append(T_goal.copy())
                goals[-1][:3, 3] = T_start[:3, 3] + share * (T_goal - T_start)[:3, 3]
            for angle in (START_TURN, -START_TURN):
                R = Rotation.from_rotvec([0.0, 0.0, angle]).as_matrix()
                turned = T_start.copy()
                turned[:3, :3] = R @ T_start[:3, :3]
                turned[:3, 3] = T_goal[:3, 3] + R @ (T_start - T_goal)[:3, 3]
                starts.append(turned)
                goals.append(T_goal)
            q_start, q_goal = [self._solved(T) for T in starts], [self._solved(T) for T in goals]
            if all(q is not None for q in (*q_start, *q_goal)):
                return [
                    Test(q0, self._true.at(q[None])[0], None)
                    for q0, q in zip(q_start, q_goal, strict=True)
                    if q0 is not None and q is not None
                ]
        raise TaskError(f"no displaced start and goal within reach in {ATTEMPTS} attempts")

    def _drawn(self, config: PlacingConfig | None = None) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Return poses of the end-effector link at start and goal, and joint positions of a placing between them."""
        reason = ""
        for _ in range(ATTEMPTS):
            poses = tuple(self._task.spread.draw(T, self._rng) for T in (self._task.start, self._task.goal))
            q0 = self._solved(poses[0])
            if q0 is None:
                reason = "the start is out of reach"
                continue
            try:
                path = scripted_placing(self._extended, q0, poses[1] @ self._T_ee_tip, rng=self._rng, config=config)
            except ScriptedMotionError as error:
                reason = str(error)
                continue
            return (poses[0], poses[1]), path
        raise TaskError(f"nothing that can be demonstrated in {ATTEMPTS} attempts; the last: {reason}")

    def _solved(self, T_base_ee: np.ndarray) -> np.ndarray | None:
        """Return a configuration near the task's posture; None out of reach."""
        found = self._ik.descend(Target(T_base_ee), self._task.posture, self._task.posture)
        return found.q if found.error.within(*REACHED) else None
