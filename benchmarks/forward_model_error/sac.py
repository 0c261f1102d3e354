"""Soft actor-critic (stable-baselines3) on the same simulator: `TASK_perf_error_sac`, and with 100 times the data.

It sees what our controller sees, goal included, and acts on the efforts; its reward is the negative error in position.
"""

from typing import TYPE_CHECKING, Any

import gymnasium
import mujoco
import numpy as np
import torch
from gymnasium.spaces import Box

from benchmarks.forward_model_error.cases import FIRST_STEPS, Case, Options, open_case
from benchmarks.runner import Cases
from ideomotor.policies.goals import next_goal, observe, position_error
from ideomotor.policies.motion import Motion

if TYPE_CHECKING:
    from stable_baselines3 import SAC
    from stable_baselines3.common.vec_env import VecNormalize

LARGEST_ERROR = 1.0  # [rad, m] beyond which a step costs no more; what each step after a fall costs
STEPS_AN_UPDATE = {1: 1, 100: 8}  # by the factor of the data: an update a step takes hours at 305,000 steps
DISCOUNT = 0.98


class EffortEnv(gymnasium.Env[np.ndarray, np.ndarray]):  # type: ignore[misc]  # gymnasium may be absent
    """A task as a gymnasium environment: one motion an episode, ended by a fall."""

    def __init__(self, case: Case, seed: int) -> None:
        self._case, self._rng = case, np.random.default_rng([seed, 0])
        self._data, self._step = mujoco.MjData(case.rollouts.model), 0
        self._gain = case.gain
        self.action_space = Box(-1.0, 1.0, (case.body.n,), np.float32)
        first, _ = self.reset()
        self.observation_space = Box(-np.inf, np.inf, first.shape, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return to a start near the motion's; all randomness is that of the seed given at the beginning."""
        q, v = self._case.starts(1, self._rng)
        rollouts = self._case.rollouts
        mujoco.mj_resetData(rollouts.model, self._data)
        rollouts.layout.write(self._data, q[0], v[0])
        mujoco.mj_forward(rollouts.model, self._data)
        self._step = 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold an effort, given by its limits, for a step."""
        rollouts, motion = self._case.rollouts, self._case.motion
        effort = np.clip(np.asarray(action, dtype=float), -1.0, 1.0) * self._case.body.effort_limit
        self._data.ctrl[rollouts.layout.actuators] = effort
        mujoco.mj_step(rollouts.model, self._data, rollouts.substeps)
        self._step += 1
        q, _, _ = self._state()
        error = position_length(q, motion, self._step)
        left, fallen = motion.steps - self._step, self._fallen(q[0])
        reward = -min(error, LARGEST_ERROR) - (left * LARGEST_ERROR if fallen else 0.0)
        return self._observation(), reward, fallen, left == 0 and not fallen, {}

    def _state(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        d = self._data
        q, v, force = self._case.rollouts.layout.read(*(np.array(x)[None] for x in (d.qpos, d.qvel, d.sensordata)))
        return q, v, force

    def _observation(self) -> np.ndarray:
        return seen(self._case, np.array([self._step]), *self._state(), self._gain)[0]

    def _fallen(self, q: np.ndarray) -> bool:
        if not self._case.structure.floating_base:
            return False
        c, upright = self._case.rollouts.config, 1.0 - 2.0 * (q[3] ** 2 + q[4] ** 2)
        return bool(not c.min_height <= q[2] <= c.max_height or upright < np.cos(c.max_tilt))


def position_length(q: np.ndarray, motion: Motion, step: int) -> float:
    """Return the length of the error in position of a state (1, nq) at a step, as `tracking_error` has it."""
    return float(np.linalg.norm(position_error(q, motion.q[step : step + 1], floating_base=motion.floating_base)))


def seen(case: Case, step: np.ndarray, q: np.ndarray, v: np.ndarray, force: np.ndarray, gain: float) -> np.ndarray:
    """Return what our controller is given, shape (K, x + nv + 3c)."""
    goal, goal_force = next_goal(case.motion, step, q, gain)
    state = observe(q, v, force, floating_base=case.structure.floating_base)
    return np.concatenate([state, goal - v, goal_force], axis=1).astype(np.float32)


def train(case: Case, seed: int, steps: int, steps_an_update: int) -> "tuple[SAC, VecNormalize]":
    """Return the agent after so many steps, and the normalisation of what it sees."""
    from stable_baselines3 import SAC
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    env = VecNormalize(DummyVecEnv([lambda: EffortEnv(case, seed)]), norm_reward=False)
    agent = SAC(
        "MlpPolicy",
        env,
        seed=seed,
        gamma=DISCOUNT,
        learning_starts=case.steps,
        train_freq=steps_an_update,
        device="cpu",
    )
    agent.learn(steps)
    return agent, env


def measure(options: Options, name: str, factor: int, seed: int) -> dict[str, Cases]:
    """Return the cases of one training on ``factor`` times as many transitions as ours."""
    torch.set_num_threads(1)
    case = open_case(options, name)
    steps = factor * (FIRST_STEPS + options.iterations_of(name) * case.steps)
    agent, env = train(case, seed, steps, STEPS_AN_UPDATE[factor])
    gain = case.gain

    def policy(step: int, q: np.ndarray, v: np.ndarray, force: np.ndarray) -> np.ndarray:
        observation = env.normalize_obs(seen(case, np.full(len(q), step), q, v, force, gain))
        action, _ = agent.predict(observation, deterministic=True)
        return np.asarray(action * case.body.effort_limit, dtype=float)

    key = f"{name}_perf_error_sac" + ("" if factor == 1 else f"_{factor}x")
    return {key: [(seed, case.judge(policy, seed).perf_error)]}
