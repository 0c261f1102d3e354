r"""What a learned controller sees: the robot's state without where it is, and the next state that is wanted.

The wanted next velocity follows the target motion :math:`(q^*, v^*)` and closes in on its position,

.. math::
    v^g_{t+1} = v^*_{t+1} + \alpha\, (q^*_t \ominus q_t),

which is, up to the weight of the two, the velocity that minimises the next state's error in position and velocity.
Everything of a floating base is in its own frame: the controller works the same anywhere, heading anywhere.
"""

import numpy as np

from ideomotor.dynamics.rotations import relative_quaternion, rotation_matrix, rotation_vector, to_base, to_world
from ideomotor.policies.motion import Motion


def observe(q: np.ndarray, v: np.ndarray, force: np.ndarray, *, floating_base: bool) -> np.ndarray:
    """Return the state as networks get it, shape (N, x).

    Args:
        q: positions, shape (N, nq).
        v: velocities, shape (N, nv).
        force: of the contacts, world axes, shape (N, 3c) [N].
        floating_base: then height, direction of the world's z and the forces replace pose and forces.
    """
    if not floating_base:
        return np.concatenate([q, v], axis=-1)
    rotation = rotation_matrix(q[:, 3:7])
    return np.concatenate([q[:, 2:3], rotation[:, 2], q[:, 7:], v, to_base(rotation, force)], axis=-1)


def position_error(q: np.ndarray, target: np.ndarray, *, floating_base: bool) -> np.ndarray:
    """Return ``target - q`` of N configurations, shape (N, nv): of a base in its own frame [m, rad]."""
    if not floating_base:
        return target - q
    there = to_base(rotation_matrix(q[:, 3:7]), target[:, :3] - q[:, :3])
    turn = rotation_vector(relative_quaternion(q[:, 3:7], target[:, 3:7]))
    return np.concatenate([there, turn, target[:, 7:] - q[:, 7:]], axis=-1)


def next_goal(motion: Motion, step: np.ndarray, q: np.ndarray, gain: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the next velocity (N, nv) and the next contact forces in the base's axes (N, 3c) that are wanted.

    Args:
        motion: the target.
        step: which state of the motion each configuration stands at, shape (N,) int; its last state is held.
        q: configurations, shape (N, nq).
        gain: alpha [1/s].
    """
    now, after = np.minimum(step, motion.steps), np.minimum(step + 1, motion.steps)
    velocity, force = motion.v[after].copy(), motion.force[after]
    if motion.floating_base:
        rotation, wanted = rotation_matrix(q[:, 3:7]), rotation_matrix(motion.q[after, 3:7])
        velocity[:, :6] = to_base(rotation, to_world(wanted, velocity[:, :6]))
        force = to_base(rotation, force)
    error = position_error(q, motion.q[now], floating_base=motion.floating_base)
    return velocity + gain * error, force
