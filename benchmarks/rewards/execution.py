"""Execution in the simulator, and how far its result is from what was shown."""

from dataclasses import dataclass

import numpy as np

from ideomotor.body.chain import KinematicChain
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
        tau = min(1.0, period * CONTROL_PERIOD / duration)
        s = tau**3 * (10.0 - 15.0 * tau + 6.0 * tau**2)
        world.set_command({name: float(np.interp(s, at, q[:, i])) for i, name in enumerate(names)})
        world.step(ticks)
        keypoints.append(world.keypoints_base())
    return Executed(np.array(keypoints))


def path_error(executed: np.ndarray, shown: np.ndarray) -> float:
    """Return how far two paths of keypoints, (N, K, 3) and (M, K, 3), are from each other [m].

    The larger of: mean distance of the executed states from the shown polyline, evenly along the executed way, and
    mean distance of the shown states from the executed polyline. A distance is the RMS over the keypoints.
    """
    a, b = evenly(executed), evenly(shown)
    return max(_from_polyline(a, b), _from_polyline(b, a))


def evenly(path: np.ndarray, states: int = 100) -> np.ndarray:
    """Return a path at states spaced evenly by its way, shape (states, D)."""
    flat = path.reshape(len(path), -1)
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(flat, axis=0), axis=1))])
    at = np.linspace(0.0, way[-1], states)
    return np.stack([np.interp(at, way, x) for x in flat.T], axis=1)


def _from_polyline(points: np.ndarray, line: np.ndarray) -> float:
    start, along = line[:-1], np.diff(line, axis=0)
    arm = points[:, None] - start  # (N, M - 1, D)
    share = np.clip((arm * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-18), 0.0, 1.0)
    squared = ((arm - share[..., None] * along) ** 2).sum(-1).min(axis=1)  # (N,)
    return float(np.sqrt(squared / (points.shape[1] / 3)).mean())
