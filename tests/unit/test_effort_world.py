"""Efforts against gravity and ground: a free base, feet on a floor, payload, friction."""

from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pinocchio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ideomotor.body.urdf import load_urdf
from ideomotor_sim.camera import CameraConfig, look_at
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.robots import Robot
from ideomotor_sim.scene import plain_scene
from ideomotor_sim.tools import sample_tool
from ideomotor_sim.world import World, WorldConfig
from ideomotor_sim.world_model import effort_config

FEET = ("FL_FOOT", "FR_FOOT", "HL_FOOT", "HR_FOOT")
LEGS = tuple(f"{leg}_{joint}" for leg in ("FL", "FR", "HL", "HR") for joint in ("HAA", "HFE", "KFE"))
SOLO_ROTORS = (3.645e-4,) * 12
STANCE = np.tile([0.0, 0.8, -1.6], 4)
SOLO = Robot("solo12", load_urdf(Path("urdf/solo12.urdf.xacro")), "FL_FOOT")
IIWA = Robot("iiwa7", load_urdf(Path("urdf/iiwa7.urdf.xacro")), "gripper_tcp")
ARM = tuple(f"iiwa_joint_{i}" for i in range(1, 8))


def solo_config(**changes: Any) -> WorldConfig:
    values: dict[str, Any] = {
        "floating_base": True,
        "joints": LEGS,
        "contact_links": FEET,
        "rotor_inertia": SOLO_ROTORS,
    }
    return effort_config(**(values | changes))


def build(robot: Robot, config: WorldConfig, **options: Any) -> World:
    camera = look_at(np.array([1.0, 0.8, 0.5]), np.zeros(3))
    return World(robot, None, plain_scene(), CameraConfig(width=64, height=48), camera, config, **options)


def solo(**changes: Any) -> World:
    return build(SOLO, solo_config(**changes), home=dict(zip(LEGS, STANCE.tolist(), strict=True)))


def pinocchio_model(robot: Robot, order: tuple[str, ...], rotors: float, *, floating: bool) -> pinocchio.Model:
    base = (pinocchio.JointModelFreeFlyer(),) if floating else ()
    model = pinocchio.buildModelFromXML(robot.urdf, *base)
    assert tuple(model.names)[1 + floating :] == order  # so that its q and v are ours
    model.armature = np.r_[np.zeros(6 * floating), np.full(len(order), rotors)]
    return model


def accelerations(world: World, effort: np.ndarray) -> np.ndarray:
    """Return MuJoCo's joint accelerations, with the base's in world axes."""
    world.set_effort(effort)
    mujoco.mj_forward(world.model, world.data)
    return world.data.qacc.copy()


def hold(world: World, seconds: float, target: np.ndarray = STANCE) -> None:
    for _ in range(round(seconds * 250)):
        q, v, _ = world.state()
        world.set_effort(10.0 * (target - q[7:]) - 0.2 * v[6:])
        world.step(4)


def random_state(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    quaternion = rng.normal(size=4)
    base = [*rng.uniform(-1.0, 1.0, 2), rng.uniform(1.0, 2.0), *(quaternion / np.linalg.norm(quaternion))]
    return np.r_[base, rng.uniform(-0.8, 0.8, 12)], rng.normal(size=18)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_state_returns_what_was_set(seed: int) -> None:
    world, (q, v) = FLYING, random_state(np.random.default_rng(seed))
    world.set_state(q, v)
    q_read, v_read, force = world.state()
    assert np.allclose(q_read, q, atol=1e-12)
    assert np.allclose(v_read, v, atol=1e-12)
    assert np.array_equal(force, np.zeros(12))


FLYING = solo()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_flying_solo12_accelerates_as_in_pinocchio(seed: int) -> None:
    """Same bodies, same conventions: base velocity in the base frame, quaternion x y z w."""
    rng = np.random.default_rng(seed)
    (q, v), effort = random_state(rng), rng.uniform(-1.8, 1.8, 12)
    model = pinocchio_model(SOLO, LEGS, SOLO_ROTORS[0], floating=True)
    expected = pinocchio.aba(model, model.createData(), q, v, np.r_[np.zeros(6), effort])
    FLYING.set_state(q, v)
    actual = accelerations(FLYING, effort)
    R = pinocchio.Quaternion(q[3:7]).matrix()
    actual[:3] = R.T @ actual[:3] - np.cross(v[3:6], v[:3])  # classical, world axes -> spatial, base frame
    assert np.allclose(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("payload", [0.0, 3.0])
def test_an_arm_accelerates_as_in_pinocchio(payload: float) -> None:
    """But for the payload, which only the simulator knows of."""
    world = build(IIWA, effort_config(joints=ARM, rotor_inertia=(0.1,) * 7, payload=payload))
    model = pinocchio_model(IIWA, ARM, 0.1, floating=False)
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(10):
        q, v, effort = rng.uniform(-1.5, 1.5, 7), rng.normal(size=7), rng.uniform(-30.0, 30.0, 7)
        damped = effort - world.model.dof_damping * v  # the URDF's damping, which pinocchio's aba leaves out
        expected = pinocchio.aba(model, model.createData(), q, v, damped)
        world.set_state(q, v)
        differences.append(np.abs(accelerations(world, effort) - expected).max())
    assert (max(differences) < 1e-6) == (payload == 0.0)
    assert payload == 0.0 or min(differences) > 0.1


@pytest.mark.parametrize("payload", [0.0, 1.0])
def test_feet_carry_the_robots_weight(payload: float) -> None:
    world = solo(payload=payload)
    hold(world, 3.0)
    q, v, force = world.state()
    forces = force.reshape(4, 3)
    mass = pinocchio.computeTotalMass(pinocchio.buildModelFromXML(SOLO.urdf, pinocchio.JointModelFreeFlyer()))
    assert forces[:, 2].sum() == pytest.approx(9.81 * (mass + payload), rel=0.01)
    assert np.allclose(forces.sum(axis=0)[:2], 0.0, atol=0.4)
    assert (np.linalg.norm(forces[:, :2], axis=1) <= 0.8 * forces[:, 2] + 1e-6).all()
    assert 0.2 < q[2] < 0.3
    assert np.abs(v).max() < 0.05


def test_forces_are_those_of_the_contacts() -> None:
    """The sensors' sum is that of mj_contactForce over the contacts, in world axes, for the foot and not the floor."""
    world = solo()
    rng = np.random.default_rng(1)
    for _ in range(100):
        q, v, _ = world.state()
        world.set_effort(10.0 * (STANCE - q[7:]) - 0.1 * v[6:] + rng.normal(0.0, 0.5, 12))
        world.step(4)
        expected = np.zeros((4, 3))
        wrench = np.zeros(6)
        for i, contact in enumerate(world.data.contact):
            mujoco.mj_contactForce(world.model, world.data, i, wrench)
            bodies = [world.model.body(world.model.geom_bodyid[g]).name for g in contact.geom]
            sign, link = (1.0, bodies[1]) if bodies[1] != "world" else (-1.0, bodies[0])
            if link in FEET:
                expected[FEET.index(link)] += sign * contact.frame.reshape(3, 3).T @ wrench[:3]
        assert np.allclose(world.state()[2], expected.ravel(), atol=1e-9)
    assert expected[:, 2].sum() > 5.0


def test_it_starts_upright_on_its_feet() -> None:
    world = solo()
    q, v, _ = world.state()
    assert np.allclose(q[3:7], [0.0, 0.0, 0.0, 1.0])
    assert not v.any()
    assert world.data.body("FL_FOOT").xpos[2] == pytest.approx(0.016, abs=1e-6)
    assert np.allclose(q[7:], STANCE)
    world.step(200)
    world.reset(0)
    assert np.array_equal(world.state()[0], q)


def test_friction_decides_whether_feet_slide() -> None:
    """Pushed sideways with 7 of the 24 N of its weight, it slides at 0.2 and stays at 0.8."""
    moved = []
    for friction in (0.2, 0.8):
        world = solo(contact_friction=friction)
        hold(world, 0.5)
        start = world.data.body("FL_FOOT").xpos[1]
        world.data.xfrc_applied[world.model.body("base_link").id, 1] = 7.0
        hold(world, 0.3)
        moved.append(abs(world.data.body("FL_FOOT").xpos[1] - start))
    assert moved[0] > 0.04
    assert moved[1] < 0.01


def test_a_fallen_robot_lies_on_its_body() -> None:
    world = solo()
    world.step(2000)  # without efforts
    q, v, _ = world.state()
    assert 0.02 < q[2] < 0.13
    assert np.isfinite(v).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_tumbling_robot_does_not_end_the_physics(seed: int) -> None:
    """Thrown, spinning, with full efforts in random directions."""
    world, rng = solo(), np.random.default_rng(seed)
    q, v = random_state(rng)
    world.set_state(q, 8.0 * v)
    for _ in range(500):
        world.set_effort(rng.choice([-100.0, 100.0], 12))
        world.step(4)
    q, v, force = world.state()
    assert np.isfinite(np.r_[q, v, force]).all()
    assert -0.1 < q[2] < 50.0  # some fly; none falls through


def test_joint_friction_and_damping_resist() -> None:
    """A 5 N m effort on the last joint does not overcome 6 N m of friction; damping takes d v."""
    effort = np.r_[np.zeros(6), 5.0]
    for friction, moves in ((0.0, True), (6.0, False)):
        world = build(IIWA, effort_config(joints=ARM, joint_friction=friction))
        world.set_effort(effort)
        world.step(50)
        assert (abs(world.state()[1][6]) > 0.1) == moves
    plain, damped = (build(IIWA, effort_config(joints=ARM, joint_damping=d)) for d in (0.0, 2.0))
    assert np.allclose(damped.model.dof_damping - plain.model.dof_damping, 2.0)


def test_order_of_joints_is_the_configurations() -> None:
    backwards = build(IIWA, effort_config(joints=ARM[::-1], rotor_inertia=tuple(np.arange(1.0, 8.0))))
    assert np.allclose(backwards.model.dof_armature, np.arange(7.0, 0.0, -1.0))
    q = np.linspace(-1.0, 1.0, 7)
    backwards.set_state(q, np.zeros(7))
    assert np.allclose(backwards.state()[0], q)
    assert np.allclose(backwards.joint_state().position, q[::-1])
    backwards.set_effort(np.r_[np.zeros(6), 1e6])
    assert np.allclose(backwards.data.ctrl, [176.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])


def test_typical_rotors_by_default() -> None:
    world = build(IIWA, effort_config())
    assert np.allclose(world.model.dof_armature, 1e-3 * np.array([176, 176, 110, 110, 110, 40, 40]))
    assert world.layout.joints == ARM
    assert world.state()[2].shape == (0,)


def test_an_arm_with_a_tool_has_a_state_too() -> None:
    tool = sample_tool("hinged_stick", np.random.default_rng(0))
    camera = look_at(np.array([1.0, 0.8, 0.5]), np.zeros(3))
    world = World(IIWA, tool, plain_scene(), CameraConfig(), camera, effort_config(joints=ARM))
    q = np.linspace(-1.0, 1.0, 7)
    world.set_state(q, 0.1 * q)
    assert np.allclose(np.r_[world.state()[0], world.state()[1]], np.r_[q, 0.1 * q])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actuation": "position"}, "floating_base with actuation 'position', expected 'effort'"),
        ({"contact_links": ("FL_FOOT", "TOE")}, "contact link 'TOE': no such link"),
        ({"rotor_inertia": (1e-4,) * 3}, "expected a positive number for each of"),
        ({"rotor_inertia": (-1e-4,) * 12}, "expected a positive number for each of"),
        ({"joints": (*LEGS[:-1], "HR_TOE"), "rotor_inertia": ()}, "expected names out of"),
        ({"joints": (*LEGS[:-1], "HR_TOE")}, "rotor_inertia: unknown joint 'HR_TOE'"),
    ],
)
def test_bad_configurations_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        build(SOLO, solo_config(**changes))


def test_bad_states_and_efforts_are_refused() -> None:
    world = solo()
    q, v, _ = world.state()
    with pytest.raises(SimulationError, match="expected 19 finite numbers"):
        world.set_state(q[1:], v)
    with pytest.raises(SimulationError, match=r"v=.*nan.*expected 18 finite numbers"):
        world.set_state(q, np.full(18, np.nan))
    with pytest.raises(SimulationError, match=r"norm 2\.0000, expected a unit quaternion"):
        world.set_state(np.r_[q[:3], 2.0 * q[3:7], q[7:]], v)
    with pytest.raises(SimulationError, match=r"effort has shape \(3,\), expected \(..., 12\)"):
        world.set_effort(np.zeros(3))
    with pytest.raises(SimulationError, match="effort of joint 'FL_KFE': nan"):
        world.set_effort(np.r_[0.0, 0.0, np.nan, np.zeros(9)])
    with pytest.raises(SimulationError, match="set_effort with actuation 'position'"):
        build(IIWA, WorldConfig()).set_effort(np.zeros(7))


def test_divergence_is_an_error_and_not_a_silent_reset() -> None:
    world = solo()
    world.data.qvel[6:] = 1e12
    with pytest.raises(SimulationError, match="the physics diverged"):
        world.step(10)
    world.reset(0)
    world.step(10)
