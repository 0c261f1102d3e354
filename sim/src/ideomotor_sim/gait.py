r"""Target motions of a quadruped: standing, stepping in place, walking, as a simulated robot really does them.

A scripted gait drives the nominal robot (no payload) with knowledge that no learned controller gets: joint stiffness
about foot paths, and stance forces that carry the base. What the robot then does is feasible by construction, with its
contact switches and its steps without contact, and is the target; the efforts are not kept.

``python -m ideomotor_sim.gait --urdf urdf/solo12.urdf.xacro --out artefacts/motions`` writes the committed ones.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from ideomotor.body.urdf import load_urdf, parse_urdf, root_link
from ideomotor.dynamics.rigid_body import RigidBody, RobotStructure
from ideomotor.dynamics.rotations import rotation_matrix
from ideomotor.policies.motion import Motion
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.robots import Robot
from ideomotor_sim.rollouts import RolloutConfig, Rollouts
from ideomotor_sim.world_model import effort_config

LEGS = ("FL", "FR", "HL", "HR")
SOLO12 = RobotStructure(
    joints=tuple(f"{leg}_{joint}" for leg in LEGS for joint in ("HAA", "HFE", "KFE")),
    floating_base=True,
    contact_links=tuple(f"{leg}_FOOT" for leg in LEGS),
    rotor_inertia=(4.5e-6 * 9.0**2,) * 12,  # rotor of robot_properties_solo, gear ratio 9
)
_THIGH, _FOOT_RADIUS = 0.16, 0.016  # [m] both segments of a leg are as long
_RATE = 250.0


@dataclass(frozen=True)
class Gait:
    """A trot; diagonal legs move together."""

    speed: float = 0.0  # [m/s]
    lift: float = 0.03  # [m] of a swinging foot; 0: all feet stay down
    period: float = 0.32  # [s]
    duty: float = 0.55  # share of the period that a foot is down
    height: float = 0.235  # [m] of the base
    start_above: float = 0.004  # [m] it starts in the air
    steps: int = 200


GAITS = {"stand": Gait(lift=0.0), "step": Gait(), "walk": Gait(speed=0.25)}


def joint_path(gait: Gait, t: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the joint positions (12,) [rad] and which feet shall be down (4,) bool at a time [s]."""
    hip = gait.height - _FOOT_RADIUS
    angles, down = [], []
    rise = min(t / 0.1, 1.0) if gait.speed else 1.0  # strides grow in the first tenth of a second
    for leg in range(4):
        phase = (t / gait.period + (0.0 if leg in (0, 3) else 0.5)) % 1.0
        stance = phase < gait.duty or gait.lift == 0.0
        stride, forward, below = gait.speed * gait.period * gait.duty, 0.0, hip
        if stance and gait.lift > 0.0:
            forward = stride * (0.5 - phase / gait.duty)
        elif not stance:
            u = (phase - gait.duty) / (1.0 - gait.duty)
            forward = stride * (u - np.sin(2.0 * np.pi * u) / (2.0 * np.pi) - 0.5)
            below = hip - gait.lift * np.sin(np.pi * u) ** 2
        angles += [0.0, *_leg_angles(rise * forward, below)]
        down.append(stance)
    return np.array(angles), np.array(down)


def _leg_angles(forward: float, below: float) -> tuple[float, float]:
    """Return hip flexion and knee that put the foot there, seen from the hip [m]."""
    bend = np.arccos(min(np.hypot(forward, below) / (2.0 * _THIGH), 1.0))
    return np.arctan2(-forward, below) + bend, -2.0 * bend


class ScriptedGait:
    """The controller that makes the target: a rollout policy for one robot."""

    def __init__(self, body: RigidBody, gait: Gait) -> None:
        self._body, self._gait = body, gait
        self._hips = np.array([(x, y) for x in (0.19, -0.19) for y in (0.1, -0.1)])  # [m] about
        self._mass = float(body.mass_matrix(start_of(gait))[0, 0])

    def __call__(self, step: int, q: np.ndarray, v: np.ndarray, force: np.ndarray) -> np.ndarray:
        """Return the efforts, shape (1, 12)."""
        t, h = step / _RATE, 1.0 / _RATE
        here, down = joint_path(self._gait, t)
        there, _ = joint_path(self._gait, t + h)
        stiff = 8.0 * (there - q[0, 7:]) + 0.15 * ((there - here) / h - v[0, 6:])
        carried = self._stance_forces(q[0], v[0], down, t)
        effort = stiff - (self._body.contact_jacobian(q[0]).T @ carried.ravel())[6:]
        return np.asarray(np.clip(effort, -self._body.effort_limit, self._body.effort_limit)[None])

    def _stance_forces(self, q: np.ndarray, v: np.ndarray, down: np.ndarray, t: float) -> np.ndarray:
        """Return the forces that the ground shall have on the feet, world axes, shape (4, 3) [N]."""
        feet = max(int(down.sum()), 1)
        rotation = rotation_matrix(q[3:7])
        roll, pitch = np.arctan2(rotation[2, 1], rotation[2, 2]), -np.arcsin(np.clip(rotation[2, 0], -1.0, 1.0))
        velocity = rotation @ v[:3]
        wanted = self._gait.speed if t > 0.1 else 0.0
        moment = -6.0 * np.array([roll, pitch]) - 0.2 * v[3:5]  # about x and y
        lift = self._mass * 9.81 + 120.0 * (self._gait.height - q[2]) - 8.0 * velocity[2]
        lever = np.sign(self._hips)
        vertical = lift / feet + (0.5 * moment[0] * lever[:, 1] / 0.1 - 0.5 * moment[1] * lever[:, 0] / 0.19) / feet
        forward = np.full(4, -4.0 * (velocity[0] - wanted) / feet)
        sideways = np.full(4, (-4.0 * velocity[1] - 10.0 * q[1]) / feet)
        return np.stack([forward, sideways, np.maximum(vertical, 0.0)], axis=-1) * down[:, None]


def start_of(gait: Gait) -> np.ndarray:
    """Return the configuration that the motion starts in, shape (19,)."""
    return np.concatenate([[0.0, 0.0, gait.height + gait.start_above, 0.0, 0.0, 0.0, 1.0], joint_path(gait, 0.0)[0]])


def record_gait(urdf: str, gait: Gait) -> Motion:
    """Let the scripted gait walk, and return what the robot did.

    Raises:
        SimulationError: if it fell.
    """
    world = effort_config(
        floating_base=True,
        joints=SOLO12.joints,
        contact_links=SOLO12.contact_links,
        rotor_inertia=SOLO12.rotor_inertia,
        joint_damping=0.01,
    )
    robot = Robot(root_link(parse_urdf(urdf)), urdf, root_link(parse_urdf(urdf)))
    rollouts = Rollouts(robot, world, RolloutConfig(rate=_RATE, min_height=0.2, max_height=0.3))
    policy = ScriptedGait(RigidBody(urdf, SOLO12), gait)
    batch = rollouts.collect(policy, start_of(gait)[None], np.zeros((1, 18)), gait.steps)
    if batch.fallen.any():
        raise SimulationError(f"{gait} fell at step {int(batch.fallen[0].argmax())}")
    return Motion(_RATE, SOLO12.joints, SOLO12.contact_links, batch.q[0], batch.v[0], batch.force[0])


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write the target motions of Solo12."""

    urdf: Path  # URDF or xacro file
    out: Path  # folder for solo12_NAME.npz


def main(args: Sequence[str] | None = None) -> None:
    """Run the command."""
    arguments = tyro.cli(Arguments, args=args, description=Arguments.__doc__)
    arguments.out.mkdir(parents=True, exist_ok=True)
    urdf = load_urdf(arguments.urdf)
    for name, gait in GAITS.items():
        motion = record_gait(urdf, gait)
        motion.save(arguments.out / f"solo12_{name}.npz")
        down = motion.force[:, 2::3] > 0.5
        switches, airborne = int((np.diff(down.astype(int), axis=0) != 0).sum()), int((~down.any(1)).sum())
        sys.stdout.write(
            f"{name}: {motion.q[-1, 0]:.3f} m in {motion.duration} s, height {motion.q[:, 2].min():.3f} to "
            f"{motion.q[:, 2].max():.3f} m, {switches} contact switches, {airborne} states without contact\n"
        )


if __name__ == "__main__":
    main()
