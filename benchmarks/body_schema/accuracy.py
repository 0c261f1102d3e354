"""Accuracy through the whole pipeline: rendered images, noisy depth, detector, estimator, extended URDF."""

import itertools
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks.body_schema.cases import Case, Options, Recording, estimate, open_case, positions, record
from benchmarks.runner import Cases
from ideomotor.body.camera import Intrinsics
from ideomotor.body.chain import KinematicChain
from ideomotor.body.detector import KeypointDetector
from ideomotor.body.estimator import Estimate, EstimatorConfigs
from ideomotor.body.fit import FitConfig
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.urdf import extend_urdf
from ideomotor_sim.motion import Frame, take_frame
from ideomotor_sim.transforms import inverse, transform

UNSEEN_CONFIGURATIONS = 100
OUTLIER_SHARE = 0.2
CAMERA_ERROR = (0.02, np.deg2rad(2.0))  # [m], [rad]
ON_OBJECT_DISTANCE = 0.01  # [m] from the centre line
SMALLEST_OBJECT = 30  # [px] frames that show less of the object are not counted


@dataclass
class Accuracy:
    """Values by metric, one (seed, value) a case."""

    values: dict[str, Cases] = field(default_factory=dict)

    def add(self, key: str, seed: int, value: float) -> None:
        """Add the value of one case."""
        self.values.setdefault(key, []).append((seed, value))


def measure(options: Options, detector: KeypointDetector, vision_only: KeypointDetector | None) -> Accuracy:
    """Run all cases."""
    result = Accuracy()
    for seed in options.seeds:
        for tool in options.tools:
            with open_case(options, seed, tool) as case:
                recording = record(case, detector, max(options.frames))
                _on_object(result, case, recording, detector, vision_only)
                if tool in options.rigid_tools:
                    _rigid(result, options, case, recording, detector)
                else:
                    _movable(result, case, recording, detector, max(options.frames))
    return result


def _rigid(result: Accuracy, options: Options, case: Case, recording: Recording, detector: KeypointDetector) -> None:
    for frames in options.frames:
        known = estimate(case, detector, recording, frames=frames)
        result.add(f"tip_error_{frames}", case.seed, 1e3 * tip_error(case, known))
    longest = max(options.frames)
    result.add("false_joint", case.seed, 100.0 * _has_joint(known))
    for error in joint_errors(case, known, detector):
        result.add(f"joint_error_{longest}", case.seed, 1e3 * error)
    corrupted = with_outliers(recording, case)
    known = estimate(case, detector, recording, frames=longest, keypoints=corrupted)
    result.add("tip_error_outliers", case.seed, 1e3 * tip_error(case, known))
    wrong = displaced_camera(case)
    for key, refine in (("tip_error_extrinsics", True), ("tip_error_extrinsics_unrefined", False)):
        configs = EstimatorConfigs(fit=FitConfig(refine_camera=refine))
        known = estimate(case, detector, recording, frames=longest, T_base_camera=wrong, configs=configs)
        result.add(key, case.seed, 1e3 * tip_error(case, known))


def _movable(result: Accuracy, case: Case, recording: Recording, detector: KeypointDetector, frames: int) -> None:
    known = estimate(case, detector, recording, frames=frames)
    joint = case.world.tool.joint if case.world.tool is not None else None
    assert joint is not None
    found = [] if known.extension is None else [j for j in known.extension.joints if j.axis is not None]
    correct = len(found) == 1 and found[0].type.value == joint.type
    result.add("joint_type_correct", case.seed, 100.0 * correct)
    if correct:
        assert known.extension is not None
        axis_ee = virtual_axis_ee(case, known)
        true_axis_ee = case.world.T_ee_tool[:3, :3] @ joint.axis
        cosine = min(1.0, abs(float(axis_ee @ true_axis_ee)))
        result.add("axis_error", case.seed, float(np.rad2deg(np.arccos(cosine))))


def _has_joint(known: Estimate) -> bool:
    return known.extension is not None and any(j.axis is not None for j in known.extension.joints)


def virtual_axis_ee(case: Case, known: Estimate) -> np.ndarray:
    """Return the direction of the movable virtual joint in the end-effector frame, shape (3,)."""
    chain = extended_chain(case, known)
    assert known.extension is not None
    joint = next(j for j in known.extension.joints if j.axis is not None)
    q = extended_positions(chain, case, known, case.chain.mid)
    T_ee_joint = np.linalg.inv(chain.forward(q, case.chain.ee_link)) @ chain.forward(q, joint.child_link)
    return T_ee_joint[:3, :3] @ joint.axis


def extended_chain(case: Case, known: Estimate) -> KinematicChain:
    """Return the chain of the extended URDF, to the tip the estimator names; without extension the nominal one."""
    if known.extension is None:
        return case.chain
    movable = [j.name for j in known.extension.joints if j.axis is not None]
    urdf = extend_urdf(case.world.robot.urdf, known.extension)
    return KinematicChain.from_urdf(urdf, ee_link=known.extension.tip_link, passive=movable)


def extended_positions(chain: KinematicChain, case: Case, known: Estimate, q: np.ndarray) -> np.ndarray:
    """Return the extended chain's joint positions: the arm's, and the virtual joints' newest ones."""
    arm = dict(zip(case.chain.joint_names, q.tolist(), strict=True))
    return chain.from_names(arm | known.joint_position)


def tip_error(case: Case, known: Estimate) -> float:
    """Return the median distance of the chain's tip from the working point, over configurations not used [m]."""
    chain = extended_chain(case, known)
    tip_ee = case.world.tip_position_ee()
    errors = []
    for q in case.random_configurations(UNSEEN_CONFIGURATIONS):
        case.place(q)
        truth = transform(case.world.T_base_ee(), tip_ee)
        errors.append(np.linalg.norm(chain.forward(extended_positions(chain, case, known, q))[:3, 3] - truth))
    return float(np.median(errors))


def joint_errors(case: Case, known: Estimate, detector: KeypointDetector) -> list[float]:
    """Return distances of virtual joints from their keypoints detected anew, with noise-free depth [m].

    The configurations lie around the recorded ones, so that the object is in view; a keypoint that the camera sees
    counts wherever it is detected.
    """
    if known.extension is None:
        return []
    chain = extended_chain(case, known)
    errors = []
    for q in _seen_configurations(case):
        case.place(q)
        frame = take_frame(case.world)
        exact = replace(frame.image, depth=frame.image.depth_exact)
        seen = detector.detect(exact.rgb, exact.depth, case.world.camera.intrinsics, frame.stamp)
        q_extended = extended_positions(chain, case, known, q)
        joints = np.array([chain.forward(q_extended, link)[:3, 3] for link in known.extension.keypoint_links])
        joints_camera = transform(inverse(case.world.T_base_camera), joints)
        errors += distances(seen, joints_camera, case.world.camera.intrinsics)[frame.truth.visible].tolist()
    return errors


def distances(seen: Keypoints, positions_camera: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
    """Return distances of points (K, 3) from keypoints, from the ray of one without depth, shape (K,) [m]."""
    ray = intrinsics.backproject(seen.uv, np.ones(len(seen.names)))
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    nearest = (positions_camera * ray).sum(axis=1, keepdims=True) * ray
    found = np.where(np.isfinite(seen.depth)[:, None], seen.position_camera(intrinsics), nearest)
    return np.linalg.norm(positions_camera - found, axis=1)


def _seen_configurations(case: Case) -> np.ndarray:
    """Return configurations around the home of the case in which most keypoints are visible."""
    centre = case.chain.from_names(dict(zip(case.world.joint_names, case.home.tolist(), strict=True)))
    found: list[np.ndarray] = []
    for _ in range(10 * UNSEEN_CONFIGURATIONS):
        q = np.clip(centre + case.rng.normal(0.0, 0.3, len(centre)), case.chain.lower, case.chain.upper)
        case.place(q)
        if case.world.keypoint_truth().visible.mean() >= 0.5:
            found.append(q)
        if len(found) == UNSEEN_CONFIGURATIONS:
            break
    return np.array(found).reshape(-1, case.chain.n)


def with_outliers(recording: Recording, case: Case) -> list[Keypoints]:
    """Return the keypoints with a share replaced: anywhere in the image, at the depth found there, as confident."""
    camera = case.world.camera
    corrupted = []
    for seen, frame in zip(recording.keypoints, recording.frames, strict=True):
        replaced = case.rng.random(len(seen.names)) < OUTLIER_SHARE
        uv, depth = seen.uv.copy(), seen.depth.copy()
        u = case.rng.integers(camera.width, size=len(uv))
        v = case.rng.integers(camera.height, size=len(uv))
        uv[replaced] = np.stack([u, v], axis=1)[replaced]
        found = frame.image.depth[v, u]
        depth[replaced] = np.where(found > 0, found, np.nan)[replaced]
        corrupted.append(replace(seen, uv=uv, depth=depth))
    return corrupted


def displaced_camera(case: Case) -> np.ndarray:
    """Return the camera pose, moved by 2 cm and turned by 2 deg in random directions."""
    direction, axis = case.rng.normal(size=(2, 3))
    T = np.eye(4)
    T[:3, 3] = CAMERA_ERROR[0] * direction / np.linalg.norm(direction)
    T[:3, :3] = Rotation.from_rotvec(CAMERA_ERROR[1] * axis / np.linalg.norm(axis)).as_matrix()
    return case.world.T_base_camera @ T


def _on_object(
    result: Accuracy,
    case: Case,
    recording: Recording,
    detector: KeypointDetector,
    vision_only: KeypointDetector | None,
) -> None:
    """Count keypoints on the held object, in every third frame that shows it."""
    for frame, seen in list(zip(recording.frames, recording.keypoints, strict=True))[::3]:
        case.place(positions(case.chain, frame), frame.tool_joint)
        mask = case.world.object_mask(frame.image.depth_exact)
        if mask.sum() < SMALLEST_OBJECT:
            continue
        found = {"on_object": seen}
        if vision_only is not None:
            intrinsics = case.world.camera.intrinsics
            found["on_object_vision_only"] = vision_only.detect(
                frame.image.rgb, frame.image.depth, intrinsics, frame.stamp
            )
        for key, keypoints in found.items():
            for on in on_object(keypoints.uv, mask, case, frame):
                result.add(key, case.seed, 100.0 * on)


def on_object(uv: np.ndarray, mask: np.ndarray, case: Case, frame: Frame) -> np.ndarray:
    """Return which keypoints lie on the object's mask or within 1 cm of its centre line, shape (K,) bool."""
    column = np.clip(np.rint(uv[:, 0]), 0, mask.shape[1] - 1).astype(int)
    row = np.clip(np.rint(uv[:, 1]), 0, mask.shape[0] - 1).astype(int)
    inside = mask[row, column]
    line_camera = transform(case.world.T_camera_ee(), centre_line_ee(case, frame))  # (P, 3)
    line, reach = case.world.camera.intrinsics.project(line_camera), ON_OBJECT_DISTANCE / line_camera[:, 2]
    distance = np.linalg.norm(uv[:, None] - line, axis=-1)  # (K, P)
    return inside | (distance <= reach * case.world.camera.intrinsics.fx).any(axis=1)


def centre_line_ee(case: Case, frame: Frame) -> np.ndarray:
    """Return points of the object's centre line outside of the gripper, every few mm, shape (P, 3) [m]."""
    tool = case.world.tool
    assert tool is not None
    moved = tool.centre_line.copy()
    if tool.joint is not None:
        moved[tool.first_moving :] = transform(tool.joint.motion(frame.tool_joint), moved[tool.first_moving :])
    corners = transform(frame.T_ee_tool, moved)
    parts = [np.linspace(a, b, 50) for a, b in itertools.pairwise(corners)]
    points = np.concatenate(parts)
    return points[points[:, 2] > 0.0]
