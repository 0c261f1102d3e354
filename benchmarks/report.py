"""Metrics of a benchmark: statistics over cases and seeds, a table for people and JSON for machines."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

import ideomotor

BOOTSTRAP_SAMPLES = 2000
PROSE = ("docs", "*.md")  # a change of these does not change what is measured
VERSIONED_PACKAGES = ("numpy", "scipy", "mujoco", "pin", "pin-pink", "onnxruntime", "rclpy", "torch")


@dataclass(frozen=True)
class Metric:
    """One number of a benchmark, with the cases behind it."""

    value: float
    unit: str
    ci95: tuple[float, float] | None  # bootstrap over cases; None for fewer than two
    n: int  # cases
    per_seed: dict[str, float]


def metric(
    cases: Iterable[tuple[int, float]], unit: str, statistic: Callable[[np.ndarray], float] = np.median
) -> Metric | None:
    """Summarise (seed, value) cases; None if there are none (absent, never zero).

    Args:
        cases: one pair per case; values must be finite.
        unit: unit of the value.
        statistic: from the values (n,) to a number.
    """
    pairs = list(cases)
    if not pairs:
        return None
    seeds = np.array([seed for seed, _ in pairs])
    values = np.array([value for _, value in pairs], dtype=float)
    if not np.isfinite(values).all():
        raise ValueError(f"{np.sum(~np.isfinite(values))} of {len(values)} values are not finite")
    interval = None
    if len(values) > 1:
        rng = np.random.default_rng(0)
        resampled = values[rng.integers(len(values), size=(BOOTSTRAP_SAMPLES, len(values)))]
        low, high = np.percentile([statistic(sample) for sample in resampled], [2.5, 97.5])
        interval = (float(low), float(high))
    per_seed = {str(seed): float(statistic(values[seeds == seed])) for seed in np.unique(seeds)}
    return Metric(float(statistic(values)), unit, interval, len(values), per_seed)


def percentile(q: float) -> Callable[[np.ndarray], float]:
    """Return a statistic: the q-th percentile."""
    return lambda values: float(np.percentile(values, q))


def machine() -> dict[str, object]:
    """Describe the machine and the versions that the numbers depend on."""
    versions = {"python": platform.python_version()}
    for name in VERSIONED_PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    cpu = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.platform(), "versions": versions}


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def revision() -> str:
    """Return the version and, inside a git checkout, the commit, marked if what is measured differs from it."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{name}" for name in PROSE))
    except (OSError, subprocess.CalledProcessError):
        return ideomotor.__version__
    return f"{ideomotor.__version__}+{commit}{'.dirty' if changed else ''}"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


@dataclass(frozen=True)
class Run:
    """One run of a benchmark: what was executed when and where."""

    date: str  # of its start, ISO 8601, UTC
    version: str
    command: str
    machine: dict[str, object]
    failed: list[str] = field(default_factory=list)  # what could not be measured, and why


def start_run(benchmark: str) -> Run:
    """Describe the run that begins now."""
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    arguments = [Path(a).name if Path(a).is_absolute() else a for a in sys.argv[1:]]  # no machine's folders
    command = shlex.join(["python", "-m", f"benchmarks.{benchmark}", *arguments])
    return Run(date, revision(), command, machine())


def write_json(path: Path, run: Run, common: Mapping[str, object], metrics: dict[str, Metric]) -> None:
    """Write the result file described in docs/benchmarks.md.

    Metrics that the file has already and that this run has not measured are kept, with their own version and date, if
    they have all of ``common`` in common with those of this run.

    Args:
        path: of the file.
        run: that measured the metrics.
        common: what all metrics of the file share: benchmark, seeds, case options.
        metrics: of this run, so far.
    """
    shared = json.loads(json.dumps(common))
    old = json.loads(path.read_text()) if path.is_file() else {}
    same = "runs" in old and all(old.get(key) == value for key, value in shared.items())
    kept: dict[str, dict[str, object]] = old["metrics"] if same else {}
    new = {key: asdict(m) | {"version": run.version, "date": run.date} for key, m in metrics.items()}
    merged = kept | new
    dates = {m["date"] for m in merged.values()}
    earlier = [r for r in old["runs"] if r["date"] in dates and r["date"] != run.date] if same else []
    content = shared | {"runs": [*earlier, asdict(run)], "metrics": merged}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def print_table(metrics: dict[str, Metric], targets: dict[str, str]) -> None:
    """Print one line a metric: value, interval, cases, and what it must reach."""
    width = max(map(len, metrics), default=10)
    print(f"{'key':<{width}}  {'value':>10}  {'unit':<6} {'95 % interval':<20} {'n':>5}  must reach")
    for key, m in metrics.items():
        interval = "" if m.ci95 is None else f"{m.ci95[0]:.3g} .. {m.ci95[1]:.3g}"
        print(f"{key:<{width}}  {m.value:>10.4g}  {m.unit:<6} {interval:<20} {m.n:>5}  {targets.get(key, '')}")
