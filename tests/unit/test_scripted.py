"""Scripted placing: across, then straight down, onto the goal; continuous, within the limits, at a pace of its own."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pinocchio as pin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ideomotor.body.chain import ChainError, KinematicChain
from ideomotor.body.extension import BodyExtension, JointType, VirtualJoint
from ideomotor.body.urdf import load_urdf
from ideomotor.planning.scripted import (
    PlacingConfig,
    ScriptedMotionError,
    paced,
    placing_path,
    random_goal,
    random_start,
    scripted_placing,
    timed_placing,
)

URDF = load_urdf(Path(__file__).parents[2] / "urdf" / "iiwa7.urdf.xacro")
Q = np.array([0.0, 0.3, 0.0, -1.4, 0.0, 1.2, 0.0])  # elbow up, gripper forward and down
SEEDS = st.integers(0, 2**31)


@pytest.fixture(scope="module")
def chain() -> KinematicChain:
    """Return the arm, continued by a bent stick."""
    arm = KinematicChain.from_urdf(URDF, ee_link="gripper_tcp")
    offset, turn = np.array([0.02, -0.03, 0.15]), np.array([0.1, 0.4, 0.0])
    stick = VirtualJoint("tip_joint", "gripper_tcp", "tip", JointType.FIXED, offset, turn, np.eye(6))
    return arm.extended(BodyExtension("gripper_tcp", (stick,), "tip", ("tip",)))


def pose(position: np.ndarray, turn: np.ndarray) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = pin.exp3(turn), position
    return T


def angle(R: np.ndarray) -> float:
    return float(np.linalg.norm(pin.log3(R)))


@pytest.mark.parametrize("seed", range(3))
def test_the_arm_places_the_tip(chain: KinematicChain, seed: int) -> None:
    """From one posture near the working configuration to another: on the goal within 0.5 mm and 0.5 deg."""
    rng = np.random.default_rng(seed)
    T_base_goal = chain.forward(Q + rng.uniform(-0.2, 0.2, 7))
    q_start = Q + rng.uniform(-0.2, 0.2, 7)
    config = PlacingConfig()
    path = scripted_placing(chain, q_start, T_base_goal, rng=rng, config=config)
    np.testing.assert_array_equal(path[0], q_start)
    error = np.linalg.inv(T_base_goal) @ chain.forward(path[-1])
    assert np.linalg.norm(error[:3, 3]) < 5e-4
    assert angle(error[:3, :3]) < np.deg2rad(0.5)
    assert (path >= chain.lower + config.limit_margin).all()
    assert (path <= chain.upper - config.limit_margin).all()
    assert np.abs(np.diff(path, axis=0)).max() < 0.05
    tip = chain.forward_batch(path)[:, :3, 3]
    way = np.linalg.norm(np.diff(tip, axis=0), axis=1)
    assert way.max() < 1.3 * config.spacing
    straight = np.linalg.norm(tip[:, :2] - T_base_goal[:2, 3], axis=1) < 1e-3  # at the end it goes straight down
    assert np.ptp(tip[straight, 2]) > 0.03
    assert (np.diff(tip[np.argmax(straight) :, 2]) < 0.0).all()


@given(SEEDS, st.sampled_from([0.0, 0.05]), st.floats(0.0, 0.2), st.floats(0.0, 0.3))
def test_shape_of_the_path(seed: int, variation: float, radius: float, approach: float) -> None:
    """Any start and goal: never lower than on the way between them, across at the height, straight down at the end."""
    rng = np.random.default_rng(seed)
    start = pose(rng.uniform(-0.5, 0.5, 3), rng.normal(size=3))
    goal = pose(rng.uniform(-0.5, 0.5, 3), rng.normal(size=3))
    config = PlacingConfig(variation=variation, radius=radius, approach=approach)
    path = placing_path(start, goal, rng=rng, config=config)
    np.testing.assert_allclose(path[0], start, atol=1e-9)
    np.testing.assert_allclose(path[-1], goal, atol=1e-9)
    position, way = path[:, :3, 3], np.linalg.norm(goal[:2, 3] - start[:2, 3])
    height = max(start[2, 3], goal[2, 3] + approach)
    assert (position[:, 2] >= min(start[2, 3], goal[2, 3]) - 1e-9).all()
    assert position[:, 2].max() >= height - 1e-5 - 0.1 * radius
    if variation == 0.0:
        assert position[:, 2].max() <= height + 1e-9
    steps = np.linalg.norm(np.diff(position, axis=0), axis=1)
    turns = np.array([angle(a.T @ b) for a, b in pairwise(path[:, :3, :3])])
    assert (steps + 0.1 * turns).max() < 1.05 * config.spacing
    above = np.linalg.norm(position[:, :2] - goal[:2, 3], axis=1) < 1e-6  # the descent
    assert np.ptp(position[above, 2]) >= min(height - goal[2, 3] - 1.2 * radius, way) - config.spacing
    assert max(angle(T[:3, :3].T @ goal[:3, :3]) for T in path[above]) < 1e-4  # does not turn


@given(SEEDS, st.floats(0.03, 0.08))
def test_corners_are_round(seed: int, radius: float) -> None:
    """Where there is room, no step goes elsewhere than the one before it by more than a circle's arc."""
    rng = np.random.default_rng(seed)
    start, goal = pose(np.array([0.0, 0.3, 0.1]), np.zeros(3)), pose(np.array([0.5, 0.1, 0.1]), rng.normal(size=3))
    config = PlacingConfig(radius=radius, approach=0.2)
    position = placing_path(start, goal, rng=rng, config=config)[:, :3, 3]
    steps = np.diff(position, axis=0)
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    bend = np.arccos(np.clip((steps[1:] * steps[:-1]).sum(axis=1), -1.0, 1.0))
    assert bend.max() < 1.5 * config.spacing / (0.8 * radius)


def test_a_goal_below_the_start_without_a_way_across() -> None:
    """It turns where it is, and goes down."""
    start, goal = (
        pose(np.array([0.4, 0.1, 0.6]), np.zeros(3)),
        pose(np.array([0.4, 0.1, 0.3]), np.array([0.0, 0.0, 1.0])),
    )
    path = placing_path(start, goal, rng=np.random.default_rng(0), config=PlacingConfig())
    np.testing.assert_allclose(path[:, :2, 3], np.tile([0.4, 0.1], (len(path), 1)), atol=1e-12)
    assert (np.diff(path[:, 2, 3]) <= 0.0).all()
    turning = [angle(T[:3, :3].T @ goal[:3, :3]) > 1e-6 for T in path]
    assert np.ptp(path[turning, 2, 3]) < 1e-9


def test_repetitions_differ_by_their_seed_only() -> None:
    start, goal = pose(np.array([0.6, -0.3, 0.5]), np.zeros(3)), pose(np.array([0.5, 0.2, 0.3]), np.zeros(3))
    paths = [
        placing_path(start, goal, rng=np.random.default_rng(seed), config=PlacingConfig(variation=0.05))
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(paths[0], paths[1])
    count = min(map(len, paths))
    assert 1e-3 < np.abs(paths[0][:count, :3, 3] - paths[2][:count, :3, 3]).max() < 0.2


def test_what_the_arm_cannot_do_is_refused(chain: KinematicChain) -> None:
    rng = np.random.default_rng(0)
    T = chain.forward(Q)
    far = T.copy()
    far[0, 3] += 1.0
    with pytest.raises(ScriptedMotionError, match=r"\d+ % of the way, at .* the arm comes no nearer than|jumps"):
        scripted_placing(chain, Q, far, rng=rng)
    with pytest.raises(ScriptedMotionError, match="expected a pose"):
        scripted_placing(chain, Q, 2.0 * T, rng=rng)
    with pytest.raises(ScriptedMotionError, match=r"start: joint 'iiwa_joint_2' at .*, expected"):
        scripted_placing(chain, np.where(np.arange(7) == 1, chain.upper, Q), T, rng=rng)
    with pytest.raises(ChainError, match="q has shape"):
        scripted_placing(chain, Q[:6], T, rng=rng)


@given(SEEDS, st.integers(1, 120), st.floats(0.0, 1.0))
def test_pace(seed: int, steps: int, unevenness: float) -> None:
    """Forwards only, from the first point to the last, from rest to rest; the path itself is not changed."""
    rng = np.random.default_rng(seed)
    line = np.linspace(0.0, 1.0, 200)
    path = np.stack([line, np.sin(3 * line)], axis=1)
    states = paced(path, steps, rng, unevenness)
    assert states.shape == (steps + 1, 2)
    np.testing.assert_allclose(states[[0, -1]], path[[0, -1]], atol=1e-12)
    np.testing.assert_allclose(states[:, 1], np.interp(states[:, 0], path[:, 0], path[:, 1]), atol=1e-9)
    speed = np.diff(states[:, 0])
    assert (speed > 0.0).all()
    if steps >= 40:
        assert max(speed[0], speed[-1]) < 0.1 * speed.max()  # rest
        assert np.abs(np.diff(speed)).max() < 0.5 * speed.max()  # no jerk


def test_without_unevenness_the_pace_is_that_of_minimum_jerk() -> None:
    tau = np.linspace(0.0, 1.0, 31)
    states = paced(np.linspace(0.0, 1.0, 500)[:, None], 30, np.random.default_rng(0), 0.0)
    np.testing.assert_allclose(states[:, 0], 10 * tau**3 - 15 * tau**4 + 6 * tau**5, atol=1e-4)


@settings(max_examples=20)
@given(SEEDS)
def test_paces_differ(seed: int) -> None:
    line = np.linspace(0.0, 1.0, 500)[:, None]
    rng = np.random.default_rng(seed)
    first, second = paced(line, 40, rng), paced(line, 40, rng)
    assert 0.005 < np.abs(first - second).max() < 0.8


def test_pace_of_nothing_is_refused() -> None:
    for path, steps in ((np.zeros((3, 2)), 0), (np.zeros((0, 2)), 5), (np.zeros(3), 5)):
        with pytest.raises(ScriptedMotionError, match="expected at least 1"):
            paced(path, steps, np.random.default_rng(0))


@pytest.mark.parametrize("q", [Q, np.array([0.0, -0.1, 0.0, -1.8, 0.0, 0.2, 0.0])], ids=["middle", "near limits"])
def test_starts_and_goals_are_reachable_and_apart(chain: KinematicChain, q: np.ndarray) -> None:
    """Whatever is drawn can be shown, in the time asked for."""
    rng = np.random.default_rng(1)
    for _ in range(3):
        T_base_goal = random_goal(chain, q, rng)
        q_start = random_start(chain, q, T_base_goal, rng)
        assert np.abs(q_start - q).max() <= 0.2
        assert np.linalg.norm(chain.forward(q_start)[:3, 3] - T_base_goal[:3, 3]) >= 0.1
        motion = timed_placing(chain, q_start, T_base_goal, 8.0, 50.0, rng=rng)
        assert motion.position.shape == motion.velocity.shape == (401, 7)
        np.testing.assert_allclose(motion.position[0], q_start, atol=1e-12)
        np.testing.assert_array_equal(motion.velocity[[0, -1]], 0.0)  # what the gate needs to hold when commands end
        error = np.linalg.inv(T_base_goal) @ chain.forward(motion.position[-1])
        assert np.linalg.norm(error[:3, 3]) < 5e-4
        assert (np.abs(motion.velocity) <= 0.8 * chain.velocity_limit).all()
        assert np.abs(np.diff(motion.velocity, axis=0)).max() <= 8.0 / 50.0
        np.testing.assert_allclose(
            motion.position[0] + np.cumsum(motion.velocity, axis=0)[-1] / 50.0, motion.position[-1], atol=1e-2
        )


def test_too_fast_and_nowhere_are_refused(chain: KinematicChain) -> None:
    rng = np.random.default_rng(0)
    T_base_goal = random_goal(chain, Q, rng)
    q_start = random_start(chain, Q, T_base_goal, rng)
    with pytest.raises(
        ScriptedMotionError, match=r"no pace for 0\.10 s found; the last: velocity .* of 'iiwa_joint_\d', allowed \d\."
    ):
        timed_placing(chain, q_start, T_base_goal, 0.1, 100.0, rng=rng)
    with pytest.raises(
        ScriptedMotionError, match=r"no start within 0\.0 of .* found; the last: 0\.000 m from the goal"
    ):
        random_start(chain, Q, chain.forward(Q), rng, spread=0.0)
    config = PlacingConfig(max_acceleration=0.1)
    with pytest.raises(ScriptedMotionError, match=r"acceleration .* of 'iiwa_joint_\d', allowed 0\.10"):
        timed_placing(chain, q_start, T_base_goal, 4.0, 100.0, rng=rng, config=config)
