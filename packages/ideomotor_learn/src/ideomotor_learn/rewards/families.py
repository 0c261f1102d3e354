r"""Time-invariant cost families: positive weights of every keypoint and axis, and what pulls, in torch.

.. math::
    \text{progress (structured):} \quad & \log w(s) = b \tanh\Big(\tfrac1b \sum_j \varphi_j(s)\, a_j\Big), \qquad
        \varphi_j(s) \propto e^{-(s - c_j)^2 / 2 h^2}, \; \sum_j \varphi_j = 1 \\
        & \log v(s) = v_0 + p \tanh\Big(\tfrac1p \sum_j \varphi_j(s)\, d_j\Big), \qquad
        r(s) = r_0 (1 - s) \sum_j \varphi_j(s)\, e_j \\
    \text{neural:} \quad & \log w(x) = b \tanh\Big(\tfrac1b \big(W_2 \tanh(W_1 x / l + b_1) + b_2\big)\Big)

with the progress :math:`s = t/T` and the state relative to the goal :math:`x = z - g`. Both begin at :math:`w = 1`.
Weights alone let the progress family choose when which axis moves; where a way leaves the box between start and goal,
as when something is lifted over and put down, it needs waypoints, which end at the goal. The neural one needs none:
dear states are gone around. Ancestors that weigh the distance from the goal at a step of the clock are in `ancestors`.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

FAMILIES = ("progress", "neural")
LARGEST_LOG_WEIGHT = 4.0  # b: weights lie within e^-4 and e^4
FIRST_LOG_PULL, LARGEST_LOG_PULL = 3.0, 4.0  # v_0, p: pulls lie within e^-1 and e^7
WAYPOINT_SCALE = 0.1  # r_0 [m]


class WeightFamily(nn.Module, ABC):
    """What all families can do."""

    @abstractmethod
    def log_weights(self, relative: Tensor, progress: Tensor) -> Tensor:
        """Return log w, shape (..., D), of states relative to the goal (..., D) [m] at progress (...,)."""

    @abstractmethod
    def pull(self, progress: Tensor) -> tuple[Tensor, Tensor]:
        """Return v and r [m], shapes (..., D), at progress (...,)."""

    @abstractmethod
    def forward(self, relative: Tensor, progress: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return w, its derivatives by ``relative``, v, r; shapes (N, D), (N, D, D) [1/m], (N, D), (N, D) [m]."""


class ProgressWeights(WeightFamily):
    """Weights by progress: D numbers at each of J centres."""

    centre: Tensor  # c, (J,)

    def __init__(self, coordinates: int, centres: int) -> None:
        super().__init__()
        self.amplitude, self.pull_amplitude, self.waypoint = (
            nn.Parameter(torch.zeros(centres, coordinates, dtype=torch.float64)) for _ in range(3)
        )  # a, d, e, (J, D)
        self.register_buffer("centre", torch.linspace(0.0, 1.0, centres, dtype=torch.float64))

    def log_weights(self, relative: Tensor, progress: Tensor) -> Tensor:
        """Return log w, shape (..., D), for progress of shape (...,)."""
        return _bounded(self._phi(progress) @ self.amplitude, LARGEST_LOG_WEIGHT)

    def pull(self, progress: Tensor) -> tuple[Tensor, Tensor]:
        """Return v and r [m], shapes (..., D)."""
        phi = self._phi(progress)
        log_v = FIRST_LOG_PULL + _bounded(phi @ self.pull_amplitude, LARGEST_LOG_PULL)
        return torch.exp(log_v), WAYPOINT_SCALE * (1 - progress)[..., None] * (phi @ self.waypoint)

    def _phi(self, progress: Tensor) -> Tensor:
        """Return the basis functions, shape (..., J)."""
        width = 1.0 / (len(self.centre) - 1)
        return torch.softmax(-((progress[..., None] - self.centre) ** 2) / (2 * width**2), dim=-1)

    def forward(self, relative: Tensor, progress: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return w, its derivatives by ``relative`` (none), v and r."""
        w = torch.exp(self.log_weights(relative, progress))
        return w, torch.zeros_like(w)[:, :, None] * relative[:, None, :], *self.pull(progress)


class NeuralWeights(WeightFamily):
    """Weights by the state relative to the goal."""

    length: Tensor  # l, a scalar [m]

    def __init__(self, coordinates: int, hidden: int, length: float, generator: torch.Generator) -> None:
        """Draw the first layer, set the last one to zero.

        Args:
            coordinates: D.
            hidden: units of the hidden layer.
            length: l, the size of the states relative to the goal [m].
            generator: source of randomness.
        """
        super().__init__()
        first = torch.randn(hidden, coordinates, generator=generator, dtype=torch.float64) / coordinates**0.5
        self.first = nn.Parameter(first)  # W_1, (H, D)
        self.first_bias = nn.Parameter(torch.randn(hidden, generator=generator, dtype=torch.float64))  # b_1, (H,)
        self.second = nn.Parameter(torch.zeros(coordinates, hidden, dtype=torch.float64))  # W_2, (D, H)
        self.second_bias = nn.Parameter(torch.zeros(coordinates, dtype=torch.float64))  # b_2, (D,)
        self.register_buffer("length", torch.tensor(length, dtype=torch.float64))

    def _hidden(self, relative: Tensor) -> Tensor:
        return torch.tanh(relative / self.length @ self.first.T + self.first_bias)  # (..., H)

    def log_weights(self, relative: Tensor, progress: Tensor) -> Tensor:
        """Return log w, shape (..., D), for states of shape (..., D)."""
        return _bounded(self._hidden(relative) @ self.second.T + self.second_bias, LARGEST_LOG_WEIGHT)

    def pull(self, progress: Tensor) -> tuple[Tensor, Tensor]:
        """Return zeros: nothing pulls."""
        zero = torch.zeros_like(progress)[..., None] * self.second_bias
        return zero, zero

    def forward(self, relative: Tensor, progress: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return w, its derivatives by ``relative``, v and r."""
        h = self._hidden(relative)  # (N, H)
        u = _bounded(h @ self.second.T + self.second_bias, LARGEST_LOG_WEIGHT)  # (N, D)
        du = (self.second * (1 - h**2)[:, None, :]) @ self.first / self.length  # (N, D, D)
        w = torch.exp(u)
        return w, (w * (1 - (u / LARGEST_LOG_WEIGHT) ** 2))[:, :, None] * du, *self.pull(progress)


def _bounded(u: Tensor, bound: float) -> Tensor:
    return bound * torch.tanh(u / bound)
