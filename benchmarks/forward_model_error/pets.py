r"""A small PETS: ensemble of probabilistic networks, trajectory sampling, cross-entropy method; `TASK_perf_error_pets`.

Five networks predict mean and variance of the change of velocity, each from its own resampling of the data. Every
candidate sequence of efforts is followed through each of them (one particle a network, TS-infinity), positions by
integration; it costs the distance of its velocities from the goals that ours pursue, in the same units. Contact forces
are neither seen nor predicted. It collects its data itself, as ours: the same hold, then episodes of its own planning.

Sizes are what a benchmark of minutes allows (published: horizon 25, 400 candidates, 20 particles, 5 iterations); a
longer horizon or more candidates may do better.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.forward_model_error.cases import Case, Options, open_case
from benchmarks.runner import Cases
from ideomotor.dynamics.rotations import relative_quaternion, rotation_matrix, to_base, to_world
from ideomotor.policies.goals import next_goal, observe
from ideomotor_learn.policies.samples import Samples, join, samples_from

MEMBERS, HIDDEN = 5, 128
UPDATES, BATCH = 300, 256  # in an iteration
HORIZON, CANDIDATES, ELITES, REFINEMENTS = 6, 100, 10, 3
FIRST_SPREAD, SPREAD = 0.3, 0.1  # of candidates, by the effort limit: at the first step, and about the plan before
TESTS = 5  # starts: planning takes its time
_LOG_VARIANCE = (-10.0, 1.0)  # bounds, of changes in units of their spread


@dataclass(frozen=True)
class _Scales:
    mean: Tensor
    std: Tensor
    change: Tensor  # (nv,)


class Ensemble(nn.Module):
    """Networks side by side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        sizes = ((inputs, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 2 * outputs))
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(MEMBERS, a, b) / np.sqrt(a)) for a, b in sizes)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(MEMBERS, 1, b)) for _, b in sizes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance (M, N, nv) of inputs (M, N, x), one row of members."""
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, nn.functional.silu(x) if i else x, weight)
        mean, log_variance = x.chunk(2, dim=-1)
        low, high = _LOG_VARIANCE
        log_variance = high - nn.functional.softplus(high - log_variance)
        return mean, low + nn.functional.softplus(log_variance - low)


class Pets:
    """Model and planner of one robot."""

    def __init__(self, case: Case, seed: int) -> None:
        torch.manual_seed(seed)
        self._case, self._rng = case, np.random.default_rng([seed, 2])
        self._limit = case.body.effort_limit
        self._states = case.body.n + case.body.nv + (4 if case.structure.floating_base else 0)
        self._ensemble = Ensemble(self._states + case.body.n, case.body.nv)
        self._optimiser = torch.optim.Adam(self._ensemble.parameters(), 1e-3, weight_decay=1e-5)
        self._gain = case.gain
        self._scales: _Scales | None = None
        self._plan: np.ndarray | None = None  # (K, H, n) by the limit

    def fit(self, data: Samples) -> None:
        """Go on learning from all data."""
        state, change = data.state[:, : self._states], data.next_velocity - data.velocity
        self._scales = _Scales(state.mean(0), state.std(0, correction=0) + 0.05, change.std(0, correction=0) + 0.002)
        x = torch.cat([(state - self._scales.mean) / self._scales.std, data.effort / torch.tensor(self._limit)], dim=-1)
        x, y = x.float(), change / self._scales.change
        drawn = torch.from_numpy(self._rng.integers(0, len(x), (MEMBERS, len(x))))  # each member's own resampling
        for _ in range(UPDATES):
            rows = drawn[:, torch.from_numpy(self._rng.integers(0, len(x), min(BATCH, len(x))))]
            mean, log_variance = self._ensemble(x[rows])
            loss = ((mean - y[rows]).square() * torch.exp(-log_variance) + log_variance).mean()
            self._optimiser.zero_grad()
            loss.backward()
            self._optimiser.step()

    def effort(self, step: int, q: np.ndarray, v: np.ndarray, _: np.ndarray) -> np.ndarray:
        """Plan for K robots; return their first efforts, shape (K, n)."""
        count, n = len(q), len(self._limit)
        if step == 0 or self._plan is None or len(self._plan) != count:
            mean, spread = np.zeros((count, HORIZON, n)), FIRST_SPREAD
        else:
            mean, spread = np.concatenate([self._plan[:, 1:], self._plan[:, -1:]], axis=1), SPREAD
        std = np.full_like(mean, spread)
        for _round in range(REFINEMENTS):
            drawn = self._rng.normal(size=(count, CANDIDATES, HORIZON, n))
            candidates = np.clip(mean[:, None] + std[:, None] * drawn, -1.0, 1.0)
            candidates[:, 0] = mean
            best = np.argsort(self._cost(step, q, v, candidates), axis=1)[:, :ELITES]
            elite = np.take_along_axis(candidates, best[..., None, None], axis=1)
            mean, std = elite.mean(axis=1), elite.std(axis=1)
        self._plan = mean
        return np.asarray(mean[:, 0] * self._limit)

    @torch.no_grad()
    def _cost(self, step: int, q: np.ndarray, v: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return the mean cost over particles of candidates (K, N, H, n), shape (K, N)."""
        assert self._scales is not None
        shape = candidates.shape[:2]
        q, v = (np.tile(np.repeat(array, shape[1], axis=0), (MEMBERS, 1)) for array in (q, v))  # members, K, N
        efforts = np.tile(candidates.reshape(-1, *candidates.shape[2:]), (MEMBERS, 1, 1))
        cost, scale, nothing = np.zeros(len(q)), self._scales.change.numpy(), np.zeros((len(q), 0))
        for h in range(HORIZON):
            goal, _ = next_goal(self._case.motion, np.full(len(q), step + h), q, self._gain)
            state = observe(q, v, nothing, floating_base=self._case.structure.floating_base)
            then = v + self._change(state, efforts[:, h])
            cost += np.linalg.norm((then - goal) / scale, axis=1)
            q, v = self._moved(q, then)
        return np.asarray(cost.reshape(MEMBERS, *shape).mean(axis=0))

    @torch.no_grad()
    def _change(self, state: np.ndarray, effort: np.ndarray) -> np.ndarray:
        assert self._scales is not None
        s = self._scales
        x = torch.cat([(torch.from_numpy(state).float() - s.mean) / s.std, torch.from_numpy(effort).float()], dim=-1)
        mean, log_variance = self._ensemble(x.reshape(MEMBERS, -1, x.shape[-1]))
        sampled = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return np.asarray((sampled * s.change).reshape(len(x), -1).numpy(), dtype=float)

    def _moved(self, q: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return positions one step on, and the velocities there (of a base in its new axes)."""
        h = 1.0 / self._case.motion.rate
        if not self._case.structure.floating_base:
            return q + h * v, v
        half = 0.5 * h * v[:, 3:6]
        turn = np.concatenate([half, np.ones((len(q), 1))], axis=1)
        turn /= np.linalg.norm(turn, axis=1, keepdims=True)
        there = q[:, :3] + h * to_world(rotation_matrix(q[:, 3:7]), v[:, :3])
        turned = relative_quaternion(q[:, 3:7] * [-1.0, -1.0, -1.0, 1.0], turn)  # the product of both
        then = v.copy()
        then[:, :6] = to_base(rotation_matrix(turn), v[:, :6])
        return np.concatenate([there, turned, q[:, 7:] + h * v[:, 6:]], axis=1), then


def measure(options: Options, name: str, seed: int) -> dict[str, Cases]:
    """Return the cases of one run: as many iterations, steps and transitions as ours."""
    torch.set_num_threads(1)
    case = open_case(options, name)
    pets, rng = Pets(case, seed), np.random.default_rng([seed, 0])
    episode = case.hold(rng)
    data: list[Samples] = []
    for _ in range(options.iterations_of(name)):
        data.append(samples_from(episode, case.body, case.motion, case.gain))
        pets.fit(join(data))
        episode = case.episode(pets.effort, case.steps, 0.0, rng)  # its sampling explores
    return {f"{name}_perf_error_pets": [(seed, case.judge(pets.effort, seed, TESTS).perf_error)]}
