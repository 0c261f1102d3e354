"""Peers in the benchmark of controllers: SAC's environment, the PETS of our own, raw MuJoCo beside rollouts."""

import numpy as np
import pinocchio as pin
import pytest

pytest.importorskip("stable_baselines3", reason="a package of `tools/setup.py bench`")

from stable_baselines3.common.env_checker import check_env

from benchmarks.forward_model_error import pets, sac
from benchmarks.forward_model_error.cases import Case, Options, open_case
from benchmarks.forward_model_error.collecting import replay
from benchmarks.forward_model_error.computed_torque import goal_law
from ideomotor_learn.policies.samples import samples_from
from ideomotor_learn.policies.training import tracking_error

ROBOTS = ("arm_track", "solo12_walk")


@pytest.fixture(scope="module", params=ROBOTS)
def case(request: pytest.FixtureRequest) -> Case:
    return open_case(Options(), request.param)


@pytest.fixture(scope="module")
def arm() -> Case:
    return open_case(Options(), "arm_track")


def test_the_environment_is_one(case: Case) -> None:
    check_env(sac.EffortEnv(case, 50), warn=True, skip_render_check=True)


def test_the_environment_does_what_the_rollouts_do_and_rewards_what_is_judged(arm: Case) -> None:
    action = np.array([0.02, -0.3, 0.05, 0.1, 0.0, 0.02, 0.01], dtype=np.float32)
    env = sac.EffortEnv(arm, 50)
    env.reset()
    rng = np.random.default_rng([50, 0])
    arm.starts(1, rng)  # this one is taken when the environment is made
    q, v = arm.starts(1, rng)
    steps = 20
    effort = action * arm.body.effort_limit
    batch = arm.rollouts.collect(lambda *_: effort[None], q, v, steps)
    seen, rewards = [], []
    for _ in range(steps):
        observation, reward, *_ = env.step(action)
        seen.append(observation[:7])
        rewards.append(reward)
    np.testing.assert_allclose(seen, batch.q[0, 1:], atol=1e-6)
    np.testing.assert_allclose(rewards, -tracking_error(batch.q[0, 1:], arm.motion), atol=1e-6)


def test_a_motion_is_an_episode_and_a_fall_ends_it(case: Case) -> None:
    env, steps, done = sac.EffortEnv(case, 50), 0, False
    rewards = []
    while not done:
        _, reward, fallen, over, _ = env.step(np.zeros(case.body.n, dtype=np.float32))
        rewards.append(reward)
        steps, done = steps + 1, fallen or over
    if case.structure.floating_base and steps < case.steps:
        assert fallen
        assert rewards[-1] <= -(case.steps - steps) * sac.LARGEST_ERROR
    else:
        assert steps == case.steps
        assert over
    assert min(rewards[:-1]) >= -sac.LARGEST_ERROR


def test_the_planner_moves_bodies_as_pinocchio_does() -> None:
    case = open_case(Options(), "solo12_walk")
    rng = np.random.default_rng(0)
    q, v = case.starts(5, rng)
    q[:, 3:7] = rng.normal(size=(5, 4))
    q[:, 3:7] /= np.linalg.norm(q[:, 3:7], axis=1, keepdims=True)
    v = 0.5 * rng.normal(size=v.shape)
    moved, turned = pets.Pets(case, 0)._moved(q, v)
    for before, after, speed, then in zip(q, moved, v, turned, strict=True):
        expected = pin.integrate(case.body.model, before, speed / case.motion.rate)
        np.testing.assert_allclose(after, expected, atol=1e-5)
        # The world's velocity is the same, seen from the base's new axes.
        R0, R1 = (pin.Quaternion(*x[[6, 3, 4, 5]]).matrix() for x in (before, after))
        np.testing.assert_allclose(R0 @ speed[:3], R1 @ then[:3], atol=1e-9)


def test_the_ensemble_learns_the_robot_and_the_planner_respects_limits(arm: Case) -> None:
    planner, rng = pets.Pets(arm, 0), np.random.default_rng(0)
    episode = arm.episode(goal_law(arm), 100, 0.02, rng)
    data = samples_from(episode, arm.body, arm.motion, 15.0)
    for _ in range(3):
        planner.fit(data)
    state, effort = np.tile(data.state.numpy(), (pets.MEMBERS, 1)), np.tile(data.effort.numpy(), (pets.MEMBERS, 1))
    change = planner._change(state.astype(float), effort / arm.body.effort_limit)
    true = np.tile((data.next_velocity - data.velocity).numpy(), (pets.MEMBERS, 1))
    assert np.abs(change - true).mean() < 0.5 * np.abs(true - true.mean(0)).mean()
    effort = planner.effort(0, episode.q[:2], episode.v[:2], np.zeros((2, 0)))
    assert effort.shape == (2, 7)
    assert (np.abs(effort) <= arm.body.effort_limit).all()


def test_raw_mujoco_is_driven_through_the_same_states(case: Case) -> None:
    q, v = case.starts(2, np.random.default_rng(0))
    hold = np.zeros(case.body.n)
    batch = case.rollouts.collect(lambda k, q, v, f: np.tile(hold, (len(q), 1)), q, v, 30)
    layout = case.rollouts.layout
    ends = replay(case, batch)
    read, _, _ = layout.read(
        ends, np.zeros((2, case.rollouts.model.nv)), np.zeros((2, case.rollouts.model.nsensordata))
    )
    np.testing.assert_allclose(read, batch.q[:, -1], atol=1e-12)
