"""The object's own joint, and the chain that is built from the estimates."""

from dataclasses import replace

import numpy as np
import pytest

from ideomotor.body.articulation import Points, Selection, ee_points, select_joint
from ideomotor.body.extension import ExtensionError, JointType
from ideomotor.body.fit import Fit, fit_keypoints
from ideomotor.body.inner_joint import (
    DIRECTION_STD,
    Joint,
    JointPrior,
    _gauss_newton,
    joint_jacobians,
    locate_joint,
    robust_loss,
    rotation,
)  # fmt: skip
from ideomotor.body.virtual_joints import HeldObject, build_extension, tip_covariance
from tests.unit.body_scene import CAMERA, NAMES, TYPICAL, Moving, Noise, Scene, hinged, iiwa, make_scene, sliding

MM = 1e-3


def a_joint(kind: JointType) -> Joint:
    rng = np.random.default_rng(3)
    axis = rng.normal(size=3)
    return Joint(
        kind, 2, axis / np.linalg.norm(axis), np.array([0.01, 0.02, 0.1]), 0.1 * rng.normal(size=(2, 3)),
        rng.uniform(-0.5, 0.5, size=7), 0.4, np.zeros((0, 0)),
    )  # fmt: skip


def select(seed: int, moving: Moving | None, noise: Noise = TYPICAL) -> tuple[Scene, Fit, Selection]:
    scene = make_scene(seed, 90, noise, moving)
    observations = scene.observations()
    fit = fit_keypoints(observations, CAMERA)
    return scene, fit, select_joint(ee_points(observations, CAMERA, fit))


def axis_error(joint: Joint, true_ee: np.ndarray, kind: JointType) -> float:
    """Angle between the axis and that of the true motion of the tip [deg]."""
    tip = true_ee[:, -1] - true_ee[:, -1].mean(0)
    vectors = np.linalg.eigh(tip.T @ tip)[1]
    true = vectors[:, -1] if kind is JointType.PRISMATIC else vectors[:, 0]
    return float(np.rad2deg(np.arccos(min(1.0, abs(joint.axis @ true)))))


@pytest.mark.parametrize("kind", [JointType.REVOLUTE, JointType.PRISMATIC])
def test_joint_jacobians_equal_finite_differences(kind: JointType) -> None:
    joint, eps = a_joint(kind), 1e-6
    J, J_theta = joint_jacobians(joint)

    def moved(step: np.ndarray) -> np.ndarray:
        n = 5 if kind is JointType.REVOLUTE else 2
        point = joint.point + (step[2:5] if n == 5 else 0.0)
        axis = rotation(joint.tangent @ step[:2]) @ joint.axis
        return replace(joint, axis=axis, point=point, body=joint.body + step[n:].reshape(-1, 3)).keypoints(
            joint.position
        )

    for i, e in enumerate(np.eye(J.shape[-1])):
        np.testing.assert_allclose(J[..., i], (moved(eps * e) - moved(-eps * e)) / (2 * eps), atol=1e-6)
    numeric = (joint.keypoints(joint.position + eps) - joint.keypoints(joint.position - eps)) / (2 * eps)
    np.testing.assert_allclose(J_theta, numeric, atol=1e-6)


@pytest.mark.parametrize("kind", [JointType.REVOLUTE, JointType.PRISMATIC])
def test_prior_gradient_equals_finite_differences(kind: JointType) -> None:
    """The expectation on the axis is a Geman-McClure loss of its tilt."""
    across = np.array([[0.05, 0.0, 0.001], [0.1, 0.0, 0.002]])
    along = np.array([[0.0, 0.002, 0.05], [0.0, 0.004, 0.1]])
    joint = replace(a_joint(kind), axis=np.array([0.0, 0.0, 1.0]))
    joint = replace(joint, body=across if kind is JointType.REVOLUTE else along + joint.point)
    prior = JointPrior.between(joint.point, joint.point)
    arm = joint.body[1] if kind is JointType.REVOLUTE else joint.body[1] - joint.point
    arm = arm / np.linalg.norm(arm)

    def cost(turn: np.ndarray) -> float:
        u = rotation(joint.tangent @ turn) @ joint.axis
        tilt2 = (u @ arm) ** 2 if kind is JointType.REVOLUTE else 1 - (u @ arm) ** 2
        return 0.5 * robust_loss(tilt2 / DIRECTION_STD**2)

    n, eps = (11 if kind is JointType.REVOLUTE else 8), 1e-5
    H, g = np.zeros((n, n)), np.zeros(n)
    prior.add_to(H, g, joint)
    numeric = [(cost(eps * e) - cost(-eps * e)) / (2 * eps) for e in np.eye(2)]
    np.testing.assert_allclose(g[:2], numeric, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(
    ("moving", "kind"), [(hinged, JointType.REVOLUTE), (sliding, JointType.PRISMATIC)], ids=["hinged", "sliding"]
)
def test_type_and_axis_of_a_movable_object(moving: Moving | None, kind: JointType) -> None:
    """Type right at 5 to 6 mm correlated noise; axis within a few degrees; the tip is followed."""
    right, angles, tips = 0, [], []
    for seed in range(8):
        scene, _, selection = select(seed, moving)
        if selection.joint is None or selection.joint.type is not kind:
            continue
        right += 1
        angles.append(axis_error(selection.joint, scene.true_ee, kind))
        tip = selection.joint.keypoints(selection.joint.position)[:, -1]
        tips.append(np.median(np.linalg.norm(tip - scene.true_ee[:, -1], axis=1)))
    assert right >= 7
    assert np.median(angles) < 5.0
    assert np.median(tips) < 8 * MM


@pytest.mark.parametrize("noise", [TYPICAL, Noise(1.0, 0.005, 2.0, 0.006, outliers=0.1)])
def test_a_rigid_object_is_not_called_movable(noise: Noise) -> None:
    assert all(select(seed, None, noise)[2].joint is None for seed in range(6))


def stick_points(displacement: np.ndarray, std: float, claimed: float, seed: int) -> Points:
    """A straight stick with keypoints every 5 cm, displaced along it by (T, K) [m], white errors."""
    rest = np.array([0.0, 0.0, 0.05]) * np.arange(1, displacement.shape[1] + 1)[:, None]
    position = rest + displacement[..., None] * np.array([0.0, 0.0, 1.0])
    position += std * np.random.default_rng(seed).normal(size=position.shape)
    information = np.broadcast_to(np.eye(3) / claimed**2, (*position.shape, 3))
    return Points(np.arange(len(position)) / 30, position, information)


@pytest.mark.parametrize("claimed", [1.5 * MM, 6 * MM])
def test_a_small_stroke_is_found_whatever_the_detector_claims(claimed: float) -> None:
    """18 mm of a shaken rod are far above 1.5 mm of noise, also where the detector claims 6 mm."""
    shaken = 9 * MM * np.sin(2 * np.pi * 2.7 * np.arange(90) / 30)
    for seed in range(3):
        joint = select_joint(stick_points(shaken[:, None] * [0, 0, 1, 1], 1.5 * MM, claimed, seed)).joint
        assert joint is not None
        assert joint.type is JointType.PRISMATIC
        assert joint.first_moving == 2
        assert np.ptp(np.quantile(joint.position, [0.02, 0.98])) == pytest.approx(18 * MM, abs=3 * MM)


def test_a_joint_has_a_keypoint_on_either_side() -> None:
    """A detector that takes part of a rod's motion for the sleeve's moves all keypoints: still a joint inside."""
    shaken = 15 * MM * np.sin(2 * np.pi * 2.7 * np.arange(90) / 30)
    for seed in range(3):
        joint = select_joint(stick_points(shaken[:, None] * [0.8, 0.9, 1, 1], 1.5 * MM, 3 * MM, seed)).joint
        assert joint is not None
        assert joint.type is JointType.PRISMATIC
        assert joint.first_moving >= 1


def test_one_keypoint_has_no_joint() -> None:
    selection = select_joint(stick_points(np.linspace(0, 0.1, 30)[:, None], 1 * MM, 1 * MM, 0))
    assert selection.joint is None
    assert selection.margin == -np.inf


def test_precise_data_give_the_exact_joint() -> None:
    scene, _, selection = select(0, hinged, Noise(px=0.1, depth=0.0005))
    joint = selection.joint
    assert joint is not None
    assert joint.type is JointType.REVOLUTE
    assert axis_error(joint, scene.true_ee, JointType.REVOLUTE) < 0.5
    predicted = joint.keypoints(joint.position)
    assert (
        np.abs(predicted - scene.true_ee[:, joint.first_moving :]).max() < 4 * MM
    )  # the detector claims 6 mm, so that the prior counts
    true = scene.true_ee[40, joint.first_moving :]
    position = locate_joint(joint, true, np.tile(1e6 * np.eye(3), (len(true), 1, 1)), 0.0)
    assert position == pytest.approx(joint.position[40], abs=0.02)
    low, high = joint.limits
    assert low < joint.position.min() + 0.05
    assert high > joint.position.max() - 0.05


def test_gauss_newton_step_lowers_the_cost() -> None:
    joint = a_joint(JointType.REVOLUTE)
    y = joint.keypoints(joint.position) + 0.003 * np.random.default_rng(0).normal(size=(7, 2, 3))
    A = np.tile(np.eye(3) / 0.003**2, (7, 2, 1, 1))
    prior = JointPrior.between(joint.point - 0.02, joint.point + 0.02)
    better, _ = _gauss_newton(joint, y, A, prior)
    cost = [((j.keypoints(j.position) - y) ** 2).sum() for j in (joint, better)]
    assert cost[1] < cost[0]


def fitted(seed: int = 0) -> tuple[Scene, HeldObject]:
    scene = make_scene(seed)
    return scene, HeldObject.from_fit(fit_keypoints(scene.observations(), CAMERA))


def test_chain_of_a_rigid_object_goes_through_its_keypoints() -> None:
    """Forward kinematics of the extended chain reaches every estimated keypoint, z along each segment."""
    _, held = fitted()
    extension = build_extension(held, NAMES, "kp_3", ee_link="iiwa_link_ee")
    assert extension.keypoint_links == tuple(f"virtual_{name}" for name in NAMES)
    assert extension.tip_link == "virtual_kp_3"
    chain, q = iiwa(), np.zeros(7)
    extended, T_base_ee = chain.extended(extension), chain.forward(q)
    before = np.zeros(3)
    for link, position in zip(extension.keypoint_links, held.position_ee, strict=True):
        T = np.linalg.inv(T_base_ee) @ extended.forward(q, link)
        np.testing.assert_allclose(T[:3, 3], position, atol=1e-9)
        np.testing.assert_allclose(T[:3, 2], (position - before) / np.linalg.norm(position - before), atol=1e-9)
        before = position
    for joint in extension.joints:
        assert np.linalg.eigvalsh(joint.covariance)[0] > -1e-12


@pytest.mark.parametrize("moving", [hinged, sliding], ids=["hinged", "sliding"])
def test_chain_of_a_movable_object_follows_its_joint(moving: Moving | None) -> None:
    scene, fit, selection = select(0, moving, Noise(px=0.3, depth=0.002))
    joint = selection.joint
    assert joint is not None
    held = HeldObject.from_fit(fit, joint)
    extension = build_extension(held, NAMES, "kp_3", ee_link="iiwa_link_ee", joint_position=joint.position[-1])
    chain = iiwa()
    extended, T_base_ee = chain.extended(extension), chain.forward(np.zeros(7))
    for t in (0, 30, 89):
        T = np.linalg.inv(T_base_ee) @ extended.forward(np.append(np.zeros(7), joint.position[t]))
        np.testing.assert_allclose(T[:3, 3], held.position_at(joint.position[t])[-1], atol=1e-9)
        assert np.linalg.norm(T[:3, 3] - scene.true_ee[t, -1]) < 8 * MM
    movable = [j for j in extension.joints if j.axis is not None]
    assert [j.name for j in movable] == ["virtual_joint"]
    assert movable[0].lower <= movable[0].position <= movable[0].upper
    assert movable[0].covariance.any()


def test_tip_covariance_is_that_of_samples() -> None:
    """Propagation to first order agrees with drawing keypoints from their covariance."""
    _, held = fitted()
    rng = np.random.default_rng(0)
    samples = rng.multivariate_normal(held.position_ee.ravel(), held.covariance, size=4000).reshape(-1, 4, 3)
    segment = samples[:, 3] - samples[:, 2]
    mean = held.position_ee[3] - held.position_ee[2]
    turn = np.cross(mean, segment) / (mean @ mean)
    covariance = tip_covariance(held, 3)
    sampled = np.cov(np.hstack([samples[:, 3], turn]).T)
    np.testing.assert_allclose(covariance, sampled, atol=0.1 * np.abs(covariance).max())


def test_tip_may_be_any_keypoint_and_names_must_fit() -> None:
    _, held = fitted()
    extension = build_extension(held, NAMES, "kp_1", ee_link="iiwa_link_ee", prefix="tool_")
    assert extension.tip_link == "tool_kp_1"
    with pytest.raises(ExtensionError, match="tip 'kp_9'"):
        build_extension(held, NAMES, "kp_9", ee_link="iiwa_link_ee")
    with pytest.raises(ExtensionError, match="for 4 estimated keypoints"):
        build_extension(held, NAMES[:3], "kp_1", ee_link="iiwa_link_ee")


def test_coincident_keypoints_have_no_direction_but_a_frame() -> None:
    held = HeldObject(np.zeros((2, 3)), 1e-6 * np.eye(6))
    extension = build_extension(held, ("a", "b"), "b", ee_link="iiwa_link_ee")
    assert all(not joint.rpy.any() for joint in extension.joints)
    backwards = HeldObject(np.array([[0.0, 0.0, -0.1]]), 1e-6 * np.eye(3))
    T = iiwa().extended(build_extension(backwards, ("a",), "a", ee_link="iiwa_link_ee")).forward(np.zeros(7))
    np.testing.assert_allclose(T[:3, 2], -iiwa().forward(np.zeros(7))[:3, 2], atol=1e-9)
