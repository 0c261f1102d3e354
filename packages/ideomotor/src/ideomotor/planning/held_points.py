"""Points of a held object along paths of the joints: positions and Jacobians in the frame of the task."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ideomotor.body.chain import ChainError, KinematicChain
from ideomotor.body.chain_model import joints_between, name_of
from ideomotor.body.urdf import parse_urdf


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

    @classmethod
    def at_links(cls, chain: KinematicChain, urdf: str, links: Sequence[str]) -> "HeldPoints":
        """Return the origins of links, in their order.

        Args:
            chain: what holds them.
            urdf: the description that the chain is made of.
            links: their names.

        Raises:
            UrdfError: the URDF is malformed.
            ChainError: there is no such link, or it is not rigid to the end of the chain.
        """
        robot = parse_urdf(urdf)

        def moving(link: str) -> list[str]:
            joints = joints_between(robot, chain.base_link, link)
            return [name_of(joint) for joint in joints if joint.get("type") != "fixed"]

        above_end = moving(chain.ee_link)
        for link in links:
            between = sorted(set(moving(link)).symmetric_difference(above_end))
            if between:
                raise ChainError(f"link {link!r} is not rigid to {chain.ee_link!r}: {between} move one of them only")
        T_end_base = np.linalg.inv(chain.forward(chain.neutral))
        return cls(chain, np.array([(T_end_base @ chain.forward(chain.neutral, link))[:3, 3] for link in links]))

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
