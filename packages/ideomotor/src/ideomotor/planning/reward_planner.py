r"""Joint paths of least cost under a learned reward, for any number of steps.

With :math:`z_t` the keypoints at :math:`q_t`, weights :math:`w` of the reward at the middle of a step, and T steps,

.. math::
    \min_{q_1 .. q_T} \frac1K \Big( \sum_t \| \sqrt{T w_t} \odot (z_t - z_{t-1}) \|^2
    + \| \sqrt{v_t / T} \odot (\bar x_t - r_t) \|^2 + \kappa \| z_T - g \|^2 \Big)
    + \rho T \sum_t \| q_t - q_{t-1} \|^2 + \mu \sum_t \| [q_t - q_{max}]_+ + [q_{min} - q_t]_+ \|^2

is a sum of squares; Levenberg-Marquardt with the exact derivative of the residuals (that of :math:`\sqrt w` included).
A step couples neighbours only: the normal equations are block tridiagonal, a banded Cholesky factor solves them in
:math:`O(T n^3)`.
"""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, solveh_banded

from ideomotor.config import Config, value
from ideomotor.errors import IdeomotorError
from ideomotor.planning.held_points import HeldPoints
from ideomotor.rewards.weights import Reward

LIMIT_MARGIN = 0.02  # [rad] or [m] kept from the joint limits
_MOST_DAMPING = 1e6
_COARSE = 10  # steps of the path that a finer one starts from: the same valley at any number of steps


class PlanningError(IdeomotorError):
    """A path that cannot be planned: wrong shapes, or numbers that are not finite."""


@dataclass(frozen=True, kw_only=True)
class PlannerConfig(Config):
    """How paths are optimised."""

    goal_weight: float = value(1e4, "Weight kappa of the distance from the goal, against 1 of a reward.", ge=1, le=1e9)
    joint_weight: float = value(1e-3, "Weight rho of the joints' motion [m^2/rad^2].", ge=1e-9, le=10.0)
    limit_weight: float = value(1e3, "Weight mu of the joint limits [m^2/rad^2].", ge=0.0, le=1e9)
    iterations: int = value(60, "Most Levenberg-Marquardt iterations.", ge=1, le=10000)
    tolerance: float = value(1e-4, "Iteration ends when no joint moves further [rad] or [m].", ge=1e-12, le=0.1)


@dataclass(frozen=True)
class Plan:
    """A path of least cost."""

    q: np.ndarray  # (T + 1, n) from the start [rad] or [m]
    keypoints: np.ndarray  # (T + 1, K, 3) in the base frame [m]
    weight: np.ndarray  # (T, K, 3) of every step, along the axes of the task frame
    cost: float
    iterations: int
    converged: bool

    @property
    def steps(self) -> int:
        """Number of steps T."""
        return len(self.q) - 1


@dataclass(frozen=True)
class PathProblem:
    """What is planned: from where, to where, under which reward."""

    points: HeldPoints
    reward: Reward
    q0: np.ndarray  # (n,) [rad] or [m]
    goal: np.ndarray  # (K, 3) in the base frame [m]
    R_base_task: np.ndarray  # (3, 3) axes of the reward

    def __post_init__(self) -> None:
        shapes = {"q0": (self.points.chain.n,), "goal": self.points.position_ee.shape, "R_base_task": (3, 3)}
        for name, shape in shapes.items():
            array = np.asarray(getattr(self, name), dtype=float)
            if array.shape != shape or not np.isfinite(array).all():
                raise PlanningError(f"{name} has shape {array.shape}: {array.tolist()}, expected finite, {shape}")


def plan(
    problem: PathProblem, steps: int, config: PlannerConfig | None = None, start: np.ndarray | None = None
) -> Plan:
    """Return the path of least cost in ``steps`` steps.

    Args:
        problem: what is planned.
        steps: T, at least 1.
        config: how to optimise.
        start: a path to start from, shape (T' + 1, n); by default straight to a configuration that reaches the goal.

    Raises:
        PlanningError: ``steps`` or ``start`` make no path, or the reward is not finite.
    """
    config = config or PlannerConfig()
    if steps < 1:
        raise PlanningError(f"steps={steps}, expected 1 or more")
    if start is None:
        start = np.stack([problem.q0, problem.q0])
        for coarser in (1, _COARSE):  # one step that reaches the goal shows where the path ends
            if steps > coarser:
                start = plan(problem, coarser, config, start).q
    path = resampled(start, steps)
    path[0] = problem.q0
    return _optimise(problem, path, config)


def resampled(path: np.ndarray, steps: int) -> np.ndarray:
    """Return a path, shape (T' + 1, n), in another number of steps, shape (steps + 1, n).

    Raises:
        PlanningError: ``path`` is none.
    """
    path = np.asarray(path, dtype=float)
    if path.ndim != 2 or len(path) < 2 or not np.isfinite(path).all():
        raise PlanningError(f"path has shape {path.shape}, expected finite, (steps + 1, n)")
    s, s_path = np.linspace(0.0, 1.0, steps + 1), np.linspace(0.0, 1.0, len(path))
    return np.stack([np.interp(s, s_path, path[:, i]) for i in range(path.shape[1])], axis=1)


def _optimise(problem: PathProblem, q: np.ndarray, config: PlannerConfig) -> Plan:
    """Levenberg-Marquardt from a path, shape (T + 1, n), every step cut off at the joint limits."""
    chain, damping, moved, iterations = problem.points.chain, 1e-3, np.inf, 0
    terms = _Terms.at(problem, q, config)
    while iterations < config.iterations:
        iterations += 1
        bands, gradient = terms.normal_equations()
        if not np.isfinite(gradient).all():
            raise PlanningError("the derivatives of a path's cost are not finite; expected a reward of finite weights")
        while True:
            better = False
            with suppress(LinAlgError):  # too flat for Cholesky's factors: more damping
                step = _solve(bands, gradient, damping)
                trial = np.concatenate([q[:1], np.clip(q[1:] + step, chain.lower, chain.upper)])
                trial_terms = _Terms.at(problem, trial, config)
                better = trial_terms.cost <= terms.cost
            if better or damping > _MOST_DAMPING:
                break
            damping *= 10.0
        if not better:
            break
        q, terms, moved, damping = trial, trial_terms, float(np.abs(step).max()), max(damping / 10.0, 1e-9)
        if moved < config.tolerance:
            break
    weight = terms.weight.reshape(len(q) - 1, -1, 3)
    return Plan(q, terms.keypoints, weight, terms.cost, iterations, moved < config.tolerance or damping > _MOST_DAMPING)


def _solve(bands: np.ndarray, gradient: np.ndarray, damping: float) -> np.ndarray:
    """Return the damped Gauss-Newton step, shape (T, n)."""
    damped = bands.copy()
    damped[-1] *= 1.0 + damping  # the diagonal
    return -solveh_banded(damped, gradient.ravel(), check_finite=False).reshape(gradient.shape)


@dataclass(frozen=True)
class _Terms:
    """The residuals at one path, and their derivatives. D = 3 K."""

    keypoints: np.ndarray  # (T + 1, K, 3) in the base frame [m]
    weight: np.ndarray  # (T, D)
    step: np.ndarray  # (T, 2 D) residuals sqrt(T w / K) (z_t - z_{t-1}) and sqrt(v / (T K)) (x - r) at the middle
    step_after: np.ndarray  # (T, 2 D, n) their derivatives by q_t
    step_before: np.ndarray  # (T, 2 D, n) by q_{t-1}; that of the first step is not used
    goal: np.ndarray  # (D,) sqrt(kappa / K) (z_T - g)
    goal_by: np.ndarray  # (D, n)
    joints: np.ndarray  # (T, n) sqrt(rho T) (q_t - q_{t-1})
    joint_scale: float  # sqrt(rho T)
    limits: np.ndarray  # (T, n) sqrt(mu) of what is beyond the limits
    limits_by: np.ndarray  # (T, n) their derivatives by q_t

    @classmethod
    def at(cls, problem: PathProblem, q: np.ndarray, config: PlannerConfig) -> "_Terms":
        chain, T = problem.points.chain, len(q) - 1
        z, J = problem.points.linearised(q)  # (T + 1, K, 3), (T + 1, K, 3, n)
        K = z.shape[1]
        R = problem.R_base_task
        x = ((z - problem.goal) @ R).reshape(T + 1, 3 * K)  # along the axes of the task
        J = (R.T @ J).reshape(T + 1, 3 * K, -1)
        progress = (np.arange(T) + 0.5) / T
        middle = (x[1:] + x[:-1]) / 2
        found = problem.reward.weights(middle, progress)
        root, dz = np.sqrt(found.weight), np.diff(x, axis=0)
        # d(sqrt(w) dz) = sqrt(w) d(dz) + dz / (2 sqrt(w)) dw, and the middle of a step moves half as far as its ends.
        bend = (dz / (4.0 * root))[:, :, None] * found.gradient  # (T, D, D)
        straight = root[:, :, None]
        scale = np.sqrt(T / K)
        pull = np.sqrt(found.pull / (T * K))
        half = pull[:, :, None] / 2
        low, high = chain.lower + LIMIT_MARGIN, chain.upper - LIMIT_MARGIN
        beyond = np.maximum(q[1:] - high, 0.0) - np.maximum(low - q[1:], 0.0)
        root_rho, root_mu, root_kappa = np.sqrt([config.joint_weight * T, config.limit_weight, config.goal_weight / K])
        return cls(
            keypoints=z,
            weight=found.weight,
            step=np.concatenate([scale * root * dz, pull * (middle - found.waypoint)], axis=1),
            step_after=np.concatenate([scale * (straight * J[1:] + bend @ J[1:]), half * J[1:]], axis=1),
            step_before=np.concatenate([scale * (bend @ J[:-1] - straight * J[:-1]), half * J[:-1]], axis=1),
            goal=root_kappa * x[-1],
            goal_by=root_kappa * J[-1],
            joints=root_rho * np.diff(q, axis=0),
            joint_scale=float(root_rho),
            limits=root_mu * beyond,
            limits_by=root_mu * (beyond != 0.0),
        )

    @property
    def cost(self) -> float:
        """The sum of squares."""
        return float(sum((r**2).sum() for r in (self.step, self.goal, self.joints, self.limits)))

    def normal_equations(self) -> tuple[np.ndarray, np.ndarray]:
        """Return J^T J in the upper banded form of LAPACK, shape (2 n, T n), and J^T r, shape (T, n)."""
        A, B = self.step_after, self.step_before[1:]  # by q_t, (T, D, n); by q_{t-1} from the second step on
        T, n = self.joints.shape
        diagonal = A.transpose(0, 2, 1) @ A  # (T, n, n)
        diagonal[:-1] += B.transpose(0, 2, 1) @ B
        diagonal[-1] += self.goal_by.T @ self.goal_by
        i = np.arange(n)
        diagonal[:, i, i] += self.limits_by**2 + self.joint_scale**2 * np.where(np.arange(T) < T - 1, 2.0, 1.0)[:, None]
        beside = B.transpose(0, 2, 1) @ A[1:]  # (T - 1, n, n), rows by q_t, columns by q_{t+1}
        beside[:, i, i] -= self.joint_scale**2
        gradient = np.einsum("tdn,td->tn", A, self.step) + self.joint_scale * self.joints + self.limits_by * self.limits
        gradient[:-1] += np.einsum("tdn,td->tn", B, self.step[1:]) - self.joint_scale * self.joints[1:]
        gradient[-1] += self.goal_by.T @ self.goal
        return _banded(diagonal, beside), gradient


def _banded(diagonal: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """Return a symmetric block tridiagonal matrix in the upper banded form of LAPACK, shape (2 n, T n)."""
    T, n = diagonal.shape[:2]
    bands = np.zeros((2 * n, T, n))  # bands[u + row - column, column], u = 2 n - 1 superdiagonals
    for row in range(n):
        for column in range(n):
            if column >= row:
                bands[2 * n - 1 + row - column, :, column] = diagonal[:, row, column]
            bands[n - 1 + row - column, 1:, column] = beside[:, row, column]
    return bands.reshape(2 * n, T * n)
