"""What a launch file comes down to: processes, described completely."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ParameterFile:
    """A place in a command line for the path of a file with this text, which the runner writes at the start."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process of a launch: everything that is needed to start and to keep it."""

    name: str  # "talker-1", as ros2 launch names it
    command: tuple[str | ParameterFile, ...]
    environment: Mapping[str, str]
    cwd: str | None
    output: str  # one of OUTPUTS
    respawn: bool
    respawn_delay: float  # [s]
    respawn_max_retries: int  # negative: no limit
    required: bool  # on_exit="shutdown": its end ends the launch
    sigterm_timeout: float  # from SIGINT to SIGTERM [s]
    sigkill_timeout: float  # from SIGTERM to SIGKILL [s]


#: By value of the attribute ``output``: whether stdout, stderr are shown. All of it goes to the log file anyway.
OUTPUTS = {
    "log": (False, True),
    "screen": (True, True),
    "both": (True, True),
}


@dataclass(frozen=True)
class Argument:
    """An argument that a launch file declares."""

    name: str
    default: str | None  # None: it must be given
    description: str
    choices: tuple[str, ...]
    where: str  # file:line
