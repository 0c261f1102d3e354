"""What plans the way of a motion: an interface, and the search of a configuration that is gone straight to."""

from typing import Protocol

import numpy as np

from ideomotor.errors import IdeomotorError
from ideomotor.planning.inverse_kinematics import InverseKinematics, PoseError, Solution, Target
from ideomotor.planning.joint_path import Bounds, JointPath, TimedPath


class NoPathError(IdeomotorError):
    """There is no path to the target."""


class PathPlanner(Protocol):
    """Plans the path of one motion, a little a call, so that no call takes long."""

    def step(self, q: np.ndarray) -> TimedPath | None:
        """Plan on, with the measured positions, shape (n,); return the path of the actuated joints when there is one.

        Raises:
            NoPathError: there is none; says why.
        """
        ...


class NearestPosture:
    """Inverse kinematics from several starts, one a step, and straight to the nearest configuration that was found.

    The joints' limits hold on the whole path (they are a box), and there are no local minima on the way.

    Args:
        ik: inverse kinematics of the chain.
        target: where its end shall be.
        allowed: distance from it at the end of the path.
        bounds: of the motion.
        starts: configurations to search from, in this order, shapes (n,).
    """

    def __init__(
        self, ik: InverseKinematics, target: Target, allowed: PoseError, bounds: Bounds, starts: list[np.ndarray]
    ) -> None:
        self._ik, self._target, self._allowed, self._bounds = ik, target, allowed, bounds
        self._starts = starts[::-1]
        self._solutions: list[Solution] = []

    def step(self, q: np.ndarray) -> JointPath | None:
        """Try one more start; after the last one return the path to the nearest solution."""
        self._solutions.append(self._ik.descend(self._target, q, self._starts.pop()))
        if self._starts:
            return None
        for solution in self._ik.nearest(self._solutions, q):
            if solution.error.within(self._allowed.position, self._allowed.orientation):
                active = self._ik.active
                return JointPath.plan(q[active], solution.q[active], self._bounds.velocity, self._bounds.acceleration)
        best = min((s.error for s in self._solutions), key=lambda e: e.position + 0.3 * e.orientation)
        where = f"{self._target.T_base_target[:3, 3].round(4).tolist()} in {self._ik.chain.base_link!r}"
        raise NoPathError(f"no configuration reaches {where}: the best is {missed(best, self._allowed)}")


def missed(error: PoseError, allowed: PoseError) -> str:
    """Say in words how far from the target something ends, and what is allowed."""
    return (
        f"{1e3 * error.position:.1f} mm and {error.orientation:.3f} rad away, "
        f"allowed {1e3 * allowed.position:.1f} mm and {allowed.orientation:.3f} rad"
    )
