"""Extending a chain in process: equal to the way through URDF, and fast."""

import time
from pathlib import Path

import numpy as np
import pinocchio as pin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ideomotor.body.chain import KinematicChain
from ideomotor.body.extension import BodyExtension, ExtensionError, JointType, VirtualJoint
from ideomotor.body.urdf import extend_urdf, load_urdf

IIWA = load_urdf(Path(__file__).parents[2] / "urdf" / "iiwa7.urdf.xacro")
CHAIN = KinematicChain.from_urdf(IIWA, ee_link="gripper_tcp")


@st.composite
def extensions(draw: st.DrawFn) -> BodyExtension:
    """Random trees of fixed, revolute and prismatic virtual joints below gripper_tcp."""
    numbers = st.floats(-1.0, 1.0, allow_nan=False)
    vector = st.tuples(numbers, numbers, numbers)
    links, joints = ["gripper_tcp"], []
    for i in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(list(JointType)))
        axis = np.array(draw(vector.filter(lambda v: np.linalg.norm(v) > 0.1)))
        joints.append(
            VirtualJoint(
                name=f"virtual_{i}",
                parent_link=draw(st.sampled_from(links)),
                child_link=f"kp_{i}",
                type=kind,
                xyz=np.array(draw(vector)) * 0.5,
                rpy=np.array(draw(vector)) * np.pi,
                covariance=np.eye(6) * 1e-6,
                axis=None if kind is JointType.FIXED else axis / np.linalg.norm(axis),
                lower=-draw(st.floats(0, 2)),
                upper=draw(st.floats(0.1, 2)),
            )
        )
        links.append(f"kp_{i}")
    return BodyExtension("gripper_tcp", tuple(joints), draw(st.sampled_from(links)), tuple(links[1:]))


@settings(max_examples=40)
@given(extensions(), st.integers(0, 2**32 - 1))
def test_extended_is_the_chain_of_the_extended_urdf(extension: BodyExtension, seed: int) -> None:
    """The in-process path and the way through URDF give the same poses, Jacobians, limits and names."""
    fast, urdf = CHAIN.extended(extension), extend_urdf(IIWA, extension)
    q = fast.random(np.random.default_rng(seed))
    position = dict(zip(fast.joint_names, q, strict=True))
    assert fast.ee_link == extension.tip_link
    assert fast.actuated_names == CHAIN.joint_names
    assert fast.joint_names[7:] == tuple(j.name for j in extension.joints if j.type is not JointType.FIXED)
    for link in (extension.tip_link, extension.joints[-1].child_link):
        slow = KinematicChain.from_urdf(urdf, ee_link=link)
        columns = [fast.joint_names.index(name) for name in slow.joint_names]
        np.testing.assert_allclose(fast.forward(q, link), slow.forward(slow.from_names(position)), atol=1e-9)
        J_fast, J_slow = fast.jacobian(q, link), slow.jacobian(slow.from_names(position))
        np.testing.assert_allclose(J_fast[:, columns], J_slow, atol=1e-9)
        np.testing.assert_array_equal(np.delete(J_fast, columns, axis=1), 0)  # other branches do not move it
        for field in ("lower", "upper", "velocity_limit", "effort_limit"):
            np.testing.assert_array_equal(getattr(fast, field)[columns], getattr(slow, field))
    np.testing.assert_allclose(fast.forward(q, "gripper_tcp"), CHAIN.forward(q[:7]), atol=1e-12)


def virtual(name: str, parent: str, child: str, **fields: object) -> VirtualJoint:
    defaults = {"type": JointType.FIXED, "xyz": [0, 0, 0.1], "rpy": [0, 0, 0], "covariance": np.eye(6)}
    return VirtualJoint(name, parent, child, **{**defaults, **fields})


def hinge(name: str, parent: str, child: str) -> VirtualJoint:
    return virtual(name, parent, child, type=JointType.REVOLUTE, axis=[0, 1, 0], lower=-1.0, upper=1.0)


@settings(max_examples=20)
@given(extensions(), st.integers(0, 2**32 - 1))
def test_joints_of_the_extended_model_can_be_locked(extension: BodyExtension, seed: int) -> None:
    """Pinocchio's own algorithms work on it; without joint frames, `buildReducedModel` is a segmentation fault."""
    chain = CHAIN.extended(extension)
    model, q = chain.model, chain.random(np.random.default_rng(seed))
    for name in chain.joint_names:
        frame = model.frames[model.getFrameId(name, pin.FrameType.JOINT)]
        assert frame.parentJoint == model.getJointId(name)
    reduced = pin.buildReducedModel(model, [model.getJointId(name) for name in chain.joint_names[3:]], q)
    data = reduced.createData()
    pin.framesForwardKinematics(reduced, data, q[:3])
    tip = data.oMf[reduced.getFrameId(extension.tip_link)].homogeneous
    np.testing.assert_allclose(tip, chain.forward(q), atol=1e-12)


def test_extension_in_two_steps_is_extension_in_one() -> None:
    first = BodyExtension("gripper_tcp", (hinge("h", "gripper_tcp", "a"),), "a", ("a",))
    second = BodyExtension("a", (virtual("f", "a", "b"),), "b", ("b",))
    both = BodyExtension("gripper_tcp", first.joints + second.joints, "b", ("a", "b"))
    q = CHAIN.extended(both).random(np.random.default_rng(0))
    twice = CHAIN.extended(first).extended(second)
    np.testing.assert_allclose(twice.forward(q), CHAIN.extended(both).forward(q), atol=1e-12)
    assert twice.joint_names == (*CHAIN.joint_names, "h")
    assert twice.actuated_names == CHAIN.joint_names


def test_passive_joints_are_not_actuated() -> None:
    extension = BodyExtension("gripper_tcp", (hinge("h", "gripper_tcp", "a"),), "a", ("a",))
    chain = KinematicChain.from_urdf(extend_urdf(IIWA, extension), ee_link="a", passive=["h"])
    assert chain.joint_names == (*chain.actuated_names, "h")


@pytest.mark.parametrize(
    ("joint", "ee_link", "message"),
    [
        (virtual("f", "hand", "a"), "hand", "ee_link='hand' is not among the links"),
        (virtual("f", "gripper_tcp", "iiwa_link_3"), "gripper_tcp", "child 'iiwa_link_3' exists already"),
        (hinge("iiwa_joint_2", "gripper_tcp", "a"), "gripper_tcp", "iiwa_joint_2: the joint or its child"),
    ],
)
def test_extension_that_does_not_fit_leaves_the_chain_alone(joint: VirtualJoint, ee_link: str, message: str) -> None:
    before = CHAIN.link_names
    with pytest.raises(ExtensionError, match=message):
        CHAIN.extended(BodyExtension(ee_link, (joint,), joint.child_link, ()))
    assert CHAIN.link_names == before
    assert CHAIN.model.njoints == 8


def test_extending_and_batches_are_fast() -> None:
    """The issue asks for 1 ms to extend; a fit calls forward_batch on 90 frames. Generous, for busy machines."""
    joints = tuple(hinge(f"h{i}", "gripper_tcp" if i == 0 else f"k{i - 1}", f"k{i}") for i in range(4))
    extension = BodyExtension("gripper_tcp", joints, "k3", ())
    q = np.zeros((90, 7))

    def fastest(function: object, argument: object) -> float:
        times = []
        for _ in range(20):
            start = time.perf_counter()
            function(argument)
            times.append(time.perf_counter() - start)
        return min(times)

    assert fastest(CHAIN.extended, extension) < 1e-3
    assert fastest(CHAIN.forward_batch, q) < 2e-3
