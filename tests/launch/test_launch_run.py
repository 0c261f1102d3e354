"""Launch files with real processes: what is printed, how they end, and that nothing is left running."""

import os
import signal
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Launch = Callable[..., Any]

# Says when it is ready and which signal it got; $1 is what to do on SIGINT.
NODE = """\
import os, signal, sys, time
def say(text):  # print is not reentrant, and signals come at any time
    os.write(1, (text + "\\n").encode())
def stop(number, frame):
    say("got " + signal.Signals(number).name)
    if "ignore" not in sys.argv:
        sys.exit(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
signal.signal(signal.SIGINT, stop)
if "ignore-term" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: say("got SIGTERM"))
say("ready")
while True:
    time.sleep(0.05)
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a launch file; NODE in it is a Python program that waits for a signal."""
    (tmp_path / "node.py").write_text(NODE)

    def to_file(body: str) -> Path:
        path = tmp_path / "test.launch.xml"
        path.write_text(f"<launch>{textwrap.dedent(body).replace('NODE', f'python3 {tmp_path}/node.py')}</launch>")
        return path

    return to_file


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(launch: Any) -> list[int]:
    started = [line for line in launch.lines if "process started with pid [" in line]
    return [int(line.rpartition("[")[2].rstrip("]")) for line in started]


def test_lines_are_prefixed_and_output_is_chosen(launch_file: Launch, write: Callable[[str], Path]) -> None:
    launch = launch_file(
        write("""
        <executable cmd="sh -c 'echo shown; echo error >&amp;2; printf unfinished'" name="a" output="screen"/>
        <executable cmd="sh -c 'echo hidden; echo error >&amp;2'" name="b"/>
        <executable cmd="python3 -c 'print(chr(120) * 200000)'" name="long" output="both"/>
        """)
    )
    assert launch.wait() == 0
    assert {"[a-1] shown", "[a-1] error", "[a-1] unfinished", "[b-2] error"} <= set(launch.lines)
    assert "[b-2] hidden" not in launch.lines
    assert f"[long-3] {'x' * 200000}" in launch.lines
    logs = launch.lines[0].rpartition(" ")[2]
    assert "[b-2] hidden" in Path(logs, "launch.log").read_text()


def test_ctrl_c_stops_all_cleanly(launch_file: Launch, write: Callable[[str], Path]) -> None:
    launch = launch_file(write('<executable cmd="NODE" output="screen"/><executable cmd="NODE" output="screen"/>'))
    launch.wait_for_line("ready", count=2)
    assert launch.stop() == 0
    assert len([line for line in launch.lines if "got SIGINT" in line]) == 2
    assert not any(is_running(pid) for pid in pids(launch))


def test_sigterm_stops_all(launch_file: Launch, write: Callable[[str], Path]) -> None:
    launch = launch_file(write('<executable cmd="NODE" output="screen"/>'))
    launch.wait_for_line("ready")
    launch.signal(signal.SIGTERM)
    assert launch.wait() == 0
    launch.wait_for_line("got SIGINT")


@pytest.mark.parametrize("code", [0, 3])
def test_end_of_a_required_process_ends_the_launch(
    launch_file: Launch, write: Callable[[str], Path], code: int, tmp_path: Path
) -> None:
    launch = launch_file(
        write(f"""
        <executable cmd="NODE" output="screen"/>
        <executable cmd="sh -c 'while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; exit {code}'" on_exit="shutdown"/>
        """)
    )
    launch.wait_for_line("ready")
    (tmp_path / "go").touch()
    assert launch.wait() == code
    lines = launch.output
    order = [
        "[sh-2]: process has ",
        "[sh-2]: was required",
        "[python3-1] got SIGINT",
        "[python3-1]: process has finished",
    ]
    assert [lines.find(text) for text in order] == sorted(lines.find(text) for text in order)
    assert all(text in lines for text in order)


def test_unexpected_death_is_reported_and_the_others_go_on(launch_file: Launch, write: Callable[[str], Path]) -> None:
    launch = launch_file(write('<executable cmd="NODE" output="screen"/><executable cmd="sh -c \'exit 4\'"/>'))
    (died,) = launch.wait_for_line("process has died")
    assert died.startswith("[ERROR] [sh-2]: process has died [pid ")
    assert "exit code 4, cmd 'sh -c 'exit 4''" in died.replace('"', "'").replace("'\\''", "'")
    launch.wait_for_line("ready")
    assert launch.returncode is None
    assert launch.stop() == 0


def test_exit_code_is_that_of_the_first_failure(launch_file: Launch, write: Callable[[str], Path]) -> None:
    assert launch_file(write('<executable cmd="true"/><executable cmd="sh -c \'exit 4\'"/>')).wait() == 4
    assert launch_file(write("<executable cmd=\"sh -c 'kill -SEGV $$'\"/>")).wait() == 128 + signal.SIGSEGV


def test_respawn_with_delay_until_the_retries_are_used_up(launch_file: Launch, write: Callable[[str], Path]) -> None:
    start = time.monotonic()
    launch = launch_file(
        write("""
        <executable cmd="sh -c 'echo run; exit 1'" output="screen" respawn="true" respawn_delay="0.2"
                    respawn_max_retries="2"/>
        """)
    )
    assert launch.wait() == 1
    assert launch.lines.count("[sh-1] run") == 3
    assert time.monotonic() - start > 0.4


def test_no_respawn_after_a_stop(launch_file: Launch, write: Callable[[str], Path]) -> None:
    launch = launch_file(write('<executable cmd="NODE" output="screen" respawn="true" respawn_delay="60"/>'))
    launch.wait_for_line("ready")
    os.kill(pids(launch)[0], signal.SIGKILL)
    launch.wait_for_line("process has died")
    assert launch.stop(timeout=10.0) == 0
    assert len(pids(launch)) == 1


def test_process_that_ignores_sigint_and_sigterm(launch_file: Launch, write: Callable[[str], Path]) -> None:
    launch = launch_file(
        write("""
        <executable cmd="NODE ignore ignore-term" output="screen" sigterm_timeout="0.3" sigkill_timeout="0.3"/>
        <executable cmd="NODE ignore" output="screen" sigterm_timeout="0.3"/>
        """)
    )
    launch.wait_for_line("ready", count=2)
    assert launch.stop() == 0
    assert "[python3-1]: has not ended 0.3 s after SIGINT, escalating to SIGTERM" in launch.output
    assert "[python3-1] got SIGTERM" in launch.lines
    assert "[python3-1]: has not ended 0.3 s after SIGTERM, escalating to SIGKILL" in launch.output
    assert "exit code 137" in launch.output
    assert "exit code 143" in launch.output
    assert not any(is_running(pid) for pid in pids(launch))


def test_second_ctrl_c_skips_the_waiting(launch_file: Launch, write: Callable[[str], Path]) -> None:
    launch = launch_file(write('<executable cmd="NODE ignore ignore-term" output="screen" sigterm_timeout="600"/>'))
    launch.wait_for_line("ready")
    launch.signal(signal.SIGINT)
    launch.wait_for_line("got SIGINT")
    launch.signal(signal.SIGINT)
    assert launch.wait(timeout=10.0) == 0
    assert not is_running(pids(launch)[0])


def test_what_a_process_started_ends_with_it(launch_file: Launch, write: Callable[[str], Path]) -> None:
    launch = launch_file(write("<executable cmd=\"sh -c 'sleep 600 &amp; echo child $!'\" output='screen'/>"))
    assert launch.wait() == 0
    (line,) = (line for line in launch.lines if line.startswith("[sh-1] child"))
    assert not is_running(int(line.split()[-1]))


def test_nothing_is_started_if_anything_is_missing(launch_file: Launch, write: Callable[[str], Path]) -> None:
    launch = launch_file(write('<executable cmd="NODE" output="screen"/>\n<executable cmd="no-such-program"/>'))
    assert launch.wait() == 2
    assert pids(launch) == []
    (line,) = launch.lines
    assert line.endswith("test.launch.xml:2: <executable>: 'no-such-program' is no executable file and none on PATH")


def test_program_that_cannot_be_executed(launch_file: Launch, write: Callable[[str], Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    launch = launch_file(write(f'<executable cmd="{broken}"/>'))
    assert launch.wait() == 126
    assert "[broken-1]: cannot be started: " in launch.output


def test_parameters_reach_the_process_and_the_files_are_removed(launch_file: Launch, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    (prefix / "share/ament_index/resource_index/packages").mkdir(parents=True)
    (prefix / "share/ament_index/resource_index/packages/demo").touch()
    (prefix / "lib/demo").mkdir(parents=True)
    node = prefix / "lib/demo/node"
    node.write_text('#!/bin/sh\necho "$@"\nwhile [ "$1" != --params-file ]; do shift; done\ncat "$2"\n')
    node.chmod(0o755)
    path = tmp_path / "parameters.launch.xml"
    path.write_text(
        '<launch><arg name="rate"/><node pkg="demo" exec="node" name="n" namespace="robot" output="screen">'
        '<param name="rate" value="$(var rate)"/></node></launch>'
    )
    launch = launch_file(path, {"AMENT_PREFIX_PATH": str(prefix)}, rate="12.5")
    assert launch.wait() == 0
    text = [line.removeprefix("[node-1] ") for line in launch.lines if line.startswith("[node-1] ")]
    assert text[1:] == ["/robot/n:", "  ros__parameters:", "    rate: 12.5"]
    assert text[0].startswith("--ros-args -r __node:=n -r __ns:=/robot --params-file ")
    assert not Path(text[0].rpartition(" ")[2]).exists()


def test_log_folder_that_cannot_be_made(launch_file: Launch, write: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    launch = launch_file(write('<executable cmd="echo x"/>'), {"ROS_LOG_DIR": str(tmp_path / "file")})
    assert launch.wait() == 2
    assert "cannot make the log folder" in launch.output
    assert "set ROS_LOG_DIR" in launch.output
