"""Robots for tests of learning: an arm of two joints that is simulated in numpy, and made-up experience of Solo12."""

from typing import Any

import numpy as np

from ideomotor.data.experience import Episode
from ideomotor.dynamics.rigid_body import RigidBody
from ideomotor.policies.motion import Motion, reach
from ideomotor.policies.posture import PostureHold
from ideomotor_learn.policies.collect import Policy
from ideomotor_learn.policies.training import ControllerConfig, ControllerTraining
from tests.unit.test_rigid_body import ARM, SOLO, SOLO_URDF, arm_urdf

RATE, SUBSTEPS = 250.0, 4
REACH = reach(ARM.joints, np.array([0.3, 0.5]), np.array([0.8, -0.2]), duration=0.4)
REAL = RigidBody(arm_urdf(hand=0.8), ARM)  # its hand is heavier than the nominal one, and its joints are damped
FAST = ControllerConfig(hidden=64, updates=60)


def rollout(policy: Policy, steps: int, rng: np.random.Generator, noise: float = 0.01) -> Episode:
    """Let the real arm run a policy."""
    limit, h = REAL.effort_limit, 1.0 / (RATE * SUBSTEPS)
    q, v = [REACH.q[0] + 0.01 * rng.normal(size=2)], [np.zeros(2)]
    efforts = []
    for k in range(steps):
        effort = policy(k, q[-1][None], v[-1][None], np.zeros((1, 0)))
        efforts.append(np.clip(effort + noise * limit * rng.normal(size=effort.shape), -limit, limit)[0])
        position, velocity = q[-1], v[-1]
        for _ in range(SUBSTEPS):
            damped = efforts[-1] - 0.3 * velocity
            velocity = velocity + h * REAL.acceleration(position[None], velocity[None], damped[None])[0]
            position = position + h * velocity
        q.append(position)
        v.append(velocity)
    return Episode(RATE, ARM.joints, (), np.array(q), np.array(v), np.zeros((steps + 1, 0)), np.array(efforts))


def arm_training(config: ControllerConfig = FAST, motion: Motion = REACH) -> ControllerTraining:
    """Return a run for the arm, without experience."""
    return ControllerTraining(config, arm_urdf(), ARM, motion)


def hold_of(training: ControllerTraining) -> Policy:
    """Return what holds the robot about its motion's first posture."""
    hold = PostureHold(training.body, training.motion.q[0])
    return lambda step, q, v, force: hold.effort(q, v)


def begun(config: ControllerConfig = FAST) -> ControllerTraining:
    """Return a run that has its first experience."""
    training = arm_training(config)
    hold = rollout(hold_of(training), 50, np.random.default_rng(config.seed), 0.05)
    assert training.add_episode(hold) is None
    return training


def solo_states(count: int, seed: int) -> tuple[np.ndarray, ...]:
    """Return q (count, 19), v (count, 18), force (count, 12) and effort (count, 12) of Solo12."""
    rng = np.random.default_rng(seed)
    turn = np.c_[0.1 * rng.normal(size=(count, 3)), np.ones(count)]
    turn /= np.linalg.norm(turn, axis=1, keepdims=True)
    q = np.c_[rng.normal(size=(count, 3)), turn, rng.normal(size=(count, 12))]
    return q, rng.normal(size=(count, 18)), rng.normal(size=(count, 12)), rng.normal(size=(count, 12))


def solo_motion(steps: int = 5) -> Motion:
    q, v, force, _ = solo_states(steps + 1, 1)
    return Motion(RATE, SOLO.joints, SOLO.contact_links, q, v, force)


def solo_episode(steps: int = 8, seed: int = 2, **changes: Any) -> Episode:
    q, v, force, effort = solo_states(steps + 1, seed)
    values: dict[str, Any] = {"q": q, "v": v, "force": force, "effort": effort[:-1]}
    return Episode(**{"rate": RATE, "joints": SOLO.joints, "contact_links": SOLO.contact_links} | values | changes)


def solo_training(config: ControllerConfig | None = None) -> ControllerTraining:
    """Return a run for Solo12 that has learned a little from made-up experience."""
    training = ControllerTraining(config or ControllerConfig(hidden=16, updates=2), SOLO_URDF, SOLO, solo_motion())
    training.add_episode(solo_episode())
    training.fit()
    return training
