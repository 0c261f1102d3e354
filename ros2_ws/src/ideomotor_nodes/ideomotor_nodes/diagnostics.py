"""What nodes report on /diagnostics: rate, age and latency of streams, time and misses of ticks."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

OK, WARN, ERROR, STALE = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE)


@dataclass(frozen=True)
class Report:
    """One line of a node's diagnostics."""

    level: bytes = OK
    message: str = "ok"
    values: Mapping[str, object] = field(default_factory=dict)

    def to_msg(self, name: str, hardware_id: str = "") -> DiagnosticStatus:
        """Return the message; ``name`` is that of the line."""
        values = [KeyValue(key=k, value=f"{v:.6g}" if isinstance(v, float) else str(v)) for k, v in self.values.items()]
        return DiagnosticStatus(
            level=self.level, name=name, message=self.message, hardware_id=hardware_id, values=values
        )


class StreamMonitor:
    """Rate, age and latency of a stream of messages, since the last report."""

    def __init__(self, max_age: float = math.inf, min_rate: float = 0.0) -> None:
        self.max_age = max_age  # [s] STALE above
        self.min_rate = min_rate  # [Hz] WARN below
        self._last: float | None = None
        self._last_stamp = math.nan
        self._since: float | None = None
        self._count, self._latency_sum, self._latency_max, self._bad = 0, 0.0, 0.0, 0

    def received(self, stamp: float, now: float) -> None:
        """Count a message of time ``stamp`` [s] that arrived at ``now`` [s]."""
        latency = now - stamp
        self._count += 1
        self._latency_sum += latency
        self._latency_max = max(self._latency_max, latency)
        self._last, self._last_stamp = now, stamp

    def rejected(self) -> None:
        """Count a message that could not be used."""
        self._bad += 1

    def report(self, now: float) -> Report:
        """Return rate, age and latency at ``now`` [s] and start counting anew."""
        count, since = self._count, self._since
        values: dict[str, object] = {"messages": count, "rejected": self._bad}
        rate = count / (now - since) if since is not None and now > since else math.nan
        values["rate [Hz]"] = rate
        if count:
            values["mean latency [s]"] = self._latency_sum / count
            values["max latency [s]"] = self._latency_max
        age = math.inf if self._last is None else now - self._last_stamp
        values["age [s]"] = age
        self._since = now
        bad, self._count, self._latency_sum, self._latency_max, self._bad = self._bad, 0, 0.0, 0.0, 0
        if self._last is None:
            return Report(STALE if self.max_age < math.inf else OK, "nothing received yet", values)
        if age > self.max_age:
            return Report(STALE, f"newest is {age:.3f} s old, limit {self.max_age} s", values)
        if bad:
            return Report(WARN, f"{bad} messages rejected", values)
        if rate < self.min_rate:
            return Report(WARN, f"{rate:.1f} Hz, expected at least {self.min_rate} Hz", values)
        return Report(OK, "ok", values)


class TickMonitor:
    """Duration of ticks, and how many took longer than their period, or came late."""

    def __init__(self, period: float) -> None:
        self.period = period  # [s]
        self._last_start = math.nan
        self._count, self._sum, self._max, self._misses = 0, 0.0, 0.0, 0
        self.total_misses = 0

    @contextmanager
    def tick(self) -> Iterator[None]:
        """Measure the body: ``with monitor.tick(): ...``."""
        start = time.perf_counter()
        late = start - self._last_start > 2.0 * self.period  # False for the first (NaN)
        self._last_start = start
        yield
        elapsed = time.perf_counter() - start
        self._count += 1
        self._sum += elapsed
        self._max = max(self._max, elapsed)
        if late or elapsed > self.period:
            self._misses += 1
            self.total_misses += 1

    def report(self) -> Report:
        """Return tick time and misses since the last report."""
        values = {
            "ticks": self._count,
            "mean tick time [s]": self._sum / self._count if self._count else math.nan,
            "max tick time [s]": self._max,
            "period [s]": self.period,
            "misses": self._misses,
            "total misses": self.total_misses,
        }
        level = WARN if self._misses > 0.05 * max(self._count, 1) else OK
        message = f"{self._misses} of {self._count} ticks missed their deadline" if level == WARN else "ok"
        self._count, self._sum, self._max, self._misses = 0, 0.0, 0.0, 0
        return Report(level, message, values)
