"""Keypoint positions in the ee frame: accuracy, robustness, honest covariance."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ideomotor.body.fit import (
    Fit,
    FitConfig,
    FitError,
    Observations,
    _Problem,
    fit_keypoints,
    se3_exp,
    se3_log,
    skew,
    stack_observations,
)  # fmt: skip
from ideomotor.body.noise import NoiseModel, correlation, estimation_covariance, noise_model
from tests.unit.body_scene import CAMERA, TYPICAL, Noise, make_scene

MM = 1e-3


def tip_errors(frames: int, noise: Noise, seeds: int = 10, config: FitConfig | None = None) -> np.ndarray:
    """Distances of the fitted from the true tip, one a seed [m]."""
    errors = []
    for seed in range(seeds):
        scene = make_scene(seed, frames, noise)
        fit = fit_keypoints(scene.observations(), CAMERA, config)
        errors.append(np.linalg.norm(fit.position_ee[-1] - scene.true_ee[0, -1]))
    return np.array(errors)


def without_depth(o: Observations) -> Observations:
    nan = np.full(o.depth.shape, np.nan)
    return Observations(o.stamp, o.T_camera_ee, o.uv, o.uv_covariance, nan, o.depth_variance, o.confidence)


def test_noise_free_data_give_the_exact_positions() -> None:
    scene = make_scene(0, 30, Noise(px=0.0, depth=0.0))
    fit = fit_keypoints(scene.observations(), CAMERA)
    assert np.abs(fit.position_ee - scene.true_ee[0]).max() < 1e-5  # the prior pulls a little
    assert fit.inlier_ratio > 0.99


@pytest.mark.parametrize("refine", [False, True])
def test_normal_equations_equal_finite_differences(refine: bool) -> None:
    """b is the gradient and H the Gauss-Newton Hessian of the whitened residuals."""
    scene = make_scene(1, 8)
    problem = _Problem(scene.observations(), CAMERA, FitConfig(refine_camera=refine))
    position, T = scene.true_ee[0] + 0.01, se3_exp(np.array([0.01, 0.02, -0.01, 0.02, 0.01, 0.03]) * refine)
    terms = problem.linearise(position, T, np.ones((2, 4)))
    weights = terms.root_weight / terms.scale[[0, 0, 1]][..., None]

    def residual(x: np.ndarray) -> np.ndarray:
        p, _ = problem.points(position + x[:12].reshape(4, 3), T @ se3_exp(x[12:]))
        return (problem.residual(p) * weights).ravel()

    size, eps = (18 if refine else 12), 1e-6
    zero = np.zeros(18)
    J = np.stack([(residual(zero + eps * e) - residual(zero - eps * e)) / (2 * eps) for e in np.eye(18)[:size]], axis=1)
    H, b = problem.normal_equations(terms, position, T)
    state = np.concatenate([position.ravel(), se3_log(T)])[:size]
    prior = problem.prior_information
    np.testing.assert_allclose(H - np.diag(prior), J.T @ J, rtol=1e-4, atol=1e-3 * np.abs(H).max())
    np.testing.assert_allclose(b - prior * state, J.T @ residual(zero), rtol=1e-4, atol=1e-3 * np.abs(b).max())


def test_covariance_is_the_sandwich_written_out() -> None:
    """H^-1 (prior + B^T C B) H^-1 with B the dense derivative of every residual, C of every pair of frames."""
    scene = make_scene(3, 12)
    problem = _Problem(scene.observations(), CAMERA, FitConfig(refine_camera=True))
    terms = problem.linearise(scene.true_ee[0], np.eye(4), np.ones((2, 4)))
    H, _ = problem.normal_equations(terms, scene.true_ee[0], np.eye(4))
    kappa, noise = correlation(scene.stamp, 0.3), NoiseModel(0.4, 0.8, 0.3)
    meat, again = np.diag(problem.prior_information), np.diag(problem.prior_information)
    for k in range(4):
        for i in range(3):
            B = np.zeros((12, 18))
            B[:, 3 * k : 3 * k + 3], B[:, 12:] = terms.rows[k, :3, i].T, terms.rows[k, 3:, i].T
            meat, again = meat + B.T @ noise.covariance(scene.stamp) @ B, again + B.T @ B
    np.testing.assert_allclose(H, again, rtol=1e-9, atol=1e-9 * H.max())
    expected = np.linalg.inv(H) @ meat @ np.linalg.inv(H)
    covariance = estimation_covariance(H, problem.prior_information, terms.rows, noise, kappa)
    np.testing.assert_allclose(covariance, expected, rtol=1e-6, atol=1e-9 * expected.max())


def test_work_does_not_grow_with_the_keypoints() -> None:
    """A fit costs what its calls cost: there are few, and none of them once a keypoint."""

    def calls(keypoints: int) -> int:
        o = make_scene(0, 90).observations()
        names = ("uv", "uv_covariance", "depth", "depth_variance", "confidence")
        few = Observations(o.stamp, o.T_camera_ee, *(getattr(o, name)[:, :keypoints] for name in names))
        config, count = FitConfig(iterations=2, tolerance=1e-9), 0

        def on_event(_frame: object, event: str, _argument: object) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(on_event)
        try:
            fit_keypoints(few, CAMERA, config)
        finally:
            sys.setprofile(before)
        return count

    assert calls(4) == calls(2) < 400


@pytest.mark.parametrize(
    ("frames", "noise", "published"),
    [
        (5, Noise(1.0, 0.005), 3.7), (15, Noise(1.0, 0.005), 2.0), (30, Noise(1.0, 0.005), 1.9),
        (90, Noise(1.0, 0.005), 0.9), (5, Noise(3.0, 0.010), 9.9), (30, Noise(3.0, 0.010), 3.7),
        (90, Noise(3.0, 0.010), 1.9),
    ],
)  # fmt: skip
def test_accuracy_is_that_of_the_reference_port(frames: int, noise: Noise, published: float) -> None:
    """papers.md section 1, measured table, columns uv + depth."""
    assert tip_errors(frames, noise).mean() < 1.5 * published * MM


def test_error_falls_with_frames_and_without_depth() -> None:
    errors = []
    for frames in (15, 30, 90):
        scenes = [make_scene(seed, frames, Noise()) for seed in range(8)]
        fits = [fit_keypoints(without_depth(s.observations()), CAMERA) for s in scenes]
        errors.append(
            np.median([np.linalg.norm(f.position_ee[-1] - s.true_ee[0, -1]) for f, s in zip(fits, scenes, strict=True)])
        )
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 3 * MM


def test_outliers_anywhere_in_the_image_do_not_matter() -> None:
    with_outliers = Noise(1.0, 0.004, 1.0, 0.004, outliers=0.2)
    clean, dirty = tip_errors(90, TYPICAL), tip_errors(90, with_outliers)
    assert np.median(dirty) < 6 * MM
    assert np.median(dirty) < 1.3 * np.median(clean) + 0.5 * MM
    scene = make_scene(0, 90, with_outliers)
    assert 0.75 < fit_keypoints(scene.observations(), CAMERA).inlier_ratio < 0.85


@pytest.mark.parametrize(
    "noise", [Noise(), Noise(3.0, 0.010), Noise(1.0, 0.005, 2.0, 0.005), Noise(1.0, 0.005, 2.0, 0.005, 0.1)]
)
def test_covariance_is_honest(noise: Noise) -> None:
    """The mean normalised squared error of 3 coordinates is near 3, white noise or correlated, claimed or not."""
    nees = []
    for seed in range(20):
        scene = make_scene(seed, 60, noise)
        fit = fit_keypoints(scene.observations(), CAMERA)
        for error, P in zip(fit.position_ee - scene.true_ee[0], fit.position_covariance, strict=True):
            nees.append(error @ np.linalg.solve(P, error))
    assert 2.0 < np.mean(nees) < 5.0
    assert np.mean(np.array(nees) < 11.3) > 0.9  # 99 % of chi-square with 3 degrees of freedom


def test_camera_pose_is_refined() -> None:
    """Camera off by 2 cm and 2 deg: the tip is wrong by centimetres without, by millimetres with refinement."""
    fixed, refined, camera = [], [], []
    for seed in range(8):
        scene = make_scene(seed, 90, Noise(1.0, 0.005, 1.0, 0.003))
        a, b = scene.rng.normal(size=(2, 3))
        off = se3_exp(np.concatenate([0.02 * a / np.linalg.norm(a), np.deg2rad(2.0) * b / np.linalg.norm(b)]))
        wrong = scene.observations(scene.T_base_camera @ off)
        for errors, refine in ((fixed, False), (refined, True)):
            fit = fit_keypoints(wrong, CAMERA, FitConfig(refine_camera=refine))
            errors.append(np.linalg.norm(fit.position_ee[-1] - scene.true_ee[0, -1]))
        seen = np.append(scene.true_ee[0, -1], 1.0) @ scene.observations().T_camera_ee[45].T
        camera.append(np.linalg.norm((np.linalg.inv(off @ fit.T_camera_corrected) @ seen - seen)[:3]))
    assert np.median(fixed) > 20 * MM
    assert np.median(refined) < 10 * MM
    assert np.median(camera) < 10 * MM  # where the object is; position and rotation trade off elsewhere
    assert not fit_keypoints(wrong, CAMERA).camera_covariance.any()
    assert np.linalg.eigvalsh(fit.camera_covariance)[0] > 0


def test_no_motion_is_survived_and_known_to_be_uncertain() -> None:
    """One view without depth: the distance along the ray keeps its prior uncertainty."""
    scene = make_scene(0, 20, Noise(), still=True)
    fit = fit_keypoints(without_depth(scene.observations()), CAMERA)
    assert np.isfinite(fit.position_ee).all()
    largest = np.sqrt(np.linalg.eigvalsh(fit.position_covariance[-1]))
    assert largest[-1] > 0.3
    assert largest[1] < 0.05


def test_one_frame_and_unseen_keypoints_are_survived() -> None:
    scene = make_scene(0, 5)
    o = scene.observations()
    confidence = o.confidence.copy()
    confidence[:, 2] = 0.0
    unseen = Observations(o.stamp, o.T_camera_ee, o.uv, o.uv_covariance, o.depth, o.depth_variance, confidence)
    fit = fit_keypoints(unseen, CAMERA)
    assert np.sqrt(fit.position_covariance[2, 0, 0]) > 0.3
    one = Observations(*(getattr(o, f)[:1] for f in o.__dataclass_fields__))
    assert np.isfinite(fit_keypoints(one, CAMERA).covariance).all()


def test_warm_start_gives_the_same_answer() -> None:
    o = make_scene(2, 60).observations()
    cold = fit_keypoints(o, CAMERA)
    warm: Fit = fit_keypoints(o, CAMERA, start=cold)
    assert np.abs(cold.position_ee - warm.position_ee).max() < 0.1 * MM


def test_a_start_that_went_astray_is_given_up() -> None:
    scene = make_scene(2, 60)
    o = scene.observations()
    cold = fit_keypoints(o, CAMERA)
    wrong = replace(
        cold,
        position_ee=cold.position_ee + np.array([[0.0], [0.0], [0.0], [0.4]]),
        weight=cold.weight * np.array([1, 1, 1, 0.1]),
    )
    assert np.abs(fit_keypoints(o, CAMERA, start=wrong).position_ee - scene.true_ee[0]).max() < 10 * MM


def test_bad_observations_are_refused() -> None:
    scene = make_scene(0, 5)
    with pytest.raises(FitError, match="0 frames with keypoint names"):
        stack_observations([], np.zeros((0, 4, 4)), np.eye(4))
    with pytest.raises(FitError, match=r"5 frames .* and 4 poses"):
        stack_observations(scene.keypoints, scene.T_base_ee[:4], np.eye(4))
    with pytest.raises(FitError, match="not finite"):
        stack_observations(scene.keypoints, scene.T_base_ee * np.nan, np.eye(4))
    o = scene.observations()
    with pytest.raises(FitError, match=r"depth has shape \(5,\), expected \(5, 4\)"):
        Observations(o.stamp, o.T_camera_ee, o.uv, o.uv_covariance, o.depth[:, 0], o.depth_variance, o.confidence)


def test_noise_model_is_the_moments_written_out() -> None:
    """The traces of the docstring, computed as they stand there."""
    rng = np.random.default_rng(1)
    T, stamp = 40, np.sort(rng.uniform(0.0, 2.0, 40))
    e, w = rng.normal(size=(T, 6)), rng.uniform(0.2, 1.0, size=(T, 6))
    kappa, M = correlation(stamp, 0.3), np.eye(T) - 1 / T
    G, S = kappa**4 - np.eye(T), e @ e.T
    n1, n2 = (w**2).sum() / T, (w * (G @ w)).sum() / G.sum()
    A = [
        [n1 * np.trace(M), n1 * np.trace(M @ kappa)],
        [n2 * np.trace(G @ M), n2 * np.trace(G @ M @ kappa @ M)],
    ]
    correlated = max(np.linalg.solve(A, [np.trace(S), np.trace(G @ S)])[1], 0.0)
    white = (np.trace(S) / n1 - correlated * np.trace(M @ kappa)) / (T - 1)
    model = noise_model(stamp, e, w, 0.3)
    assert (model.white, model.correlated) == (pytest.approx(white), pytest.approx(correlated))


def test_frames_far_apart_do_not_tell_white_from_correlated() -> None:
    e = np.random.default_rng(2).normal(size=(20, 6))
    model = noise_model(np.arange(20) * 100.0, e, np.ones_like(e), 0.3)
    assert model.white + model.correlated == pytest.approx((e**2).sum() / (6 * 19))


def test_noise_model_finds_both_parts() -> None:
    """Known variances of white and correlated noise are recovered."""
    rng = np.random.default_rng(0)
    stamp = np.arange(200) / 30.0
    L = np.linalg.cholesky(1.0 * np.eye(200) + 2.0 * correlation(stamp, 0.3))
    e = L @ rng.normal(size=(200, 60))
    model = noise_model(stamp, e - e.mean(0), np.ones_like(e), 0.3)
    assert model.white == pytest.approx(1.0, rel=0.15)
    assert model.correlated == pytest.approx(2.0, rel=0.2)
    assert NoiseModel(1.0, 0.0, 0.3).effective_frames(stamp) == pytest.approx(200)
    assert NoiseModel(0.0, 1.0, 0.3).effective_frames(stamp) < 20


coordinate = st.floats(-1.0, 1.0)
vector = st.tuples(coordinate, coordinate, coordinate).map(np.array)


@settings(max_examples=50)
@given(vector, vector)
def test_se3_exp_and_log_are_inverse(v: np.ndarray, w: np.ndarray) -> None:
    np.testing.assert_allclose(se3_log(se3_exp(np.concatenate([v, w]))), np.concatenate([v, w]), atol=1e-9)


@settings(max_examples=50)
@given(vector, vector)
def test_skew_is_the_cross_product(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(skew(a) @ b, np.cross(a, b), atol=1e-12)


def other_end(o: Observations, shown: np.ndarray, doubt: float) -> Observations:
    """In the frames ``shown`` the tip is seen 80 mm beside itself, with ``doubt`` times the standard deviation."""
    uv, covariance, depth, variance = o.uv.copy(), o.uv_covariance.copy(), o.depth.copy(), o.depth_variance.copy()
    points = CAMERA.backproject(uv[:, -1], depth[:, -1]) + o.T_camera_ee[:, :3, :3] @ [0.08, 0.0, 0.0]
    uv[shown, -1], depth[shown, -1] = CAMERA.project(points)[shown], points[shown, 2]
    covariance[shown, -1] *= doubt**2
    variance[shown, -1] *= doubt**2
    return replace(o, uv=uv, uv_covariance=covariance, depth=depth, depth_variance=variance)


@pytest.mark.parametrize(("share", "doubt"), [(0.25, 1.0), (0.5, 2.0)])
def test_the_other_end_in_many_views_is_neither_followed_nor_averaged(share: float, doubt: float) -> None:
    errors = []
    for seed in range(8):
        scene = make_scene(seed)
        o = other_end(scene.observations(), np.arange(90) < 90 * share, doubt)
        first = fit_keypoints(Observations(*(x[:20] for x in vars(o).values())), CAMERA)  # sees the other end alone
        for start in (None, first):
            fit = fit_keypoints(o, CAMERA, start=start)
            errors.append(np.linalg.norm(fit.position_ee[-1] - scene.true_ee[0, -1]))
    assert max(errors) < 15 * MM
    assert np.median(errors) < 9 * MM
