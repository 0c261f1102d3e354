"""The recursive estimator: accuracy, bounds, determinism, bad input."""

import time
from dataclasses import replace

import numpy as np
import pytest

from ideomotor.body.articulation import Selection, ee_points
from ideomotor.body.chain import ChainError
from ideomotor.body.estimator import (
    BodySchemaEstimator,
    Estimate,
    EstimatorConfig,
    EstimatorConfigs,
    EstimatorError,
    State,
)
from ideomotor.body.fit import FitConfig, fit_keypoints, se3_exp
from ideomotor.body.frame_buffer import FrameBuffer
from ideomotor.body.keypoints import KeypointError, Keypoints
from ideomotor.config import Config
from tests.unit.body_scene import (
    CAMERA,
    NAMES,
    TYPICAL,
    Moving,
    Noise,
    Scene,
    hinged,
    iiwa,
    make_scene,
    observe,
    sliding,
    to_camera,
)

MM = 1e-3


def estimator(scene: Scene, **configs: Config) -> BodySchemaEstimator:
    return BodySchemaEstimator(iiwa(), CAMERA, scene.T_base_camera, NAMES, "kp_3", EstimatorConfigs(**configs))


def play(scene: Scene, e: BodySchemaEstimator) -> list[Estimate]:
    return [e.update(t, q, k) for t, q, k in zip(scene.stamp, scene.q, scene.keypoints, strict=True)]


def tip_error(estimate: Estimate, scene: Scene) -> float:
    """Tip of the extended chain against the true one, in the frame of the estimate [m]."""
    i = int(np.argmin(np.abs(scene.stamp - estimate.stamp)))
    q = np.append(scene.q[i], list(estimate.joint_position.values()))
    T = np.linalg.inv(scene.T_base_ee[i]) @ iiwa().extended(estimate.extension).forward(q)
    return float(np.linalg.norm(T[:3, 3] - scene.true_ee[i, -1]))


def test_tip_of_the_extended_chain() -> None:
    thirty, ninety = [], []
    for seed in range(6):
        scene = make_scene(seed, 90, TYPICAL)
        estimates = play(scene, estimator(scene))
        thirty.append(tip_error(estimates[29], scene))
        ninety.append(tip_error(estimates[89], scene))
    assert np.median(thirty) < 8 * MM
    assert np.median(ninety) < 5 * MM


def test_recursive_equals_batch() -> None:
    scene = make_scene(1, 91, TYPICAL)
    points_alone = EstimatorConfig(even_keypoints=False)  # the batch fit knows of no centre line
    newest = play(scene, estimator(scene, estimator=points_alone))[-1]
    batch = fit_keypoints(scene.observations(), CAMERA)
    assert np.abs(newest.position_ee - batch.position_ee).max() < 1 * MM
    assert newest.frames == 91


def test_first_states_and_events() -> None:
    scene = make_scene(2, 40)
    estimates = play(scene, estimator(scene))
    assert estimates[0].state is State.ESTIMATING
    assert estimates[0].extension is None
    assert estimates[0].tip_std == float("inf")
    events = [e for e in estimates if e.event]
    assert [e.event for e in events] == [State.EXTENDED]
    assert events[0].stamp < 0.8
    assert estimates[-1].tip_std < 12 * MM
    assert estimates[-1].observability.complete


@pytest.mark.parametrize(("moving", "kind"), [(hinged, "revolute"), (sliding, "prismatic")], ids=["hinged", "sliding"])
def test_joint_of_the_object_is_found_while_running(moving: Moving | None, kind: str) -> None:
    scene = make_scene(7, 150, Noise(1.0, 0.004), moving)
    e = estimator(scene)
    estimates = play(scene, e)
    movable = [j for j in estimates[-1].extension.joints if j.axis is not None]
    assert [j.type.value for j in movable] == [kind]
    assert list(estimates[-1].joint_position) == ["virtual_joint"]
    assert np.median([tip_error(x, scene) for x in estimates[130:]]) < 10 * MM
    refined = e.refine()
    assert [j.type.value for j in refined.extension.joints if j.axis is not None] == [kind]
    assert not [x for x in estimates if x.event is State.SLIPPED]


def test_a_change_of_mind_about_the_joint_is_repeated_unless_all_frames_are_asked() -> None:
    scene, movable_after = make_scene(0, 90, Noise(), hinged), []
    e = estimator(scene)
    found = play(scene, e)[-1]
    assert len(found.joint_position) == 1
    movable, rigid = Selection(e._joint, 50.0, 10.0), Selection(None, 0.0, 10.0)
    for verdict in (rigid, rigid, movable, rigid, rigid, rigid, movable, rigid, movable, movable):
        e._selected(verdict)
        movable_after.append(e._joint is not None)
    assert movable_after == [True] * 5 + [False] * 4 + [True]
    e._selected(rigid, at_once=True)
    assert e._joint is None


def test_camera_refinement_through_the_estimator() -> None:
    scene = make_scene(3, 90, Noise(1.0, 0.004))
    off = se3_exp(np.array([0.015, -0.01, 0.008, 0.02, -0.02, 0.02]))
    wrong = replace(scene, T_base_camera=scene.T_base_camera @ off)
    errors = []
    for refine in (False, True):
        e = estimator(wrong, fit=FitConfig(refine_camera=refine), estimator=EstimatorConfig(max_tip_std=0.1))
        errors.append(tip_error(play(wrong, e)[-1], scene))
    assert errors[1] < 10 * MM < errors[0]


def test_same_messages_same_estimates() -> None:
    scene = make_scene(4, 60, Noise(1.0, 0.004, outliers=0.1))
    e = estimator(scene)
    first = [x.position_ee for x in play(scene, e)]
    e.reset()
    for a, b in zip(first, (x.position_ee for x in play(scene, e)), strict=True):
        assert (a is None and b is None) or np.array_equal(a, b)


def test_memory_is_bounded_and_remembers_the_past() -> None:
    scene = make_scene(5, 200)
    buffer = FrameBuffer(60, 4)
    for k, T in zip(scene.keypoints, np.linalg.inv(scene.T_base_camera) @ scene.T_base_ee, strict=True):
        buffer.append(k, T)
        assert len(buffer) <= 60
    kept = buffer.observations().stamp
    assert (np.diff(kept) > 0).all()
    np.testing.assert_allclose(kept[-30:], scene.stamp[-30:])
    assert kept[0] == 0.0
    chosen = buffer.observations(20)
    assert len(chosen.stamp) == 20
    assert chosen.stamp[-1] == scene.stamp[-1]
    buffer.forget_before(scene.stamp[-5])
    assert len(buffer) == 5


def test_an_arm_at_rest_does_not_replace_what_was_seen_in_motion() -> None:
    """Four seconds of one view, in which the detector is 18 mm wrong, after three seconds of waving."""
    scene = make_scene(5, 210, TYPICAL)
    q = np.array([scene.q[min(i, 89)] for i in range(210)])
    T_base_ee = iiwa().forward_batch(q)
    in_camera = to_camera(scene.T_base_camera, T_base_ee[90:], scene.true_ee[90:] + np.array([0.0, 0.018, 0.0]))
    keypoints = [*scene.keypoints[:90], *observe(scene.rng, scene.stamp[90:], in_camera, TYPICAL)]
    rested = replace(scene, q=q, T_base_ee=T_base_ee, keypoints=keypoints)
    estimates = play(rested, estimator(rested))
    assert tip_error(estimates[-1], rested) < 8 * MM
    assert 90 <= estimates[-1].frames <= 105


def test_update_fits_into_a_frame() -> None:
    """Bounded work: far below 33 ms of processor time, whatever the machine is doing."""
    scene = make_scene(6, 200, TYPICAL)
    e, spent = estimator(scene), []
    for t, q, k in zip(scene.stamp, scene.q, scene.keypoints, strict=True):
        start = time.process_time()
        e.update(t, q, k)
        spent.append(time.process_time() - start)
    assert np.quantile(spent[100:], 0.95) < 15 * MM


def test_missing_depth_and_empty_frames_are_survived() -> None:
    scene = make_scene(7, 90)
    none = np.full(4, np.nan)
    empty = Keypoints(0.0, (), *(np.zeros(s) for s in ((0, 2), (0, 2, 2), (0,), (0,), (0,))))
    keypoints = [
        empty if i % 10 == 0 else replace(k, depth=none, depth_variance=none) if i % 2 else k
        for i, k in enumerate(scene.keypoints)
    ]
    estimates = play(replace(scene, keypoints=keypoints), estimator(scene))
    assert estimates[-1].state is State.EXTENDED
    assert tip_error(estimates[-1], scene) < 10 * MM


def test_without_any_depth_it_waits_until_the_motion_was_informative() -> None:
    still = make_scene(8, 60, still=True)
    none = np.full(4, np.nan)
    blind = [replace(k, depth=none, depth_variance=none) for k in still.keypoints]
    estimates = play(replace(still, keypoints=blind), estimator(still))
    assert estimates[-1].state is State.ESTIMATING
    assert len(estimates[-1].observability.unobserved) == 4


def test_bad_input_is_refused_and_changes_nothing() -> None:
    scene = make_scene(9, 40)
    e = estimator(scene)
    before = play(scene, e)[-1]
    k, q = scene.keypoints[-1], scene.q[-1]
    with pytest.raises(EstimatorError, match=r"stamp=0\.5 is not after"):
        e.update(0.5, q, k)
    with pytest.raises(EstimatorError, match="stamp=nan"):
        e.update(float("nan"), q, k)
    with pytest.raises(KeypointError, match=r"expected \['kp_0'"):
        e.update(9.0, q, replace(k, names=("a", "b", "c", "d")))
    with pytest.raises(ChainError):
        e.update(9.0, q[:3], k)
    with pytest.raises(ChainError):
        e.update(9.0, q * np.nan, k)
    after = e.update(scene.stamp[-1] + 1 / 30, q, k)
    assert after.frames == before.frames + 1
    with pytest.raises(EstimatorError, match="tip='x'"):
        BodySchemaEstimator(iiwa(), CAMERA, np.eye(4), NAMES, "x")
    with pytest.raises(EstimatorError, match="expected a finite pose"):
        BodySchemaEstimator(iiwa(), CAMERA, np.eye(3), NAMES, "kp_3")
    with pytest.raises(EstimatorError, match="no frames to refine"):
        estimator(scene).refine()


def test_points_of_frames_without_depth_are_rays() -> None:
    """A ray has no information along itself, and full information across."""
    scene = make_scene(0, 10, Noise(px=0.0, depth=0.0))
    o = scene.observations()
    fit = fit_keypoints(o, CAMERA)
    points = ee_points(replace(o, depth=np.full(o.depth.shape, np.nan)), CAMERA, fit)
    assert np.abs(points.position - scene.true_ee).max() < 0.1 * MM
    values = np.linalg.eigvalsh(points.information)
    assert np.abs(values[..., 0]).max() < 1e-6 * values[..., 2].min()
