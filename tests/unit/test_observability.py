"""What the motion identified, what would help, and the waving motion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ideomotor.body.excitation import ExcitationConfig, ExcitationError, excitation_trajectory
from ideomotor.body.fit import Fit, FitConfig, Observations, fit_keypoints
from ideomotor.body.observability import Observability, observability, suggest_motion
from tests.unit.body_scene import CAMERA, NAMES, Q0, Noise, Scene, iiwa, make_scene


def verdict(
    still: bool, depth: bool, refine: bool = False, frames: int = 60
) -> tuple[Observability, str, tuple[Scene, Fit, FitConfig]]:
    scene = make_scene(0, frames, Noise(), still=still)
    o = scene.observations()
    if not depth:
        nan = np.full(o.depth.shape, np.nan)
        o = Observations(o.stamp, o.T_camera_ee, o.uv, o.uv_covariance, nan, o.depth_variance, o.confidence)
    config = FitConfig(refine_camera=refine)
    fit = fit_keypoints(o, CAMERA, config)
    report = observability(fit, o.T_camera_ee[-1], NAMES, config)
    return report, suggest_motion(fit, iiwa(), scene.q[-1], scene.T_base_camera, config), (scene, fit, config)


def test_waving_with_depth_identifies_all_keypoints() -> None:
    report, _, _ = verdict(still=False, depth=True)
    assert report.complete
    assert report.weakest_std < 0.01


def test_without_motion_and_depth_the_optical_axis_is_unobserved() -> None:
    report, suggestion, _ = verdict(still=True, depth=False)
    assert [d.name for d in report.unobserved] == [f"{n} along the camera's optical axis" for n in NAMES]
    assert all(d.std > 0.2 for d in report.unobserved)
    assert suggestion.startswith("move iiwa_joint_")


def test_without_motion_the_camera_is_not_identified() -> None:
    report, suggestion, _ = verdict(still=True, depth=True, refine=True)
    names = [d.name for d in report.unobserved]
    assert "camera roll (about its optical axis)" in names
    assert "camera position along its optical axis" in names
    assert suggestion
    waved, _, _ = verdict(still=False, depth=True, refine=True)
    assert len(waved.unobserved) < len(report.unobserved)


def test_suggested_motion_helps_more_than_the_last_joint_or_none() -> None:
    """Going where the suggestion says reduces the uncertainty, by more than another joint does."""
    _, suggestion, (scene, fit, config) = verdict(still=True, depth=False)
    name, move = suggestion.split()[1], float(suggestion.split()[-1])

    def worst_after(joint: int, by: float) -> float:
        q = np.tile(scene.q[-1], (20, 1))
        q[:, joint] += by
        T = np.linalg.inv(scene.T_base_camera) @ iiwa().forward_batch(np.concatenate([scene.q[:20], q]))
        p = scene.true_ee[0] @ T[:, :3, :3].transpose(0, 2, 1) + T[:, None, :3, 3]
        o = scene.observations()
        C, nan = o.uv_covariance[:40], np.full((40, 4), np.nan)
        two_views = Observations(o.stamp[:40], T, CAMERA.project(p), C, nan, nan, o.confidence[:40])
        covariance = fit_keypoints(two_views, CAMERA, config).position_covariance
        return float(np.sqrt(np.linalg.eigvalsh(covariance).max()))

    helped = worst_after(iiwa().joint_names.index(name), move)
    assert helped < 0.5 * np.sqrt(np.linalg.eigvalsh(fit.position_covariance).max())
    assert helped <= worst_after(0, 0.0)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.floats(1.0, 6.0), st.floats(0.0, 3.0))
def test_waving_respects_limits_and_starts_and_ends_at_rest(seed: int, duration: float, amplitude: float) -> None:
    rng = np.random.default_rng(seed)
    chain, config = iiwa(), ExcitationConfig(duration=duration, wrist_amplitude=amplitude, velocity_share=0.3)
    q0 = chain.random(rng, margin=0.02)
    wave = excitation_trajectory(chain, q0, rng, config)
    assert (wave.position >= chain.lower).all()
    assert (wave.position <= chain.upper).all()
    assert (np.abs(wave.velocity) <= 0.3 * chain.velocity_limit + 1e-9).all()
    np.testing.assert_allclose(wave.position[[0, -1]], [q0, q0], atol=1e-12)
    assert np.abs(wave.velocity[[0, -1]]).max() < 0.1
    assert wave.time[-1] == pytest.approx(duration, abs=0.011)
    np.testing.assert_allclose(wave.at(duration + 1.0), q0, atol=1e-12)


def test_waving_is_repeatable_and_moves_the_wrist() -> None:
    a, b = (excitation_trajectory(iiwa(), Q0, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(a.position, b.position)
    assert np.ptp(a.position[:, -1]) > 1.2  # the last joint shows the object from many sides
    assert np.ptp(a.position[:, -2]) > 0.2


def test_waving_refuses_a_bad_start() -> None:
    with pytest.raises(ExcitationError, match="expected 7 finite positions"):
        excitation_trajectory(iiwa(), np.zeros(3), np.random.default_rng(0))
    with pytest.raises(ExcitationError, match="outside the limits of 'iiwa_joint_2'"):
        excitation_trajectory(iiwa(), np.array([0, 3.0, 0, 0, 0, 0, 0]), np.random.default_rng(0))
    with pytest.raises(ExcitationError, match="below slowest"):
        excitation_trajectory(iiwa(), Q0, np.random.default_rng(0), ExcitationConfig(slowest=2.0, fastest=1.0))
    with pytest.raises(ExcitationError, match=r"shake_fastest=2.0 is below shake_slowest=3.0"):
        excitation_trajectory(
            iiwa(), Q0, np.random.default_rng(0), ExcitationConfig(shake_slowest=3.0, shake_fastest=2.0)
        )


def test_waving_shakes_a_loose_part_of_the_object() -> None:
    """A part on a spring that sags by 25 mm under its weight moves at least twice as far as without the shake."""

    def stroke(seed: int, amplitude: float) -> float:
        config = ExcitationConfig(shake_amplitude=amplitude)
        wave = excitation_trajectory(iiwa(), Q0, np.random.default_rng(seed), config)
        T = iiwa().forward_batch(wave.position)
        dt, gravity = 1 / config.rate, np.array([0.0, 0.0, -9.81])
        acceleration = np.gradient(np.gradient(T[:, :3, 3], dt, axis=0), dt, axis=0)
        force = ((gravity - acceleration) * T[:, :3, 2]).sum(1)  # along the object, for each kilogram
        stiffness, x, v, positions = 9.81 / 0.025, force[0] * 0.025 / 9.81, 0.0, []
        for f in force:
            v += dt * (f - stiffness * x - 0.4 * np.sqrt(stiffness) * v)
            x += dt * v
            positions.append(x)
        return float(np.ptp(positions))

    ratio = [stroke(seed, ExcitationConfig().shake_amplitude) / stroke(seed, 0.0) for seed in range(10)]
    assert np.median(ratio) > 2.0
