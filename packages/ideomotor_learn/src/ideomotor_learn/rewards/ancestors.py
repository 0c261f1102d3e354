r"""Model-based inverse reinforcement learning of Das et al. 2020 (arXiv:2010.09034), the ancestor: a baseline.

A cost weighs the squared distance of D coordinates z [cm] from those of the goal, at each of the T states:

.. math:: c_W(\tau) = \sum_{t=0}^{T-1} \sum_{d=1}^{D} W_{td} \, (z_{td} - g_d)^2

=============  ==========================================================  ============================
family         :math:`W_{td}`                                              parameters
=============  ==========================================================  ============================
``weighted``   :math:`w_d / T`                                             w (D)
``timedep``    :math:`w_{td} / (T D)`, t the step of the clock             w (T, D)
``rbf``        :math:`\sum_j \exp(-(t - c_j)^2 / b) \, w_{jd} / D`         w (5, D)
``stretched``  as ``timedep``, t stretched to the horizon of the learning  w (T, D)
=============  ==========================================================  ============================

1. Inner problem, a few steps from standing still over the increments u of the joints,
   :math:`q_{t+1} = \mathrm{clip}(q_t + u_t)`: :math:`u \leftarrow u - \alpha \tfrac{10}{T} \nabla_u c_W(\tau(u))`.
2. Outer loss :math:`L = \frac1D \sum_{t,d} (z_{td} - z^{demo}_{td})^2` [cm^2], mean over demonstrations; Adam on the
   parameters, through the unrolled inner steps.

Defaults and sums are those of the published code (facebookresearch/LearningToLearn, mbirl), whose T counts states.
Deviations:

* It takes a step of Adam after every demonstration, three where its setting counts one: ``per_demonstration``.
* Joint limits cut the sum of the increments, not every state on its own: the same unless a joint leaves its limit.
* It knows one length. Here :math:`\alpha` is scaled by 10/T, without which long horizons diverge; demonstrations may
  differ in length, each has its own inner problem. Beyond the longest, ``timedep`` weighs as at its last step.
* Its weights may become negative: ``positive`` keeps them above zero by a softplus, which it names and leaves out.
* ``stretched`` is ours, the cheap way to another horizon.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ideomotor.config import Config, value
from ideomotor.data.demonstrations import Demonstration
from ideomotor.errors import IdeomotorError
from ideomotor_learn.rewards.torch_chain import TorchChain

FAMILIES = ("weighted", "timedep", "rbf", "stretched")

_CENTIMETRES = 100.0  # [cm/m]
_STATES = 10  # of the published demonstrations, for which the inner rate was chosen
_INITIAL = {"weighted": 0.1, "timedep": 0.01, "rbf": 0.01, "stretched": 0.01}  # [1/cm^2]


class AncestorError(IdeomotorError):
    """Demonstrations, or a start and goal, that do not fit the chain or the cost."""


@dataclass(frozen=True, kw_only=True)
class AncestorConfig(Config):
    """How the ancestor learns and executes; defaults of the published code."""

    family: str = value("rbf", "Kind of cost.", choices=FAMILIES)
    positive: bool = value(False, "Keep the weights positive by a softplus; the published code does not.")
    outer_steps: int = value(100, "Times all demonstrations are gone through.", ge=0)
    per_demonstration: bool = value(False, "A step of Adam after every demonstration, as published; else after all.")
    outer_rate: float = value(1e-2, "Learning rate of the cost's parameters.", ge=0.0)
    inner_steps: int = value(1, "Gradient steps of the inner problem, unrolled.", ge=1)
    inner_rate: float = value(1e-3, "Rate of the inner steps for 10 states [rad^2].", ge=0.0)
    centres: int = value(5, "Centres of the radial basis functions, evenly over the states.", ge=2)
    width: float = value(2.0, "Their b, twice the squared width [states^2].", ge=1e-3)


@dataclass(frozen=True, eq=False)
class Example:
    """What the ancestor sees of a demonstration."""

    source: str  # for messages
    q0: np.ndarray  # (n,) where it begins [rad] or [m]
    keypoints: np.ndarray  # (T, K, 3) in the base frame [m]; the last are the goal

    @classmethod
    def of(cls, demonstration: Demonstration) -> "Example":
        """Take it from a recorded demonstration."""
        return cls(demonstration.source, demonstration.q[0], demonstration.keypoints_base)


@dataclass(frozen=True, eq=False)
class AncestorCost:
    """A learned cost."""

    config: AncestorConfig
    states: int  # of the longest demonstration
    parameters: Tensor  # (rows, D); through a softplus if the config says positive

    def weights(self, states: int) -> Tensor:
        """Return W of a trajectory of so many states, shape (states, D) [1/cm^2]."""
        w = F.softplus(self.parameters) if self.config.positive else self.parameters
        D, t = w.shape[1], torch.arange(states, dtype=w.dtype)
        match self.config.family:
            case "weighted":
                return w.expand(states, D) / states
            case "timedep":
                return w[t.long().clamp(max=self.states - 1)] / (states * D)
            case "stretched":
                return _rows_between(w, t * (self.states - 1) / max(states - 1, 1)) / (states * D)
            case _:  # rbf
                centre = torch.linspace(0, self.states - 1, self.config.centres, dtype=w.dtype).floor()
                return torch.exp(-((t[:, None] - centre) ** 2) / self.config.width) @ w / D


@dataclass(frozen=True, eq=False)
class Learned:
    """What `learn_ancestor` returns."""

    cost: AncestorCost
    train_loss: np.ndarray  # (outer_steps,) as every step began, mean over demonstrations [cm^2]


@dataclass(frozen=True, eq=False)
class Rollout:
    """An executed trajectory; the first state is the start."""

    q: np.ndarray  # (T, n) [rad] or [m]
    keypoints: np.ndarray  # (T, K, 3) in the base frame [m]


@dataclass(frozen=True, eq=False)
class _Batch:
    """B inner problems, padded to the longest."""

    q0: Tensor  # (B, n) [rad] or [m]
    demonstration: Tensor  # (B, T, D) [cm]; the goal stands in for states after the end
    states: Tensor  # (B,)

    @property
    def goal(self) -> Tensor:
        """Shape (B, 1, D) [cm]."""
        return self.demonstration[:, -1:]

    @property
    def inside(self) -> Tensor:
        """Shape (B, T, 1): 1 for states of the demonstration, 0 after its end."""
        T = self.demonstration.shape[1]
        return (torch.arange(T) < self.states[:, None])[..., None].double()

    @classmethod
    def of(cls, examples: Sequence[Example], chain: TorchChain) -> "_Batch":
        """Check examples and pad them."""
        if not examples:
            raise AncestorError("no demonstrations, expected at least one")
        for example in examples:
            _check(example, chain)
        longest = max(len(example.keypoints) for example in examples)
        padded = [_padded(example.keypoints, longest) for example in examples]
        return cls(
            q0=torch.from_numpy(np.array([example.q0 for example in examples], dtype=float)),
            demonstration=torch.from_numpy(_CENTIMETRES * np.array(padded)).flatten(2),
            states=torch.tensor([len(example.keypoints) for example in examples]),
        )

    def loss(self, trajectory: Tensor) -> Tensor:
        """Outer loss of every trajectory, shape (B,) [cm^2]."""
        return (self.inside * (trajectory - self.demonstration) ** 2).sum(1).mean(-1)


def learn_ancestor(demonstrations: Sequence[Example], chain: TorchChain, config: AncestorConfig) -> Learned:
    """Learn a cost from demonstrations.

    Args:
        demonstrations: of any lengths.
        chain: from joint positions to the demonstrations' keypoints.
        config: family and rates.

    Raises:
        AncestorError: a demonstration does not fit the chain, or the learning diverged.
    """
    cost = initial_cost(demonstrations, config)
    learned = list(islice(outer_steps(demonstrations, chain, cost), config.outer_steps))
    return Learned(learned[-1][0] if learned else cost, np.array([loss for _, loss in learned]))


def initial_cost(demonstrations: Sequence[Example], config: AncestorConfig) -> AncestorCost:
    """Return the cost that learning begins with."""
    states = max((len(example.keypoints) for example in demonstrations), default=0)
    rows = {"weighted": 1, "timedep": states, "rbf": config.centres, "stretched": states}[config.family]
    D = 3 * demonstrations[0].keypoints.shape[1] if demonstrations else 0
    weight = torch.full((rows, D), _INITIAL[config.family], dtype=torch.float64)
    return AncestorCost(config, states, weight.expm1().log() if config.positive else weight)


def outer_steps(
    demonstrations: Sequence[Example], chain: TorchChain, cost: AncestorCost
) -> Iterator[tuple[AncestorCost, float]]:
    """Yield the cost after an outer step and the mean outer loss it began with [cm^2], one after another, without end.

    Raises:
        AncestorError: a demonstration does not fit the chain, or the learning diverged.
    """
    whole = _Batch.of(demonstrations, chain)
    each = [_Batch.of([example], chain) for example in demonstrations]
    parameters = cost.parameters.clone().requires_grad_()
    learning = AncestorCost(cost.config, cost.states, parameters)
    optimiser = torch.optim.Adam([parameters], lr=cost.config.outer_rate)
    while True:
        losses = []
        for batch in each if cost.config.per_demonstration else [whole]:
            loss = batch.loss(_trajectory(batch, chain, _solve(batch, chain, learning))).mean()
            if not torch.isfinite(loss):
                raise AncestorError(f"the outer loss is {loss.item()}: the inner steps diverged under {cost.config}")
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        yield AncestorCost(cost.config, cost.states, parameters.detach().clone()), float(np.mean(losses))


def outer_losses(cost: AncestorCost, chain: TorchChain, demonstrations: Sequence[Example]) -> np.ndarray:
    """Return the outer loss of every demonstration under a cost, shape (B,) [cm^2]; its own start, goal and length.

    Raises:
        AncestorError: a demonstration does not fit the chain.
    """
    batch = _Batch.of(demonstrations, chain)
    losses: np.ndarray = batch.loss(_trajectory(batch, chain, _solve(batch, chain, cost))).detach().numpy()
    return losses


def execute_ancestor(cost: AncestorCost, chain: TorchChain, q0: np.ndarray, goal: np.ndarray, states: int) -> Rollout:
    """Return what the ancestor does for a goal in so many states, by its own truncated inner steps.

    Args:
        cost: learned.
        chain: from joint positions to keypoints.
        q0: (n,) where to begin [rad] or [m].
        goal: (K, 3) keypoints in the base frame [m].
        states: T, of the trajectory, the first is ``q0``.

    Raises:
        AncestorError: start or goal does not fit the chain, or there are fewer than two states.
    """
    at_goal = np.repeat(np.asarray(goal, dtype=float)[None], max(states, 0), axis=0)
    batch = _Batch.of([Example("start and goal", q0, at_goal)], chain)
    with torch.no_grad():
        q = _positions(batch, chain, _solve(batch, chain, cost))[0]
        return Rollout(q.numpy(), chain.keypoints(q).numpy())


def _solve(batch: _Batch, chain: TorchChain, cost: AncestorCost) -> Tensor:
    """Return u after the inner steps from standing still, shape (B, T - 1, n); differentiable by the parameters."""
    T = batch.demonstration.shape[1]
    rate = cost.config.inner_rate * _STATES / batch.states[:, None, None]
    learning = cost.parameters.requires_grad
    u = torch.zeros(len(batch.q0), T - 1, chain.n, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        W = torch.stack([F.pad(cost.weights(s), (0, 0, 0, T - s)) for s in batch.states.tolist()])  # (B, T, D)
        for _ in range(cost.config.inner_steps):
            c = (W * (_trajectory(batch, chain, u) - batch.goal) ** 2).sum()
            (gradient,) = torch.autograd.grad(c, u, create_graph=learning)
            u = u - rate * gradient
    return u


def _positions(batch: _Batch, chain: TorchChain, u: Tensor) -> Tensor:
    """Return the joint positions of all states, shape (B, T, n)."""
    q = batch.q0[:, None] + F.pad(u, (0, 0, 1, 0)).cumsum(1)
    return torch.minimum(torch.maximum(q, chain.lower), chain.upper)


def _trajectory(batch: _Batch, chain: TorchChain, u: Tensor) -> Tensor:
    """Return the keypoints of all states, shape (B, T, D) [cm]."""
    return _CENTIMETRES * chain.keypoints(_positions(batch, chain, u)).flatten(2)


def _rows_between(w: Tensor, index: Tensor) -> Tensor:
    """Return rows of w at fractional indices, linear between neighbours."""
    low = index.floor().long().clamp(max=len(w) - 1)
    high = (low + 1).clamp(max=len(w) - 1)
    return w[low] + (index - low)[:, None] * (w[high] - w[low])


def _padded(keypoints: np.ndarray, states: int) -> np.ndarray:
    return np.concatenate([keypoints, np.repeat(keypoints[-1:], states - len(keypoints), axis=0)])


def _check(example: Example, chain: TorchChain) -> None:
    K, shape = chain.points_last.shape[1], np.shape(example.keypoints)
    if np.shape(example.q0) != (chain.n,) or not np.isfinite(example.q0).all():
        raise AncestorError(f"{example.source}: q0={np.asarray(example.q0).tolist()}, expected finite, ({chain.n},)")
    if len(shape) != 3 or shape[0] < 2 or shape[1:] != (K, 3) or not np.isfinite(example.keypoints).all():
        raise AncestorError(f"{example.source}: keypoints of shape {shape}, expected finite, (T, {K}, 3) with T >= 2")
