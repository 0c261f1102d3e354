r"""Learn a time-invariant reward from demonstrations of any length: bi-level, through the robot's own planner.

.. math::
    \min_\varphi \; L(\varphi) = \frac1N \sum_i \ell\big(z(q_i^*(\varphi)), z_i^{demo}\big), \qquad
    q_i^*(\varphi) = \arg\min_q c_\varphi(q)

The inner problem is solved to convergence by `ideomotor.planning.reward_planner` (Gauss-Newton), for a horizon T that
has nothing to do with the demonstrations' lengths. At its solution :math:`\nabla_q c = 0`, so by the implicit function
theorem

.. math::
    \frac{dL}{d\varphi} = - (\nabla_\varphi \nabla_q c)^T \lambda, \qquad \nabla_q^2 c \; \lambda = \nabla_q \ell

with the exact Hessian. The outer loss is alignment-free. After arXiv:2107.03186; what was re-derived: docs/rewards.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.linalg import solve_banded
from torch import Tensor

from ideomotor.config import Config, value
from ideomotor.errors import IdeomotorError
from ideomotor.planning.held_points import HeldPoints
from ideomotor.planning.path_error import evenly
from ideomotor.planning.reward_planner import LIMIT_MARGIN, PathProblem, PlannerConfig, plan, resampled
from ideomotor.rewards.weights import Weights
from ideomotor_learn.rewards import losses
from ideomotor_learn.rewards.families import FAMILIES, NeuralWeights, ProgressWeights, WeightFamily
from ideomotor_learn.rewards.torch_chain import TorchChain

LOSSES = ("path", "soft_dtw", "step_l2")
_RATES = {"progress": 0.3, "neural": 0.04}  # of Adam; chosen on seeds 1 to 5 of a placing task
_STATES = 40  # of a demonstration, evenly over its way, that the outer loss looks at
_RIDGE = 1e-9  # share of the diagonal, against a Hessian that is singular in the last digits


class LearningError(IdeomotorError):
    """Demonstrations that a reward cannot be learned from."""


@dataclass(frozen=True, kw_only=True)
class LearnConfig(Config):
    """How a reward is learned."""

    family: str = value("progress", "Weights by progress (structured) or by the state (neural).", choices=FAMILIES)
    loss: str = value("path", "What compares paths; step_l2 knows demonstrations of one pace only.", choices=LOSSES)
    min_horizon: int = value(12, "Fewest steps of an inner problem.", ge=2, le=200)
    max_horizon: int = value(20, "Most steps of an inner problem.", ge=2, le=200)
    outer_steps: int = value(60, "Steps of Adam on the reward's parameters.", ge=1, le=100000)
    learning_rate: float = value(
        0.0, "Largest rate of Adam, which falls to a tenth (cosine); 0: the family's own.", ge=0.0, le=10.0
    )
    weight_penalty: float = value(1e-6, "Penalty of (log w)^2 + v, means over the path [m^2].", ge=0.0, le=1.0)
    gamma: float = value(1e-4, "Softness of soft_dtw [m^2].", ge=1e-9, le=1.0)
    centres: int = value(8, "Centres of the progress family.", ge=2, le=100)
    hidden: int = value(32, "Hidden units of the neural family.", ge=1, le=10000)
    seed: int = value(0, "Seed of weights and horizons.", ge=0, le=2**31 - 1)
    planner: PlannerConfig = field(default_factory=PlannerConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_horizon > self.max_horizon:
            raise LearningError(f"min_horizon={self.min_horizon} is above max_horizon={self.max_horizon}")


@dataclass(frozen=True)
class Shown:
    """What is learned from one demonstration.

    Raises:
        LearningError: shapes do not fit, values are not finite, or the object does not move.
    """

    source: str  # for messages
    points: HeldPoints  # the robot and the keypoints it holds
    q0: np.ndarray  # (n,) where it starts [rad] or [m]
    keypoints: np.ndarray  # (N, K, 3) in the base frame, of any number of states [m]; the last ones are the goal
    R_base_task: np.ndarray = field(default_factory=lambda: np.eye(3))  # axes of the reward

    def __post_init__(self) -> None:
        z, K = np.asarray(self.keypoints), len(self.points.position_ee)
        if z.ndim != 3 or len(z) < 2 or z.shape[1:] != (K, 3) or not np.isfinite(z).all():
            raise LearningError(f"{self.source}: keypoints have shape {z.shape}, expected finite, (2 or more, {K}, 3)")
        if np.linalg.norm(np.diff(z, axis=0), axis=-1).sum() < 1e-3:
            raise LearningError(f"{self.source}: the object moves less than 1 mm; there is nothing to learn")

    @property
    def goal(self) -> np.ndarray:
        """Goal keypoints, shape (K, 3) [m]."""
        goal: np.ndarray = self.keypoints[-1]
        return goal

    def evenly(self, states: int) -> np.ndarray:
        """Return the keypoints at states spaced evenly by the way, shape (states, K, 3): the pace does not count."""
        return evenly(self.keypoints, states)


@dataclass(frozen=True)
class OuterStep:
    """What an outer step did."""

    step: int  # from 0
    loss: float  # before the step [m^2], a mean over the keypoints
    horizon: int
    converged: float  # share of the inner problems that converged


class TorchReward:
    """A family in torch as planners see it."""

    def __init__(self, model: WeightFamily) -> None:
        self._model = model

    def weights(self, relative: np.ndarray, progress: np.ndarray) -> Weights:
        """See `ideomotor.rewards.weights.Reward`."""
        with torch.no_grad():
            outputs = self._model(torch.from_numpy(relative), torch.from_numpy(progress))
        return Weights(*(output.numpy() for output in outputs))


class RewardLearner:
    """Learns the weights of one family; `steps` does the work, one outer step at a time."""

    def __init__(self, shown: Sequence[Shown], config: LearnConfig) -> None:
        """Prepare.

        Raises:
            LearningError: no demonstrations, or they differ in keypoints or joints.
        """
        if not shown:
            raise LearningError("no demonstrations, expected at least one")
        for other in shown[1:]:
            if other.keypoints.shape[1:] != shown[0].keypoints.shape[1:] or other.q0.shape != shown[0].q0.shape:
                raise LearningError(
                    f"{other.source}: {other.keypoints.shape[1]} keypoints and {len(other.q0)} joints, "
                    f"{shown[0].source} has {shown[0].keypoints.shape[1]} and {len(shown[0].q0)}"
                )
        self._shown, self.config = tuple(shown), config
        self._rng = np.random.default_rng(config.seed)
        self._inner = [_Inner(s, config.planner) for s in shown]
        demonstrated = np.array([s.evenly(_STATES) for s in shown])  # (B, N, K, 3)
        self._demonstrated = torch.from_numpy(demonstrated).flatten(2)  # (B, N, D)
        relative = np.concatenate([(s.keypoints - s.goal).ravel() for s in shown])
        self.model = make_model(config, demonstrated[0, 0].size, float(np.sqrt((relative**2).mean())) or 1.0)
        rate = config.learning_rate or _RATES[config.family]
        self._optimiser = torch.optim.Adam(self.model.parameters(), lr=rate)
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self._optimiser, config.outer_steps, eta_min=rate / 10
        )

    @property
    def reward(self) -> TorchReward:
        """The reward as it is now."""
        return TorchReward(self.model)

    def steps(self) -> Iterator[OuterStep]:
        """Do the outer steps, and say what each did."""
        for step in range(self.config.outer_steps):
            horizon = int(self._rng.integers(self.config.min_horizon, self.config.max_horizon + 1))
            yield self._step(step, horizon)

    def _step(self, step: int, horizon: int) -> OuterStep:
        converged = [inner.solve(self.reward, horizon) for inner in self._inner]
        solution = torch.stack([inner.q for inner in self._inner])  # (B, T + 1, n)
        keypoints = torch.stack([inner.chain.keypoints(q) for inner, q in zip(self._inner, solution, strict=True)])
        loss, slope = self._loss(keypoints.flatten(2))  # (B, T + 1, D)
        self._optimiser.zero_grad()
        for inner, q, d_keypoints in zip(self._inner, solution, slope, strict=True):
            inner.backward(self.model, q, d_keypoints, self.config.weight_penalty / len(self._inner))
        self._optimiser.step()
        self._schedule.step()
        return OuterStep(step, loss, horizon, float(np.mean(converged)))

    def _loss(self, keypoints: Tensor) -> tuple[float, Tensor]:
        """Return the outer loss [m^2] and its derivatives by the planned keypoints, shape (B, T + 1, D) [m]."""
        keypoints = keypoints.detach().requires_grad_()
        config, K = self.config, keypoints.shape[-1] / 3
        if config.loss == "path":
            each = losses.path_distance(keypoints, self._demonstrated)  # (B,)
        elif config.loss == "soft_dtw":
            B, T, N = len(keypoints), keypoints.shape[1], self._demonstrated.shape[1]
            lengths = torch.full((B,), T), torch.full((B,), N)
            each = losses.soft_dtw_batch(keypoints, self._demonstrated, *lengths, config.gamma) / N
        else:
            each = losses.step_l2(keypoints, _in_time(self._shown, keypoints.shape[1]))
        loss = each.mean() / K
        (slope,) = torch.autograd.grad(loss, keypoints)
        return float(loss.detach()), slope


def make_model(config: LearnConfig, coordinates: int, length: float) -> WeightFamily:
    """Return the untrained model of a family for D coordinates; ``length`` [m] is the size of the states."""
    if config.family == "progress":
        return ProgressWeights(coordinates, config.centres)
    return NeuralWeights(coordinates, config.hidden, length, torch.Generator().manual_seed(config.seed))


class _Inner:
    """One inner problem: its solution, and the gradient through it."""

    def __init__(self, shown: Shown, config: PlannerConfig) -> None:
        self._shown, self._config, chain = shown, config, shown.points.chain
        self.chain = TorchChain.from_chain(chain, shown.points.position_ee)
        self._goal = torch.from_numpy(np.array(shown.goal)).flatten()  # (D,)
        self._R = torch.from_numpy(np.array(shown.R_base_task))
        self._lower = torch.from_numpy(chain.lower + LIMIT_MARGIN)
        self._upper = torch.from_numpy(chain.upper - LIMIT_MARGIN)
        self._path: np.ndarray | None = None

    def solve(self, reward: TorchReward, horizon: int) -> bool:
        """Plan from the path before; return whether that converged."""
        shown = self._shown
        problem = PathProblem(shown.points, reward, shown.q0, shown.goal, shown.R_base_task)
        found = plan(problem, horizon, self._config, start=self._path)
        self._path = found.q
        return found.converged

    @property
    def q(self) -> Tensor:
        """The path, shape (T + 1, n)."""
        assert self._path is not None
        return torch.from_numpy(self._path)

    def cost(self, z: Tensor, q: Tensor, model: WeightFamily) -> Tensor:
        """Return the planner's cost of a path: the same terms, in torch.

        Args:
            z: keypoints, shape (T + 1, K, 3).
            q: joint positions, shape (T + 1, n).
            model: the family.
        """
        config, T, K = self._config, len(q) - 1, z.shape[1]
        x = self._relative(z)  # (T + 1, D)
        progress, middle = (torch.arange(T, dtype=q.dtype) + 0.5) / T, (x[1:] + x[:-1]) / 2
        (v, r), w = model.pull(progress), torch.exp(model.log_weights(middle, progress))  # (T, D) each
        motion = T * (w * x.diff(dim=0) ** 2).sum() + (v * (middle - r) ** 2).sum() / T
        motion = motion + config.goal_weight * (x[-1] ** 2).sum()
        beyond = torch.relu(q[1:] - self._upper) + torch.relu(self._lower - q[1:])
        joints = config.joint_weight * T * (q.diff(dim=0) ** 2).sum() + config.limit_weight * (beyond**2).sum()
        return motion / K + joints

    def _relative(self, z: Tensor) -> Tensor:
        """Return keypoints relative to the goal along the axes of the task, shape (T + 1, D)."""
        return ((z - self._goal.reshape(-1, 3)) @ self._R).flatten(1)

    def backward(self, model: WeightFamily, q: Tensor, slope: Tensor, penalty: float) -> None:
        """Add the outer loss's gradient to that of the family's parameters, through the solution ``q``.

        Args:
            model: the family.
            q: the solution, shape (T + 1, n).
            slope: derivatives of the outer loss by its keypoints, shape (T + 1, D).
            penalty: of the weights and pulls.
        """
        free = q[1:].clone().requires_grad_()
        path = torch.cat([q[:1], free])
        z = self.chain.keypoints(path)
        (gradient,) = torch.autograd.grad(self.cost(z, path, model), free, create_graph=True)  # of c by q, (T, n)
        (d_loss,) = torch.autograd.grad(z, free, slope.reshape(z.shape), retain_graph=True)  # (T, n)
        adjoint = _solve_hessian(gradient, free, d_loss)  # lambda, (T, n)
        along = (gradient * adjoint).sum()  # lambda^T grad_q c, a function of the parameters
        progress = torch.linspace(0.0, 1.0, len(q), dtype=q.dtype)
        size = model.log_weights(self._relative(z.detach()), progress).pow(2).mean() + model.pull(progress)[0].mean()
        (penalty * size - along).backward(inputs=list(model.parameters()))


def _solve_hessian(gradient: Tensor, q: Tensor, right: Tensor) -> Tensor:
    """Return the solution of (derivative of ``gradient`` by ``q``) x = ``right``; all of shape (T, n).

    Steps of a path are coupled with their neighbours only, so that every third one can share a product of the Hessian
    with a vector: 3 n products, whatever T.
    """
    T, n = q.shape
    mine = torch.arange(T) % 3 == torch.arange(3)[:, None]  # (3, T) the steps that share a product
    seeds = mine[:, None, :, None] * torch.eye(n, dtype=q.dtype)[:, None]  # (3, n, T, n)
    (products,) = torch.autograd.grad(gradient, q, seeds.flatten(0, 1), retain_graph=True, is_grads_batched=True)
    columns = products.reshape(3, n, T, n).numpy()  # the Hessian is symmetric: rows are columns
    width = 2 * n - 1
    bands = np.zeros((2 * width + 1, T, n))  # bands[width + row - column, column] for scipy.linalg.solve_banded
    for shift in (-1, 0, 1):  # from the step of a column to that of a row
        steps = np.arange(max(0, -shift), T - max(0, shift))
        block = columns[steps % 3, :, steps + shift]  # (steps, n columns, n rows)
        for column in range(n):
            for row in range(n):
                bands[width + shift * n + row - column, steps, column] = block[:, column, row]
    bands[width] *= 1.0 + _RIDGE
    solution = solve_banded((width, width), bands.reshape(2 * width + 1, T * n), right.flatten().numpy())
    return torch.from_numpy(solution).reshape(T, n)


def _in_time(shown: Sequence[Shown], states: int) -> Tensor:
    """Return the demonstrations in a number of states evenly over their time, shape (B, states, D)."""
    flat = (s.keypoints.reshape(len(s.keypoints), -1) for s in shown)
    return torch.from_numpy(np.array([resampled(z, states - 1) for z in flat]))
