"""What a controller sees and what it shall reach: the same wherever the robot stands, whichever way it looks."""

import numpy as np
import pinocchio as pin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ideomotor.policies.goals import next_goal, observe, position_error
from ideomotor.policies.motion import Motion, reach

n, feet = 3, 2


def configurations(count: int, seed: int, tilt: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turn = [pin.Quaternion(pin.exp3(r)).coeffs() for r in tilt * rng.normal(size=(count, 3))]
    return np.concatenate([rng.normal(size=(count, 3)), np.array(turn), rng.normal(size=(count, n))], axis=1)


def walk(seed: int, steps: int = 6) -> Motion:
    rng = np.random.default_rng(seed)
    q, v = configurations(steps + 1, seed), rng.normal(size=(steps + 1, 6 + n))
    return Motion(250.0, ("a", "b", "c"), ("l", "r"), q, v, rng.normal(size=(steps + 1, 3 * feet)))


def floating_model() -> pin.Model:
    model = pin.Model()
    joint = model.addJoint(0, pin.JointModelFreeFlyer(), pin.SE3.Identity(), "root_joint")
    for name in "abc":
        joint = model.addJoint(joint, pin.JointModelRX(), pin.SE3.Identity(), name)
    return model


def displaced(q: np.ndarray, yaw: float, shift: np.ndarray) -> np.ndarray:
    """Move configurations in the plane."""
    moved, turn = q.copy(), pin.Quaternion(pin.exp3(np.array([0.0, 0.0, yaw])))
    moved[:, :3] = q[:, :3] @ turn.toRotationMatrix().T + np.r_[shift, 0.0]
    moved[:, 3:7] = [(turn * pin.Quaternion(row)).coeffs() for row in q[:, 3:7]]
    return moved


def turned(force: np.ndarray, yaw: float) -> np.ndarray:
    R = pin.exp3(np.array([0.0, 0.0, yaw]))
    return (force.reshape(len(force), -1, 3) @ R.T).reshape(force.shape)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.floats(1e-6, 1e-3))
def test_small_errors_are_pinocchios_differences(seed: int, size: float) -> None:
    model, q = floating_model(), configurations(4, seed, tilt=2.0)
    step = size * np.random.default_rng(seed + 1).normal(size=(4, 6 + n))
    target = np.array([pin.integrate(model, a, s) for a, s in zip(q, step, strict=True)])
    found = position_error(q, target, floating_base=True)
    expected = [pin.difference(model, a, b) for a, b in zip(q, target, strict=True)]
    np.testing.assert_allclose(found, expected, atol=20.0 * size**2 + 1e-9)
    np.testing.assert_allclose(found[:, 3:6], np.array(expected)[:, 3:6], atol=1e-8)  # of rotations it is exact
    np.testing.assert_array_equal(position_error(q[:, 7:], target[:, 7:], floating_base=False), (target - q)[:, 7:])


@settings(max_examples=30)
@given(st.integers(0, 1000), st.floats(-3.2, 3.2), st.tuples(st.floats(-5, 5), st.floats(-5, 5)))
def test_nothing_depends_on_place_and_heading(seed: int, yaw: float, shift: tuple[float, float]) -> None:
    motion, q = walk(seed), configurations(5, seed + 1)
    rng = np.random.default_rng(seed)
    v, force, step = rng.normal(size=(5, 6 + n)), rng.normal(size=(5, 3 * feet)), np.arange(5)
    elsewhere = Motion(
        motion.rate,
        motion.joints,
        motion.contact_links,
        displaced(motion.q, yaw, np.array(shift)),
        motion.v,
        turned(motion.force, yaw),
    )
    moved = displaced(q, yaw, np.array(shift))
    for here, there in zip(next_goal(motion, step, q, 15.0), next_goal(elsewhere, step, moved, 15.0), strict=True):
        np.testing.assert_allclose(here, there, atol=1e-10)
    state = observe(q, v, force, floating_base=True)
    np.testing.assert_allclose(state, observe(moved, v, turned(force, yaw), floating_base=True), atol=1e-10)
    assert state.shape == (5, 4 + n + 6 + n + 3 * feet)


def test_what_is_observed() -> None:
    """Height, the direction of up, joints, velocities, forces in the base's axes."""
    q = configurations(1, 0)
    q[0, 3:7] = pin.Quaternion(pin.exp3(np.array([np.pi / 2, 0.0, 0.0]))).coeffs()  # on its left side
    v, force = np.arange(6.0 + n)[None], np.array([[0.0, 0.0, 10.0, 0.0, 0.0, 0.0]])
    seen = observe(q, v, force, floating_base=True)[0]
    np.testing.assert_allclose(seen[:4], [q[0, 2], 0.0, 1.0, 0.0], atol=1e-12)
    np.testing.assert_array_equal(seen[4 : 4 + n], q[0, 7:])
    np.testing.assert_array_equal(seen[4 + n : -6], v[0])
    np.testing.assert_allclose(seen[-6:], [0.0, 10.0, 0.0, 0.0, 0.0, 0.0], atol=1e-12)
    np.testing.assert_array_equal(
        observe(q[:, 7:], v[:, 6:], force[:, :0], floating_base=False)[0], [*q[0, 7:], 6, 7, 8]
    )


def test_on_the_motion_the_goal_is_the_motion() -> None:
    motion = walk(2)
    step = np.arange(motion.steps)
    velocity, _ = next_goal(motion, step, motion.q[:-1], 15.0)
    np.testing.assert_allclose(velocity[:, 6:], motion.v[1:, 6:], atol=1e-12)
    R0, R1 = (np.array([pin.Quaternion(x).toRotationMatrix() for x in motion.q[k, 3:7]]) for k in (step, step + 1))
    for part in (slice(0, 3), slice(3, 6)):  # the same velocities, in the axes of the state before
        expected = np.einsum("nji,njk,nk->ni", R0, R1, motion.v[1:, part])
        np.testing.assert_allclose(velocity[:, part], expected, atol=1e-12)


@given(st.floats(0.0, 100.0), st.floats(-0.3, 0.3))
def test_the_goal_closes_in_on_the_position(gain: float, error: float) -> None:
    motion = reach(("a", "b"), np.zeros(2), np.ones(2), duration=0.1)
    step = np.array([3])
    velocity, force = next_goal(motion, step, motion.q[3][None] - error, gain)
    np.testing.assert_allclose(velocity, motion.v[4][None] + gain * error, atol=1e-9)
    assert force.shape == (1, 0)


@pytest.mark.parametrize("beyond", [0, 1, 1000])
def test_after_the_end_the_last_state_is_held(beyond: int) -> None:
    motion = reach(("a", "b"), np.zeros(2), np.ones(2), duration=0.1)
    velocity, _ = next_goal(motion, np.array([motion.steps + beyond]), np.zeros((1, 2)), 2.0)
    np.testing.assert_allclose(velocity, motion.v[-1] + 2.0 * motion.q[-1][None], atol=1e-12)
