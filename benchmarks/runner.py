"""Runs a benchmark part after part and seed after seed, saves after every step, and prints its table."""

import logging
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Metric, print_table, start_run, write_json
from ideomotor.errors import IdeomotorError

logger = logging.getLogger(__name__)

Cases = list[tuple[int, float]]  # (seed, value)
Part = Callable[[tuple[int, ...]], dict[str, Cases]]  # from seeds to cases by key


@dataclass(frozen=True)
class Benchmark:
    """What is measured, and what it must reach."""

    name: str
    options: Mapping[str, object]  # what all results have in common, but for the seeds
    parts: Mapping[str, Part]  # by name, called with one seed (those in `once`: with all)
    once: Collection[str]
    summarise: Callable[[dict[str, Cases]], dict[str, Metric]]
    targets: dict[str, str]


def run_benchmark(benchmark: Benchmark, seeds: tuple[int, ...], path: Path | None) -> int:
    """Measure, write and print; return the exit status: 1 if something could not be measured.

    What fails is noted and takes nothing else with it.

    Args:
        benchmark: what is measured.
        seeds: of the cases.
        path: file to write, after every step, as a long run may be cut short.
    """
    run = start_run(benchmark.name)
    common = {"benchmark": benchmark.name, "seeds": seeds, "options": benchmark.options}
    cases: dict[str, Cases] = {}
    metrics: dict[str, Metric] = {}
    for part, measure in benchmark.parts.items():
        for some in [seeds] if part in benchmark.once else [(seed,) for seed in seeds]:
            step = part if part in benchmark.once else f"{part}, seed {some[0]}"
            try:
                found = _timed(step, lambda measure=measure, some=some: measure(some))  # type: ignore[misc]
            except Exception as error:  # outermost loop: whatever it is, hours of other results must not be lost for it
                ours = isinstance(error, IdeomotorError)  # it says what is wrong; of others the place is needed
                logger.error("%s: failed: %s", step, error, exc_info=not ours)
                run.failed.append(f"{step}: {type(error).__name__}: {error}")
                found = {}
            for key, values in found.items():
                cases.setdefault(key, []).extend(values)
            metrics = benchmark.summarise(cases)
            if path:
                write_json(path, run, common, metrics)
    print_table(metrics, benchmark.targets)
    for failure in run.failed:
        sys.stderr.write(f"not measured: {failure}\n")
    return 1 if run.failed else 0


def _timed(step: str, measure: Callable[[], dict[str, Cases]]) -> dict[str, Cases]:
    logger.info("%s: begins", step)
    start = time.monotonic()
    found = measure()
    logger.info("%s: done in %.0f s", step, time.monotonic() - start)
    return found
