"""The slip detector on innovations, and slips and drops seen by the estimator."""

from dataclasses import replace

import numpy as np
import pytest

from ideomotor.body.estimator import BodySchemaEstimator, Estimate, EstimatorConfig, State
from ideomotor.body.inner_joint import rotation
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.slip import Slip, SlipDetector, in_place
from tests.unit.body_scene import (
    CAMERA,
    NAMES,
    TYPICAL,
    Moving,
    Noise,
    Scene,
    correlated,
    hinged,
    iiwa,
    make_scene,
    observe,
    to_camera,
)

WORN = Noise(1.0, 0.004, 1.5, 0.004, outliers=0.05)
SIGMA = 0.006
DROP_TIME = EstimatorConfig().drop_time  # [s]
PLACE = np.array([0.0, 0.0, 0.05]) + np.array([0.02, 0.0, 0.2]) * np.arange(1, 5)[:, None] / 4  # (4, 3) of a stick
INFORMATION = np.tile(np.eye(3) / SIGMA**2, (4, 1, 1))


def slipping(at: float) -> Moving:
    """An object that moves by 20 to 60 mm and 30 deg at time ``at``."""

    def moving(rng: np.random.Generator, stamp: np.ndarray, rest: np.ndarray) -> np.ndarray:
        a, b = rng.normal(size=(2, 3))
        R = rotation(np.deg2rad(30) * b / np.linalg.norm(b))
        after = (rest - 0.3 * rest[0]) @ R.T + 0.3 * rest[0] + rng.uniform(0.02, 0.06) * a / np.linalg.norm(a)
        return np.where((stamp >= at)[:, None, None], after, rest)

    return moving


def play(scene: Scene, estimator: BodySchemaEstimator | None = None) -> list[Estimate]:
    estimator = estimator or BodySchemaEstimator(iiwa(), CAMERA, scene.T_base_camera, NAMES, "kp_3")
    return [estimator.update(t, q, k) for t, q, k in zip(scene.stamp, scene.q, scene.keypoints, strict=True)]


def feed(detector: SlipDetector, position: np.ndarray) -> tuple[int, Slip] | None:
    """First slip reported for keypoints (T, K, 3) at 30 Hz, with its frame."""
    for t, y in enumerate(position):
        slip = detector.update(t / 30, PLACE, y, INFORMATION)
        if slip is not None:
            return t, slip
    return None


def noise(rng: np.random.Generator, frames: int) -> np.ndarray:
    white = rng.normal(size=(frames, 4, 3)) * SIGMA * np.sqrt(0.5)
    return white + correlated(rng, np.arange(frames) / 30, SIGMA * np.sqrt(0.5), (4, 3))


@pytest.mark.parametrize("seed", range(6))
def test_displacement_is_found_with_its_time_and_size(seed: int) -> None:
    rng = np.random.default_rng(seed)
    axis = np.cross(PLACE[-1] - PLACE[0], rng.normal(size=3))
    displaced = PLACE @ rotation(np.deg2rad(30) * axis / np.linalg.norm(axis)).T + [0.0, 0.016, 0.012]
    found = feed(SlipDetector(), noise(rng, 120) + np.where(np.arange(120)[:, None, None] < 60, PLACE, displaced))
    assert found is not None
    frame, slip = found
    assert 60 < frame < 75
    assert slip.time == pytest.approx(2.0, abs=0.1)
    assert np.abs(slip.displacement - (displaced - PLACE)).max() < 0.015


def test_half_the_frames_cost_no_time() -> None:
    """The window is a time: a slow computer waits no longer."""
    rng, detector = np.random.default_rng(1), SlipDetector()
    position = PLACE + noise(rng, 120)
    position[60:] += [0.05, 0.0, 0.0]
    found = next(t for t in range(0, 120, 2) if detector.update(t / 30, PLACE, position[t], INFORMATION))
    assert 60 < found <= 75


def test_no_alarm_without_slip_in_minutes() -> None:
    rng = np.random.default_rng(0)
    assert feed(SlipDetector(), PLACE + noise(rng, 30 * 60)) is None


ELSEWHERE = {
    "the other end first": PLACE[::-1],
    "all on the gripper": np.tile([0.0, 0.0, 0.02], (4, 1)),
    "on something behind": PLACE + np.array([0.3, 0.1, 0.0]),
    "shifted along the object": PLACE + np.array([0.045, 0.035, 0.02, 0.0])[:, None] * [0.1, 0.0, 0.99],
    "one keypoint alone": PLACE + np.array([0.0, 0.0, 0.0, 0.1])[:, None],
}


@pytest.mark.parametrize("elsewhere", list(ELSEWHERE.values()), ids=list(ELSEWHERE))
@pytest.mark.parametrize("seed", range(3))
def test_misdetections_of_half_a_second_are_no_slip(elsewhere: np.ndarray, seed: int) -> None:
    """All keypoints agree on another place for longer than the window, but the object cannot be there."""
    position = PLACE + noise(np.random.default_rng(seed), 150)
    for start in (40, 90):
        position[start : start + 18] += elsewhere - PLACE
    assert feed(SlipDetector(), position) is None


def test_one_keypoint_in_its_place_is_enough() -> None:
    far = PLACE + 0.1
    assert not in_place(PLACE, far)
    far[2] = PLACE[2] + 0.01
    assert in_place(PLACE, far)


def test_slip_is_detected_and_recovered() -> None:
    delays, tips = [], []
    for seed in range(5):
        scene = make_scene(seed, 150, WORN, slipping(2.5))
        estimates = play(scene)
        slips = [e for e in estimates if e.event is State.SLIPPED]
        assert len(slips) == 1
        assert slips[0].extension is not None  # that of before, until a new one is good
        delays.append(slips[0].stamp - 2.5)
        after = estimates[int((2.5 + 1.0) * 30)]
        tips.append(np.linalg.norm(after.position_ee[-1] - scene.true_ee[-1, -1]))
        again = [e for e in estimates if e.event is State.EXTENDED and e.stamp > 2.5]
        assert len(again) == 1
        assert again[0].stamp - 2.5 < 1.2
    assert np.min(delays) > 0
    assert np.median(delays) < 0.4
    assert np.median(tips) < 0.008


@pytest.mark.parametrize("moving", [None, hinged], ids=["rigid", "hinged"])
def test_no_false_alarm_while_waving(moving: Moving | None) -> None:
    """12 s each; minutes of it are in docs/body_schema.md."""
    scene = make_scene(11, 180, WORN if moving is None else TYPICAL, moving)
    assert not [e for e in play(scene) if e.event in (State.SLIPPED, State.DROPPED)]


def test_object_that_falls_is_dropped() -> None:
    scene = make_scene(3, 150, WORN)
    at = 75
    T_camera_base = np.linalg.inv(scene.T_base_camera)
    fallen = scene.true_ee[0] @ scene.T_base_ee[at, :3, :3].T + scene.T_base_ee[at, :3, 3]
    depth = np.minimum(0.5 * 9.81 * (scene.stamp[at:] - scene.stamp[at]) ** 2, 0.6)
    in_base = fallen - depth[:, None, None] * np.array([0.0, 0.0, 1.0])
    in_camera = in_base @ T_camera_base[:3, :3].T + T_camera_base[:3, 3]
    keypoints = scene.keypoints[:at] + observe(scene.rng, scene.stamp[at:], in_camera, WORN)
    estimates = play(
        Scene(scene.stamp, scene.q, scene.T_base_ee, scene.T_base_camera, scene.true_ee, keypoints, scene.rng)
    )
    dropped = [e for e in estimates if e.event is State.DROPPED]
    assert len(dropped) == 1
    assert dropped[0].stamp - scene.stamp[at] < DROP_TIME + 0.5
    assert dropped[0].extension is None
    assert estimates[-1].state is State.DROPPED


def burst(scene: Scene, frames: range) -> list[Keypoints]:
    """The keypoints with all of them on the gripper for a while: confident, and wrong."""
    at = np.tile([0.0, 0.0, 0.02], (len(frames), 4, 1))
    wrong = observe(scene.rng, scene.stamp[frames.start : frames.stop], at_camera(scene, frames, at), WORN)
    return [*scene.keypoints[: frames.start], *wrong, *scene.keypoints[frames.stop :]]


def at_camera(scene: Scene, frames: range, in_ee: np.ndarray) -> np.ndarray:
    return to_camera(scene.T_base_camera, scene.T_base_ee[frames.start : frames.stop], in_ee)


def test_misdetection_of_all_keypoints_changes_nothing() -> None:
    scene = make_scene(6, 150, WORN)
    estimates = play(replace(scene, keypoints=burst(scene, range(60, 78))))
    assert [e.event for e in estimates if e.event] == [State.EXTENDED]
    tips = [np.linalg.norm(e.position_ee[-1] - scene.true_ee[0, -1]) for e in estimates[60:]]
    assert np.max(tips) < 0.01


def test_keypoints_that_are_nowhere_where_the_object_is_held_are_a_drop() -> None:
    scene = make_scene(6, 150, WORN)
    events = [(e.event, e.stamp) for e in play(replace(scene, keypoints=burst(scene, range(60, 120)))) if e.event]
    assert [e for e, _ in events][:2] == [State.EXTENDED, State.DROPPED]
    assert events[1][1] == pytest.approx(2.0 + DROP_TIME, abs=0.1)


def test_object_that_disappears_is_dropped_and_found_again() -> None:
    scene = make_scene(4, 180, WORN)
    gone = [replace(k, confidence=np.full(4, 0.02)) if 60 <= i < 120 else k for i, k in enumerate(scene.keypoints)]
    estimates = play(replace(scene, keypoints=gone))
    events = [(e.event, e.stamp) for e in estimates if e.event]
    assert [e for e, _ in events] == [State.EXTENDED, State.DROPPED, State.EXTENDED]
    assert events[1][1] == pytest.approx(2.0 + DROP_TIME, abs=0.1)
    short = [replace(k, confidence=np.full(4, 0.02)) if 60 <= i < 75 else k for i, k in enumerate(scene.keypoints)]
    assert [e.event for e in play(replace(scene, keypoints=short)) if e.event] == [State.EXTENDED]


def test_a_misread_view_of_an_arm_at_rest_is_no_drop_yet() -> None:
    scene = make_scene(6, 190, WORN)
    still = scene.q.copy()
    still[60:135] = still[60]  # the arm rests for 2.5 s in a view in which all keypoints are wrong
    T_base_ee = iiwa().forward_batch(still)
    resting = replace(scene, q=still, T_base_ee=T_base_ee)
    seen = observe(scene.rng, scene.stamp, to_camera(scene.T_base_camera, T_base_ee, scene.true_ee), WORN)
    resting = replace(resting, keypoints=burst(replace(resting, keypoints=seen), range(60, 135)))
    assert [e.event for e in play(resting) if e.event] == [State.EXTENDED]


def test_object_out_of_view_is_still_held() -> None:
    """What the camera cannot see it does not miss; back in view, the object is as it was."""
    scene = make_scene(5, 120, WORN)
    turned = scene.q.copy()
    turned[60:110, 3] += 1.5  # the arm lifts the object above what the camera sees
    blind = [replace(k, confidence=np.full(4, 0.02)) if 60 <= i < 110 else k for i, k in enumerate(scene.keypoints)]
    estimates = play(replace(scene, q=turned, keypoints=blind))
    assert [e.event for e in estimates if e.event] == [State.EXTENDED]
    assert estimates[-1].state is State.EXTENDED


@pytest.mark.parametrize("angle", [0.25, 0.5])
def test_an_object_that_turns_about_its_first_keypoint_has_slipped(angle: float) -> None:
    turned = (PLACE - PLACE[0]) @ rotation(np.array([angle, 0.0, 0.0])).T + PLACE[0]
    rng, detector, slips = np.random.default_rng(0), SlipDetector(), []
    for i in range(60):
        seen = (PLACE if i < 30 else turned) + SIGMA * rng.normal(size=(4, 3))
        slips.append(detector.update(i / 30, PLACE, seen, INFORMATION))
    found = [i for i, slip in enumerate(slips) if slip is not None]
    assert found
    assert 30 < found[0] < 45
