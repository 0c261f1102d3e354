"""One launch file under our runner and, where it is installed, under ROS 2's own launch: both start the same."""

import importlib.util
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
FILE = HERE / "both.launch.xml"
EXPECTED = {
    "once twice",
    f"listener included-default {HERE}/cases {HERE}/cases/included.launch.xml"
    " --ros-args -r __node:=included_once -r __ns:=/robot",
    "talker two words --ros-args -r __node:=once -r __ns:=/robot -r a:=b",
}


@pytest.fixture
def prefixes() -> str:
    return os.pathsep.join([str(HERE / "prefix"), *filter(None, [os.environ.get("AMENT_PREFIX_PATH")])])


def test_our_runner(launch_file: Callable[..., Any], prefixes: str) -> None:
    running = launch_file(FILE, {"AMENT_PREFIX_PATH": prefixes}, word="once")
    assert running.wait() == 0
    # The listener's stdout goes to the log only: its output is "log".
    log = Path(running.lines[0].rpartition(" ")[2], "launch.log").read_text().splitlines()
    assert {line.partition("] ")[2] for line in log if not line.startswith(("[INFO]", "[launch]"))} == EXPECTED


if importlib.util.find_spec("launch_pytest") and importlib.util.find_spec("launch_ros"):
    import launch_pytest

    import launch

    class Output:
        """Lines that processes print, collected in the thread of the launch."""

        def __init__(self) -> None:
            self.lines: set[str] = set()
            self.changed = threading.Condition()

        def add(self, event: Any) -> None:
            with self.changed:
                self.lines.update(event.text.decode().splitlines())
                self.changed.notify_all()

    @pytest.fixture
    def output() -> Output:
        return Output()

    @launch_pytest.fixture
    def description(output: Output, prefixes: str, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("AMENT_PREFIX_PATH", prefixes)
        source = launch.launch_description_sources.AnyLaunchDescriptionSource(str(FILE))
        collect = launch.event_handlers.OnProcessIO(on_stdout=output.add)
        return launch.LaunchDescription(
            [
                launch.actions.RegisterEventHandler(collect),
                launch.actions.IncludeLaunchDescription(source, launch_arguments=[("word", "once")]),
                launch_pytest.actions.ReadyToTest(),
            ]
        )

    @pytest.mark.launch(fixture=description)
    def test_ros2_launch(output: Output) -> None:
        with output.changed:
            output.changed.wait_for(lambda: output.lines >= EXPECTED, timeout=20.0)
        assert output.lines == EXPECTED
