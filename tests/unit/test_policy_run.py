"""Postures, approaches, alignment and execution of policies, without ROS."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ideomotor.body.urdf import load_urdf
from ideomotor.dynamics.rigid_body import RigidBody
from ideomotor.policies.alignment import Alignment, aligned
from ideomotor.policies.execution import Execution, ExecutionConfig
from ideomotor.policies.goals import position_error
from ideomotor.policies.learned import LearnedController
from ideomotor.policies.posture import Approach, PostureHold
from tests.unit.small_robots import RATE, REAL, SUBSTEPS, solo_episode, solo_motion
from tests.unit.test_rigid_body import ARM, arm_urdf

BODY = RigidBody(arm_urdf(), ARM)


def advance(q: np.ndarray, v: np.ndarray, effort: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    h = 1.0 / (RATE * SUBSTEPS)
    for _ in range(SUBSTEPS):
        v = v + h * REAL.acceleration(q[None], v[None], (effort - 0.3 * v)[None])[0]
        q = q + h * v
    return q, v


def test_an_approach_ends_at_rest_at_the_posture_whatever_the_load() -> None:
    goal, q, v = np.array([0.8, -0.2]), np.array([0.1, 0.5]), np.zeros(2)
    way = Approach(BODY, q, goal, speed=0.5, period=1.0 / RATE, tolerance=0.005)
    fastest = 0.0
    while not way.arrived(q, v):
        q, v = advance(q, v, way.effort(q, v))
        fastest = max(fastest, float(np.abs(v).max()))
        assert way.time < way.duration + 6.0
    assert np.abs(q - goal).max() < 0.005
    assert fastest < 1.6 * 0.5


def test_a_hold_stays_near_its_posture() -> None:
    q, v = np.array([0.35, 0.45]), np.zeros(2)
    hold = PostureHold(BODY, np.array([0.3, 0.5]))
    for _ in range(500):
        q, v = advance(q, v, hold.effort(q[None], v[None])[0])
    np.testing.assert_allclose(q, [0.3, 0.5], atol=0.3)
    assert np.abs(v).max() < 0.02


@given(st.floats(-3.0, 3.0), st.floats(-10.0, 10.0), st.floats(-10.0, 10.0))
def test_where_a_robot_stands_and_where_it_heads_does_not_matter(turn: float, x: float, y: float) -> None:
    motion, episode = solo_motion(), solo_episode()
    z, w = np.sin(turn / 2.0), np.cos(turn / 2.0)
    R = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    q, force = episode.q.copy(), episode.force.reshape(len(episode.q), -1, 3).copy()
    q[:, :2] = q[:, :2] @ R.T + [x, y]
    qx, qy, qz, qw = episode.q[:, 3:7].T
    q[:, 3:7] = np.stack([w * qx - z * qy, w * qy + z * qx, w * qz + z * qw, w * qw - z * qz], axis=1)
    force[..., :2] = force[..., :2] @ R.T
    here = Alignment.of(episode.q[0], motion).apply(episode.q, episode.force)
    there = Alignment.of(q[0], motion).apply(q, force.reshape(len(q), -1))
    difference = position_error(here[0], there[0], floating_base=True)
    np.testing.assert_allclose(difference, 0.0, atol=1e-6)
    np.testing.assert_allclose(here[1], there[1], atol=1e-9)
    np.testing.assert_allclose(here[0][0, :2], motion.q[0, :2], atol=1e-12)
    np.testing.assert_allclose(here[0][:, 2], episode.q[:, 2])


def test_an_aligned_episode_is_still_one() -> None:
    episode = aligned(solo_episode(), solo_motion())
    assert episode.floating_base
    np.testing.assert_allclose(np.linalg.norm(episode.q[:, 3:7], axis=1), 1.0)


def test_exploration_is_that_of_the_seed_and_within_the_limits() -> None:
    hold, limit = PostureHold(BODY, np.array([0.3, 0.5])), BODY.effort_limit
    rows = []
    for seed in (1, 1, 2):
        run = Execution(hold, ExecutionConfig(), steps=30, rate=RATE, noise=0.5, limit=limit, seed=seed)
        for _ in range(30):
            run.observe(np.array([0.3, 0.5]), np.zeros(2), np.zeros(0))
            rows.append(run.effort())
    a, b, c = np.array(rows).reshape(3, 30, 2)
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 0.1
    assert (np.abs(a) <= limit).all()
    assert run.summary().steps == 29
    assert run.summary().position_error == pytest.approx(0.0)


def test_states_that_nobody_saw_do_not_delay_the_motion() -> None:
    """A robot that does its motion perfectly is judged so, whichever of its states were lost on the way."""
    controller = LearnedController.load("artefacts/solo12_walk", load_urdf(Path("urdf/solo12.urdf.xacro")))
    motion, limit = controller.motion, controller.body.effort_limit
    run = Execution(controller, ExecutionConfig(), steps=motion.steps, rate=motion.rate, noise=0.0, limit=limit, seed=0)
    seen = [k for k in range(motion.steps + 1) if k % 17 != 5 and not 60 < k < 66]
    for k, last in zip(seen, [seen[0] - 1, *seen], strict=False):
        assert not run.finished
        run.observe(motion.q[k], motion.v[k], motion.force[k], periods=k - last)
        run.effort()
        run.predict()
    summary = run.summary()
    assert (run.finished, summary.steps) == (True, motion.steps)
    assert summary.position_error < 1e-6
    assert summary.contact_agreement == 1.0
    assert summary.displacement_ratio == pytest.approx(1.0)


def test_a_prediction_is_compared_with_the_next_state_only() -> None:
    controller = LearnedController.load("artefacts/solo12_walk", load_urdf(Path("urdf/solo12.urdf.xacro")))
    motion, limit, worst = controller.motion, controller.body.effort_limit, []
    for periods in (1, 2):
        run = Execution(controller, ExecutionConfig(), steps=200, rate=250.0, noise=0.0, limit=limit, seed=0)
        for _ in range(3):
            run.observe(motion.q[0], motion.v[0], motion.force[0], periods=periods)
            run.effort()
            run.predict()
        worst.append(run.summary().max_prediction_error)
    assert worst[0] > 0.0
    assert worst[1] == 0.0
