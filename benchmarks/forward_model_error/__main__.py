"""Command line: `python -m benchmarks.forward_model_error [--seeds ...] [--quick] [--json FILE] [case options]`."""

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.forward_model_error import ours
from benchmarks.forward_model_error.cases import ITERATIONS, TASKS, Options, open_case
from benchmarks.forward_model_error.jobs import run_jobs
from benchmarks.report import Metric, metric
from benchmarks.runner import Benchmark, Cases, Part, run_benchmark
from ideomotor.errors import IdeomotorError

PARTS = ("ablation",)
DEFAULT_PARTS = PARTS
QUICK_ITERATIONS = 5

# What each key must reach, as in the project's requirements.
TARGETS = {
    **{f"{task}_perf_error": "below task only, intervals apart, in two tasks" for task in TASKS},
    "arm_perf_first_over_last": ">= 5",
    "arm_computed_torque_over_perf": "> 1",
    "solo12_success_pct": ">= 80",
    "solo12_contact_agreement_pct": ">= 80",
    "solo12_displacement_ratio": "0.8 to 1.2",
    "transitions": "<= 6050",
    "policy_tick_p99_ms": "<= 2",
    "policy_deadline_miss_pct": "<= 0.1",
    "collect_2_over_1": ">= 1.7",
    "collect_over_raw_mujoco": ">= 0.6",
    "bound_holds_pct": "100",
}


def mean(values: np.ndarray) -> float:
    """Return the mean."""
    return float(np.mean(values))


def median(values: np.ndarray) -> float:
    """Return the median."""
    return float(np.median(values))


def largest(values: np.ndarray) -> float:
    """Return the largest."""
    return float(np.max(values))


def summarise(cases: dict[str, Cases]) -> dict[str, Metric]:
    """Return the metrics: means over seeds of errors and shares, medians of times and ratios."""
    metrics: dict[str, Metric | None] = {}
    for key, values in cases.items():
        if key == "transitions":
            metrics[key] = metric(values, "1", largest)
        elif key.endswith("_pct"):
            metrics[key] = metric(values, "%", mean)
        elif "_perf_error" in key:
            of_state = key.endswith(("_task_error", "_prediction_error", "_step_error", "_believed_error"))
            metrics[key] = metric(values, "1" if of_state else "rad" if key.startswith("arm_") else "rad, m", mean)
        else:
            metrics[key] = metric(values, "ms" if key.endswith("_ms") else "1", median)
    return {key: m for key, m in metrics.items() if m is not None}


def _each_variant(options: Options, task: str, variants: tuple[str, ...], seeds: tuple[int, ...]) -> dict[str, Cases]:
    return run_jobs(
        [partial(ours.measure, options, task, variant, seeds[0]) for variant in variants], options.processes
    )


def parts(options: Options, chosen: tuple[str, ...]) -> dict[str, Part]:
    """Return how each part of each task is measured."""
    found: dict[str, Part] = {}
    for task in options.tasks:
        if "ablation" in chosen:
            found[f"ablation of {task}"] = partial(_each_variant, options, task, tuple(ours.ABLATION))
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forward_model_error", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--quick", action="store_true", help=f"one seed, {QUICK_ITERATIONS} iterations")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(DEFAULT_PARTS), help="what to measure")
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS), help="which tasks")
    parser.add_argument("--payload", type=float, help="[kg] the nominal model does not know (default: the task's)")
    parser.add_argument(
        "--friction", type=float, help="of the ground; of an arm its joints' [N m] (default: the task's)"
    )
    parser.add_argument("--target", type=Path, help="target motion (.npz), for one --task")
    parser.add_argument("--processes", type=int, default=2, help="trainings side by side")
    return parser


def main() -> None:
    """Run the benchmark."""
    parser = _parser()
    a = parser.parse_args()
    seeds = tuple(dict.fromkeys(a.seeds[:1] if a.quick else a.seeds))
    if min(seeds) < 0 or a.processes < 1:
        parser.error(f"--seeds {a.seeds} --processes {a.processes}: expected integers of 0, of 1 or more")
    for name in ("payload", "friction"):
        number = getattr(a, name)
        if number is not None and not (np.isfinite(number) and number >= 0.0):
            parser.error(f"--{name} {number}: expected a number of at least 0")
    if a.target and len(a.task) != 1:
        parser.error(f"--target {a.target}: expected one --task, whose robot it is a motion of")
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("benchmarks").setLevel(logging.INFO)
    torch.set_num_threads(1)
    iterations = QUICK_ITERATIONS if a.quick else ITERATIONS
    tasks = tuple(task for task in TASKS if task in a.task)
    options = Options(tasks, a.payload, a.friction, a.target, iterations, a.processes)
    try:
        for task in tasks:
            open_case(options, task)
    except IdeomotorError as error:
        parser.error(str(error))
    common = {
        "tasks": tasks,
        "payload": a.payload,
        "friction": a.friction,
        "target": str(a.target) if a.target else None,
        "iterations": iterations,
    }
    chosen = parts(options, tuple(a.parts))
    sys.exit(run_benchmark(Benchmark("forward_model_error", common, chosen, (), summarise, TARGETS), seeds, a.json))


if __name__ == "__main__":
    main()
