r"""Joint stiffness and damping about a posture by the nominal inertia, and a way there; before a controller takes over.

.. math:: \tau = \bar m \left(k (q^* - q) + d (v^* - v) + c \textstyle\int (q^* - q)\right) + g(q)

with the diagonal :math:`\bar m` of the inertia matrix at the posture, and the weight g of a robot whose base is fixed.
"""

import numpy as np

from ideomotor.dynamics.rigid_body import RigidBody

STIFFNESS, DAMPING, INTEGRAL = 100.0, 15.0, 300.0  # [1/s^2], [1/s], [1/s^3] by the inertia
_LEG_STIFFNESS = 3.0  # [N m/rad] at least, of a floating base: a leg that stands moves more than itself
_PEAK = 1.875  # largest velocity of a minimum-jerk motion by its mean
_AT_REST = 0.05  # [rad/s]


class PostureHold:
    """Holds the joints of N robots about a posture.

    Args:
        body: the nominal model.
        q: the configuration, shape (nq,).
    """

    def __init__(self, body: RigidBody, q: np.ndarray) -> None:
        self._body, self._floating = body, body.structure.floating_base
        self.posture, self._limit = q[-body.n :].copy(), body.effort_limit
        inertia = np.diag(body.mass_matrix(q))[-body.n :]
        self._inertia = np.maximum(inertia, _LEG_STIFFNESS / STIFFNESS) if self._floating else inertia

    def effort(
        self,
        q: np.ndarray,
        v: np.ndarray,
        position: np.ndarray | None = None,
        velocity: np.ndarray | float = 0.0,
        integral: np.ndarray | float = 0.0,
    ) -> np.ndarray:
        """Return efforts within the limits, shape (N, n).

        Args:
            q: positions, shape (N, nq).
            v: velocities, shape (N, nv).
            position: of the joints that is wanted, shape (n,); None: the posture.
            velocity: of the joints that is wanted, shape (n,).
            integral: of the error in position, shape (n,) [rad s].
        """
        n, body = self._body.n, self._body
        wanted = self.posture if position is None else position
        pull = STIFFNESS * (wanted - q[:, -n:]) + DAMPING * (velocity - v[:, -n:]) + INTEGRAL * np.asarray(integral)
        weight = np.zeros((len(q), n))
        if not self._floating:
            weight = np.stack([body.bias(row, np.zeros(body.nv)) for row in q])
        return np.clip(weight + self._inertia * pull, -self._limit, self._limit)


class Approach:
    """Takes an arm to a posture, with minimum jerk, and lets it come to rest there, payload or not.

    Args:
        body: the nominal model of an arm.
        start: where it is, shape (n,).
        goal: posture to reach, shape (n,).
        speed: of the fastest joint, at most [rad/s].
        period: between two calls of `effort` [s].
        tolerance: largest distance of a joint from the posture at the end [rad].
    """

    def __init__(
        self, body: RigidBody, start: np.ndarray, goal: np.ndarray, *, speed: float, period: float, tolerance: float
    ) -> None:
        self._hold, self._start, self.goal = PostureHold(body, goal), start.copy(), goal
        self._period, self._tolerance = period, tolerance
        self.duration = _PEAK * float(np.abs(goal - start).max()) / speed  # [s] of the way
        self.time = 0.0  # [s] since the start
        self._integral = np.zeros(len(goal))

    def arrived(self, q: np.ndarray, v: np.ndarray) -> bool:
        """Whether the way is done and the arm, q (n,) and v (n,), rests at the posture."""
        near = np.abs(self.goal - q).max() <= self._tolerance
        return bool(self.time >= self.duration and near and np.abs(v).max() <= _AT_REST)

    def effort(self, q: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the efforts (n,) of the next period; q and v have shape (n,)."""
        s = min(self.time / self.duration, 1.0) if self.duration > 0.0 else 1.0
        self.time += self._period
        way = self.goal - self._start
        position = self._start + s**3 * (10.0 - 15.0 * s + 6.0 * s * s) * way
        velocity = 30.0 * s * s * (1.0 - s) ** 2 / self.duration * way if s < 1.0 else np.zeros(len(way))
        self._integral += (position - q) * self._period
        return self._hold.effort(q[None], v[None], position, velocity, self._integral)[0]
