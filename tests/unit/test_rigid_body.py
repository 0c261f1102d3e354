"""The nominal model: pinocchio and finite differences as oracles, joints by name, what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pinocchio as pin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ideomotor.body.urdf import load_urdf
from ideomotor.dynamics.rigid_body import DynamicsError, RigidBody, RobotStructure
from ideomotor.dynamics.rotations import rotation_matrix

FEET = ("FL_FOOT", "FR_FOOT", "HL_FOOT", "HR_FOOT")
LEGS = tuple(f"{leg}_{joint}" for leg in ("FL", "FR", "HL", "HR") for joint in ("HAA", "HFE", "KFE"))
SOLO_URDF, IIWA_URDF = (load_urdf(Path(f"urdf/{name}.urdf.xacro")) for name in ("solo12", "iiwa7"))
SOLO = RobotStructure(joints=LEGS, floating_base=True, contact_links=FEET, rotor_inertia=(3.645e-4,) * 12)
IIWA = RobotStructure(joints=tuple(f"iiwa_joint_{i}" for i in range(1, 8)), rotor_inertia=(0.1,) * 7)


def arm_urdf(hand: float = 0.3, continuous: bool = False) -> str:
    """Two hinges and a gripper of one finger; ``hand`` is its mass [kg]."""
    inertia = "<inertia ixx='0.01' iyy='0.01' izz='0.01' ixy='0' ixz='0' iyz='0'/>"
    inertial = "<inertial><origin xyz='0 0 0.1'/><mass value='{m}'/>" + inertia + "</inertial>"
    links = {"base": 1.0, "upper": 1.0, "lower": 0.5, "hand": hand, "finger": 0.1}
    text = "".join(f"<link name='{name}'>{inertial.format(m=m)}</link>" for name, m in links.items())
    kind = "continuous" if continuous else "revolute"
    joints = (
        ("shoulder", kind, "base", "upper", "0 1 0", 0.3, 20.0),
        ("elbow", "revolute", "upper", "lower", "0 1 0", 0.25, 10.0),
        ("wrist", "fixed", "lower", "hand", "1 0 0", 0.2, 0.0),
        ("finger_joint", "prismatic", "hand", "finger", "1 0 0", 0.05, 5.0),
    )
    for name, how, parent, child, axis, z, effort in joints:
        text += (
            f"<joint name='{name}' type='{how}'><parent link='{parent}'/><child link='{child}'/><axis xyz='{axis}'/>"
            f"<origin xyz='0 0 {z}'/><limit lower='-2' upper='2' velocity='5' effort='{effort}'/></joint>"
        )
    return f"<robot name='arm'>{text}</robot>"


ARM = RobotStructure(joints=("shoulder", "elbow"))


def states(body: RigidBody, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    q, v = rng.uniform(-1.5, 1.5, (count, body.nq)), rng.normal(size=(count, body.nv))
    if body.structure.floating_base:
        q[:, 3:7] = rng.normal(size=(count, 4))
        q[:, 3:7] /= np.linalg.norm(q[:, 3:7], axis=1, keepdims=True)
    return q, v, rng.normal(size=(count, body.n)) * 0.2 * body.effort_limit


@pytest.fixture(scope="module", params=["solo12", "iiwa7"])
def body(request: pytest.FixtureRequest) -> RigidBody:
    return RigidBody(SOLO_URDF, SOLO) if request.param == "solo12" else RigidBody(IIWA_URDF, IIWA)


def oracle(body: RigidBody) -> pin.Model:
    """Whole robot, whose order is the structure's already."""
    floating = body.structure.floating_base
    urdf, base = (SOLO_URDF, [pin.JointModelFreeFlyer()]) if floating else (IIWA_URDF, [])
    model = pin.buildModelFromXML(urdf, *base)
    assert tuple(model.names)[1 + floating :] == body.structure.joints
    model.armature = np.r_[np.zeros(6 * floating), body.structure.rotor_inertia]
    return model


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_accelerations_are_those_of_the_articulated_body_algorithm(body: RigidBody, seed: int) -> None:
    model = oracle(body)
    data = model.createData()
    q, v, effort = states(body, 3, seed)
    free, per_effort = body.affine_acceleration(q, v)
    for i in range(3):
        generalised = np.r_[np.zeros(body.nv - body.n), effort[i]]
        expected = pin.aba(model, data, q[i], v[i], generalised)
        np.testing.assert_allclose(free[i] + per_effort[i] @ effort[i], expected, rtol=1e-8, atol=1e-7)
        np.testing.assert_allclose(body.acceleration(q, v, effort)[i], expected, rtol=1e-8, atol=1e-7)
        np.testing.assert_allclose(body.mass_matrix(q[i]) @ expected + body.bias(q[i], v[i]), generalised, atol=1e-8)


@settings(max_examples=5)
@given(seed=st.integers(0, 2**31))
def test_derivatives_are_finite_differences(body: RigidBody, seed: int) -> None:
    q, v, effort = states(body, 1, seed)
    by_q, by_v, by_effort = body.acceleration_derivatives(q, v, effort)
    eps = 1e-6
    for k in range(body.nv):
        step = eps * np.eye(body.nv)[k]
        for found, (plus, minus) in (
            (by_q, [(moved(body, q, s * step), v) for s in (1, -1)]),
            (by_v, [(q, v + s * step) for s in (1, -1)]),
        ):
            difference = (body.acceleration(*plus, effort) - body.acceleration(*minus, effort))[0] / (2 * eps)
            np.testing.assert_allclose(found[0, :, k], difference, rtol=1e-4, atol=1e-3)
    for k in range(body.n):
        change = body.acceleration(q, v, effort + np.eye(body.n)[k]) - body.acceleration(q, v, effort)
        np.testing.assert_allclose(by_effort[0, :, k], change[0], rtol=1e-6, atol=1e-6)


def moved(body: RigidBody, q: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Displace one configuration in its tangent space."""
    return pin.integrate(body.model, q[0], step)[None]  # the order of these robots is pinocchio's


@settings(max_examples=5)
@given(seed=st.integers(0, 2**31))
def test_contact_jacobian_is_finite_differences(seed: int) -> None:
    body = RigidBody(SOLO_URDF, SOLO)
    q, _, _ = states(body, 1, seed)
    jacobian = body.contact_jacobian(q[0])
    assert jacobian.shape == (12, 18)
    for k in range(18):
        step = 1e-6 * np.eye(18)[k]
        ends = [body.contact_positions(moved(body, q, s * step)[0]).ravel() for s in (1, -1)]
        np.testing.assert_allclose(jacobian[:, k], (ends[0] - ends[1]) / 2e-6, atol=1e-6)


def test_a_body_in_free_flight_keeps_its_momentum() -> None:
    """In the frame that it had the base's linear velocity changes by gravity alone, however it spins."""
    structure = replace(SOLO, rotor_inertia=())
    body = RigidBody(SOLO_URDF, structure)
    q, v, _ = states(body, 4, 3)
    v[:, 6:] = 0.0
    free, per_effort = body.velocity_rate(q, v)
    plain = body.affine_acceleration(q, v)
    np.testing.assert_array_equal(per_effort, plain[1])
    np.testing.assert_array_equal(free[:, 3:], plain[0][:, 3:])
    np.testing.assert_allclose(free[:, :3] - plain[0][:, :3], np.cross(v[:, 3:6], v[:, :3]), atol=1e-9)
    h = 1e-5
    for i in range(4):
        after = pin.integrate(body.model, q[i], h * v[i])
        turned = rotation_matrix(q[i, 3:7]).T @ rotation_matrix(after[3:7])
        observed = turned @ (v[i, :3] + h * plain[0][i, :3])
        np.testing.assert_allclose((observed - v[i, :3]) / h, free[i, :3], atol=1e-3)


def test_a_fixed_base_has_no_turning_frame() -> None:
    body = RigidBody(IIWA_URDF, IIWA)
    q, v, _ = states(body, 2, 0)
    np.testing.assert_array_equal(body.velocity_rate(q, v)[0], body.affine_acceleration(q, v)[0])


@settings(max_examples=10)
@given(order=st.permutations(range(12)), seed=st.integers(0, 100))
def test_joints_are_bound_by_name(order: list[int], seed: int) -> None:
    """Another order of the joints gives the same, in that order."""
    body = RigidBody(SOLO_URDF, SOLO)
    joints = tuple(LEGS[i] for i in order)
    other = RigidBody(SOLO_URDF, replace(SOLO, joints=joints))
    q, v, effort = states(body, 2, seed)
    to_q, to_v = np.r_[np.arange(7), 7 + np.array(order)], np.r_[np.arange(6), 6 + np.array(order)]
    found = other.acceleration(q[:, to_q], v[:, to_v], effort[:, order])
    np.testing.assert_allclose(found, body.acceleration(q, v, effort)[:, to_v], rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(other.mass_matrix(q[0, to_q]), body.mass_matrix(q[0])[to_v][:, to_v], atol=1e-9)
    np.testing.assert_allclose(other.bias(q[0, to_q], v[0, to_v]), body.bias(q[0], v[0])[to_v], atol=1e-9)
    np.testing.assert_allclose(other.contact_jacobian(q[0, to_q]), body.contact_jacobian(q[0])[:, to_v], atol=1e-9)
    derivatives = zip(
        other.acceleration_derivatives(q[:, to_q], v[:, to_v], effort[:, order]),
        body.acceleration_derivatives(q, v, effort),
        (to_v, to_v, np.array(order)),
        strict=True,
    )
    for one, whole, columns in derivatives:
        np.testing.assert_allclose(one, whole[:, to_v][:, :, columns], rtol=1e-6, atol=1e-4)


def test_rotors_and_limits_go_with_their_joints() -> None:
    rotors = tuple(0.1 * (i + 1) for i in range(7))
    whole = RigidBody(IIWA_URDF, replace(IIWA, rotor_inertia=rotors))
    turned = RigidBody(IIWA_URDF, replace(IIWA, joints=IIWA.joints[::-1], rotor_inertia=rotors[::-1]))
    np.testing.assert_allclose(whole.effort_limit, [176, 176, 110, 110, 110, 40, 40])
    np.testing.assert_allclose(turned.effort_limit, whole.effort_limit[::-1])
    q = np.linspace(-1.0, 1.0, 7)
    np.testing.assert_allclose(turned.mass_matrix(q[::-1]), whole.mass_matrix(q)[::-1, ::-1], atol=1e-9)
    bare = RigidBody(IIWA_URDF, replace(IIWA, rotor_inertia=()))
    np.testing.assert_allclose(whole.mass_matrix(q) - bare.mass_matrix(q), np.diag(rotors), atol=1e-9)


@pytest.mark.parametrize("joints", [("shoulder", "elbow"), ("elbow", "shoulder")])
def test_joints_that_are_not_driven_are_held(joints: tuple[str, ...]) -> None:
    """The gripper's finger weighs, but does not move."""
    body = RigidBody(arm_urdf(), RobotStructure(joints=joints))
    assert (body.nq, body.nv, body.n) == (2, 2, 2)
    full = pin.buildModelFromXML(arm_urdf())
    q, v = np.array([0.4, -0.7]), np.array([1.0, 2.0])
    order = [joints.index("shoulder"), joints.index("elbow")]
    whole = pin.nonLinearEffects(full, full.createData(), np.r_[q, 0.0], np.r_[v, 0.0])[:2]
    np.testing.assert_allclose(body.bias(q[order], v[order]), whole[order], atol=1e-12)
    np.testing.assert_allclose(body.effort_limit, np.array([20.0, 10.0])[order])


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        (RobotStructure(joints=("shoulder", "knee")), r"joints=\['shoulder', 'knee'\]: \['knee'\] not in"),
        (RobotStructure(joints=()), r"joints=\[\]: \[\] not in"),
        (RobotStructure(joints=("elbow", "elbow")), r"joints=\['elbow', 'elbow'\], expected each once"),
        (replace(ARM, contact_links=("foot",)), "no link 'foot'"),
        (replace(ARM, contact_links=("hand", "hand")), r"contact_links=\['hand', 'hand'\], expected each once"),
        (replace(ARM, rotor_inertia=(0.1,)), "rotor_inertia has 1 values, expected 2"),
        (replace(ARM, rotor_inertia=(0.1, -0.1)), r"rotor_inertia=\[0.1, -0.1\], expected values of at least 0"),
        (replace(ARM, rotor_inertia=(0.1, float("nan"))), "rotor_inertia=.*nan"),
    ],
)
def test_a_structure_that_does_not_fit_is_refused(structure: RobotStructure, message: str) -> None:
    with pytest.raises(DynamicsError, match=message):
        RigidBody(arm_urdf(), structure)


def test_joints_without_limits_are_refused() -> None:
    with pytest.raises(DynamicsError, match=r"joints \['shoulder'\] are continuous"):
        RigidBody(arm_urdf(continuous=True), ARM)


@pytest.mark.parametrize("urdf", ["", "no robot", "<robot name='a'/>"])
def test_what_is_no_urdf_is_refused(urdf: str) -> None:
    with pytest.raises(DynamicsError):
        RigidBody(urdf, ARM)


def test_states_of_other_shapes_are_refused() -> None:
    body = RigidBody(arm_urdf(), ARM)
    with pytest.raises(DynamicsError, match=r"q \(2,\), v \(1, 2\): expected \(N, 2\) and \(N, 2\)"):
        body.affine_acceleration(np.zeros(2), np.zeros((1, 2)))
    with pytest.raises(DynamicsError, match=r"q \(1, 2\), v \(2, 2\)"):
        body.acceleration(np.zeros((1, 2)), np.zeros((2, 2)), np.zeros((1, 2)))
