"""The body schema's life: nominal, estimating, extended, slipped, dropped; and the description that goes with it.

Joins the estimator (what is held?) with the transaction (who uses which description?), without ROS: events go in,
effects come out. A failed or cancelled estimation leaves what was there before, its estimator included.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from ideomotor.body.estimator import BodySchemaEstimator, Estimate
from ideomotor.body.estimator import State as EstimatorState
from ideomotor.body.extension import BodyExtension, JointType, VirtualJoint
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.transaction import Committed, DescriptionTransaction, Failed, SetDescription
from ideomotor.body.urdf import extend_urdf, parse_urdf, retract_urdf
from ideomotor.config import Config, value
from ideomotor.errors import IdeomotorError


class SessionError(IdeomotorError):
    """Something that cannot be begun now."""


class BodyState(Enum):
    """What the robot believes about its body; names as in BodySchema.msg."""

    NOMINAL = "nominal"
    ESTIMATING = "estimating"
    EXTENDED = "extended"
    SLIPPED = "slipped"
    DROPPED = "dropped"


class Outcome(Enum):
    """How an estimation or retraction ended; names as in EstimateBodySchema.action."""

    NONE = "none"
    CANCELLED = "cancelled"
    NO_KEYPOINTS = "no keypoints"
    NOT_OBSERVABLE = "not observable"
    DESCRIPTION_REJECTED = "description rejected"


@dataclass(frozen=True, kw_only=True)
class SessionConfig(Config):
    """When the description follows the estimate."""

    update_threshold_m: float = value(0.01, "A keypoint's move that is worth a new description [m].", ge=0.0, le=1.0)
    update_interval: float = value(1.0, "Least time between two descriptions while tracking [s].", ge=0.0, le=60.0)
    confirm_timeout: float = value(3.0, "Time for publisher and consumers to take a description [s].", ge=0.1, le=60.0)
    prefix: str = value("virtual_", "Begins the names of virtual links and joints.")


@dataclass(frozen=True)
class Changed:
    """Effect: the state changed; tell everybody at once."""

    reason: str


@dataclass(frozen=True)
class Done:
    """Effect: what was begun has ended."""

    outcome: Outcome
    reason: str


Effect = SetDescription | Changed | Done


@dataclass(frozen=True)
class _Body:
    """What there is, and what an estimation that fails goes back to."""

    state: BodyState = BodyState.NOMINAL
    extension: BodyExtension | None = None  # in the description
    estimator: BodySchemaEstimator | None = None
    estimate: Estimate | None = None  # newest


class BodySchemaSession:
    """One robot's body schema.

    Args:
        description: the one in force; virtual links a predecessor left in it are to be taken back with `retract`.
        consumers: who must confirm a new description.
        make_estimator: gives an estimator for keypoints of these names; raises IdeomotorError while it cannot.
        load: raises IdeomotorError if a description cannot be used.
        config: thresholds.
    """

    def __init__(
        self,
        description: str,
        consumers: Iterable[str],
        make_estimator: Callable[[tuple[str, ...]], BodySchemaEstimator],
        load: Callable[[str], object],
        config: SessionConfig,
    ) -> None:
        self.config = config
        self.transaction = DescriptionTransaction(description, consumers, config.confirm_timeout, load)
        self.nominal = nominal_description(description, config.prefix)
        self._make_estimator = make_estimator
        self._body = _Body()
        self._before: _Body | None = None  # while estimating
        self._pending: _Body | None = None  # what there is when the transaction commits
        self._deadline = 0.0
        self._duration = 0.0
        self._next_update = 0.0
        self._waiting = False  # somebody waits for Done
        self._problem = ""  # why the newest frame could not be used

    @property
    def state(self) -> BodyState:
        """The state."""
        return self._body.state

    @property
    def extension(self) -> BodyExtension | None:
        """What is in the description."""
        return self._body.extension

    @property
    def estimate(self) -> Estimate | None:
        """The newest estimate."""
        return self._body.estimate

    @property
    def busy(self) -> bool:
        """Whether an estimation or a retraction was begun and has not ended."""
        return self._waiting

    def progress(self, now: float) -> float:
        """Return how much of the time to look has passed, 0 to 1."""
        return float(np.clip(1.0 - (self._deadline - now) / self._duration, 0.0, 1.0)) if self._duration else 0.0

    def suggestion(self, q: np.ndarray) -> str:
        """Return the motion from ``q``, shape (n,), that would identify what is not known yet; empty if none."""
        return "" if self._body.estimator is None else self._body.estimator.suggestion(q)

    # ---- requests ------------------------------------------------------------------------------------------

    def begin(self, duration: float, now: float) -> tuple[Effect, ...]:
        """Begin to look at what is held, for ``duration`` [s].

        Raises:
            SessionError: if something is under way, or the duration is not positive.
        """
        self._require_free()
        if not (np.isfinite(duration) and duration > 0):
            raise SessionError(f"duration={duration}, expected positive [s]")
        self._before, self._waiting = self._body, True
        self._body = replace(self._body, state=BodyState.ESTIMATING, estimator=None, estimate=None)
        self._deadline, self._duration, self._problem = now + duration, duration, ""
        return (Changed("estimating"),)

    def retract(self, now: float) -> tuple[Effect, ...]:
        """Take the extension back.

        Raises:
            SessionError: if something is under way.
        """
        self._require_free()
        self._waiting = True
        return self._change(_Body(), now)

    def cancel(self, now: float) -> tuple[Effect, ...]:
        """Give up the estimation; what was there before comes back."""
        if self.state is BodyState.ESTIMATING and not self.transaction.busy:
            return self._end(Outcome.CANCELLED, "cancelled")
        return self._carry_on(self.transaction.cancel("cancelled", now), now) if self._waiting else ()

    def _require_free(self) -> None:
        if self._waiting or self.transaction.busy:
            raise SessionError("the body schema is being changed; wait for that or cancel it")

    # ---- events --------------------------------------------------------------------------------------------

    def observe(self, q: np.ndarray, keypoints: Keypoints, now: float) -> tuple[Effect, ...]:
        """Take one frame.

        Args:
            q: joint positions at the time of the image, shape (n,) [rad] or [m].
            keypoints: what the detector saw.
            now: time [s].

        Raises:
            IdeomotorError: if the frame cannot be used; nothing has changed.
        """
        body = self._body
        estimator = body.estimator
        if body.state in (BodyState.NOMINAL, BodyState.DROPPED):
            return ()
        try:
            if estimator is None:
                estimator = self._make_estimator(keypoints.names)
            estimate = estimator.update(keypoints.stamp, q, keypoints)
        except IdeomotorError as error:
            self.missed(str(error))
            raise
        self._body = replace(body, estimator=estimator, estimate=estimate)
        if self._pending is not None and self._pending.estimator is estimator:
            self._pending = replace(self._pending, estimate=estimate)
        return () if body.state is BodyState.ESTIMATING else self._follow(estimate, now)

    def missed(self, reason: str) -> None:
        """A frame could not be used; told when an estimation ends without frames."""
        self._problem = reason

    def answered(self, urdf: str, accepted: bool, reason: str, now: float) -> tuple[Effect, ...]:
        """The publisher of the description answered to `SetDescription`."""
        return self._carry_on(self.transaction.answered(urdf, accepted, reason, now), now)

    def status(self, consumer: str, sha256: str, accepted: bool, reason: str, now: float) -> tuple[Effect, ...]:
        """A consumer said which description it uses or refuses."""
        return self._carry_on(self.transaction.status(consumer, sha256, accepted, reason, now), now)

    def replaced(self, urdf: str, now: float) -> tuple[Effect, ...]:
        """Somebody else published another description: it is the robot now, without what was held."""
        effects = self._carry_on(self.transaction.replaced(urdf), now)
        if self._waiting:
            effects = (*effects, *self._end(Outcome.DESCRIPTION_REJECTED, "the description was changed from outside"))
        self.nominal = nominal_description(urdf, self.config.prefix)
        self._body, self._pending = _Body(), None
        return (*effects, Changed("the description was changed from outside"))

    def tick(self, now: float) -> tuple[Effect, ...]:
        """Time passed."""
        effects = self._carry_on(self.transaction.tick(now), now)
        if self.state is BodyState.ESTIMATING and not self.transaction.busy and now >= self._deadline:
            effects = (*effects, *self._conclude(now))
        return effects

    # ---- what follows --------------------------------------------------------------------------------------

    def _conclude(self, now: float) -> tuple[Effect, ...]:
        """The time to look is over."""
        body = self._body
        if body.estimator is None or body.estimate is None or not body.estimate.frames:
            why = self._problem or "no keypoint was seen with confidence"
            return self._end(Outcome.NO_KEYPOINTS, f"no frame could be used in {self._duration:.1f} s: {why}")
        estimate = body.estimator.refine()
        if estimate.extension is None or estimate.state is not EstimatorState.EXTENDED:
            why = estimate.reason or (
                f"tip known to {1e3 * estimate.tip_std:.0f} mm, {100 * estimate.inlier_ratio:.0f} % inliers"
            )
            return self._end(Outcome.NOT_OBSERVABLE, f"{estimate.frames} frames do not determine the object: {why}")
        extended = _Body(BodyState.EXTENDED, estimate.extension, body.estimator, estimate)
        return self._change(extended, now)

    def _follow(self, estimate: Estimate, now: float) -> tuple[Effect, ...]:
        """Compare what is in the description with what is estimated."""
        body = self._body
        effects: tuple[Effect, ...] = ()
        if estimate.event in (EstimatorState.SLIPPED, EstimatorState.DROPPED) and body.state is BodyState.EXTENDED:
            self._body = body = replace(body, state=BodyState.SLIPPED)
            effects = (Changed(estimate.reason),)
            self._next_update = now  # at once
        if self.transaction.busy or now < self._next_update:
            return effects
        if estimate.state is EstimatorState.DROPPED:
            return (*effects, *self._change(_Body(state=BodyState.DROPPED), now))
        if estimate.state is EstimatorState.EXTENDED and estimate.extension is not None and body.extension is not None:
            moved = displacement(body.extension, estimate.extension)
            # A correction smaller than its own uncertainty is none.
            if body.state is BodyState.SLIPPED or moved > max(self.config.update_threshold_m, 2.0 * estimate.tip_std):
                extended = replace(body, state=BodyState.EXTENDED, extension=estimate.extension)
                return (*effects, *self._change(extended, now))
        return effects

    def _change(self, to: _Body, now: float) -> tuple[Effect, ...]:
        """Begin the transaction that leads to ``to``."""
        self._pending, self._next_update = to, now + self.config.update_interval
        try:
            urdf = self.nominal if to.extension is None else extend_urdf(self.nominal, to.extension)
        except IdeomotorError as error:
            return self._carry_on((Failed(f"the description cannot be extended: {error}"),), now)
        return self._carry_on(self.transaction.begin(urdf, now), now)

    def _carry_on(self, effects: Iterable[SetDescription | Committed | Failed], now: float) -> tuple[Effect, ...]:
        """Turn the transaction's effects into ours."""
        result: list[Effect] = []
        for effect in effects:
            if isinstance(effect, SetDescription):
                result.append(effect)
            elif isinstance(effect, Committed) and self._pending is not None:
                # A slip seen meanwhile stays a slip.
                slipped = self._pending.estimate is not None and self._pending.estimate.state is EstimatorState.SLIPPED
                self._body = replace(self._pending, state=BodyState.SLIPPED) if slipped else self._pending
                self._pending, self._before = None, None
                self._next_update = now + self.config.update_interval
                result.append(Changed(f"description {effect.revision} is in use"))
                result += self._finish(Outcome.NONE, "")
            elif isinstance(effect, Failed):
                self._pending = None
                result += self._end(Outcome.DESCRIPTION_REJECTED, effect.reason)
        return tuple(result)

    def _end(self, outcome: Outcome, reason: str) -> tuple[Effect, ...]:
        """What was begun failed: back to what was there before."""
        if self._before is not None:
            self._body, self._before = self._before, None
        if outcome is Outcome.DESCRIPTION_REJECTED and reason == "cancelled":
            outcome = Outcome.CANCELLED
        return (Changed(reason), *self._finish(outcome, reason))

    def _finish(self, outcome: Outcome, reason: str) -> tuple[Effect, ...]:
        waiting, self._waiting, self._duration = self._waiting, False, 0.0
        return (Done(outcome, reason),) if waiting else ()


def displacement(old: BodyExtension, new: BodyExtension) -> float:
    """Return how far a keypoint lies from where the old extension has it, at most [m]; inf if the joints differ."""
    if [(j.name, j.type) for j in old.joints] != [(j.name, j.type) for j in new.joints]:
        return float("inf")
    position = {joint.name: joint.position for joint in new.joints}
    moved = (j if j.position == position[j.name] else replace(j, position=position[j.name]) for j in old.joints)
    posed = replace(old, joints=tuple(moved))
    before, after = posed.link_poses(), new.link_poses()
    return max(float(np.linalg.norm(before[link][:3, 3] - after[link][:3, 3])) for link in new.keypoint_links)


def nominal_description(urdf: str, prefix: str) -> str:
    """Return the description without virtual links: those of a body schema that ended before it retracted them."""
    joints = []
    for joint in parse_urdf(urdf).findall("joint"):
        parent, child = joint.find("parent"), joint.find("child")
        if joint.get("name", "").startswith(prefix) and parent is not None and child is not None:
            names = joint.get("name", ""), parent.get("link", ""), child.get("link", "")
            joints.append(VirtualJoint(*names, JointType.FIXED, np.zeros(3), np.zeros(3), np.zeros((6, 6))))
    if not joints:
        return urdf
    leftover = BodyExtension(joints[0].parent_link, tuple(joints), joints[-1].child_link, ())
    return retract_urdf(urdf, leftover)
