"""`launch_file`: a launch file running under our runner, as a user would start it."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CONFIG = Path(__file__).resolve().parents[2] / "ros2_ws" / "src" / "ideomotor_bringup" / "config"


class RunningLaunch:
    """A launch in a process of its own. All its output is in ``lines``."""

    def __init__(self, path: Path, arguments: dict[str, str], environment: dict[str, str]) -> None:
        command = [sys.executable, "-c", "from ideomotor.cli import main; main()", "up", str(path)]
        command += [f"{name}:={value}" for name, value in arguments.items()]
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for_line(self, text: str, *, count: int = 1, timeout: float = 20.0) -> list[str]:
        """Wait until ``count`` lines contain ``text``, and return them."""
        with self._changed:
            found = self._changed.wait_for(lambda: sum(text in line for line in self.lines) >= count, timeout)
        assert found, f"no {count} lines with {text!r} in {timeout} s; the output is\n{self.output}"
        return [line for line in self.lines if text in line]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 20.0) -> int:
        """Wait for the end, and return the exit code."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    @property
    def returncode(self) -> int | None:
        return self.process.poll()

    def stop(self, timeout: float = 20.0) -> int:
        """Stop it as Ctrl-C does, and return the exit code."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGINT)
        return self.wait(timeout)


@pytest.fixture
def launch_file(tmp_path: Path) -> Iterator[Callable[..., RunningLaunch]]:
    """Start launch files: ``launch_file(path, name="value")``; they are stopped at the end of the test."""
    started: list[RunningLaunch] = []

    def start(path: Path, environment: dict[str, str] | None = None, **arguments: str) -> RunningLaunch:
        env = {**os.environ, "ROS_LOG_DIR": str(tmp_path / "log"), **(environment or {})}
        started.append(RunningLaunch(path, arguments, env))
        return started[-1]

    yield start
    for launch in started:
        try:
            launch.stop()
        except subprocess.TimeoutExpired:
            launch.process.kill()
            launch.wait()
            raise


@pytest.fixture
def own_domain() -> dict[str, str]:
    """A domain of our own: other tests may run at the same time."""
    return {"ROS_DOMAIN_ID": str(100 + os.getpid() % 100), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


@pytest.fixture
def robot_config(tmp_path: Path) -> Callable[..., Path]:
    """Write the effort config of a robot as a user changes it: ``robot_config(robot, node={"parameter": value})``."""

    def write(robot: str, **changes: dict[str, Any]) -> Path:
        config = yaml.safe_load((CONFIG / f"{robot}_effort.yaml").read_text())
        for node, parameters in changes.items():
            config[node]["ros__parameters"].update(parameters)
        path = tmp_path / "my_effort.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    return write
