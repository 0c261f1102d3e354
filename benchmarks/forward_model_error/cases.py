"""Cases of the benchmark: a robot, what its nominal model does not know, a target motion; and how a policy is judged.

Everything random follows from the seed: the starts that are judged come from a generator of their own, so nothing was
trained on them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ideomotor.data.experience import Episode
from ideomotor.dynamics.rigid_body import RigidBody, RobotStructure
from ideomotor.errors import IdeomotorError
from ideomotor.policies.motion import Motion
from ideomotor.policies.posture import PostureHold
from ideomotor_learn.policies.training import default_gain, tracking_error
from ideomotor_sim.effort_tasks import EffortTask, effort_task, starts, task_motion, task_robot, task_rollouts
from ideomotor_sim.rollouts import Policy, Rollouts

TASKS = ("arm_track", "arm_reach", "solo12_walk", "solo12_step", "solo12_stand")
MOTIONS, ROBOTS = Path("artefacts/motions"), Path("urdf")
RATE = 250.0  # [Hz]
ITERATIONS, ARM_ITERATIONS = 15, 8  # an arm needs half as many
FIRST_STEPS = 50  # of the hold that begins the data
FIRST_NOISE = 0.05  # of it, by the effort limit
TESTS = 10  # starts a policy is judged on
HEIGHT = (0.20, 0.30)  # [m] of the base, all along
LOADED = 0.5  # [N] a foot is on the ground


class CaseError(IdeomotorError):
    """Case options that fit no task."""


@dataclass(frozen=True)
class Options:
    """What all results have in common."""

    tasks: tuple[str, ...] = TASKS
    payload: float | None = None  # [kg]; None: the task's own, as below
    friction: float | None = None  # of the ground under a robot that stands on it, of an arm's joints [N m]
    target: Path | None = None  # motion
    iterations: int = ITERATIONS
    processes: int = 2

    def iterations_of(self, task: str) -> int:
        """Return how often a task's controller runs and learns."""
        return min(self.iterations, ARM_ITERATIONS) if task.startswith("arm_") else self.iterations

    @property
    def arm(self) -> str | None:
        """The arm's task that keys without a task are about; None if there is no arm."""
        arms = [name for name in self.tasks if name.startswith("arm_")]
        return "arm_track" if "arm_track" in arms else next(iter(arms), None)

    def task(self, name: str) -> EffortTask:
        """Return a task with these options."""
        task = effort_task(name)
        changes: dict[str, object] = {}
        if self.payload is not None:
            changes["payload"] = self.payload
        if self.friction is not None:
            changes["contact_friction" if task.structure.floating_base else "joint_friction"] = self.friction
        if self.target is not None:
            changes["motion"] = str(self.target)
        return effort_task(name, **changes)


@dataclass(frozen=True)
class Case:
    """One task, simulated."""

    task: EffortTask
    motion: Motion
    urdf: str
    body: RigidBody  # nominal
    rollouts: Rollouts

    @property
    def structure(self) -> RobotStructure:
        """The robot's."""
        return self.task.structure

    @property
    def steps(self) -> int:
        """Of the motion."""
        return self.motion.steps

    @property
    def noise(self) -> float:
        """Exploration of all who explore, by the effort limit: feet need more of it than an arm."""
        return 0.05 if self.structure.floating_base else 0.01

    @property
    def gain(self) -> float:
        """Position gain of all who follow goals [1/s]."""
        return default_gain(floating_base=self.structure.floating_base)

    def starts(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return first states, q (count, nq) and v (count, nv)."""
        return starts(self.task, self.motion, count, rng)

    def episode(self, policy: Policy, steps: int, noise: float, rng: np.random.Generator) -> Episode:
        """Return what one robot did, until it fell.

        Args:
            policy: that drives it.
            steps: at most.
            noise: exploration, standard deviation by the effort limit.
            rng: of start and exploration.
        """
        q, v = self.starts(1, rng)
        limit = self.body.effort_limit
        batch = self.rollouts.collect(lambda *state: with_noise(policy(*state), noise, limit, rng), q, v, steps)
        down = batch.fallen[0]
        done = max(2, int(down.argmax())) if down.any() else steps
        q, v, force = (array[0, : done + 1] for array in (batch.q, batch.v, batch.force))
        m = self.motion
        return Episode(m.rate, m.joints, m.contact_links, q, v, force, batch.effort[0, :done])

    def hold(self, rng: np.random.Generator) -> Episode:
        """Return the episode that begins everybody's data: the robot holds its posture, with exploration."""
        hold = PostureHold(self.body, self.motion.q[0])
        return self.episode(lambda step, q, v, force: hold.effort(q, v), FIRST_STEPS, FIRST_NOISE, rng)

    def judge(self, policy: Policy, seed: int, tests: int = TESTS) -> "Judged":
        """Return what a policy does from starts that were not trained on, without noise, over the whole motion."""
        q, v = self.starts(tests, np.random.default_rng([seed, 1]))
        batch = self.rollouts.collect(policy, q, v, self.steps)
        return Judged(self.motion, batch.q, batch.force)


def with_noise(effort: np.ndarray, noise: float, limit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return efforts with exploration added, within the limits."""
    return np.asarray(np.clip(effort + noise * limit * rng.normal(size=effort.shape), -limit, limit))


def open_case(options: Options, name: str) -> Case:
    """Build the simulator of a task.

    Raises:
        CaseError: the target motion is another robot's, or at another rate.
        MotionError: it cannot be read.
    """
    task = options.task(name)
    motion, robot = task_motion(task, MOTIONS), task_robot(task, ROBOTS)
    found = (motion.joints, motion.contact_links, motion.floating_base)
    s = task.structure
    if found != (s.joints, s.contact_links, s.floating_base) or motion.rate != RATE:
        raise CaseError(f"{task.motion}: the motion is of {found} at {motion.rate} Hz, {name} needs {s} at {RATE} Hz")
    return Case(task, motion, robot.urdf, RigidBody(robot.urdf, s), task_rollouts(task, ROBOTS, rate=RATE))


@dataclass(frozen=True)
class Judged:
    """What K robots did from their starts."""

    motion: Motion
    q: np.ndarray  # (K, T+1, nq)
    force: np.ndarray  # (K, T+1, 3c) [N]

    @property
    def perf_error(self) -> float:
        """Length of the error in position (joints, and pose of a base) [rad, m], mean over starts and steps."""
        return float(np.mean([tracking_error(q[1:], self.motion) for q in self.q]))

    @property
    def displacement_ratio(self) -> np.ndarray:
        """How far each robot got in the direction in which the target goes, by how far that goes, shape (K,)."""
        target = self.motion.q[-1, :2] - self.motion.q[0, :2]
        return np.asarray((self.q[:, -1, :2] - self.q[:, 0, :2]) @ target / (target @ target))

    @property
    def contact_agreement(self) -> np.ndarray:
        """Share of steps and feet that are on the ground where the target's are, and off it where not, shape (K,)."""
        on, wanted = (f[..., 2::3] > LOADED for f in (self.force[:, 1:], self.motion.force[1:]))
        return np.asarray((on == wanted).mean(axis=(1, 2)))

    @property
    def success(self) -> np.ndarray:
        """Whether each base was high enough and not too high all along, shape (K,) bool."""
        height = self.q[..., 2]
        return np.asarray(((height >= HEIGHT[0]) & (height <= HEIGHT[1])).all(axis=1))
