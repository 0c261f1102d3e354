r"""The loss of a controller that is learned through a forward model, and the three errors that it is about.

With the controller's effort :math:`\tau(g)` for a goal :math:`g`, the next state, and distance :math:`d`:

.. math::
    L_{task} &= \mathrm{E}\; d\big(f(s_t, \tau(s^*_{t+1})),\; s^*_{t+1}\big) \\
    L_{pred} &= \mathrm{E}\; d\big(f(s_t, \tau(s^{obs}_{t+1})),\; s^{obs}_{t+1}\big) \\
    L_\pi &= L_{task} + L_{pred}

In hindsight what was observed is a goal that was reached: of it the controller knows that it can be, and the model is
right there. The published code has one effort for both terms, :math:`\tau(s^{obs}_{t+1})` (`OBSERVED` here); then the
task term asks for :math:`s^*` where the controller was told :math:`s^{obs}`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ideomotor_learn.dynamics.forward_model import ForwardModel, Scales
from ideomotor_learn.policies.samples import Samples

EACH, OBSERVED = "each", "observed"
FORCE_WEIGHT = 0.1  # [1/N] of the forces beside velocities in units of their typical change
_FORCE_INPUT = 20.0  # [N]
_FORCE_ERROR = 0.01  # [1/N] of forces in the reported errors, as published


class Controller(nn.Module):
    """The controller: state and next state wanted in, efforts within the limits out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, state: Tensor, change: Tensor, force: Tensor, scales: Scales) -> Tensor:
        """Return efforts (N, n) for states (N, x), wanted changes of velocity (N, nv) and wanted forces (N, 3c)."""
        seen = [(state - scales.mean) / scales.std, change / scales.change, force / _FORCE_INPUT]
        return torch.tanh(self.network(torch.cat(seen, dim=-1))) * scales.effort


def distance(velocity: Tensor, force: Tensor, scales: Scales) -> Tensor:
    """Return the length of residuals (N, nv), (N, 3c): velocities by their typical change, not squared, shape (N,)."""
    return torch.sqrt((velocity / scales.change).square().sum(-1) + (FORCE_WEIGHT * force).square().sum(-1) + 1e-8)


def controller_terms(
    controller: Controller, model: ForwardModel, s: Samples, scales: Scales, *, goals: str, prediction: bool
) -> tuple[Tensor, Tensor]:
    """Return the task term and the prediction term, scalars.

    Args:
        controller: what is learned.
        model: the forward model; its weights get gradients too, which nobody uses.
        s: a batch.
        scales: of the data so far.
        goals: `EACH`: each term tells the controller its own goal; `OBSERVED`: both tell it what was observed.
        prediction: False saves the prediction term's computation; it is zero then.
    """

    def outcome(velocity: Tensor, force: Tensor) -> tuple[Tensor, Tensor]:
        effort = controller(s.state, velocity - s.velocity, force, scales)
        return model(s.state, s.velocity, s.free, s.per_effort, effort, scales)

    def term(predicted: tuple[Tensor, Tensor], velocity: Tensor, force: Tensor) -> Tensor:
        return distance(predicted[0] - velocity, predicted[1] - force, scales).mean()

    seen, wanted = (s.next_velocity, s.next_force), (s.goal_velocity, s.goal_force)
    if goals == OBSERVED:
        both = outcome(*seen)
        return term(both, *wanted), term(both, *seen) if prediction else torch.zeros(())
    task = term(outcome(*wanted), *wanted)
    return task, term(outcome(*seen), *seen) if prediction else torch.zeros(())


@dataclass(frozen=True)
class StepErrors:
    r"""The three errors of each executed step, shape (N,): :math:`\|\Delta v\|\,h + \|\Delta F\| / 100`.

    By the triangle inequality ``performance <= task + prediction``.
    """

    prediction: Tensor  # of the forward model, for the effort that was applied
    task: Tensor  # of what the forward model expected, from what was wanted
    performance: Tensor  # of what happened, from what was wanted

    @property
    def bound_holds(self) -> bool:
        """Whether performance is at most task plus prediction everywhere, up to rounding."""
        slack = self.task + self.prediction - self.performance
        return bool((slack >= -1e-5 * (1.0 + self.performance)).all())


@torch.no_grad()
def step_errors(model: ForwardModel, s: Samples, scales: Scales) -> StepErrors:
    """Return the errors of executed steps under a forward model."""
    velocity, force = model(s.state, s.velocity, s.free, s.per_effort, s.effort, scales)

    def error(dv: Tensor, dF: Tensor) -> Tensor:
        return dv.norm(dim=-1) * model.period + _FORCE_ERROR * dF.norm(dim=-1)

    return StepErrors(
        prediction=error(velocity - s.next_velocity, force - s.next_force),
        task=error(velocity - s.goal_velocity, force - s.goal_force),
        performance=error(s.next_velocity - s.goal_velocity, s.next_force - s.goal_force),
    )
