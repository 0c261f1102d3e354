"""Forward kinematics on tensors against pinocchio, finite differences, and the transforms of torch.func."""

import dataclasses
import time

import numpy as np
import pinocchio as pin
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ideomotor.body.chain import ChainError, KinematicChain
from ideomotor.body.extension import BodyExtension, JointType, VirtualJoint
from ideomotor_learn.rewards.torch_chain import TorchChain
from tests.unit.test_chain import FOURBAR, IIWA, ROBOTS, urdf_text

POINTS = np.array([[0.0, 0.0, 0.05], [0.02, -0.1, 0.3], [-0.4, 0.3, 0.0], [0, 0, 0], [0.1, 0.1, 0.1]])  # (5, 3)


def extension(ee_link: str) -> BodyExtension:
    """A hinge that does not lead to the tip, a slide that does, and the tip."""
    common = {"covariance": np.eye(6) * 1e-6, "lower": -1.0, "upper": 1.0}
    joints = (
        VirtualJoint(
            name="hinge",
            parent_link=ee_link,
            child_link="flap",
            type=JointType.REVOLUTE,
            xyz=np.array([0, 0.1, 0]),
            rpy=np.array([0.3, 0.2, 0.1]),
            axis=np.array([0.0, 0.6, 0.8]),
            **common,
        ),
        VirtualJoint(
            name="slide",
            parent_link=ee_link,
            child_link="tip",
            type=JointType.PRISMATIC,
            xyz=np.array([0, 0, 0.2]),
            rpy=np.array([0.0, 0.5, 0.0]),
            axis=np.array([0.6, 0.0, 0.8]),
            **common,
        ),
    )
    return BodyExtension(ee_link, joints, "tip", ("tip",))


def iiwa() -> KinematicChain:
    return KinematicChain.from_urdf(IIWA, ee_link="gripper_tcp")


def chain_of(name: str) -> KinematicChain:
    if name == "extended":
        return iiwa().extended(extension("gripper_tcp"))
    source, base, ee, _ = ROBOTS.get(name, (FOURBAR, None, "tip", 2))
    return KinematicChain.from_urdf(urdf_text(source), ee_link=ee, base_link=base)


CHAINS = {name: chain_of(name) for name in (*ROBOTS, "fourbar", "extended")}


@pytest.fixture(params=CHAINS, ids=lambda name: name.replace(" ", "_"))
def chain(request: pytest.FixtureRequest) -> KinematicChain:
    return CHAINS[request.param]


def expected(chain: KinematicChain, q: np.ndarray) -> np.ndarray:
    T = chain.forward(q)
    return POINTS @ T[:3, :3].T + T[:3, 3]


@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(sorted(CHAINS)))
def test_keypoints_agree_with_pinocchio(seed: int, name: str) -> None:
    chain = CHAINS[name]
    q = chain.random(np.random.default_rng(seed), margin=0.0)
    z = TorchChain.from_chain(chain, POINTS).keypoints(torch.from_numpy(q))
    assert z.dtype == torch.float64
    np.testing.assert_allclose(z, expected(chain, q), atol=1e-12)


def test_batches_of_any_shape(chain: KinematicChain) -> None:
    rng = np.random.default_rng(0)
    q = np.array([[chain.random(rng) for _ in range(4)] for _ in range(3)])  # (3, 4, n)
    z = TorchChain.from_chain(chain, POINTS).keypoints(torch.from_numpy(q))
    assert z.shape == (3, 4, 5, 3)
    np.testing.assert_allclose(z, [[expected(chain, x) for x in row] for row in q], atol=1e-12)
    assert TorchChain.from_chain(chain, POINTS).keypoints(torch.zeros(0, chain.n).double()).shape == (0, 5, 3)


def test_jacobian_agrees_with_pinocchio(chain: KinematicChain) -> None:
    """Of every point: linear + angular x (point - origin of the end effector)."""
    q = chain.random(np.random.default_rng(1))
    kinematics = TorchChain.from_chain(chain, POINTS)
    J = torch.func.jacrev(kinematics.keypoints)(torch.from_numpy(q))  # (5, 3, n)
    J_ee, arm = chain.jacobian(q), expected(chain, q) - chain.forward(q)[:3, 3]
    np.testing.assert_allclose(J, J_ee[:3] + np.cross(J_ee[3:].T, arm[:, None]).transpose(0, 2, 1), atol=1e-12)


def test_derivatives_agree_with_finite_differences(chain: KinematicChain) -> None:
    """First and second derivative."""
    kinematics = TorchChain.from_chain(chain, POINTS[:2])
    q = torch.from_numpy(np.array([chain.random(np.random.default_rng(s)) for s in range(2)])).requires_grad_()
    assert torch.autograd.gradcheck(kinematics.keypoints, q)
    assert torch.autograd.gradgradcheck(kinematics.keypoints, q)


def test_transforms_of_torch_func() -> None:
    """vmap is the batch, jvp is the Jacobian times a direction, grad under vmap is the batch's gradient."""
    kinematics = TorchChain.from_chain(CHAINS["panda"], POINTS)
    rng = np.random.default_rng(2)
    q, dq = torch.from_numpy(rng.normal(size=(2, 6, 8)))
    z = kinematics.keypoints(q)
    torch.testing.assert_close(torch.func.vmap(kinematics.keypoints)(q), z)
    J = torch.func.vmap(torch.func.jacrev(kinematics.keypoints))(q)  # (6, 5, 3, 8)
    torch.testing.assert_close(torch.func.jvp(kinematics.keypoints, (q,), (dq,))[1], (J @ dq[:, None, :, None])[..., 0])
    height = torch.func.vmap(torch.func.grad(lambda x: kinematics.keypoints(x)[:, 2].sum()))(q)
    torch.testing.assert_close(height, J[:, :, 2].sum(1))


def test_a_chain_without_joints_is_a_constant() -> None:
    chain = KinematicChain.from_urdf(IIWA, base_link="iiwa_link_7", ee_link="gripper_tcp")
    z = TorchChain.from_chain(chain, POINTS).keypoints(torch.zeros(3, 0).double())
    np.testing.assert_allclose(z, np.broadcast_to(expected(chain, np.zeros(0)), (3, 5, 3)), atol=1e-12)


def test_a_batch_costs_less_than_its_parts() -> None:
    """500 configurations in one call, at least ten times faster than one by one."""
    kinematics = TorchChain.from_chain(iiwa(), POINTS)
    q = torch.from_numpy(np.random.default_rng(3).normal(size=(500, 7)))

    def best(argument: torch.Tensor) -> float:
        times = []
        for _ in range(20):
            start = time.perf_counter()
            kinematics.keypoints(argument)
            times.append(time.perf_counter() - start)
        return min(times)

    assert best(q) < 50 * best(q[:1])


# --- bad input


@pytest.mark.parametrize("points", [np.zeros(3), np.zeros((2, 2)), np.zeros((0, 3)), np.full((1, 3), np.nan)])
def test_bad_points(points: np.ndarray) -> None:
    with pytest.raises(ChainError, match="points_ee of shape"):
        TorchChain.from_chain(iiwa(), points)


@pytest.mark.parametrize(
    "q", [torch.zeros(6).double(), torch.zeros(()).double(), torch.zeros(7), torch.zeros(7, 2).double()]
)
def test_bad_positions(q: torch.Tensor) -> None:
    with pytest.raises(ChainError, match=r"q has shape .* expected \(\.\.\., 7\) of float64"):
        TorchChain.from_chain(iiwa(), POINTS).keypoints(q)


def test_joints_of_other_kinds_are_refused() -> None:
    """A chain of URDF has none, a pinocchio model may: helical and planar ones."""
    for joint, name in ((pin.JointModelHX(0.1), "JointModelHX"), (pin.JointModelPlanar(), "JointModelPlanar")):
        model = pin.Model()
        index = model.addJoint(0, joint, pin.SE3.Identity(), "odd")
        ids = {
            link: model.addFrame(pin.Frame(link, parent, 0, pin.SE3.Identity(), pin.FrameType.BODY))
            for link, parent in (("base_link", 0), ("gripper_tcp", index))
        }
        chain = dataclasses.replace(iiwa(), model=model, frame_ids=ids)
        with pytest.raises(ChainError, match=f"joint 'odd' is {name}, expected a revolute or prismatic one"):
            TorchChain.from_chain(chain, POINTS)
