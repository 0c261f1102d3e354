"""The forward model: rigid bodies plus networks, and its gradient by the effort."""

import numpy as np
import pinocchio as pin
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ideomotor.dynamics.rigid_body import RigidBody
from ideomotor_learn.dynamics.forward_model import ForwardModel, Scales, mlp
from ideomotor_learn.policies.samples import Samples, join, samples_from
from tests.unit.small_robots import REACH, rollout, solo_episode, solo_motion
from tests.unit.test_rigid_body import ARM, SOLO, SOLO_URDF, arm_urdf

X, NV, NF, N = 4, 2, 0, 2


def scales(states: int, velocities: int, efforts: int) -> Scales:
    return Scales(torch.zeros(states), torch.ones(states), torch.full((velocities,), 0.1), torch.full((efforts,), 5.0))


def arm_samples(steps: int = 20) -> Samples:
    body = RigidBody(arm_urdf(), ARM)
    episode = rollout(lambda k, q, v, f: np.full((1, 2), 0.5), steps, np.random.default_rng(0))
    return samples_from(episode, body, REACH, 15.0)


def without_networks(model: ForwardModel) -> ForwardModel:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


def build(semi_parametric: bool, forces: int = NF) -> ForwardModel:
    torch.manual_seed(0)
    return ForwardModel(X, NV, forces, N, hidden=(16, 16), period=1 / 250, semi_parametric=semi_parametric)


def test_without_networks_it_is_the_nominal_robot() -> None:
    s, body = arm_samples(), RigidBody(arm_urdf(), ARM)
    velocity, force = without_networks(build(True))(
        s.state, s.velocity, s.free, s.per_effort, s.effort, scales(X, NV, N)
    )
    q, v = s.state[:, :2].double().numpy(), s.velocity.double().numpy()
    expected = v + body.acceleration(q, v, s.effort.double().numpy()) / 250.0
    np.testing.assert_allclose(velocity.detach(), expected, atol=1e-5)
    assert force.shape == (20, 0)


def test_without_rigid_bodies_it_is_the_networks_alone() -> None:
    s, model = arm_samples(), build(False)
    velocity, _ = model(s.state, s.velocity, 1e6 * s.free, s.per_effort, s.effort, scales(X, NV, N))
    change, _ = model.networks(s.state, s.effort, scales(X, NV, N))
    torch.testing.assert_close(velocity, s.velocity + change)
    still, _ = without_networks(model)(s.state, s.velocity, s.free, s.per_effort, s.effort, scales(X, NV, N))
    torch.testing.assert_close(still, s.velocity)


@settings(max_examples=10)
@given(st.booleans(), st.integers(0, 19), st.integers(0, 1))
def test_the_gradient_by_the_effort_is_exact(semi_parametric: bool, row: int, joint: int) -> None:
    s, model = arm_samples().take(torch.tensor([row])), build(semi_parametric).double()
    given_ = [t.double() for t in (s.state, s.velocity, s.free, s.per_effort)]
    sizes = Scales(*(t.double() for t in vars(scales(X, NV, N)).values()))
    effort = s.effort.double().requires_grad_()

    def outcome(e: torch.Tensor) -> torch.Tensor:
        return model(*given_, e, sizes)[0]

    jacobian = torch.autograd.functional.jacobian(outcome, effort)[0, :, 0, joint]
    step = 1e-6 * torch.eye(2, dtype=torch.double)[joint]
    difference = (outcome(effort + step) - outcome(effort - step))[0] / 2e-6
    np.testing.assert_allclose(jacobian.detach(), difference.detach(), rtol=1e-5, atol=1e-8)


def test_networks_begin_near_zero_and_forces_are_in_newton() -> None:
    model = build(True, forces=6)
    change, force = model.networks(torch.randn(50, X), torch.randn(50, N), scales(X, NV, N))
    assert change.abs().max() < 0.05
    assert force.shape == (50, 6)
    assert force.abs().max() < 5.0
    assert mlp(3, (4, 5), 2, torch.nn.ReLU)(torch.zeros(1, 3)).abs().max() < 0.1


def test_samples_of_a_floating_base_are_in_the_frame_that_it_had() -> None:
    """Velocities and forces of the next state, turned into the axes of the state before."""
    episode, motion = solo_episode(), solo_motion()
    body = RigidBody(SOLO_URDF, SOLO)
    s = samples_from(episode, body, motion, 15.0)
    R = [pin.Quaternion(q[3:7]).toRotationMatrix() for q in episode.q]
    for t in range(episode.steps):
        turn = R[t].T @ R[t + 1]
        expected = np.r_[turn @ episode.v[t + 1, :3], turn @ episode.v[t + 1, 3:6], episode.v[t + 1, 6:]]
        np.testing.assert_allclose(s.next_velocity[t], expected, atol=1e-5)
        np.testing.assert_allclose(s.next_force[t], (episode.force[t + 1].reshape(4, 3) @ R[t]).ravel(), atol=1e-5)
    np.testing.assert_allclose(s.free, body.velocity_rate(episode.q[:-1], episode.v[:-1])[0], rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(s.effort, episode.effort, atol=1e-6)
    assert len(s) == episode.steps
    assert len(join([s, s])) == 2 * episode.steps
    torch.testing.assert_close(join([s, s]).take(torch.tensor([1, 9])).free, s.free[[1, 1]])


@pytest.mark.parametrize("seed", [0, 1])
def test_free_flight_is_predicted_without_networks(seed: int) -> None:
    """A robot in the air, spinning: rigid bodies are all there is, so what is left over is of second order."""
    body, motion = RigidBody(SOLO_URDF, SOLO), solo_motion()
    episode = solo_episode(1, seed)
    q, v, effort = episode.q[0], episode.v[0], episode.effort[:1] * 0.1
    errors = []
    for h in (1e-3, 1e-4):
        after_v = v + h * body.acceleration(q[None], v[None], effort)[0]
        after_q = pin.integrate(body.model, q, h * v)
        flown = solo_episode(q=np.stack([q, after_q]), v=np.stack([v, after_v]), force=np.zeros((2, 12)), effort=effort)
        s = samples_from(flown, body, motion, 0.0)
        rate = (s.next_velocity - s.velocity) / h
        errors.append(float((rate - s.free - (s.per_effort @ s.effort[..., None])[..., 0])[:, :3].abs().max()))
    assert errors[0] < 0.05
    assert errors[1] < 0.02  # and no part of it stays: omega x v is of order one here
    assert np.linalg.norm(np.cross(v[3:6], v[:3])) > 0.5
