"""`make test` and `make check`: every gate and every suite, then a summary; exit code 1 if one failed.

Needs the environment of `ros2_ws/install/setup.bash`. One suite: python -m pytest tests/unit
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
CHECKS = {
    "format": ["ruff", "format", "--check"],
    "lint": ["ruff", "check"],
    "types": ["mypy"],
    "arrows": ["lint-imports", "--no-cache"],
    "spelling": ["typos"],
    "dockerfiles": ["hadolint", "-c", "docker/.hadolint.yaml", "docker/Dockerfile"],
}
SUITES = ("unit", "graph", "launch", "faults")  # fast and many to slow and few


class Outcome(NamedTuple):
    """How one gate or suite ended."""

    name: str
    passed: bool
    seconds: float
    note: str


def run(name: str, command: list[str]) -> Outcome:
    """Run one gate; its output goes to the terminal, its last line into the summary."""
    print(f"\n=== {name}: {' '.join(command)}", flush=True)
    started = time.monotonic()
    process = subprocess.Popen(
        [str(BIN / command[0]), *command[1:]],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line.strip().strip("= ") or last
    return Outcome(name, process.wait() == 0, time.monotonic() - started, last)


def main() -> int:
    """Run the checks, and the suites unless only the checks are wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only the checks, without tests")
    only_checks = parser.parse_args().check
    outcomes = [run(name, command) for name, command in CHECKS.items()]
    if not only_checks:
        outcomes += [run(f"tests/{s}", ["pytest", "-q", "--durations=5", f"tests/{s}"]) for s in SUITES]
    width = max(len(o.name) for o in outcomes)
    print("\n=== summary")
    for o in outcomes:
        print(f"{'pass' if o.passed else 'FAIL'}  {o.name:<{width}} {o.seconds:7.1f} s  {o.note}")
    return 0 if all(o.passed for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
