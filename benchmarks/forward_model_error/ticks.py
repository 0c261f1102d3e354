"""How punctual `policy_controller` is at 250 Hz, over ROS, the simulator beside it in real time.

`launch/policy.launch.xml` runs a committed policy again and again; the node times each answer itself, from a state's
coming to its command's leaving.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.forward_model_error.cases import CaseError
from benchmarks.runner import Cases

LAUNCH_FILE = Path("launch/policy.launch.xml")
DOMAIN_ID = 78  # of the benchmark's nodes
RUNS = 50  # of 0.8 s
TIMEOUT = 600.0  # [s]


def measure(policy: Path, robot: str, seeds: tuple[int, ...]) -> dict[str, Cases]:
    """Return the 99th percentile of each run's ticks [ms], and its share of states without a timely answer [%].

    Raises:
        CaseError: the nodes did not run it.
    """
    with tempfile.TemporaryDirectory() as folder:
        report, log = Path(folder, "report.json"), Path(folder, "nodes.log")
        arguments = {"robot": robot, "policy": policy.resolve(), "runs": RUNS, "report": report, "seed": seeds[0]}
        command = ["ideomotor", "up", str(LAUNCH_FILE), *(f"{name}:={value}" for name, value in arguments.items())]
        with log.open("w") as output:
            try:
                subprocess.run(
                    command,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=os.environ | {"ROS_DOMAIN_ID": str(DOMAIN_ID)},
                    timeout=TIMEOUT,
                    check=False,
                )
            except (subprocess.TimeoutExpired, FileNotFoundError) as error:
                raise CaseError(f"{LAUNCH_FILE}: {error}") from error
        if not report.is_file():
            sys.stderr.write(log.read_text()[-4000:])
            raise CaseError(f"{LAUNCH_FILE} {policy}: no report of runs")
        return cases_of(json.loads(report.read_text()), seeds[0])


def cases_of(runs: list[dict[str, float]], seed: int) -> dict[str, Cases]:
    """Return the cases of reported runs; those that ran no step say nothing."""
    whole = [run for run in runs if run["steps"] > 0]
    return {
        "policy_tick_p99_ms": [(seed, 1e3 * run["tick_p99"]) for run in whole],
        "policy_deadline_miss_pct": [(seed, 100.0 * run["missed_deadlines"] / run["steps"]) for run in whole],
    }
