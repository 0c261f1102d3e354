"""Motions under a reward: planned once, run through in any time, on a simulated servo."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ideomotor.body.chain import ChainError, KinematicChain
from ideomotor.body.extension import BodyExtension, JointType, VirtualJoint
from ideomotor.body.urdf import load_urdf
from ideomotor.planning import reward_path
from ideomotor.planning.held_points import HeldPoints
from ideomotor.planning.inverse_kinematics import InverseKinematics, KinematicsError, PoseError, Target
from ideomotor.planning.joint_path import Bounds, SplinePath
from ideomotor.planning.path_planner import NoPathError
from ideomotor.planning.reward_path import RewardPath, RewardPathPlanner, RewardTask
from ideomotor.planning.tip_control import MotionState, TipControlConfig, TipMotion, Tolerance
from ideomotor.rewards.weights import Reward, Uniform, Weights
from tests.unit.test_tip_control import Servo, hinged, run

URDF = load_urdf(Path(__file__).parents[2] / "urdf" / "iiwa7.urdf.xacro")
CONFIG = TipControlConfig()
TOLERANCE = Tolerance(position=1e-3, orientation=1e-2, timeout=20.0)
FREE = Bounds(np.full(7, np.inf), np.inf)
START = np.array([0.0, 0.4, 0.0, -1.4, 0.0, 0.9, 0.0])
LINE = np.array([[0.0, 0.0, -0.15], [0.0, 0.0, -0.1], [0.0, 0.0, -0.05], [0.0, 0.0, 0.0]])  # in the tip
H = 1.0 / CONFIG.rate


@dataclass(frozen=True)
class Placing:
    """First z is dear, then x and y: across, then down."""

    def weights(self, relative: np.ndarray, progress: np.ndarray) -> Weights:
        n, d = relative.shape
        u = 3.0 * np.tanh((progress[:, None] - 0.6) / 0.1) * np.tile([1.0, 1.0, -1.0], d // 3)
        return Weights(np.exp(u), np.zeros((n, d, d)), np.zeros((n, d)), np.zeros((n, d)))


@pytest.fixture(scope="module")
def chain() -> KinematicChain:
    """Return the arm, continued by a straight stick that leans."""
    arm = KinematicChain.from_urdf(URDF, ee_link="gripper_tcp")
    origin = np.array([0.02, -0.03, 0.15]), np.array([0.1, 0.4, 0.0])
    stick = VirtualJoint("tip_joint", "gripper_tcp", "tip", JointType.FIXED, *origin, np.eye(6))
    return arm.extended(BodyExtension("gripper_tcp", (stick,), "tip", ("tip",)))


def planner(
    chain: KinematicChain,
    target: Target,
    reward: Reward | None = None,
    duration: float = 5.0,
    bounds: Bounds = FREE,
    points: np.ndarray = LINE,
) -> RewardPathPlanner:
    task = RewardTask(HeldPoints(chain, points), reward or Placing(), duration)
    return RewardPathPlanner(InverseKinematics(chain), target, TOLERANCE.of_path, bounds, task, START)


def planned(made: RewardPathPlanner) -> RewardPath:
    for _ in range(100):
        path = made.step(START)
        if path is not None:
            return path
    raise AssertionError("no path after 100 steps")


def elsewhere(chain: KinematicChain, position_only: bool = False, change: float = 0.4) -> Target:
    signs = np.array([1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0])
    return Target(chain.forward(START + change * signs), position_only)


def lower(chain: KinematicChain) -> Target:
    """Return 0.25 m to the side and 0.15 m below, upright as at the start."""
    T = chain.forward(START)
    T[:3, 3] += [0.0, 0.25, -0.15]
    return Target(T)


def times(path: RewardPath, count: int = 400) -> np.ndarray:
    return np.linspace(0.0, path.duration, count)


def test_the_path_is_the_same_at_any_duration(chain: KinematicChain) -> None:
    fast, slow = (planned(planner(chain, elsewhere(chain), duration=d)) for d in (2.0, 9.0))
    for tau in np.linspace(0.0, 1.0, 21):
        a, b = fast.at(2.0 * tau), slow.at(9.0 * tau)
        np.testing.assert_allclose(a.position, b.position, atol=1e-12)
        np.testing.assert_allclose(2.0 * a.velocity, 9.0 * b.velocity, atol=1e-12)


def test_the_path_does_not_depend_on_the_number_of_steps(
    chain: KinematicChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = []
    for steps in (50, 120):
        monkeypatch.setattr(reward_path, "_STAGES", (1, 10, steps))
        paths.append(planned(planner(chain, lower(chain))))
    tip = [[chain.forward(path.at(t).position)[:3, 3] for t in times(path, 100)] for path in paths]
    assert np.abs(np.diff(tip, axis=0)).max() < 1e-3  # of 0.3 m
    assert np.linalg.norm(np.diff(tip[0], axis=0), axis=1).sum() > 0.3
    assert paths[0].cost[-1] == pytest.approx(paths[1].cost[-1], rel=0.02)


def test_paths_start_and_end_at_rest_and_are_smooth(chain: KinematicChain) -> None:
    path = planned(planner(chain, elsewhere(chain)))
    t = np.linspace(-0.5, path.duration + 0.5, 4001)
    position = np.array([path.at(x).position for x in t])
    velocity = np.array([path.at(x).velocity for x in t])
    np.testing.assert_allclose(position[0], START, atol=1e-12)
    assert np.abs(velocity[t <= 0]).max() == np.abs(velocity[t >= path.duration]).max() == 0.0
    np.testing.assert_allclose(np.gradient(position, t, axis=0), velocity, atol=5e-4)
    jump = np.abs(np.diff(velocity, n=2, axis=0)).max() / (t[1] - t[0])  # of the acceleration between samples
    assert jump < 0.05
    assert np.abs(np.diff(velocity, axis=0)).max() / (t[1] - t[0]) > 0.5


def test_the_path_follows_the_reward(chain: KinematicChain) -> None:
    """Across while z is dear, down while x and y are; straight without a preference."""
    target = lower(chain)
    start, goal = chain.forward(START)[:3, 3], target.T_base_target[:3, 3]
    done = {}
    for name, reward in {"placing": Placing(), "straight": Uniform()}.items():
        path = planned(planner(chain, target, reward))
        half = chain.forward(path.joints.spline(0.5))[:3, 3]
        done[name] = (half - start)[1:] / (goal - start)[1:]  # shares of the way in y and in z
    assert done["placing"][0] > 0.7
    assert done["placing"][1] < 0.3
    np.testing.assert_allclose(done["straight"], 0.5, atol=0.05)


@pytest.mark.parametrize("points", [LINE, LINE[:1], np.add(LINE, [0.0, 0.03, 0.0])], ids=["line", "one", "beside"])
@pytest.mark.parametrize("position_only", [True, False])
def test_paths_end_at_the_target_whatever_the_keypoints_are(
    chain: KinematicChain, points: np.ndarray, position_only: bool
) -> None:
    """Keypoints on a line, or one alone, do not say how the tip is turned, nor where it is."""
    target = elsewhere(chain, position_only, change=0.15)
    path = planned(planner(chain, target, points=points))
    T = chain.forward(path.at(path.duration).position)
    error = target.error(T)
    assert error.within(TOLERANCE.position / 2, TOLERANCE.orientation / 2)
    wanted = target.T_base_target.copy()
    if position_only:
        wanted[:3, :3] = chain.forward(START)[:3, :3]  # the keypoints keep their orientation
    goal = points @ wanted[:3, :3].T + wanted[:3, 3]
    np.testing.assert_allclose(path.goal, goal, atol=1e-12)
    np.testing.assert_allclose(path.keypoints[-1], goal, atol=5e-4)
    np.testing.assert_allclose(path.keypoints[0], HeldPoints(chain, points).at(START[None])[0], atol=1e-12)


def test_the_targets_points_do_not_bend_the_path(chain: KinematicChain) -> None:
    """Keypoints that say all themselves: with and without those of the target the planner finds the same."""
    points = np.vstack([0.1 * np.eye(3), [0.0, 0.0, 0.0]])
    target = elsewhere(chain)
    path = planned(planner(chain, target, points=points))
    held = HeldPoints(chain, points)
    problem = reward_path.PathProblem(held, Placing(), START, path.goal, np.eye(3))
    plain = reward_path.plan(problem, 50)
    assert np.abs(plain.keypoints - path.keypoints).max() < 2e-3  # of 0.35 m
    assert np.linalg.norm(path.keypoints[-1] - path.keypoints[0], axis=1).max() > 0.35


@pytest.mark.parametrize(
    ("bounds", "bound"), [(Bounds(np.full(7, 0.4), np.inf), "velocity"), (Bounds(np.full(7, np.inf), 0.5), "accel")]
)
def test_too_short_a_duration_names_the_joint_and_the_shortest_possible(
    chain: KinematicChain, bounds: Bounds, bound: str
) -> None:
    target = elsewhere(chain)
    with pytest.raises(
        NoPathError, match=rf"duration of 0.50 s is too short for the {bound}.* joint 'iiwa_joint_\d'"
    ) as e:
        planned(planner(chain, target, duration=0.5, bounds=bounds))
    shortest = float(str(e.value).split()[-2])
    with pytest.raises(NoPathError, match="too short"):
        planned(planner(chain, target, duration=shortest - 0.02, bounds=bounds))
    path = planned(planner(chain, target, duration=shortest + 0.01, bounds=bounds))
    t = times(path, 4000)
    velocity = np.array([path.at(x).velocity for x in t])
    fastest = {"velocity": np.abs(velocity).max() / 0.4, "accel": np.abs(np.gradient(velocity, t, axis=0)).max() / 0.5}
    assert 0.97 < fastest[bound] < 1.001
    name = str(e.value).split("'")[1]
    assert np.abs(velocity).max(0).argmax() == int(name[-1]) - 1 or bound == "accel"


def test_a_reward_that_is_not_finite_moves_nothing(chain: KinematicChain) -> None:
    class Broken:
        def weights(self, relative: np.ndarray, progress: np.ndarray) -> Weights:
            found = Uniform().weights(relative, progress)
            return Weights(np.full_like(found.weight, np.nan), found.gradient, found.pull, found.waypoint)

    with pytest.raises(NoPathError, match=r"no path under the reward: .* expected a reward of finite weights"):
        planned(planner(chain, elsewhere(chain), Broken()))


def test_unreachable_targets_are_refused_with_the_numbers(chain: KinematicChain) -> None:
    T = chain.forward(START)
    T[:3, 3] = 0.9, 0.0, 0.9
    far = Target(T, True)
    with pytest.raises(NoPathError, match=r"to \[0.9, 0.0, 0.9\] in 'base_link' with the present orientation ends \d+"):
        planned(planner(chain, far))
    motion = TipMotion(InverseKinematics(chain), far, TOLERANCE, START, CONFIG, planner=planner(chain, far))
    assert run(motion, Servo(START, 0.0)) == []
    assert motion.state is MotionState.NOT_REACHED
    assert "mm" in motion.reason
    assert "allowed 0.5 mm and 0.005 rad" in motion.reason


@pytest.mark.parametrize("duration", [4.0, 8.0])
def test_a_motion_takes_the_duration_and_reaches_the_target(chain: KinematicChain, duration: float) -> None:
    target, servo = elsewhere(chain), Servo(START, sag=0.005)
    made = planner(chain, target, duration=duration)
    motion = TipMotion(InverseKinematics(chain), target, TOLERANCE, START, CONFIG, START + 0.005, made)
    commands = np.array(run(motion, servo))
    assert motion.state is MotionState.REACHED, motion.reason
    error = target.error(chain.forward(servo.q))
    assert error.within(TOLERANCE.position, TOLERANCE.orientation)
    assert duration <= len(commands) * H < duration + 1.0
    np.testing.assert_allclose(commands[0], START + 0.005, atol=1e-3)  # as commanded before
    assert np.abs(np.diff(commands, axis=0)).max() / H < 0.5 * chain.velocity_limit.min()


def test_a_stop_on_the_way_brakes(chain: KinematicChain) -> None:
    target, servo = elsewhere(chain), Servo(START, sag=0.0)
    made = planner(chain, target, duration=3.0)
    motion = TipMotion(InverseKinematics(chain), target, TOLERANCE, START, CONFIG, planner=made)
    commands: list[np.ndarray] = []
    while not motion.ended:
        if len(commands) == 150:
            motion.stop("enough")
        reference = motion.step(servo.q)
        if reference is not None:
            commands.append(reference.position)
            servo.step(reference.position)
    assert (motion.state, motion.reason) == (MotionState.NOT_REACHED, "enough")
    assert not isinstance(motion.path, RewardPath)
    velocity = np.diff(commands, axis=0) / H
    assert np.abs(velocity[140]).max() > 0.2
    assert np.abs(velocity[-1]).max() == 0.0
    assert np.abs(np.diff(velocity[149:], axis=0) / H).max() <= 1.1 * CONFIG.max_acceleration


def test_a_stop_while_planning_moves_nothing(chain: KinematicChain) -> None:
    target = elsewhere(chain)
    motion = TipMotion(InverseKinematics(chain), target, TOLERANCE, START, CONFIG, planner=planner(chain, target))
    assert motion.step(START) is None
    motion.stop("enough")
    assert motion.step(START) is None
    assert (motion.state, motion.reason) == (MotionState.NOT_REACHED, "enough")


def test_state_says_weights_progress_and_cost(chain: KinematicChain) -> None:
    path = planned(planner(chain, lower(chain), duration=4.0))
    q = path.at(1.0).position
    state = path.state(q, 1.0)
    np.testing.assert_allclose(state.keypoints, HeldPoints(chain, LINE).at(q[None])[0])
    expected = Placing().weights(np.zeros((1, 12)), np.array([state.progress])).weight
    np.testing.assert_allclose(state.weight.ravel(), expected[0])
    assert path.state(START, 0.0).progress == path.state(START, 0.0).cost == 0.0
    end = path.state(path.at(4.0).position, 5.0)
    assert end.progress == 1.0
    costs = [path.state(q, t).cost for t in times(path, 50)]
    assert (np.diff(costs) >= 0.0).all()
    # an independent sum over the path as it is run through
    s = np.linspace(0.0, 1.0, 2001)
    z = HeldPoints(chain, LINE).at(path.joints.spline(s)).reshape(len(s), -1)
    w = Placing().weights(z[1:], (s[1:] + s[:-1]) / 2).weight
    assert end.cost == pytest.approx(2000 * (w * np.diff(z, axis=0) ** 2).sum() / 4, rel=0.02)


def test_joints_without_motor_are_refused() -> None:
    chain = KinematicChain.from_urdf(URDF, ee_link="gripper_tcp")
    flap = hinged(chain)
    task = RewardTask(HeldPoints(flap, LINE), Uniform(), 5.0)
    with pytest.raises(KinematicsError, match="no motor moves \\['hinge'\\]"):
        RewardPathPlanner(
            InverseKinematics(flap), Target(np.eye(4)), PoseError(1.0, 1.0), FREE, task, np.append(START, 0.0)
        )


def link(name: str, parent: str, xyz: Sequence[float], kind: str = "fixed", more: str = "") -> str:
    """Return a link of a URDF, and the joint it hangs on."""
    ends = f'<parent link="{parent}"/><child link="{name}"/><origin xyz="{" ".join(map(str, xyz))}"/>'
    return f'<link name="{name}"/><joint name="{name}_joint" type="{kind}">{ends}{more}</joint>'


def test_keypoints_are_links_that_are_rigid_to_the_end() -> None:
    hinge = '<axis xyz="1 0 0"/><limit lower="-1" upper="1" velocity="1" effort="1"/>'
    parts = [
        link("kp_0", "gripper_tcp", (0, 0, 0.1)),
        link("kp_1", "kp_0", (0, 0.02, 0.1)),
        link("tip", "kp_1", (0, 0, 0)),
        link("flap", "kp_1", (0, 0, 0.1), "revolute", hinge),
    ]
    urdf = URDF.replace("</robot>", "".join(parts) + "</robot>")
    chain = KinematicChain.from_urdf(urdf, ee_link="tip")
    points = HeldPoints.at_links(chain, urdf, ("kp_0", "kp_1"))
    np.testing.assert_allclose(points.position_ee, [[0, -0.02, -0.1], [0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(points.at(START[None])[0, 0], chain.forward(START, "kp_0")[:3, 3], atol=1e-12)
    with pytest.raises(ChainError, match="'nowhere' is not among"):
        HeldPoints.at_links(chain, urdf, ("kp_0", "nowhere"))
    with pytest.raises(ChainError, match=r"'flap' is not rigid to 'tip': \['flap_joint'\] move one of them only"):
        HeldPoints.at_links(chain, urdf, ("flap",))
    with pytest.raises(ChainError, match=r"'iiwa_link_6' is not rigid to 'tip': \['iiwa_joint_7'\]"):
        HeldPoints.at_links(chain, urdf, ("iiwa_link_6",))


def test_splines_run_through_their_states() -> None:
    states: Any = np.random.default_rng(0).normal(size=(12, 3))
    path = SplinePath.through(states, 3.0)
    np.testing.assert_allclose(path.spline(np.linspace(0.0, 1.0, 12)), states, atol=1e-12)
    assert [path.progress(t) for t in (-1.0, 0.0, 1.5, 3.0, 9.0)] == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0])
