"""How long a controller takes to answer a state, and which states got their answer too late or none."""

import numpy as np

from ideomotor_nodes.diagnostics import OK, WARN, Report

_MOST = 1 << 16  # ticks of a run that are kept: the first 4 minutes at 250 Hz


class AnswerMonitor:
    """Times from a state's coming to its command's leaving, in one run and since the last report."""

    def __init__(self, period: float) -> None:
        self.period = period  # [s]
        self._times = np.zeros(_MOST)  # [s]
        self.restart()
        self.total_missed = 0

    def restart(self) -> None:
        """Begin a run."""
        self._count, self._reported, self.missed, self._reported_missed = 0, 0, 0, 0

    def answered(self, duration: float) -> None:
        """Count a command that left ``duration`` [s] after its state came."""
        self._times[self._count % _MOST] = duration
        self._count += 1
        if duration > self.period:
            self.unanswered(1)

    def unanswered(self, count: int) -> None:
        """Count states that were not answered."""
        self.missed += count
        self.total_missed += count

    @property
    def p99(self) -> float:
        """99th percentile of the run's ticks [s]; 0 before the first."""
        return float(np.percentile(self._times[: min(self._count, _MOST)], 99)) if self._count else 0.0

    def report(self) -> Report:
        """Return times and misses since the last report, and of the run."""
        new = self._times[min(self._reported, _MOST) : min(self._count, _MOST)]
        missed, count = self.missed - self._reported_missed, self._count - self._reported
        self._reported, self._reported_missed = self._count, self.missed
        values: dict[str, object] = {
            "ticks": count,
            "mean tick time [s]": float(new.mean()) if len(new) else 0.0,
            "max tick time [s]": float(new.max()) if len(new) else 0.0,
            "p99 tick time of the run [s]": self.p99,
            "period [s]": self.period,
            "misses": missed,
            "misses of the run [%]": 100.0 * self.missed / max(self._count, 1),
            "total misses": self.total_missed,
        }
        if missed > 0.05 * max(count, 1):
            return Report(WARN, f"{missed} of {count} states were answered late or not at all", values)
        return Report(OK, "ok", values)
