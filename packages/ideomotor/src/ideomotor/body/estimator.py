"""The body schema, frame by frame: what is held, where its tip is, and whether that still holds.

One `update` per image: frame -> buffer -> slip test -> robust fit (warm start, every few frames) -> a few steps
of the joint selection -> estimate. Memory and work per update are bounded; the same messages give the same estimates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from ideomotor.body.articulation import (
    Points,
    Selection,
    ee_points,
    select_joint,
    selection_steps,
)
from ideomotor.body.camera import Intrinsics
from ideomotor.body.centre_line import straightened
from ideomotor.body.chain import KinematicChain
from ideomotor.body.estimator_config import EstimatorConfig as EstimatorConfig
from ideomotor.body.estimator_config import EstimatorConfigs as EstimatorConfigs
from ideomotor.body.extension import BodyExtension
from ideomotor.body.fit import Fit, Observations, fit_keypoints
from ideomotor.body.frame_buffer import FrameBuffer
from ideomotor.body.inner_joint import Joint, locate_joint
from ideomotor.body.keypoints import KeypointError, Keypoints
from ideomotor.body.observability import Observability, observability, suggest_motion
from ideomotor.body.slip import Slip, SlipDetector, in_place
from ideomotor.body.virtual_joints import HeldObject, build_extension, tip_covariance
from ideomotor.errors import IdeomotorError

MOVABLE_VERDICTS, RIGID_VERDICTS = 2, 3  # in a row make a rigid object movable, a movable one rigid again

REST = 1e-3  # largest change of an entry of the ee frame's pose from frame to frame at rest [1] or [m]


class EstimatorError(IdeomotorError):
    """Input that the estimator cannot use; what it knew before stays."""


class State(str, Enum):
    """What is known of the held object."""

    ESTIMATING = "estimating"  # nothing is held, or not yet known well enough
    EXTENDED = "extended"  # the extension is good
    SLIPPED = "slipped"  # the grasp moved: the extension is that of before, a new one is being estimated
    DROPPED = "dropped"  # the object is gone: there is no extension


@dataclass(frozen=True)
class Estimate:
    """What the estimator knows after a frame."""

    stamp: float  # of the frame [s]
    state: State
    event: State | None  # the state if it was entered with this frame
    reason: str  # of the event; empty without one
    extension: BodyExtension | None
    joint_position: dict[str, float]  # of movable virtual joints, by name [rad] or [m]
    position_ee: np.ndarray | None  # (K, 3) keypoints in the ee frame now [m]; None before the first fit
    covariance: np.ndarray | None  # (K, 3, 3) [m^2]
    tip_covariance: np.ndarray | None  # (6, 6) of the tip in the ee frame, (xyz, rotation vector)
    T_camera_corrected: np.ndarray  # (4, 4) refined camera frame in the nominal one
    camera_covariance: np.ndarray  # (6, 6); zero when not refined
    inlier_ratio: float
    frames: int  # kept and used
    observability: Observability | None

    @property
    def tip_std(self) -> float:
        """Square root of the largest eigenvalue of the tip's position covariance [m]; inf before the first fit."""
        if self.tip_covariance is None:
            return float("inf")
        return float(np.sqrt(np.linalg.eigvalsh(self.tip_covariance[:3, :3])[-1]))


class BodySchemaEstimator:
    """Recursive estimator of the extended body schema."""

    def __init__(
        self,
        chain: KinematicChain,
        intrinsics: Intrinsics,
        T_base_camera: np.ndarray,
        keypoint_names: Sequence[str],
        tip: str,
        configs: EstimatorConfigs | None = None,
        prefix: str = "virtual_",
    ) -> None:
        """Prepare an estimator that knows nothing yet.

        Args:
            chain: from the camera's base frame to the link that holds the object.
            intrinsics: of the camera that sees the object.
            T_base_camera: nominal pose of the optical frame, shape (4, 4).
            keypoint_names: in the detector's order, (K,).
            tip: the keypoint that is the working point.
            configs: all configurations; defaults if None.
            prefix: of the names of virtual joints and links.

        Raises:
            EstimatorError: if the camera pose is not finite, or the tip is not a keypoint.
        """
        if np.shape(T_base_camera) != (4, 4) or not np.isfinite(T_base_camera).all():
            raise EstimatorError(f"T_base_camera={np.asarray(T_base_camera).tolist()}, expected a finite pose (4, 4)")
        if tip not in keypoint_names:
            raise EstimatorError(f"tip={tip!r} is not among the keypoints {list(keypoint_names)}")
        self._chain, self._intrinsics, self._T_camera_base = chain, intrinsics, np.linalg.inv(T_base_camera)
        self._names, self._tip, self._prefix = tuple(keypoint_names), tip, prefix
        self._configs = configs or EstimatorConfigs()
        self.reset()

    def reset(self) -> None:
        """Forget everything, as after construction."""
        self._buffer = FrameBuffer(self._configs.estimator.max_frames, len(self._names))
        self._slip = SlipDetector(self._configs.slip)
        self._state = State.ESTIMATING
        self._extension: BodyExtension | None = None
        self._last_stamp = -np.inf
        self._unseen, self._T_camera_ee = 0.0, np.full((4, 4), np.nan)  # [s]; of the frame before
        self._slip_time = -np.inf
        self._restart()

    def _restart(self) -> None:
        """Forget the estimate, not the frames."""
        self._fit: Fit | None = None
        self._held: HeldObject | None = None  # as the detector sees it: what frames are compared with
        self._object: HeldObject | None = None  # as it most probably is: what extends the chain
        self._observability: Observability | None = None
        self._selection: Iterator[Selection | None] | None = None
        self._joint: Joint | None = None
        self._joint_position = 0.0
        self._other_verdicts = 0
        self._since_fit = 0
        self._slip.reset()

    def update(self, stamp: float, q: np.ndarray, keypoints: Keypoints) -> Estimate:
        """Take one frame.

        Args:
            stamp: time of the image [s].
            q: joint positions of the chain at that time, shape (n,) [rad or m].
            keypoints: what the detector saw.

        Raises:
            EstimatorError: if the stamp is not later than the one before; ChainError if q is bad; KeypointError if the
                keypoints have other names. The estimator stays as it was.
        """
        if keypoints.names and keypoints.names != self._names:
            raise KeypointError(f"keypoints {list(keypoints.names)}, expected {list(self._names)}")
        if not stamp > self._last_stamp:
            raise EstimatorError(f"stamp={stamp} is not after the frame before, {self._last_stamp}")
        T_camera_ee = self._T_camera_base @ self._chain.forward(q)
        elapsed = stamp - self._last_stamp if np.isfinite(self._last_stamp) else 0.0
        rests = np.abs(T_camera_ee - self._T_camera_ee).max() < REST  # a view that is misread stays so
        self._unseen += elapsed * (self._configs.estimator.rest_share if rests else 1.0)
        self._last_stamp, self._T_camera_ee = stamp, T_camera_ee
        if not self._expected_in_view(T_camera_ee):  # what is seen elsewhere, or nothing, says nothing of the object
            self._unseen = 0.0
            return self._estimate(stamp, None, "")
        confident = self._confident(keypoints)
        slip, seen = None, False
        if confident:
            self._buffer.append(replace(keypoints, stamp=stamp), T_camera_ee)
            slip, seen = self._compare(stamp, keypoints, T_camera_ee)
        if slip is not None:
            return self._estimate(stamp, *self._slipped(slip))
        if seen:
            self._unseen = 0.0
        elif self._gone():
            return self._estimate(stamp, *self._dropped("no keypoint is seen where the object is held"))
        if not (confident and seen):  # until it is clear where the object is, the estimate stays as it is
            return self._estimate(stamp, None, "")
        self._improve()
        return self._estimate(stamp, *self._transition())

    def refine(self) -> Estimate:
        """Return the best estimate from all frames kept: fit to convergence, full joint selection (tens of ms).

        Raises:
            EstimatorError: if there are no frames.
        """
        if not len(self._buffer):
            raise EstimatorError("no frames to refine, expected at least one with visible keypoints")
        self._refit(None)
        if self._configs.estimator.find_joints and len(self._buffer) >= self._configs.estimator.min_frames:
            self._selected(select_joint(self._selection_points(), self._configs.articulation), at_once=True)
        return self._estimate(self._last_stamp, *self._transition())

    def suggestion(self, q: np.ndarray) -> str:
        """Return the motion from ``q``, shape (n,), that would identify the rest; empty if there is nothing to say."""
        if self._fit is None or self._observability is None or self._observability.complete:
            return ""
        return suggest_motion(self._fit, self._chain, q, np.linalg.inv(self._T_camera_base), self._configs.fit)

    def _expected_in_view(self, T_camera_ee: np.ndarray) -> bool:
        """Return whether the camera should see half of the keypoints, as far as known."""
        if self._fit is None or self._held is None or self._state is not State.EXTENDED:
            return True
        T = np.linalg.inv(self._fit.T_camera_corrected) @ T_camera_ee
        p = self._held.position_at(self._joint_position) @ T[:3, :3].T + T[:3, 3]  # (K, 3)
        size = np.array([self._intrinsics.width, self._intrinsics.height])
        uv = self._intrinsics.project(np.where(p[:, 2:] > 0, p, np.nan))
        return bool(((uv > 0) & (uv < size - 1)).all(axis=1).mean() >= 0.5)

    def _confident(self, keypoints: Keypoints) -> bool:
        return bool(keypoints.names) and np.median(keypoints.confidence) >= self._configs.estimator.min_confidence

    # --- slip and drop -------------------------------------------------------------------------------------------

    def _compare(self, stamp: float, keypoints: Keypoints, T_camera_ee: np.ndarray) -> tuple[Slip | None, bool]:
        """Locate the inner joint; return the slip if there was one, and whether the object may be in its place."""
        if self._fit is None or self._held is None:
            return None, True
        frame = _single(keypoints, T_camera_ee)
        points = ee_points(frame, self._intrinsics, self._fit)
        position, information = points.position[0], points.information[0] / self._scale2[:, None, None]
        if self._joint is not None:
            s = self._joint.first_moving
            self._joint_position = locate_joint(self._joint, position[s:], information[s:], self._joint_position)
        if self._state is not State.EXTENDED:
            return None, True
        place = self._held.position_at(self._joint_position)
        P = np.array([self._held.keypoint_covariance(k) for k in range(len(self._names))])
        information = np.linalg.solve(np.eye(3) + information @ P, information)  # (A^-1 + P)^-1
        return self._slip.update(stamp, place, position, information), in_place(place, position)

    def _slipped(self, slip: Slip) -> tuple[State, str]:
        self._buffer.forget_before(slip.time)
        self._restart()
        self._state, self._slip_time, self._unseen = State.SLIPPED, slip.time, 0.0
        moved = float(np.median(np.linalg.norm(slip.displacement, axis=1)))
        return self._state, f"keypoints moved by {1e3 * moved:.0f} mm at {slip.time:.3f} s"

    def _gone(self) -> bool:
        held = self._state in (State.EXTENDED, State.SLIPPED)
        return held and self._unseen > self._configs.estimator.drop_time

    def _dropped(self, reason: str) -> tuple[State, str]:
        self._buffer.forget_before(np.inf)
        self._restart()
        self._state, self._extension = State.DROPPED, None
        return self._state, reason

    def _left_behind(self) -> str:
        """Return why the object is no longer held, or an empty string."""
        assert self._fit is not None
        nearest = float(np.linalg.norm(self._fit.position_ee, axis=1).min())
        if nearest > self._configs.estimator.reach:
            return f"the nearest keypoint is {nearest:.2f} m from {self._chain.ee_link}"
        observations = self._buffer.observations(60)
        points = ee_points(observations, self._intrinsics, self._fit).position  # (T, K, 3)
        T = np.linalg.inv(self._fit.T_camera_corrected) @ observations.T_camera_ee
        in_camera = points @ T[:, :3, :3].transpose(0, 2, 1) + T[:, None, :3, 3]
        if _scatter(in_camera) < 0.25 * _scatter(points):
            return "the keypoints stay where they are while the arm moves"
        return ""

    # --- estimation ----------------------------------------------------------------------------------------------

    def _improve(self) -> None:
        """Do the work of this frame: a fit, or steps of the joint selection."""
        config = self._configs.estimator
        self._since_fit += 1
        if len(self._buffer) < 3:
            return
        if self._fit is None or self._since_fit >= config.refit_every:
            self._refit(self._fit)
            return
        if not config.find_joints or len(self._buffer) < 2 * config.min_frames:
            return
        if self._selection is None:
            self._selection = selection_steps(self._selection_points(), self._configs.articulation)
        for _ in range(config.selection_steps):
            selection = next(self._selection)
            if selection is not None:
                self._selected(selection)
                self._selection = None
                return

    def _refit(self, start: Fit | None) -> None:
        observations = self._buffer.observations()
        self._fit = fit_keypoints(observations, self._intrinsics, self._configs.fit, start)
        self._since_fit = 0
        self._set_held()
        self._observability = observability(self._fit, observations.T_camera_ee[-1], self._names, self._configs.fit)

    def _selection_points(self) -> Points:
        assert self._fit is not None
        return ee_points(
            self._buffer.observations(self._configs.estimator.selection_frames), self._intrinsics, self._fit
        )

    def _selected(self, selection: Selection, *, at_once: bool = False) -> None:
        """Take a verdict over; a change of mind only ``at_once`` or repeated: misdetections pass, and joints rest."""
        changes = (selection.joint is None) != (self._joint is None)
        self._other_verdicts = self._other_verdicts + 1 if changes else 0
        needed = MOVABLE_VERDICTS if self._joint is None else RIGID_VERDICTS
        if changes and not at_once and self._other_verdicts < needed:
            return
        self._other_verdicts = 0
        self._joint = selection.joint
        if self._joint is not None:
            self._joint_position = float(self._joint.position[-1])
        self._set_held()

    def _set_held(self) -> None:
        """Join fit and inner joint; find out how noisy the detector is."""
        assert self._fit is not None
        config, held = self._configs.estimator, HeldObject.from_fit(self._fit, self._joint)
        bias2 = np.full(len(held.covariance), config.detector_bias**2)  # the residuals cannot show a constant error
        self._held = self._object = replace(held, covariance=held.covariance + np.diag(bias2))
        if config.even_keypoints and self._joint is None and self._names[-1] == self._tip:
            bias2[-3:] = config.tip_bias**2
            position = straightened(held.position_ee, held.covariance + np.diag(bias2))
            # The covariance stays that of the points alone: it does not know of a bend that was missed.
            self._object = replace(self._held, position_ee=position)
        fixed = slice(None) if self._joint is None else slice(0, self._joint.first_moving)
        scale2 = (self._fit.scale[fixed] ** 2).mean(axis=1)  # those on the held part see no joint
        self._scale2 = (
            (self._fit.scale**2).mean(axis=1) if self._joint is None else np.full(len(self._names), scale2.mean())
        )

    # --- state ---------------------------------------------------------------------------------------------------

    def _transition(self) -> tuple[State | None, str]:
        """Return the state entered with this frame, and why."""
        if self._fit is None or self._held is None:
            return None, ""
        config = self._configs.estimator
        if self._state is State.EXTENDED:
            if self._since_fit == 0 or self._joint is not None:
                self._extension = self._build()
            return None, ""
        enough = len(self._buffer) >= config.min_frames and self._since_fit == 0
        if not enough:
            return None, ""
        reason = self._left_behind()
        if self._state is State.SLIPPED and self._last_stamp - self._slip_time > config.recover_time:
            reason = reason or "the keypoints do not move with the gripper"
        if reason:
            return self._dropped(reason) if self._state is State.SLIPPED else (None, "")
        tip = tip_covariance(self._held, self._names.index(self._tip))
        tip_std = float(np.sqrt(np.linalg.eigvalsh(tip[:3, :3])[-1]))
        if tip_std > config.max_tip_std or self._fit.inlier_ratio < config.min_inlier_ratio:
            return None, ""
        self._state, self._extension = State.EXTENDED, self._build()
        return self._state, f"tip known to {1e3 * tip_std:.1f} mm after {len(self._buffer)} frames"

    def _build(self) -> BodyExtension:
        assert self._object is not None
        return build_extension(
            self._object, self._names, self._tip,
            ee_link=self._chain.ee_link, joint_position=self._joint_position, prefix=self._prefix,
        )  # fmt: skip

    def _estimate(self, stamp: float, event: State | None, reason: str) -> Estimate:
        fit, held, K = self._fit, self._object, len(self._names)
        joints = () if self._extension is None else self._extension.joints
        return Estimate(
            stamp=stamp,
            state=self._state,
            event=event,
            reason=reason,
            extension=self._extension,
            joint_position={j.name: j.position for j in joints if j.axis is not None},
            position_ee=None if held is None else held.position_at(self._joint_position),
            covariance=None if held is None else np.array([held.keypoint_covariance(k) for k in range(K)]),
            tip_covariance=None if held is None else tip_covariance(held, self._names.index(self._tip)),
            T_camera_corrected=np.eye(4) if fit is None else fit.T_camera_corrected,
            camera_covariance=np.zeros((6, 6)) if fit is None else fit.camera_covariance,
            inlier_ratio=0.0 if fit is None else fit.inlier_ratio,
            frames=len(self._buffer),
            observability=self._observability,
        )


def _single(keypoints: Keypoints, T_camera_ee: np.ndarray) -> Observations:
    """Return one frame as observations."""
    names = ("uv", "uv_covariance", "depth", "depth_variance", "confidence")
    return Observations(np.array([keypoints.stamp]), T_camera_ee[None], *(getattr(keypoints, n)[None] for n in names))


def _scatter(points: np.ndarray) -> float:
    """Return the median squared distance of points, shape (T, K, 3), from each keypoint's median [m^2]."""
    return float(np.median(((points - np.median(points, axis=0)) ** 2).sum(-1)))
