"""The body schema's life, with an estimator that says what the test tells it to say."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from ideomotor.body.estimator import Estimate
from ideomotor.body.estimator import State as EstimatorState
from ideomotor.body.extension import BodyExtension, JointType, VirtualJoint
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.session import (
    BodySchemaSession,
    BodyState,
    Changed,
    Done,
    Effect,
    Outcome,
    SessionConfig,
    SessionError,
    displacement,
    nominal_description,
)
from ideomotor.body.transaction import SetDescription
from ideomotor.body.urdf import UrdfError, description_sha256, extend_urdf

URDF = """<robot name="r"><link name="base"/><link name="ee"/>
<joint name="a" type="revolute"><parent link="base"/><child link="ee"/><axis xyz="0 0 1"/>
  <limit lower="-1" upper="1" velocity="1" effort="1"/></joint></robot>"""
NAMES = ("kp_0",)


def extension(z: float = 0.2, x: float = 0.0) -> BodyExtension:
    joint = VirtualJoint(
        "virtual_kp_0_joint", "ee", "virtual_kp_0", JointType.FIXED, np.array([x, 0, z]), np.zeros(3), 1e-6 * np.eye(6)
    )
    return BodyExtension("ee", (joint,), "virtual_kp_0", ("virtual_kp_0",))


def estimate(
    state: EstimatorState, held: BodyExtension | None, event: EstimatorState | None = None, tip_std: float = 0.001
) -> Estimate:
    return Estimate(
        stamp=0.0, state=state, event=event, reason="because" if event else "", extension=held, joint_position={},
        position_ee=None, covariance=None, tip_covariance=tip_std**2 * np.eye(6), T_camera_corrected=np.eye(4),
        camera_covariance=np.zeros((6, 6)), inlier_ratio=1.0, frames=30, observability=None,
    )  # fmt: skip


@dataclass
class Script:
    """Plays the estimator."""

    says: Estimate = field(default_factory=lambda: estimate(EstimatorState.EXTENDED, extension()))

    def update(self, stamp: float, q: np.ndarray, keypoints: Keypoints) -> Estimate:
        return self.says

    def refine(self) -> Estimate:
        return self.says

    def suggestion(self, q: np.ndarray) -> str:
        return ""


class Bench:
    """A session whose descriptions are always taken, unless the test says otherwise."""

    def __init__(self, description: str = URDF, consumers: tuple[str, ...] = (), **config: Any) -> None:
        self.script = Script()
        self.accept = True
        self.set: list[str] = []
        self.events: list[Effect] = []
        self.now = 0.0
        self.session = BodySchemaSession(
            description, consumers, lambda names: self.script, lambda urdf: None, SessionConfig(**config)
        )

    def run(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if isinstance(effect, SetDescription):
                self.set.append(effect.urdf)
                accept = self.accept or "virtual_" not in effect.urdf
                self.run(self.session.answered(effect.urdf, accept, "no", self.now))
            else:
                self.events.append(effect)

    def frame(self) -> None:
        self.now += 1 / 30
        seen = Keypoints(self.now, NAMES, np.zeros((1, 2)), np.eye(2)[None], np.ones(1), np.ones(1), np.ones(1))
        self.run(self.session.observe(np.zeros(1), seen, self.now))

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.run(self.session.tick(self.now))

    def extend(self) -> Outcome:
        self.run(self.session.begin(1.0, self.now))
        self.frame()
        self.tick(1.1)
        return self.outcome()

    def outcome(self) -> Outcome:
        done = [e for e in self.events if isinstance(e, Done)]
        return done[-1].outcome


def test_an_estimation_extends_the_description() -> None:
    bench = Bench()
    assert bench.extend() is Outcome.NONE
    assert bench.session.state is BodyState.EXTENDED
    assert bench.set == [extend_urdf(URDF, extension())]
    assert not bench.session.busy


@pytest.mark.parametrize("before", [BodyState.NOMINAL, BodyState.EXTENDED])
@pytest.mark.parametrize("failure", ["cancel", "rejected", "not observable", "no frames"])
def test_a_failure_leaves_what_was_there(before: BodyState, failure: str) -> None:
    bench = Bench()
    if before is BodyState.EXTENDED:
        bench.extend()
    state, held, current = bench.session.state, bench.session.extension, bench.session.transaction.current
    bench.script = Script(estimate(EstimatorState.EXTENDED, extension(z=0.5)))
    if failure == "not observable":
        bench.script = Script(estimate(EstimatorState.ESTIMATING, None))
    bench.accept = failure != "rejected"
    bench.run(bench.session.begin(1.0, bench.now))
    if failure != "no frames":
        bench.frame()
    if failure == "cancel":
        bench.run(bench.session.cancel(bench.now))
    bench.tick(1.1)
    expected = {
        "cancel": Outcome.CANCELLED,
        "rejected": Outcome.DESCRIPTION_REJECTED,
        "not observable": Outcome.NOT_OBSERVABLE,
        "no frames": Outcome.NO_KEYPOINTS,
    }
    assert bench.outcome() is expected[failure]
    assert (bench.session.state, bench.session.extension) == (state, held)
    assert bench.session.transaction.current == current


def test_a_cancel_while_consumers_are_asked_takes_it_back() -> None:
    bench = Bench(consumers=("controller",))
    bench.run(bench.session.begin(1.0, 0.0))
    bench.frame()
    bench.tick(1.1)
    assert bench.session.transaction.busy
    bench.run(bench.session.cancel(bench.now))
    assert bench.outcome() is Outcome.CANCELLED
    assert bench.set[-1] == URDF
    assert bench.session.state is BodyState.NOMINAL


def test_a_slip_is_told_at_once_and_the_good_estimate_after_it_replaces_the_extension() -> None:
    bench = Bench()
    bench.extend()
    bench.script.says = estimate(EstimatorState.SLIPPED, extension(), EstimatorState.SLIPPED)
    bench.frame()
    assert bench.session.state is BodyState.SLIPPED
    assert bench.events[-1] == Changed("because")
    assert bench.session.extension is not None
    bench.script.says = estimate(EstimatorState.EXTENDED, extension(x=0.04), EstimatorState.EXTENDED)
    bench.frame()
    assert bench.session.state is BodyState.EXTENDED
    assert bench.set[-1] == extend_urdf(URDF, extension(x=0.04))


def test_a_slip_while_consumers_are_asked_is_not_forgotten() -> None:
    bench = Bench(consumers=("controller",))
    bench.run(bench.session.begin(1.0, 0.0))
    bench.frame()
    bench.tick(1.1)
    bench.script.says = estimate(EstimatorState.SLIPPED, extension(), EstimatorState.SLIPPED)
    bench.frame()
    sha256 = description_sha256(bench.set[-1])
    bench.run(bench.session.status("controller", sha256, True, "", bench.now))
    assert bench.session.state is BodyState.SLIPPED


def test_a_drop_is_taken_back() -> None:
    bench = Bench()
    bench.extend()
    bench.script.says = estimate(EstimatorState.DROPPED, None, EstimatorState.DROPPED)
    bench.frame()
    assert bench.session.state is BodyState.DROPPED
    assert bench.set[-1] == URDF
    bench.frame()  # and nothing is tracked any more
    assert bench.session.state is BodyState.DROPPED
    bench.script = Script()
    assert bench.extend() is Outcome.NONE


def test_a_drop_that_cannot_be_taken_back_is_tried_again() -> None:
    bench = Bench(consumers=("controller",), update_interval=0.5, confirm_timeout=0.2)
    bench.run(bench.session.begin(1.0, 0.0))
    bench.frame()
    bench.tick(1.1)
    bench.run(bench.session.status("controller", description_sha256(bench.set[-1]), True, "", bench.now))
    assert bench.session.state is BodyState.EXTENDED
    bench.script.says = estimate(EstimatorState.DROPPED, None, EstimatorState.DROPPED)
    bench.frame()
    bench.tick(0.3)  # the controller is silent
    assert bench.session.state is BodyState.SLIPPED
    bench.script.says = estimate(EstimatorState.DROPPED, None)
    for _ in range(30):
        bench.frame()
        bench.run(bench.session.status("controller", description_sha256(bench.set[-1]), True, "", bench.now))
    assert bench.session.state is BodyState.DROPPED
    assert bench.set[-1] == URDF


@pytest.mark.parametrize(("moved", "tip_std", "descriptions"), [(0.004, 0.001, 1), (0.02, 0.001, 2), (0.02, 0.011, 1)])
def test_only_a_large_and_certain_correction_is_worth_a_new_description(
    moved: float, tip_std: float, descriptions: int
) -> None:
    bench = Bench(update_threshold_m=0.01, update_interval=0.5)
    bench.extend()
    bench.script.says = estimate(EstimatorState.EXTENDED, extension(x=moved), tip_std=tip_std)
    for _ in range(30):
        bench.frame()
    assert len(bench.set) == descriptions


def test_retract_and_busy() -> None:
    bench = Bench()
    bench.extend()
    bench.run(bench.session.retract(bench.now))
    assert (bench.session.state, bench.set[-1]) == (BodyState.NOMINAL, URDF)
    bench.run(bench.session.begin(1.0, bench.now))
    with pytest.raises(SessionError, match="being changed"):
        bench.session.retract(bench.now)
    with pytest.raises(SessionError, match="being changed"):
        bench.session.begin(1.0, bench.now)


@pytest.mark.parametrize("duration", [0.0, -1.0, float("nan"), float("inf")])
def test_a_duration_that_is_none(duration: float) -> None:
    bench = Bench()
    with pytest.raises(SessionError, match="duration"):
        bench.session.begin(duration, 0.0)
    assert not bench.session.busy


def test_a_description_from_outside_is_the_robot_now() -> None:
    bench = Bench()
    bench.extend()
    other = URDF.replace('name="r"', 'name="other"')
    bench.run(bench.session.replaced(other, bench.now))
    assert (bench.session.state, bench.session.nominal) == (BodyState.NOMINAL, other)
    bench.script = Script()
    bench.extend()
    assert bench.set[-1] == extend_urdf(other, extension())


def test_what_a_predecessor_left_is_found() -> None:
    assert nominal_description(URDF, "virtual_") == URDF
    assert nominal_description(extend_urdf(URDF, extension()), "virtual_") == URDF
    with pytest.raises(UrdfError):
        nominal_description("<robot", "virtual_")


def test_displacement() -> None:
    assert displacement(extension(), extension(x=0.03)) == pytest.approx(0.03)
    hinge = replace(extension().joints[0], type=JointType.REVOLUTE, axis=np.array([0.0, 1.0, 0.0]), upper=1.0)
    assert displacement(extension(), replace(extension(), joints=(hinge,))) == np.inf
    assert (
        displacement(
            replace(extension(), joints=(hinge,)), replace(extension(), joints=(replace(hinge, position=0.5),))
        )
        == 0.0
    )
