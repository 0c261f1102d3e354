r"""Forward models: rigid-body dynamics plus what a network adds, or a network alone.

.. math::
    \hat v_{t+1} &= v_t + h\,\big(M^{-1}(S^\top \tau_t - h_t)\big) + \mathrm{NN}_1(x_t, \tau_t) \\
    \hat F_{t+1} &= \mathrm{NN}_2(x_t, \tau_t)

:math:`\mathrm{NN}_1` absorbs what the rigid bodies do not know (contacts, friction, payload), as a change of velocity
over the step; without the rigid-body term (`semi_parametric` false) it is the fully neural model. Forces and all that
belongs to a floating base are in the axes of the base at t.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

FORCE_SCALE = 10.0  # [N] of the forces' networks; of no consequence but for the speed of learning


@dataclass(frozen=True)
class Scales:
    """Normalisation of states, from the data so far."""

    mean: Tensor  # (x,)
    std: Tensor  # (x,)
    change: Tensor  # (nv,) typical change of the velocities in one step
    effort: Tensor  # (n,) limits of the efforts


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int, activation: type[nn.Module]) -> nn.Sequential:
    """Return a network whose first outputs are near zero."""
    layers: list[nn.Module] = []
    for before, after in zip((inputs, *hidden[:-1]), hidden, strict=True):
        layers += [nn.Linear(before, after), activation()]
    last = nn.Linear(hidden[-1], outputs)
    with torch.no_grad():
        last.weight *= 0.1
        last.bias.zero_()
    return nn.Sequential(*layers, last)


class ForwardModel(nn.Module):
    """Both networks; one instance learns through all iterations.

    Args:
        states: size of the state as networks get it, x.
        velocities: nv.
        forces: 3c.
        efforts: n.
        hidden: units of the hidden layers.
        period: of a step, h [s].
        semi_parametric: whether the rigid bodies' acceleration is part of it.
    """

    def __init__(
        self,
        states: int,
        velocities: int,
        forces: int,
        efforts: int,
        *,
        hidden: tuple[int, ...],
        period: float,
        semi_parametric: bool,
    ) -> None:
        super().__init__()
        self.period, self.semi_parametric = period, semi_parametric
        self.change = mlp(states + efforts, hidden, velocities, nn.ReLU)
        self.force = mlp(states + efforts, hidden, forces, nn.ReLU) if forces else None

    def networks(self, state: Tensor, effort: Tensor, scales: Scales) -> tuple[Tensor, Tensor]:
        """Return the learned change of velocity (N, nv) and the next contact forces (N, 3c) [N]."""
        seen = torch.cat([(state - scales.mean) / scales.std, effort / scales.effort], dim=-1)
        force = seen.new_zeros(len(seen), 0) if self.force is None else self.force(seen) * FORCE_SCALE
        return self.change(seen) * scales.change, force

    def forward(
        self, state: Tensor, velocity: Tensor, free: Tensor, per_effort: Tensor, effort: Tensor, scales: Scales
    ) -> tuple[Tensor, Tensor]:
        """Return the next velocities (N, nv) and contact forces (N, 3c).

        Args:
            state: as networks get it, shape (N, x).
            velocity: shape (N, nv).
            free: acceleration of the rigid bodies without effort, shape (N, nv).
            per_effort: its derivative by the effort, shape (N, nv, n): the gradient that learning goes through.
            effort: shape (N, n).
            scales: of the data so far.
        """
        change, force = self.networks(state, effort, scales)
        if self.semi_parametric:
            change = change + self.period * (free + (per_effort @ effort[..., None])[..., 0])
        return velocity + change, force
