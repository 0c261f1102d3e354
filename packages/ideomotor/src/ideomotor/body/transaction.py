"""Change the robot's description everywhere or nowhere.

The sequence of docs/architecture.md, "Extending the body is a transaction", as a state machine without ROS: events
go in, effects come out, and whoever drives it carries the effects out::

                  begin                  answered(ok)                    status(ok) of the last consumer
    IDLE ------------------> SETTING ------------------> CONFIRMING ----------------------------> IDLE, Committed
                               | answered(no): IDLE, Failed   |
                               | silent                       | status(no), silent
                               v                              v
                               +---------> RESTORING <--------+
                                              | answered(ok), and whoever had changed is back
                                              v
                                           IDLE, Failed

`current` is the description in force; it changes with `Committed` only. While the previous description cannot be
restored because the publisher does not answer, the machine says so once (`Failed`) and keeps trying.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from ideomotor.body.urdf import description_sha256
from ideomotor.errors import IdeomotorError


class TransactionError(IdeomotorError):
    """A change of the description cannot begin."""


@dataclass(frozen=True)
class SetDescription:
    """Effect: give this description to its publisher, and report with `answered`."""

    urdf: str


@dataclass(frozen=True)
class Committed:
    """Effect: everybody uses this description."""

    urdf: str
    sha256: str
    revision: int


@dataclass(frozen=True)
class Failed:
    """Effect: the change did not happen; the description of before stays."""

    reason: str


Effect = SetDescription | Committed | Failed


class Phase(Enum):
    """Where a transaction stands."""

    IDLE = "idle"
    SETTING = "setting"
    CONFIRMING = "confirming"
    RESTORING = "restoring"


class DescriptionTransaction:
    """The description in force and at most one change of it under way.

    Args:
        current: the description in force.
        consumers: names of those who must say that they use a new description.
        timeout: how long the publisher, and then the consumers, may take [s].
        load: called with a new description before anything else; raises IdeomotorError if it cannot be used.
    """

    def __init__(self, current: str, consumers: Iterable[str], timeout: float, load: Callable[[str], object]) -> None:
        self.current = current
        self.revision = 0
        self.phase = Phase.IDLE
        self._consumers = frozenset(consumers)
        self._timeout = timeout
        self._load = load
        self._new = current
        self._deadline = 0.0
        self._accepted: dict[str, set[str]] = {}  # SHA-256 -> consumers that use it, since `begin`
        self._answered = False  # RESTORING: the publisher has the previous description
        self._reason = ""  # RESTORING: why; empty once it was reported

    @property
    def busy(self) -> bool:
        """Whether a change is under way."""
        return self.phase is not Phase.IDLE

    def begin(self, urdf: str, now: float) -> tuple[Effect, ...]:
        """Start changing the description to ``urdf``.

        Raises:
            TransactionError: if a change is under way.
        """
        if self.busy:
            raise TransactionError(f"a change of the description is under way ({self.phase.value})")
        if urdf == self.current:
            return (Committed(urdf, description_sha256(urdf), self.revision),)
        try:
            self._load(urdf)
        except IdeomotorError as error:
            return (Failed(f"the extended description cannot be loaded: {error}"),)
        self._new, self._accepted = urdf, {}
        self.phase, self._deadline = Phase.SETTING, now + self._timeout
        return (SetDescription(urdf),)

    def answered(self, urdf: str, accepted: bool, reason: str, now: float) -> tuple[Effect, ...]:
        """The publisher answered to `SetDescription` of ``urdf``."""
        if self.phase is Phase.SETTING and urdf == self._new:
            if not accepted:
                self.phase = Phase.IDLE
                return (Failed(f"the description's publisher refused it: {reason}"),)
            self.phase, self._deadline = Phase.CONFIRMING, now + self._timeout
            return self._progress()
        if self.phase is Phase.RESTORING and urdf == self.current and accepted:
            self._answered = True
            return self._progress()
        return ()  # late or repeated; a refusal to restore is tried again by `tick`

    def status(self, consumer: str, sha256: str, accepted: bool, reason: str, now: float) -> tuple[Effect, ...]:
        """A consumer said which description it uses, or which one it refuses."""
        if consumer not in self._consumers or not self.busy:
            return ()
        new = description_sha256(self._new)
        if accepted:
            for users in self._accepted.values():
                users.discard(consumer)
            self._accepted.setdefault(sha256, set()).add(consumer)
        elif sha256 == new and self.phase in (Phase.SETTING, Phase.CONFIRMING):
            return self._restore(f"{consumer} refused the description: {reason}", now)
        return self._progress()

    def tick(self, now: float) -> tuple[Effect, ...]:
        """Time passed; call a few times per timeout."""
        if not self.busy or now < self._deadline:
            return ()
        if self.phase is Phase.SETTING:
            return self._restore(f"the description's publisher did not answer within {self._timeout} s", now)
        if self.phase is Phase.CONFIRMING:
            silent = sorted(self._consumers - self._users(self._new))
            return self._restore(f"{silent} did not confirm the description within {self._timeout} s", now)
        return self._restore_again(now)

    def cancel(self, reason: str, now: float) -> tuple[Effect, ...]:
        """Give up a change that is under way."""
        if self.phase in (Phase.SETTING, Phase.CONFIRMING):
            return self._restore(reason, now)
        return ()

    def replaced(self, urdf: str) -> tuple[Effect, ...]:
        """Somebody else changed the description to ``urdf``; it is in force now."""
        effects = (Failed("the description was changed from outside"),) if self.busy and self._reason_open() else ()
        self.current, self._new = urdf, urdf
        self.revision += 1
        self.phase = Phase.IDLE
        return effects

    def _reason_open(self) -> bool:
        """Whether the caller still waits for the outcome."""
        return self.phase is not Phase.RESTORING or self._reason != ""

    def _users(self, urdf: str) -> set[str]:
        return self._accepted.get(description_sha256(urdf), set())

    def _progress(self) -> tuple[Effect, ...]:
        if self.phase is Phase.CONFIRMING and self._users(self._new) >= self._consumers:
            self.current, self.phase = self._new, Phase.IDLE
            self.revision += 1
            return (Committed(self.current, description_sha256(self.current), self.revision),)
        if self.phase is Phase.RESTORING and self._answered and not self._users(self._new):
            return self._restored("")
        return ()

    def _restore(self, reason: str, now: float) -> tuple[Effect, ...]:
        self.phase, self._deadline = Phase.RESTORING, now + self._timeout
        self._reason, self._answered = reason, False
        return (SetDescription(self.current),)

    def _restored(self, remark: str) -> tuple[Effect, ...]:
        self.phase, reason, self._reason = Phase.IDLE, self._reason, ""
        return (Failed(reason + remark),) if reason else ()

    def _restore_again(self, now: float) -> tuple[Effect, ...]:
        if self._answered:  # the publisher is back, a consumer does not say so: nothing more can be done
            stuck = sorted(self._users(self._new))
            return self._restored(f"; {stuck} did not confirm the previous description")
        self._deadline, reason, self._reason = now + self._timeout, self._reason, ""
        failed: tuple[Effect, ...] = ()
        if reason:
            failed = (Failed(f"{reason}; its publisher has not confirmed the previous description, trying on"),)
        return (*failed, SetDescription(self.current))
