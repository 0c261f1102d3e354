"""Behaviour cloning and adversarial inverse reinforcement learning (AIRL) of the `imitation` package, as peers.

Their policies see the keypoints relative to the goal, and the progress t/T, which a stationary policy cannot know
otherwise; an action is an increment of the joints. Joint positions are left out, for their sake: with them behaviour
cloning of five demonstrations overfits (placing, median of six seeds: 20 instead of 12 mm from the goal).

What they refuse is adapted: AIRL raises an error on demonstrations of different length, so these are cut or, the last
state repeated, padded to their mean length H. Another speed is T steps of the same policy, its increments times H/T.
"""

import copy
import io
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import gymnasium
import numpy as np

from ideomotor.planning.held_points import HeldPoints

Method = Literal["bc", "airl"]
METHODS: tuple[Method, ...] = ("bc", "airl")

BC_EPOCHS = 100
AIRL_STEPS = 100_000  # of all environments together, 45 s on one core; twice as many are no better
ENVIRONMENTS = 8
LARGEST = 1.5  # an action may be this much larger than any shown


@dataclass(frozen=True, eq=False)
class PeerDemonstration:
    """A demonstration as the peers see it."""

    q: np.ndarray  # (T + 1, n) [rad] or [m]
    keypoints: np.ndarray  # (T + 1, K, 3) in the base frame [m]
    goal: np.ndarray  # (K, 3) in the base frame [m]

    @property
    def steps(self) -> int:
        """Number of steps T."""
        return len(self.q) - 1

    def of_steps(self, steps: int) -> "PeerDemonstration":
        """Return it cut, or padded with its last state."""
        states = np.minimum(np.arange(steps + 1), self.steps)
        return PeerDemonstration(self.q[states], self.keypoints[states], self.goal)


@dataclass(frozen=True, eq=False)
class PeerTest:
    """From where a trained policy is run, to where, and how fast."""

    q0: np.ndarray  # (n,) [rad] or [m]
    goal: np.ndarray  # (K, 3) in the base frame [m]
    steps: int


@dataclass(frozen=True, eq=False)
class Scales:
    """What makes observations and actions of the order of one."""

    points: HeldPoints
    demonstrations: tuple[PeerDemonstration, ...]

    @cached_property
    def steps(self) -> int:
        """Mean number of steps H of the demonstrations."""
        return round(float(np.mean([d.steps for d in self.demonstrations])))

    @cached_property
    def increment(self) -> np.ndarray:
        """Joint increment of an action of one, shape (n,) [rad] or [m]."""
        largest = np.max([np.abs(np.diff(d.q, axis=0)).max(0) for d in self.demonstrations], axis=0)
        return LARGEST * np.maximum(largest, 1e-6)

    @cached_property
    def length(self) -> float:
        """Typical distance of a keypoint's coordinate from the goal's [m]."""
        return float(np.sqrt(np.mean(np.concatenate([d.keypoints - d.goal for d in self.demonstrations]) ** 2)))

    def observations(self, keypoints: np.ndarray, goal: np.ndarray, progress: np.ndarray) -> np.ndarray:
        """Return what a policy sees of T states, shape (T, 3 K + 1)."""
        relative = (keypoints - goal).reshape(len(keypoints), -1) / self.length
        return np.concatenate([relative, 2 * progress[:, None] - 1], axis=1)


class PlacingEnv(gymnasium.Env):  # type: ignore[misc]  # published without types
    """The arm by its kinematics: from the start of a random demonstration towards its goal, in H steps."""

    def __init__(self, scales: Scales) -> None:
        self._scales = scales
        n, K = scales.points.chain.n, len(scales.points.position_ee)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3 * K + 1,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (n,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode at the start of a random demonstration."""
        super().reset(seed=seed)
        shown = self._scales.demonstrations[self.np_random.integers(len(self._scales.demonstrations))]
        self._q, self._goal, self._t = shown.q[0], shown.goal, 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move the joints by an action; the reward is what AIRL learns, so none here."""
        chain = self._scales.points.chain
        increment = np.clip(action, -1.0, 1.0) * self._scales.increment
        self._q = np.clip(self._q + increment, chain.lower, chain.upper)
        self._t += 1
        return self._observation(), 0.0, False, self._t >= self._scales.steps, {}

    def _observation(self) -> np.ndarray:
        progress = np.array([self._t / self._scales.steps])
        return self._scales.observations(self._scales.points.at(self._q[None]), self._goal, progress)[0]


def peer_rollouts(
    method: Method,
    points: HeldPoints,
    demonstrations: Sequence[PeerDemonstration],
    tests: Sequence[PeerTest],
    seed: int,
) -> list[np.ndarray]:
    """Train a peer on demonstrations; return what its policy does in every test, each (steps + 1, n).

    Args:
        method: behaviour cloning or AIRL.
        points: the robot and the keypoints it holds.
        demonstrations: what is imitated, of any length.
        tests: where to execute.
        seed: of everything random.
    """
    scales = Scales(points, tuple(demonstrations))
    train = {"bc": _behaviour_cloning, "airl": _airl}[method]
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        policy = train(scales, seed, folder)
    return [_execute(policy, scales, test) for test in tests]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence progress bars, tables, and warnings that are nobody's here."""
    noise = io.StringIO()
    with redirect_stdout(noise), redirect_stderr(noise), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _trajectories(scales: Scales, demonstrations: Sequence[PeerDemonstration]) -> list[Any]:
    """Return demonstrations as the package has them."""
    from imitation.data.types import Trajectory

    trajectories = []
    for d in demonstrations:
        obs = scales.observations(d.keypoints, d.goal, np.linspace(0, 1, d.steps + 1))
        acts = (np.diff(d.q, axis=0) / scales.increment).astype(np.float32)
        trajectories.append(Trajectory(obs=obs, acts=acts, infos=None, terminal=True))
    return trajectories


def _behaviour_cloning(scales: Scales, seed: int, folder: str) -> Any:  # noqa: ANN401 - a policy of an untyped package
    """Supervised learning of the increments, on the demonstrations as they are."""
    import torch
    from imitation.algorithms.bc import BC
    from imitation.data.rollout import flatten_trajectories
    from imitation.util import logger
    from stable_baselines3.common.policies import ActorCriticPolicy

    torch.manual_seed(seed)
    env = PlacingEnv(scales)
    policy = ActorCriticPolicy(env.observation_space, env.action_space, lambda _: 1e-3, net_arch=[64, 64])
    trainer = BC(
        observation_space=env.observation_space,
        action_space=env.action_space,
        rng=np.random.default_rng(seed),
        policy=policy,
        demonstrations=flatten_trajectories(_trajectories(scales, scales.demonstrations)),
        batch_size=32,
        optimizer_kwargs={"lr": 1e-3},
        custom_logger=logger.configure(folder, []),
    )
    trainer.train(n_epochs=BC_EPOCHS, progress_bar=False)
    return trainer.policy


def _airl(scales: Scales, seed: int, folder: str) -> Any:  # noqa: ANN401
    """Adversarial training on cut and padded demonstrations.

    It swings: of its rounds the one counts whose policy ends nearest to the demonstrations' own goals.
    """
    import torch
    from imitation.algorithms.adversarial.airl import AIRL
    from imitation.rewards.reward_nets import BasicShapedRewardNet
    from imitation.util import logger
    from imitation.util.networks import RunningNorm
    from stable_baselines3.common.vec_env import DummyVecEnv

    torch.manual_seed(seed)
    venv = DummyVecEnv([lambda: PlacingEnv(scales)] * ENVIRONMENTS)
    venv.seed(seed)
    learner = _ppo(venv, seed)
    reward = BasicShapedRewardNet(venv.observation_space, venv.action_space, normalize_input_layer=RunningNorm)
    trainer = AIRL(
        demonstrations=_trajectories(scales, [d.of_steps(scales.steps) for d in scales.demonstrations]),
        demo_batch_size=min(256, len(scales.demonstrations) * scales.steps),
        gen_replay_buffer_capacity=2048,
        n_disc_updates_per_round=16,
        venv=venv,
        gen_algo=learner,
        reward_net=reward,
        custom_logger=logger.configure(folder, []),
    )
    best = _BestPolicy(learner.policy, scales)
    trainer.train(AIRL_STEPS, callback=best.consider)
    return best.policy


def _ppo(venv: Any, seed: int) -> Any:  # noqa: ANN401
    """Return the learner of the policy: settings of the package's example for AIRL, a larger network, less noise."""
    from stable_baselines3 import PPO

    return PPO(
        "MlpPolicy",
        venv,
        batch_size=64,
        n_steps=256,
        ent_coef=0.0,
        learning_rate=5e-4,
        gamma=0.95,
        clip_range=0.1,
        vf_coef=0.1,
        n_epochs=5,
        policy_kwargs={"net_arch": [64, 64], "log_std_init": -1.0},
        seed=seed,
        device="cpu",
    )


class _BestPolicy:
    """The policy of a training as it was in its best round."""

    def __init__(self, trained: Any, scales: Scales) -> None:  # noqa: ANN401
        self.policy, self._trained, self._scales = copy.deepcopy(trained), trained, scales
        self._error = np.inf  # [m]

    def consider(self, _round: int) -> None:
        """Keep the policy if it ends nearer to the demonstrations' goals than any before."""
        scales = self._scales
        tests = [PeerTest(d.q[0], d.goal, scales.steps) for d in scales.demonstrations]
        misses = [scales.points.at(_execute(self._trained, scales, t)[-1:])[0] - t.goal for t in tests]  # (N, K, 3)
        error = float(np.linalg.norm(misses, axis=-1).mean())
        if error < self._error:
            self._error, self.policy = error, copy.deepcopy(self._trained)


def _execute(policy: Any, scales: Scales, test: PeerTest) -> np.ndarray:  # noqa: ANN401
    """Return the joint positions of a policy run in so many steps, shape (steps + 1, n)."""
    chain = scales.points.chain
    q = [np.asarray(test.q0, dtype=float)]
    for t in range(test.steps):
        progress = np.array([t / test.steps])
        obs = scales.observations(scales.points.at(q[-1][None]), test.goal, progress)
        action = policy.predict(obs, deterministic=True)[0][0]
        increment = np.clip(action, -1.0, 1.0) * scales.increment * scales.steps / test.steps
        q.append(np.clip(q[-1] + increment, chain.lower, chain.upper))
    return np.array(q)
