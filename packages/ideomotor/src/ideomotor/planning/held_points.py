"""Points of a held object along paths of the joints: positions and Jacobians in the frame of the task."""

from dataclasses import dataclass

import numpy as np

from ideomotor.body.chain import ChainError, KinematicChain


@dataclass(frozen=True, eq=False)
class HeldPoints:
    """K points that are rigid to the end of a chain.

    Raises:
        ChainError: the points have another shape than (K, 3), or are not finite.
    """

    chain: KinematicChain
    position_ee: np.ndarray  # (K, 3) in the chain's ee_link [m]

    def __post_init__(self) -> None:
        points = np.array(self.position_ee, dtype=float)
        if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
            raise ChainError(f"position_ee has shape {points.shape}: {points.tolist()}, expected finite, (K, 3)")
        points.setflags(write=False)
        object.__setattr__(self, "position_ee", points)

    def at(self, q: np.ndarray) -> np.ndarray:
        """Return where the points are at T configurations (T, n), shape (T, K, 3) in the base frame [m]."""
        T = self.chain.forward_batch(q)
        return self.position_ee @ T[:, :3, :3].transpose(0, 2, 1) + T[:, None, :3, 3]

    def linearised(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the points, shape (T, K, 3), and their derivatives by the joints, shape (T, K, 3, n)."""
        T, J = self.chain.jacobian_batch(q)  # (T, 4, 4), (T, 6, n)
        arm = self.position_ee @ T[:, :3, :3].transpose(0, 2, 1)  # (T, K, 3), from the link's origin along base axes
        turn = J[:, None, 3:].swapaxes(2, 3)  # (T, 1, n, 3) angular velocity a joint
        J_points = J[:, None, :3] + np.cross(turn, arm[:, :, None]).swapaxes(2, 3)  # v + omega x arm
        return arm + T[:, None, :3, 3], J_points
