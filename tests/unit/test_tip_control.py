"""Tip control: inverse kinematics, the path, and feedback at its end, against a simulated servo."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ideomotor.body.chain import KinematicChain
from ideomotor.body.extension import BodyExtension, JointType, VirtualJoint
from ideomotor.body.urdf import load_urdf
from ideomotor.planning.inverse_kinematics import InverseKinematics, KinematicsError, Target
from ideomotor.planning.tip_control import (
    JointPath,
    MotionState,
    TipControlConfig,
    TipMotion,
    Tolerance,
)

URDF = load_urdf(Path(__file__).parents[2] / "urdf" / "iiwa7.urdf.xacro")
CONFIG = TipControlConfig(random_starts=4)
TOLERANCE = Tolerance(position=1e-3, orientation=1e-2, timeout=20.0)
H = 1.0 / CONFIG.rate


@pytest.fixture(scope="module")
def chain() -> KinematicChain:
    """Return the arm, continued by a bent stick."""
    arm = KinematicChain.from_urdf(URDF, ee_link="gripper_tcp")
    stick = VirtualJoint(
        "tip_joint",
        "gripper_tcp",
        "tip",
        JointType.FIXED,
        np.array([0.02, -0.03, 0.15]),
        np.array([0.1, 0.4, 0.0]),
        np.eye(6),
    )
    return arm.extended(BodyExtension("gripper_tcp", (stick,), "tip", ("tip",)))


class Servo:
    """Joints that follow with a lag and end with a constant error, as gravity causes with a P controller."""

    def __init__(self, q: np.ndarray, sag: float) -> None:
        self.q, self._sag = q.copy(), sag

    def step(self, command: np.ndarray) -> None:
        self.q += 0.3 * (command - self._sag - self.q)


def run(motion: TipMotion, servo: Servo, seconds: float = 30.0) -> list[np.ndarray]:
    """Run the motion to its end and return the commanded positions."""
    commands = []
    for _ in range(int(seconds / H)):
        reference = motion.step(servo.q)
        if motion.ended:
            break
        if reference is None:
            continue
        commands.append(reference.position)
        servo.step(reference.position)
    return commands


@pytest.mark.parametrize("position_only", [True, False])
@pytest.mark.parametrize("sag", [0.0, 0.01])
def test_random_goals_are_reached_although_the_servo_sags(
    chain: KinematicChain, position_only: bool, sag: float
) -> None:
    rng = np.random.default_rng(1)
    ik = InverseKinematics(chain, CONFIG.limit_margin)
    servo = Servo(chain.mid + 0.3, sag)
    commanded = None
    for _ in range(3):
        target = Target(chain.forward(chain.random(rng)), position_only)
        motion = TipMotion(ik, target, TOLERANCE, servo.q, CONFIG, commanded)
        commands = run(motion, servo)
        commanded = commands[-1]
        assert motion.state is MotionState.REACHED, motion.reason
        error = target.error(chain.forward(servo.q))
        assert error.position < 1e-3
        assert error.orientation < 1e-2
        velocity = np.diff(commands, axis=0) / H
        assert (np.abs(velocity) <= 0.5 * chain.velocity_limit + 0.05).all()


def test_ticks_that_are_left_out_do_not_slow_the_motion(chain: KinematicChain) -> None:
    """At every second tick it commands what it would have; a pause is not made up for in one step, but in the time."""
    ik, q = InverseKinematics(chain), chain.mid + 0.3
    target = Target(chain.forward(chain.mid))
    whole, half = (TipMotion(ik, target, TOLERANCE, q, CONFIG) for _ in range(2))
    for motion in (whole, half):
        while motion.path is None:
            motion.step(q)
    for _ in range(20):
        whole.step(q)
        expected = whole.step(q)
        found = half.step(q, 2 * H)
        assert expected is not None
        assert found is not None
        np.testing.assert_allclose(found.position, expected.position)
    before = half.time
    half.step(q, 1.0)
    assert half.time == pytest.approx(before + 5 * H)
    half.step(q, -1.0)  # a clock that was set back
    assert half.time == pytest.approx(before + 5 * H)


def test_the_first_command_is_the_last_one(chain: KinematicChain) -> None:
    """A new motion does not jump where the servo sags below its last command."""
    ik = InverseKinematics(chain)
    q = chain.mid + 0.3
    motion = TipMotion(ik, Target(chain.forward(chain.mid), True), TOLERANCE, q, CONFIG, commanded=q + 0.01)
    first = next(r for r in (motion.step(q) for _ in range(100)) if r is not None)
    np.testing.assert_allclose(first.position, q + 0.01, atol=1e-4)


def test_unreachable_goals_are_refused_before_anything_moves(chain: KinematicChain) -> None:
    T = np.eye(4)
    T[:3, 3] = 3.0, 0.0, 0.5
    motion = TipMotion(InverseKinematics(chain), Target(T, True), TOLERANCE, chain.mid, CONFIG)
    assert run(motion, Servo(chain.mid, 0.0)) == []
    assert motion.state is MotionState.NOT_REACHED
    assert "the best is" in motion.reason


def test_a_joint_that_does_not_follow_ends_the_motion(chain: KinematicChain) -> None:
    q = chain.mid + 0.2
    motion = TipMotion(InverseKinematics(chain), Target(chain.forward(chain.mid - 0.5)), TOLERANCE, q, CONFIG)
    for _ in range(1000):
        motion.step(q)
        if motion.state is MotionState.NOT_REACHED:
            break
    assert "does not follow" in motion.reason


def test_an_error_beyond_the_correction_is_reported_as_stuck(chain: KinematicChain) -> None:
    config = TipControlConfig(random_starts=0, max_correction=0.001, stuck_time=0.5)
    servo = Servo(chain.mid + 0.3, sag=0.02)
    motion = TipMotion(InverseKinematics(chain), Target(chain.forward(chain.mid), True), TOLERANCE, servo.q, config)
    run(motion, servo)
    assert motion.state is MotionState.NOT_REACHED
    assert "no progress" in motion.reason


def test_a_stop_on_the_way_brakes_smoothly(chain: KinematicChain) -> None:
    q = chain.mid + 0.5
    servo = Servo(q, sag=0.0)
    motion = TipMotion(InverseKinematics(chain), Target(chain.forward(chain.mid - 0.5)), TOLERANCE, q, CONFIG)
    commands = []
    for k in range(1000):
        if k == 80:
            motion.stop("enough")
        reference = motion.step(servo.q)
        if motion.ended:
            break
        if reference is not None:
            commands.append(reference.position)
            servo.step(commands[-1])
    assert (motion.state, motion.reason) == (MotionState.NOT_REACHED, "enough")
    velocity = np.diff(commands, axis=0) / H
    assert np.abs(velocity).max() > 0.3
    assert np.abs(velocity[-1]).max() == 0.0
    assert np.abs(np.diff(velocity, axis=0) / H).max() <= 1.1 * CONFIG.max_acceleration


def test_timeout(chain: KinematicChain) -> None:
    servo = Servo(chain.mid + 0.5, sag=0.0)
    target = Target(chain.forward(chain.mid), True)
    motion = TipMotion(InverseKinematics(chain), target, Tolerance(1e-3, 1e-2, 0.1), servo.q, CONFIG)
    run(motion, servo)
    assert "timeout" in motion.reason


def hinged(arm: KinematicChain, position: float = 0.0) -> KinematicChain:
    joint = VirtualJoint(
        "hinge",
        "gripper_tcp",
        "flap",
        JointType.REVOLUTE,
        np.array([0.0, 0.0, 0.1]),
        np.zeros(3),
        np.eye(6),
        axis=np.array([1.0, 0.0, 0.0]),
        lower=-1.0,
        upper=1.0,
        position=position,
    )
    end = VirtualJoint("end", "flap", "tip", JointType.FIXED, np.array([0.0, 0.0, 0.1]), np.zeros(3), np.eye(6))
    return arm.extended(BodyExtension("gripper_tcp", (joint, end), "tip", ("tip",)))


def test_joints_without_motor_stay_and_their_motion_is_followed() -> None:
    chain = hinged(KinematicChain.from_urdf(URDF, ee_link="gripper_tcp"))
    ik = InverseKinematics(chain)
    q = chain.mid + 0.3
    q[-1] = 0.4
    target = Target(chain.forward(chain.mid + 0.6), True)  # bent, so that there is room to reach it anyway
    solution = ik.solve(target, q, 2, np.random.default_rng(0))[0]
    assert solution.q[-1] == 0.4
    assert solution.error.position < 1e-4
    servo = Servo(q[:-1], sag=0.0)
    motion = TipMotion(ik, target, TOLERANCE, q, CONFIG)
    hinge = 0.4
    for _ in range(3000):
        reference = motion.step(np.append(servo.q, hinge))
        if motion.state is MotionState.REACHED:
            break
        if reference is not None:
            hinge = max(0.0, hinge - 0.002)  # it falls over while the arm moves
            servo.step(reference.position)
    assert motion.state is MotionState.REACHED, motion.reason
    assert target.error(chain.forward(np.append(servo.q, hinge))).position < 1e-3


def test_solutions_keep_the_margin_and_come_nearest_first(chain: KinematicChain) -> None:
    ik = InverseKinematics(chain, margin=0.05)
    rng = np.random.default_rng(3)
    q = chain.mid + 0.1
    solutions = ik.solve(Target(chain.forward(chain.random(rng)), True), q, 6, rng)
    distance = [np.max(np.abs(s.q - q) / chain.velocity_limit) for s in solutions]
    assert distance == sorted(distance)
    for s in solutions:
        assert (s.q >= chain.lower + 0.05 - 1e-9).all()
        assert (s.q <= chain.upper - 0.05 + 1e-9).all()


def test_chain_without_actuated_joints_is_refused() -> None:
    with pytest.raises(KinematicsError, match="actuated"):
        InverseKinematics(KinematicChain.from_urdf(URDF, ee_link="iiwa_link_ee", base_link="iiwa_link_7"))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.1, 3)), min_size=1, max_size=7))
def test_paths_keep_their_bounds_and_one_of_them_is_tight(rows: list[tuple[float, float, float]]) -> None:
    start, end, max_velocity = np.array(rows).T
    path = JointPath.plan(start, end, max_velocity, 2.0)
    times = np.linspace(0.0, path.duration, 500)
    velocity = np.array([path.at(t).velocity for t in times])
    acceleration = np.gradient(velocity, times, axis=0)
    assert (np.abs(velocity) <= max_velocity * 1.001 + 1e-9).all()
    assert np.abs(acceleration).max() <= 2.0 * 1.01 + 1e-6
    np.testing.assert_allclose(path.at(0.0).position, start, atol=1e-12)
    np.testing.assert_allclose(path.at(path.duration).position, end, atol=1e-12)
    if np.abs(end - start).max() > 0.01:
        tight = max((np.abs(velocity) / max_velocity).max(), np.abs(acceleration).max() / 2.0)
        assert tight > 0.97
