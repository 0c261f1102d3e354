"""The paper's baseline: unstructured neural dynamics of joint positions and keypoints.

    s_{t+1} = s_t + g(s_t, u_t),   s = [q, z]

with z the K keypoints in 2-D (u, v) or 3-D (u, v, depth), and u the joint increment (arXiv 2011.03882).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

HIDDEN = 128
EPOCHS = 300
BATCH = 256
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class NeuralDynamics:
    """A trained one-step model in standardised coordinates."""

    network: nn.Module
    state_mean: np.ndarray  # (s,)
    state_scale: np.ndarray  # (s,)
    action_scale: np.ndarray  # (n,)
    delta_scale: np.ndarray  # (s,)

    def rollout(self, q: np.ndarray, z: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Predict keypoints open loop.

        Args:
            q: start joint positions (B, n) [rad].
            z: start keypoints (B, K, d).
            actions: joint increments (B, H, n) [rad].

        Returns:
            Keypoints after 1..H steps, shape (B, H, K, d).
        """
        n, shape = q.shape[1], z.shape[1:]
        state = np.concatenate([q, z.reshape(len(z), -1)], axis=1)
        predicted = []
        for step in range(actions.shape[1]):
            features = self._features(state, actions[:, step])
            with torch.no_grad():
                delta = self.network(torch.from_numpy(features)).numpy()
            state = state + delta * self.delta_scale
            predicted.append(state[:, n:].reshape(-1, *shape))
        return np.stack(predicted, axis=1)

    def _features(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        scaled = (state - self.state_mean) / self.state_scale
        return np.concatenate([scaled, action / self.action_scale], axis=1).astype(np.float32)


def train(q: np.ndarray, z: np.ndarray, *, seed: int) -> NeuralDynamics:
    """Train on trajectories.

    Args:
        q: joint positions (N, T, n) [rad].
        z: keypoints (N, T, K, d), finite.
        seed: of the weights and the batches.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    states = np.concatenate([q, z.reshape(*z.shape[:2], -1)], axis=2)  # (N, T, s)
    state, following = states[:, :-1].reshape(-1, states.shape[2]), states[:, 1:].reshape(-1, states.shape[2])
    action = np.diff(q, axis=1).reshape(-1, q.shape[2])
    delta = following - state
    network = nn.Sequential(
        nn.Linear(state.shape[1] + action.shape[1], HIDDEN),
        nn.Tanh(),
        nn.Linear(HIDDEN, HIDDEN),
        nn.Tanh(),
        nn.Linear(HIDDEN, state.shape[1]),
    )
    model = NeuralDynamics(network, state.mean(0), state.std(0) + 1e-6, action.std(0) + 1e-6, delta.std(0) + 1e-6)
    inputs = torch.from_numpy(model._features(state, action))
    targets = torch.from_numpy((delta / model.delta_scale).astype(np.float32))
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    for _ in range(EPOCHS):
        for batch in np.array_split(rng.permutation(len(inputs)), max(1, len(inputs) // BATCH)):
            loss = nn.functional.mse_loss(network(inputs[batch]), targets[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model
