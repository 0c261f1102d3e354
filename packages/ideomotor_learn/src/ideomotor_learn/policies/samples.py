"""Steps of experience as tensors: what the models and the controller learn from."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ideomotor.data.experience import Episode
from ideomotor.dynamics.rigid_body import RigidBody
from ideomotor.dynamics.rotations import rotation_matrix, to_base
from ideomotor.policies.goals import next_goal, observe
from ideomotor.policies.motion import Motion


@dataclass(frozen=True)
class Samples:
    """N steps; forces and a base's velocities are in the axes of the base at the step's start."""

    state: Tensor  # (N, x) as networks get it
    velocity: Tensor  # (N, nv)
    free: Tensor  # (N, nv) rigid-body rate of the velocities without effort, in the same axes
    per_effort: Tensor  # (N, nv, n) its derivative by the effort
    effort: Tensor  # (N, n)
    next_velocity: Tensor  # (N, nv) observed
    next_force: Tensor  # (N, 3c) observed
    goal_velocity: Tensor  # (N, nv) wanted of the next state
    goal_force: Tensor  # (N, 3c)

    def __len__(self) -> int:
        return len(self.state)

    def take(self, rows: Tensor) -> "Samples":
        """Return those rows."""
        return Samples(*(getattr(self, f.name)[rows] for f in fields(self)))


def join(parts: Sequence[Samples]) -> Samples:
    """Return all steps of several, in order."""
    return Samples(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Samples)))


def samples_from(episode: Episode, body: RigidBody, motion: Motion, gain: float) -> Samples:
    """Return the steps of an episode that began at the motion's first state.

    Args:
        episode: what the robot did.
        body: its nominal model.
        motion: what it should have done.
        gain: of the goals' position error, see `ideomotor.policies.goals` [1/s].
    """
    q, v, floating = episode.q[:-1], episode.v[:-1], episode.floating_base
    free, per_effort = body.velocity_rate(q, v)
    next_velocity, next_force = episode.v[1:].copy(), episode.force[1:]
    if floating:
        now, then = rotation_matrix(q[:, 3:7]), rotation_matrix(episode.q[1:, 3:7])
        turned = np.swapaxes(now, -1, -2) @ then
        next_velocity[:, :6] = to_base(np.swapaxes(turned, -1, -2), next_velocity[:, :6])
        next_force = to_base(now, next_force)
    goal_velocity, goal_force = next_goal(motion, np.arange(len(q)), q, gain)
    arrays = (
        observe(q, v, episode.force[:-1], floating_base=floating),
        v,
        free,
        per_effort,
        episode.effort,
        next_velocity,
        next_force,
        goal_velocity,
        goal_force,
    )
    return Samples(*(torch.tensor(array, dtype=torch.float32) for array in arrays))
