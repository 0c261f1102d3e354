"""Rollouts: what World does, for many robots at once; the same again for the same seeds."""

from dataclasses import astuple
from typing import Any

import numpy as np
import pytest

from ideomotor_sim.errors import SimulationError
from ideomotor_sim.rollouts import RolloutConfig, Rollouts
from ideomotor_sim.world_model import WorldConfig
from tests.unit.test_effort_world import ARM, IIWA, SOLO, STANCE, effort_config, solo, solo_config

STANDING = np.r_[0.0, 0.0, 0.24, 0.0, 0.0, 0.0, 1.0, STANCE]


def hold(_: int, q: np.ndarray, v: np.ndarray, force: np.ndarray) -> np.ndarray:
    """Keep the stance, each robot on its own: the result does not depend on the batch."""
    return 10.0 * (STANCE - q[:, 7:]) - 0.2 * v[:, 6:]


def starts(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    q, v = np.tile(STANDING, (count, 1)), 0.3 * rng.normal(size=(count, 18))
    q[:, 7:] += rng.normal(0.0, 0.05, (count, 12))
    return q, v


@pytest.fixture(scope="module")
def rollouts() -> Rollouts:
    return Rollouts(SOLO, solo_config())


def test_a_rollout_is_what_the_world_does(rollouts: Rollouts) -> None:
    q0, v0 = starts(3)
    batch = rollouts.collect(hold, q0, v0, 50)
    assert [a.shape for a in astuple(batch)] == [(3, 51, 19), (3, 51, 18), (3, 51, 12), (3, 50, 12), (3, 51)]
    for k in range(3):
        world = solo()
        world.set_state(q0[k], v0[k])
        for t in range(50):
            q, v, force = world.state()
            assert np.array_equal(batch.q[k, t], q)
            assert np.array_equal(batch.v[k, t], v)
            assert np.array_equal(batch.force[k, t], force)
            world.set_effort(hold(t, q[None], v[None], force[None])[0])
            world.step(4)
            assert np.array_equal(batch.effort[k, t], world.joint_state().effort)
    assert (batch.force[:, -1].reshape(3, 4, 3)[..., 2].sum(axis=1) > 10.0).all()


def test_robots_do_not_know_of_each_other_nor_of_the_past(rollouts: Rollouts) -> None:
    q0, v0 = starts(4)
    together = rollouts.collect(hold, q0, v0, 30)
    rollouts.collect(lambda *_: np.full((4, 12), 1.8), q0, v0, 100)
    apart = [rollouts.collect(hold, q0[k : k + 1], v0[k : k + 1], 30) for k in (3, 1, 0, 2)]
    for k, alone in zip((3, 1, 0, 2), apart, strict=True):
        assert np.array_equal(together.q[k], alone.q[0])
        assert np.array_equal(together.force[k], alone.force[0])


def test_noise_follows_from_the_seed() -> None:
    noisy = Rollouts(SOLO, solo_config(), RolloutConfig(effort_noise=0.1))
    q0, v0 = starts(2)
    first, again, other = (noisy.collect(hold, q0, v0, 20, seeds) for seeds in ((5, 6), (5, 6), (5, 7)))
    assert np.array_equal(first.effort, again.effort)
    assert np.array_equal(first.q, again.q)
    assert np.array_equal(first.q[0], other.q[0])
    assert not np.allclose(first.effort[1], other.effort[1])
    added = np.stack([first.effort[k, t] - hold(t, first.q[k : k + 1, t], first.v[k : k + 1, t], first.force)[0]
                      for k in range(2) for t in range(20)])  # fmt: skip
    assert added[np.abs(first.effort.reshape(-1, 12)) < 1.8].std() == pytest.approx(0.1, rel=0.2)


def test_efforts_are_limited(rollouts: Rollouts) -> None:
    q0, v0 = starts(1)
    batch = rollouts.collect(lambda *_: np.full((1, 12), -100.0), q0, v0, 3)
    assert (batch.effort == -1.8).all()


def test_a_robot_that_falls_goes_on_and_is_marked(rollouts: Rollouts) -> None:
    """Without efforts it goes down and stays down; the one that holds does not."""
    q0, v0 = starts(2)
    upright = np.array([[1.0], [0.0]])
    batch = rollouts.collect(lambda t, q, v, force: upright * hold(t, q, v, force), q0, 0.0 * v0, 250)
    assert not batch.fallen[0].any()
    first = int(np.argmax(batch.fallen[1]))
    assert 0 < first < 250
    assert batch.fallen[1, first:].all()
    assert not batch.fallen[1, :first].any()
    assert np.isfinite(batch.q).all()


def test_upside_down_is_fallen(rollouts: Rollouts) -> None:
    q0, v0 = starts(1)
    q0[0, 3:7] = [1.0, 0.0, 0.0, 0.0]
    assert rollouts.collect(hold, q0, v0, 1).fallen.all()


def test_an_arm_does_not_fall() -> None:
    batch = Rollouts(IIWA, effort_config(joints=ARM)).collect(
        lambda _, q, v, force: -20.0 * v, np.zeros((2, 7)), np.zeros((2, 7)), 100
    )
    assert not batch.fallen.any()
    assert batch.force.shape == (2, 101, 0)


@pytest.mark.parametrize(
    ("world", "config", "message"),
    [
        (WorldConfig(), RolloutConfig(), "rollouts with actuation 'position', expected 'effort'"),
        (effort_config(), RolloutConfig(rate=300.0), r"rate=300.0 Hz is 3.3333 physics steps"),
        (effort_config(), RolloutConfig(rate=2000.0), r"rate=2000.0 Hz is 0.5000 physics steps"),
    ],
)
def test_bad_configurations_are_refused(world: WorldConfig, config: RolloutConfig, message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        Rollouts(IIWA, world, config)


def test_bad_policies_and_starts_are_refused(rollouts: Rollouts) -> None:
    q0, v0 = starts(2)

    def nan(*_: Any) -> np.ndarray:
        return np.full((2, 12), np.nan)

    with pytest.raises(SimulationError, match="effort of joint 'FL_HAA': nan"):
        rollouts.collect(nan, q0, v0, 5)
    with pytest.raises(SimulationError, match=r"step 0: effort has shape \(12,\), expected \(2, 12\)"):
        rollouts.collect(lambda *_: np.zeros(12), q0, v0, 5)
    with pytest.raises(SimulationError, match=r"q \(2, 19\), v \(1, 18\) and 2 seeds"):
        rollouts.collect(hold, q0, v0[:1], 5)
    with pytest.raises(SimulationError, match="expected 18 finite numbers"):
        rollouts.collect(hold, q0, v0 * np.inf, 5)
