"""The loss of a controller: what its terms are about, and the bound of the three errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ideomotor_learn.dynamics.forward_model import ForwardModel, Scales, mlp
from ideomotor_learn.policies.losses import (
    EACH,
    OBSERVED,
    Controller,
    StepErrors,
    controller_terms,
    distance,
    step_errors,
)
from ideomotor_learn.policies.samples import Samples

X, NV, NF, N, STEPS = 5, 3, 6, 2, 7
SCALES = Scales(torch.zeros(X), torch.ones(X), torch.tensor([0.1, 0.2, 0.3]), torch.tensor([4.0, 2.0]))


def samples(seed: int = 0) -> Samples:
    g = torch.Generator().manual_seed(seed)
    shapes = [(X,), (NV,), (NV,), (NV, N), (N,), (NV,), (NF,), (NV,), (NF,)]
    return Samples(*(torch.randn(STEPS, *shape, generator=g) for shape in shapes))


def networks() -> tuple[Controller, ForwardModel]:
    torch.manual_seed(1)
    model = ForwardModel(X, NV, NF, N, hidden=(8,), period=0.004, semi_parametric=True)
    return Controller(mlp(X + NV + NF, (8,), N, torch.nn.Softsign)), model


residuals = arrays(np.float32, (4, 3), elements=st.floats(-1e3, 1e3, width=32))


@given(residuals, residuals, residuals, residuals)
def test_performance_is_at_most_task_plus_prediction(
    predicted: np.ndarray, observed: np.ndarray, wanted: np.ndarray, force: np.ndarray
) -> None:
    """Whatever a model predicts: the three errors are distances between three points."""

    class Fixed(ForwardModel):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.period = 0.004

        def forward(self, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.from_numpy(predicted), torch.from_numpy(force)

    s = replace(
        samples().take(torch.arange(4)),
        next_velocity=torch.from_numpy(observed),
        goal_velocity=torch.from_numpy(wanted),
        next_force=torch.from_numpy(-force),
        goal_force=torch.from_numpy(force[::-1].copy()),
    )
    errors = step_errors(Fixed(), s, SCALES)
    assert errors.bound_holds
    first = 0.004 * np.linalg.norm(predicted - observed, axis=1) + 0.01 * np.linalg.norm(2.0 * force, axis=1)
    np.testing.assert_allclose(errors.prediction, first, rtol=1e-4, atol=1e-5)


def test_a_bound_that_does_not_hold_is_seen() -> None:
    one = torch.ones(3)
    assert StepErrors(one, one, 2.0 * one).bound_holds
    assert not StepErrors(one, one, torch.tensor([1.0, 2.1, 1.0])).bound_holds
    assert not StepErrors(one, one, torch.tensor([1.0, float("nan"), 1.0])).bound_holds


@given(st.floats(-100.0, 100.0))
def test_efforts_stay_within_the_limits(size: float) -> None:
    controller, _ = networks()
    s = samples()
    with torch.no_grad():
        effort = controller(size * s.state, size * s.velocity, size * s.goal_force, SCALES)
    assert effort.shape == (STEPS, N)
    assert (effort.abs() <= SCALES.effort).all()


def test_distance_counts_in_typical_changes() -> None:
    velocity, force = torch.tensor([[0.1, 0.0, 0.0], [0.0, 0.0, 0.6]]), torch.zeros(2, NF)
    torch.testing.assert_close(distance(velocity, force, SCALES), torch.tensor([1.0, 2.0]), atol=1e-4, rtol=0)
    force[0, 3] = 10.0
    torch.testing.assert_close(distance(0.0 * velocity, force, SCALES)[0], torch.tensor(1.0), atol=1e-4, rtol=0)


@pytest.mark.parametrize("goals", [EACH, OBSERVED])
def test_without_the_prediction_term_it_is_zero_and_has_no_gradient(goals: str) -> None:
    controller, model = networks()
    task, prediction = controller_terms(controller, model, samples(), SCALES, goals=goals, prediction=False)
    assert prediction.item() == 0.0
    assert not prediction.requires_grad
    (task + 0.0 * prediction).backward()
    alone = [p.grad.clone() for p in controller.parameters() if p.grad is not None]
    controller.zero_grad()
    controller_terms(controller, model, samples(), SCALES, goals=goals, prediction=True)[0].backward()
    both = [p.grad for p in controller.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(alone, both, strict=True))


def test_each_term_tells_the_controller_its_own_goal() -> None:
    """What was observed does not enter the task term, nor what is wanted the prediction term; as published it does."""
    controller, model = networks()
    s = samples()
    other = replace(s, next_velocity=s.next_velocity + 1.0, next_force=s.next_force - 1.0)
    wanted = replace(s, goal_velocity=s.goal_velocity + 1.0, goal_force=s.goal_force - 1.0)

    def terms(of: Samples, goals: str) -> tuple[float, float]:
        task, prediction = controller_terms(controller, model, of, SCALES, goals=goals, prediction=True)
        return task.item(), prediction.item()

    assert terms(other, EACH)[0] == terms(s, EACH)[0]
    assert terms(wanted, EACH)[1] == terms(s, EACH)[1]
    assert terms(other, OBSERVED)[0] != terms(s, OBSERVED)[0]
    assert terms(s, OBSERVED)[1] == pytest.approx(terms(s, EACH)[1])
    same = replace(s, goal_velocity=s.next_velocity, goal_force=s.next_force)
    for goals in (EACH, OBSERVED):  # where the goal was reached the terms are one
        assert terms(same, goals)[0] == pytest.approx(terms(same, goals)[1])
