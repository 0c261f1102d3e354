"""Execution in the simulator, and how far its result is from what was shown."""

from dataclasses import dataclass

import numpy as np

from ideomotor.body.chain import KinematicChain
from ideomotor.planning.joint_path import minimum_jerk
from ideomotor_sim.motion import CONTROL_PERIOD
from ideomotor_sim.world import World

STEP = 0.1  # [s] of a demonstration's step: 10 Hz
SETTLING = 0.3  # [s] after the path's end


@dataclass(frozen=True)
class Executed:
    """What the object did."""

    keypoints: np.ndarray  # (N, K, 3) its true keypoints, every control period, in the base frame [m]

    def final_error(self, goal: np.ndarray) -> float:
        """Return the mean distance of the keypoints at the end from their goals, shape (K, 3) [m]."""
        return float(np.linalg.norm(self.keypoints[-1] - goal, axis=1).mean())


def execute(world: World, chain: KinematicChain, q: np.ndarray, duration: float) -> Executed:
    """Run through a path of the joints, shape (T + 1, n), from rest to rest in ``duration`` [s], under physics.

    Position commands at 100 Hz, with the minimum-jerk profile over the path; settles for 0.3 s.
    """
    names = chain.joint_names
    start = dict(zip(names, q[0].tolist(), strict=True))
    world.set_configuration(start)
    world.set_command(start)
    ticks = round(CONTROL_PERIOD / world.config.timestep)
    at = np.linspace(0.0, 1.0, len(q))
    keypoints = [world.keypoints_base()]
    for period in range(1, round((duration + SETTLING) / CONTROL_PERIOD) + 1):
        s = minimum_jerk(period * CONTROL_PERIOD / duration).s
        world.set_command({name: float(np.interp(s, at, q[:, i])) for i, name in enumerate(names)})
        world.step(ticks)
        keypoints.append(world.keypoints_base())
    return Executed(np.array(keypoints))
