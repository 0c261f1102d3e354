"""Starts the processes of a launch, keeps them, and stops them."""

import asyncio
import contextlib
import datetime
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ideomotor.launching.elements import LaunchError
from ideomotor.launching.process import OUTPUTS, ParameterFile, Process

GROUP_TIMEOUT = 1.0  # what a process leaves behind has this long to end by itself [s]
_SHOWN = 400  # characters of a parameter file in `command_line`


def run_launch(processes: Sequence[Process], screen: TextIO, log_folder: Path | None = None) -> int:
    """Run a launch to its end, and leave nothing running.

    It ends when all processes have ended, when one with ``on_exit="shutdown"`` ends, or on SIGINT, SIGTERM or SIGHUP.
    Then every process group gets SIGINT, SIGTERM after its ``sigterm_timeout``, SIGKILL after its ``sigkill_timeout``.
    A second signal skips the waiting.

    Args:
        processes: from `load_launch`.
        screen: where the output of processes goes, each line with the name of its process.
        log_folder: where ``launch.log`` with all output goes; a new one where ROS 2 has its logs by default.

    Returns:
        The exit code of the process that ended the launch; 0 if a signal did; otherwise that of the first process
        that ended with another than 0, if any. 128 + N for a process that signal N ended.

    Raises:
        LaunchError: if the logs cannot be written.
    """
    folder = log_folder or _new_log_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(
            f"cannot make the log folder {folder}: {error.strerror}; set ROS_LOG_DIR to another"
        ) from error
    with (
        tempfile.TemporaryDirectory(prefix="launch_params_") as parameter_folder,
        (folder / "launch.log").open("w", encoding="utf-8") as log,
        ThreadPoolExecutor(max_workers=max(1, len(processes))) as waiters,  # one waits for each process
    ):
        launch = _Launch(screen, log, waiters)
        launch.say("INFO", "launch", f"All log files can be found below {folder}")
        commands = [_write_parameters(process, Path(parameter_folder)) for process in processes]
        return asyncio.run(launch.run(processes, commands))


def command_line(process: Process) -> str:
    """Return the command of a process as one would type it; a parameter file by its text, or its beginning."""
    words = (w if isinstance(w, str) else f"<<{_beginning(w.text.strip())}>>" for w in process.command)
    return shlex.join(words)


def _beginning(text: str) -> str:
    """Return the text, or what of it fits a screen: a robot description is hundreds of lines."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ... ({len(text)} characters)"


def _write_parameters(process: Process, folder: Path) -> list[str]:
    words = []
    for i, word in enumerate(process.command):
        if isinstance(word, ParameterFile):
            path = folder / f"{process.name}.{i}.yaml".replace(os.sep, "_")
            path.write_text(word.text, encoding="utf-8")
            word = str(path)
        words.append(word)
    return words


def _new_log_folder() -> Path:
    """Return a new folder where ROS 2 would have one: ROS_LOG_DIR, else ROS_HOME/log, else ~/.ros/log."""
    home = os.environ.get("ROS_HOME") or "~/.ros"
    base = Path(os.environ.get("ROS_LOG_DIR") or f"{home}/log").expanduser()
    now = datetime.datetime.now().strftime("%Y-%m-%d-%H-%M-%S-%f")
    return base / f"{now}-{os.uname().nodename}-{os.getpid()}"


def _exit_code(code: int) -> int:
    return 128 - code if code < 0 else code


@dataclass(frozen=True)
class _Child:
    """A running process and the description it was started from."""

    process: Process
    handle: "subprocess.Popen[bytes]"

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole process group, which is the child's own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.handle.pid, number)

    def group_exists(self) -> bool:
        """Return whether anything of the group is left."""
        try:
            os.killpg(self.handle.pid, 0)
        except ProcessLookupError:
            return False
        return True


class _Launch:
    """A running launch."""

    def __init__(self, screen: TextIO, log: TextIO, waiters: Executor) -> None:
        self._screen, self._log, self._waiters = screen, log, waiters
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()  # a second signal came
        self._ended_by: int | None = None  # exit code of what ended the launch
        self._first_failure = 0

    async def run(self, processes: Sequence[Process], commands: Sequence[list[str]]) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal, number)
        await asyncio.gather(*(self._keep(p, command) for p, command in zip(processes, commands, strict=True)))
        return self._first_failure if self._ended_by is None else self._ended_by

    def say(self, level: str, who: str, text: str) -> None:
        self._write(f"[{level}] [{who}]: {text}", shown=True)

    def _write(self, line: str, *, shown: bool) -> None:
        self._log.write(line + "\n")
        if shown:
            # Whoever read our output may be gone; the processes are still to be stopped.
            with contextlib.suppress(BrokenPipeError):
                self._screen.write(line + "\n")
                self._screen.flush()

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stopping.is_set():
            self._hurry.set()
            return
        self.say("WARNING", "launch", f"{signal.Signals(number).name}: stopping all processes")
        self._end(0)

    def _end(self, code: int) -> None:
        if self._ended_by is None:
            self._ended_by = code
        self._stopping.set()

    async def _keep(self, process: Process, command: list[str]) -> None:
        """Run a process, again and again where it respawns, until it or the launch ends."""
        retries = 0
        while not self._stopping.is_set():
            code = await self._run_once(process, command)
            if self._stopping.is_set():
                return
            if process.required:
                self.say("INFO", process.name, "was required: stopping all processes")
                self._end(code)
                return
            retries += 1
            if not process.respawn or 0 <= process.respawn_max_retries < retries:
                self._first_failure = self._first_failure or code
                return
            await _wait(self._stopping, process.respawn_delay)

    async def _run_once(self, process: Process, command: list[str]) -> int:
        """Run a process once and return its exit code."""
        try:
            # Not asyncio's own: its wait() also waits for whatever else holds the pipes.
            handle = subprocess.Popen(
                command,
                cwd=process.cwd,
                env=dict(process.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a group of its own: what it starts is stopped with it
            )
        except OSError as error:
            self.say("ERROR", process.name, f"cannot be started: {error} [cmd '{shlex.join(command)}']")
            return 126
        child = _Child(process, handle)
        self.say("INFO", process.name, f"process started with pid [{handle.pid}]")
        readers = asyncio.gather(*(self._forward(child, stream) for stream in (0, 1)))
        stopper = asyncio.create_task(self._stop(child))
        code = _exit_code(await asyncio.get_running_loop().run_in_executor(self._waiters, handle.wait))
        stopper.cancel()
        await self._end_group(child)
        await readers
        if code == 0:
            self.say("INFO", process.name, f"process has finished cleanly [pid {handle.pid}]")
        else:
            cmd = shlex.join(command)
            self.say("ERROR", process.name, f"process has died [pid {handle.pid}, exit code {code}, cmd '{cmd}'].")
        return code

    async def _end_group(self, child: _Child) -> None:
        """End what a process that has ended started and left behind."""
        child.signal(signal.SIGTERM)
        end = time.monotonic() + GROUP_TIMEOUT
        while child.group_exists() and time.monotonic() < end:
            await _wait(self._hurry, 0.02)
        child.signal(signal.SIGKILL)

    async def _forward(self, child: _Child, stream: int) -> None:
        """Pass on the lines of stdout (0) or stderr (1), of any length, the last one even if it is not complete."""
        pipe = (child.handle.stdout, child.handle.stderr)[stream]
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        shown = OUTPUTS[child.process.output][stream]
        rest = b""
        while chunk := await reader.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._write(f"[{child.process.name}] {line.decode(errors='replace')}", shown=shown)
        transport.close()
        if rest:
            self._write(f"[{child.process.name}] {rest.decode(errors='replace')}", shown=shown)

    async def _stop(self, child: _Child) -> None:
        """When the launch ends: ask, insist, force."""
        await self._stopping.wait()
        p = child.process
        steps = ((signal.SIGINT, p.sigterm_timeout), (signal.SIGTERM, p.sigkill_timeout))
        for (number, patience), following in zip(steps, ("SIGTERM", "SIGKILL"), strict=True):
            child.signal(number)
            await _wait(self._hurry, patience)
            self.say("ERROR", p.name, f"has not ended {patience} s after {number.name}, escalating to {following}")
        child.signal(signal.SIGKILL)


async def _wait(event: asyncio.Event, timeout: float) -> None:
    """Wait for ``event``, at most ``timeout`` [s]."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(event.wait(), timeout)
