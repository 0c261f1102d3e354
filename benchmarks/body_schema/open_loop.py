"""Open-loop prediction of keypoints: the extended chain against neural dynamics (arXiv 2011.03882, four baselines).

All models see the same grasp: the chain 90 frames of waving, the neural ones 1,500 transitions of random motions (not
of the waving, whose last joint repeats one path: a network would know the test by heart). They predict where the
keypoints will be after 1 and 50 known joint increments; the error is that in pixels against the true keypoints. The
vision-only detector's keypoints have no true counterpart: theirs is the point of the object that they stay nearest to
(the median of their positions in the end-effector frame, by the true depth).
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.body_schema import neural_dynamics
from benchmarks.body_schema.accuracy import extended_chain
from benchmarks.body_schema.cases import RATE, Case, Options, estimate, open_case, positions, record
from benchmarks.runner import Cases
from ideomotor.body.chain import KinematicChain
from ideomotor.body.detector import KeypointDetector
from ideomotor.body.estimator import Estimate
from ideomotor.body.keypoints import Keypoints
from ideomotor_sim.motion import Frame, Reference, record_episode
from ideomotor_sim.transforms import inverse, transform

TRAJECTORIES, STEPS = 20, 75  # for training: 1,480 transitions
TEST_TRAJECTORIES, HORIZON = 4, 50
SLOWEST, FASTEST, RAMP = 0.2, 0.6, 0.4  # [Hz], [Hz], [s] of the motions
TOOL = "stick"


@dataclass(frozen=True)
class Runs:
    """Trajectories of the arm with what a detector saw."""

    q: np.ndarray  # (N, T, n)
    uv: np.ndarray  # (N, T, K, 2) [px]
    depth: np.ndarray  # (N, T, K) [m], without gaps
    T_base_ee: np.ndarray  # (N, T, 4, 4)
    true_position_ee: np.ndarray  # (K, 3) [m]


def measure(options: Options, detector: KeypointDetector, vision_only: KeypointDetector | None) -> dict[str, Cases]:
    """Return `open_loop_*` metrics."""
    result: dict[str, Cases] = {}
    tool = TOOL if TOOL in options.tools else options.tools[0]
    for seed in options.seeds:
        with open_case(options, seed, tool) as case:
            known = estimate(case, detector, record(case, detector, 90), frames=90)
            frames = [_trajectory(case) for _ in range(TRAJECTORIES + TEST_TRAJECTORIES)]
            structured = _runs(case, frames, detector)
            chain_1, chain_50 = _chain_errors(case, known, structured)
            result.setdefault("open_loop_chain_1_px", []).append((seed, chain_1))
            result.setdefault("open_loop_chain_50_px", []).append((seed, chain_50))
            result.setdefault("open_loop_50_over_1", []).append((seed, chain_50 / chain_1))
            detectors = {"structured": structured}
            if vision_only is not None:
                detectors["vision_only"] = _runs(case, frames, vision_only, own_truth=True)
            errors = []
            for name, runs in detectors.items():
                for dimension in (2, 3):
                    error = _neural_error(case, runs, dimension, seed)
                    errors.append(error)
                    result.setdefault(f"open_loop_neural_{name}_{dimension}d_50_px", []).append((seed, error))
            result.setdefault("open_loop_neural_over_chain_min", []).append((seed, min(errors) / chain_50))
    return result


def _trajectory(case: Case) -> list[Frame]:
    start = dict(zip(case.world.joint_names, case.home.tolist(), strict=True))
    case.world.set_configuration(start)
    case.world.set_command({name: start[name] for name in case.world.command_names})
    reference = random_motion(case.chain, case.chain.from_names(start), case.rng)
    return list(record_episode(case.world, reference, STEPS / RATE, RATE))


def random_motion(chain: KinematicChain, q0: np.ndarray, rng: np.random.Generator) -> Reference:
    """Return two random sines a joint around ``q0``, inside the limits, at half the velocity limit at most."""
    wrist = np.arange(chain.n) >= chain.n - 3
    amplitude = np.minimum(np.where(wrist, 0.5, 0.1), 0.5 * chain.velocity_limit / (2 * np.pi * FASTEST))  # [rad]
    frequency = rng.uniform(SLOWEST, FASTEST, size=(2, chain.n))
    phase = rng.uniform(0, 2 * np.pi, size=(2, chain.n))

    def reference(time: float) -> dict[str, float]:
        begun = np.clip(time / RAMP, 0.0, 1.0)
        wave = 0.5 * np.sin(2 * np.pi * frequency * time + phase).sum(0) * begun**2 * (3 - 2 * begun)
        q = np.clip(q0 + amplitude * wave, chain.lower, chain.upper)
        return dict(zip(chain.joint_names, q.tolist(), strict=True))

    return reference


def _runs(case: Case, trajectories: list[list[Frame]], detector: KeypointDetector, own_truth: bool = False) -> Runs:
    intrinsics = case.world.camera.intrinsics
    seen: list[list[Keypoints]] = [
        [detector.detect(f.image.rgb, f.image.depth, intrinsics, f.stamp) for f in frames] for frames in trajectories
    ]
    uv = np.array([[k.uv for k in keypoints] for keypoints in seen])  # (N, T, K, 2)
    depth = np.array([[k.depth for k in keypoints] for keypoints in seen])  # (N, T, K)
    depth = np.where(np.isfinite(depth), depth, np.nanmedian(depth))
    T_base_ee = np.array([[f.T_base_ee for f in frames] for frames in trajectories])
    truth = trajectories[0][0].truth.position_ee
    if own_truth:
        T_ee_camera = np.linalg.inv(T_base_ee) @ case.world.T_base_camera  # (N, T, 4, 4)
        points = intrinsics.backproject(uv, depth)  # (N, T, K, 3)
        points = points @ T_ee_camera[..., :3, :3].swapaxes(-1, -2) + T_ee_camera[..., None, :3, 3]
        truth = np.median(points.reshape(-1, *points.shape[2:]), axis=0)
    q = np.array([[positions(case.chain, f) for f in frames] for frames in trajectories])
    return Runs(q, uv, depth, T_base_ee, truth)


def _true_uv(case: Case, runs: Runs) -> np.ndarray:
    """Return the true pixels of the test trajectories, shape (N, T, K, 2)."""
    T_camera_ee = inverse(case.world.T_base_camera) @ runs.T_base_ee[TRAJECTORIES:]
    return _project(case, T_camera_ee, runs.true_position_ee)


def _project(case: Case, T_camera_ee: np.ndarray, position_ee: np.ndarray) -> np.ndarray:
    points = position_ee @ T_camera_ee[..., :3, :3].swapaxes(-1, -2) + T_camera_ee[..., None, :3, 3]
    return case.world.camera.intrinsics.project(points)


def _starts() -> range:
    return range(0, STEPS - HORIZON, 5)


def _rmse(difference: np.ndarray) -> float:
    return float(np.sqrt((difference**2).sum(-1).mean()))


def _chain_errors(case: Case, known: Estimate, runs: Runs) -> tuple[float, float]:
    """Return the RMSE [px] after 1 and 50 steps: joint positions by adding increments, pixels by FK and projection."""
    chain = extended_chain(case, known)
    keypoints = len(runs.true_position_ee)
    names = (case.chain.ee_link,) * keypoints if known.extension is None else known.extension.keypoint_links
    q, truth = runs.q[TRAJECTORIES:], _true_uv(case, runs)
    T_camera_base = inverse(case.world.T_base_camera)
    errors = {}
    for horizon in (1, HORIZON):
        difference = []
        for start in _starts():
            u = np.diff(q[:, start : start + horizon + 1], axis=1)  # (N, H, n)
            predicted_q = q[:, start] + u.sum(axis=1)  # (N, n)
            for run, position in enumerate(predicted_q):
                arm = dict(zip(case.chain.joint_names, position.tolist(), strict=True)) | known.joint_position
                full = chain.from_names(arm)
                points = np.array([chain.forward(full, name)[:3, 3] for name in names])
                uv = case.world.camera.intrinsics.project(transform(T_camera_base, points))
                difference.append(uv - truth[run, start + horizon])
        errors[horizon] = _rmse(np.array(difference))
    return errors[1], errors[HORIZON]


def _neural_error(case: Case, runs: Runs, dimension: int, seed: int) -> float:
    """Return the RMSE [px] of one neural baseline after 50 steps."""
    z = runs.uv if dimension == 2 else np.concatenate([runs.uv, runs.depth[..., None]], axis=-1)
    model = neural_dynamics.train(runs.q[:TRAJECTORIES], z[:TRAJECTORIES], seed=seed)
    q, z_test, truth = runs.q[TRAJECTORIES:], z[TRAJECTORIES:], _true_uv(case, runs)
    difference = []
    for start in _starts():
        actions = np.diff(q[:, start : start + HORIZON + 1], axis=1)
        predicted = model.rollout(q[:, start], z_test[:, start], actions)[:, -1, :, :2]  # (N, K, 2)
        difference.append(predicted - truth[:, start + HORIZON])
    return _rmse(np.array(difference))
