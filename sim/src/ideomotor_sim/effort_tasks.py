"""Tasks at effort level: a robot, what its nominal model does not know, and a target motion."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ideomotor.body.urdf import load_urdf, parse_urdf, root_link
from ideomotor.dynamics.rigid_body import RobotStructure
from ideomotor.policies.motion import Motion, load_motion, reach, swing
from ideomotor_sim.actuation import ROTOR_INERTIA
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.gait import SOLO12
from ideomotor_sim.robots import Robot
from ideomotor_sim.rollouts import RolloutConfig, Rollouts
from ideomotor_sim.video import VideoConfig, write_video
from ideomotor_sim.world_model import WorldConfig, effort_config

_IIWA7_EFFORT = (176.0, 176.0, 110.0, 110.0, 110.0, 40.0, 40.0)  # [N m]
IIWA7 = RobotStructure(
    joints=tuple(f"iiwa_joint_{i}" for i in range(1, 8)),
    rotor_inertia=tuple(ROTOR_INERTIA * effort for effort in _IIWA7_EFFORT),
)
_POSTURE = np.array([0.0, 0.5, 0.0, -1.2, 0.0, 0.8, 0.0])  # [rad]


@dataclass(frozen=True)
class EffortTask:
    """One task."""

    name: str
    robot: str  # name of the xacro file in urdf/
    ee_link: str
    structure: RobotStructure
    motion: str  # of `motions`, or a file
    payload: float  # [kg]
    joint_friction: float  # [N m]
    joint_damping: float  # [N m s/rad]
    contact_friction: float = 0.8
    start_spread: float = 0.01  # [rad] standard deviation of the joints at the start


def _arm(name: str) -> EffortTask:
    return EffortTask(name, "iiwa7", "gripper_tcp", IIWA7, name, payload=2.0, joint_friction=1.0, joint_damping=0.5)


def _solo(name: str) -> EffortTask:
    motion = f"solo12_{name}"
    return EffortTask(
        motion, "solo12", "base_link", SOLO12, motion, payload=0.2, joint_friction=0.02, joint_damping=0.01
    )


TASKS: Mapping[str, EffortTask] = {
    t.name: t for t in (_arm("arm_reach"), _arm("arm_track"), *map(_solo, ("stand", "step", "walk")))
}


def effort_task(name: str, **changes: object) -> EffortTask:
    """Return a task by name, with some of its fields changed.

    Raises:
        SimulationError: there is none of that name.
    """
    if name not in TASKS:
        raise SimulationError(f"task={name!r}, expected one of {sorted(TASKS)}")
    return replace(TASKS[name], **changes)  # type: ignore[arg-type]


def task_motion(task: EffortTask, motions: Path) -> Motion:
    """Return the task's target motion; ``motions`` is the folder of the recorded ones.

    Raises:
        MotionError: there is no such motion.
    """
    joints = task.structure.joints
    if task.motion == "arm_reach":
        return reach(joints, _POSTURE, _POSTURE + np.array([0.5, 0.35, -0.4, 0.45, 0.5, -0.5, 0.6]))
    if task.motion == "arm_track":
        amplitude = 0.6 * np.array([0.2, 0.12, 0.15, 0.15, 0.2, 0.2, 0.25])
        phase = np.array([4.1, 0.72, 5.97, 2.54, 1.29, 1.34, 2.57])
        return swing(joints, _POSTURE, amplitude, np.array([1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0]), phase)
    path = Path(task.motion)
    return load_motion(path if path.suffix == ".npz" else motions / f"{task.motion}.npz")


def task_robot(task: EffortTask, folder: Path) -> Robot:
    """Return the robot from the folder of the URDF files."""
    path = folder / f"{task.robot}.urdf.xacro"
    urdf = load_urdf(path)
    return Robot(root_link(parse_urdf(urdf)), urdf, task.ee_link, folder)


def task_world(task: EffortTask) -> WorldConfig:
    """Return the physics of the task, which the nominal model does not know."""
    s = task.structure
    return effort_config(
        joints=s.joints,
        floating_base=s.floating_base,
        contact_links=s.contact_links,
        rotor_inertia=_rotors(task),
        payload=task.payload,
        joint_friction=task.joint_friction,
        joint_damping=task.joint_damping,
        contact_friction=task.contact_friction,
    )


def _rotors(task: EffortTask) -> tuple[float, ...]:
    return task.structure.rotor_inertia if task.structure.floating_base else ()


def task_rollouts(task: EffortTask, folder: Path, *, rate: float = 250.0) -> Rollouts:
    """Return simulators of the task."""
    config = RolloutConfig(rate=rate)
    return Rollouts(task_robot(task, folder), task_world(task), config)


def starts(task: EffortTask, motion: Motion, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return first states near the motion's first one: q (count, nq), v (count, nv)."""
    q, v = np.tile(motion.q[0], (count, 1)), np.tile(motion.v[0], (count, 1))
    n = len(motion.joints)
    q[:, -n:] += task.start_spread * rng.normal(size=(count, n))
    return q, v


def task_video(task: EffortTask, folder: Path, path: Path, q: np.ndarray, motion: Motion) -> None:
    """Write what a robot did, states (T, nq), as MP4 in slow motion, with the target motion as a ghost.

    Raises:
        SimulationError: the file cannot be written.
    """
    config = VideoConfig(speed=0.25)
    write_video(path, task_robot(task, folder), task_world(task), q, motion.rate, target=motion.q, config=config)
