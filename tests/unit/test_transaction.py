"""Changing the robot's description: everywhere or nowhere, whatever refuses, keeps silent or comes late."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ideomotor.body.transaction import (
    Committed,
    DescriptionTransaction,
    Effect,
    Failed,
    Phase,
    SetDescription,
    TransactionError,
)
from ideomotor.body.urdf import UrdfError, description_sha256

OLD, NEW = "<robot name='old'/>", "<robot name='new'/>"
TIMEOUT = 1.0


def transaction(*consumers: str) -> DescriptionTransaction:
    return DescriptionTransaction(OLD, consumers, TIMEOUT, load=lambda urdf: None)


def says(t: DescriptionTransaction, consumer: str, urdf: str, accepted: bool = True) -> tuple[Effect, ...]:
    return t.status(consumer, description_sha256(urdf), accepted, "" if accepted else "cannot solve for it", 0.0)


def test_all_confirm() -> None:
    t = transaction("controller", "viewer")
    assert t.begin(NEW, 0.0) == (SetDescription(NEW),)
    assert t.answered(NEW, True, "", 0.1) == ()
    assert says(t, "controller", NEW) == ()
    assert t.current == OLD  # not before everybody has it
    assert says(t, "viewer", NEW) == (Committed(NEW, description_sha256(NEW), 1),)
    assert (t.current, t.busy) == (NEW, False)


def test_a_consumer_may_be_faster_than_the_answer() -> None:
    t = transaction("controller")
    t.begin(NEW, 0.0)
    assert says(t, "controller", NEW) == ()
    assert t.answered(NEW, True, "", 0.1) == (Committed(NEW, description_sha256(NEW), 1),)


def test_a_status_of_before_does_not_count() -> None:
    t = transaction("controller")
    says(t, "controller", NEW)
    t.begin(NEW, 0.0)
    assert t.answered(NEW, True, "", 0.1) == ()


def test_what_cannot_be_loaded_is_never_set() -> None:
    def load(urdf: str) -> None:
        raise UrdfError("two roots")

    t = DescriptionTransaction(OLD, (), TIMEOUT, load)
    (effect,) = t.begin(NEW, 0.0)
    assert isinstance(effect, Failed)
    assert "two roots" in effect.reason
    assert not t.busy


def test_refused_by_the_publisher() -> None:
    t = transaction("controller")
    t.begin(NEW, 0.0)
    (effect,) = t.answered(NEW, False, "not a tree", 0.1)
    assert isinstance(effect, Failed)
    assert "not a tree" in effect.reason
    assert (t.current, t.busy) == (OLD, False)


def test_refused_by_a_consumer_restores_and_waits_for_those_who_had_changed() -> None:
    t = transaction("controller", "viewer")
    t.begin(NEW, 0.0)
    t.answered(NEW, True, "", 0.1)
    says(t, "viewer", NEW)
    assert says(t, "controller", NEW, accepted=False) == (SetDescription(OLD),)
    assert t.answered(OLD, True, "", 0.2) == ()  # the viewer still shows the new one
    (effect,) = says(t, "viewer", OLD)
    assert isinstance(effect, Failed)
    assert "cannot solve for it" in effect.reason
    assert (t.current, t.revision, t.busy) == (OLD, 0, False)


def test_a_silent_consumer_is_named() -> None:
    t = transaction("controller", "viewer")
    t.begin(NEW, 0.0)
    t.answered(NEW, True, "", 0.1)
    says(t, "controller", NEW)
    assert t.tick(1.0) == ()  # the consumers' time begins with the answer
    assert t.tick(1.2) == (SetDescription(OLD),)
    says(t, "controller", OLD)
    (effect,) = t.answered(OLD, True, "", 1.3)
    assert isinstance(effect, Failed)
    assert "['viewer'] did not confirm" in effect.reason


def test_a_silent_publisher_is_told_again_until_it_answers() -> None:
    """The caller hears of it once; a late answer to the first request changes nothing."""
    t = transaction()
    t.begin(NEW, 0.0)
    assert t.tick(1.1) == (SetDescription(OLD),)
    failed, again = t.tick(2.2)
    assert isinstance(failed, Failed)
    assert again == SetDescription(OLD)
    with pytest.raises(TransactionError, match="under way"):
        t.begin(NEW, 2.3)
    assert t.answered(NEW, True, "", 2.4) == ()
    assert t.tick(3.3) == (SetDescription(OLD),)
    assert t.answered(OLD, True, "", 3.4) == ()
    assert (t.current, t.busy) == (OLD, False)


def test_cancelled_half_way() -> None:
    t = transaction("controller")
    t.begin(NEW, 0.0)
    assert t.cancel("cancelled", 0.1) == (SetDescription(OLD),)
    assert t.answered(NEW, True, "", 0.2) == ()
    assert t.answered(OLD, True, "", 0.3) == (Failed("cancelled"),)
    assert t.cancel("cancelled", 0.4) == ()


def test_changed_from_outside() -> None:
    t = transaction("controller")
    t.begin(NEW, 0.0)
    (effect,) = t.replaced("<robot name='third'/>")
    assert isinstance(effect, Failed)
    assert (t.current, t.revision, t.busy) == ("<robot name='third'/>", 1, False)
    assert t.replaced("<robot name='fourth'/>") == ()


def test_the_same_description_needs_no_change() -> None:
    t = transaction("controller")
    assert t.begin(OLD, 0.0) == (Committed(OLD, description_sha256(OLD), 0),)


@dataclass
class World:
    """A publisher and two consumers; what each uses, and messages in flight that may be lost, late or refused."""

    transaction: DescriptionTransaction
    published: str = OLD
    uses: dict[str, str] = field(default_factory=lambda: {"a": OLD, "b": OLD})
    requests: list[str] = field(default_factory=list)
    answers: list[tuple[str, bool]] = field(default_factory=list)
    statuses: list[tuple[str, str, bool]] = field(default_factory=list)
    outcomes: list[Effect] = field(default_factory=list)
    now: float = 0.0

    def carry_out(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if isinstance(effect, SetDescription):
                self.requests.append(effect.urdf)
            else:
                self.outcomes.append(effect)

    def publisher(self, accepts: bool) -> None:
        """The publisher takes the oldest request; going back to the old description always works."""
        if self.requests:
            urdf = self.requests.pop(0)
            accepts = accepts or urdf == OLD
            self.published = urdf if accepts else self.published
            self.answers.append((urdf, accepts))

    def consumer(self, name: str, accepts: bool) -> None:
        if self.uses[name] != self.published:
            accepts = accepts or self.published == OLD
            self.uses[name] = self.published if accepts else self.uses[name]
            self.statuses.append((name, self.published, accepts))

    def deliver(self) -> None:
        while self.answers:
            urdf, accepted = self.answers.pop(0)
            self.carry_out(self.transaction.answered(urdf, accepted, "no", self.now))
        while self.statuses:
            name, urdf, accepted = self.statuses.pop(0)
            self.carry_out(self.transaction.status(name, description_sha256(urdf), accepted, "no", self.now))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.carry_out(self.transaction.tick(self.now))


STEPS = st.sampled_from(["publish", "refuse", "a", "b", "a refuses", "b refuses", "deliver", "wait", "cancel"])


@given(steps=st.lists(STEPS, max_size=20))
def test_everything_or_nothing(steps: list[str]) -> None:
    """Whatever happens in whatever order: at the end all have the new description, or all the old one."""
    t = transaction("a", "b")
    world = World(t)
    world.carry_out(t.begin(NEW, 0.0))
    for step in steps:
        if step in ("publish", "refuse"):
            world.publisher(accepts=step == "publish")
        elif step == "deliver":
            world.deliver()
        elif step == "wait":
            world.wait(0.6)
        elif step == "cancel":
            world.carry_out(t.cancel("cancelled", world.now))
        else:
            world.consumer(step[0], accepts="refuses" not in step)
    for _ in range(10):  # then everybody answers
        world.publisher(accepts=True)
        world.consumer("a", accepts=True)
        world.consumer("b", accepts=True)
        world.deliver()
        world.wait(0.6)
    assert t.phase is Phase.IDLE
    assert len(world.outcomes) == 1
    expected = NEW if isinstance(world.outcomes[0], Committed) else OLD
    assert {t.current, world.published, *world.uses.values()} == {expected}
