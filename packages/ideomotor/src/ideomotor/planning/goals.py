"""Goals that the tip can reach, for demonstrations and benchmarks."""

import numpy as np

from ideomotor.body.chain import KinematicChain


def reachable_positions(
    chain: KinematicChain, q: np.ndarray, count: int, rng: np.random.Generator, spread: float = 0.5
) -> np.ndarray:
    """Return tip positions of configurations around ``q``, shape (count, 3) in the base frame [m].

    Only actuated joints are varied, uniformly within ``spread`` and the joint limits; all positions lie at least
    0.05 m above the base's ground plane.

    Args:
        chain: chain that ends at the tip.
        q: configuration to stay near, shape (n,) [rad] or [m].
        count: number of goals.
        rng: source of randomness.
        spread: largest change of a joint [rad] or [m].
    """
    actuated = np.array([name in chain.actuated_names for name in chain.joint_names])
    goals: list[np.ndarray] = []
    while len(goals) < count:
        change = rng.uniform(-spread, spread, chain.n) * actuated
        position = chain.forward(np.clip(q + change, chain.lower, chain.upper))[:3, 3]
        if position[2] > 0.05:
            goals.append(position)
    return np.array(goals).reshape(-1, 3)
