"""The command ``ideomotor``: one entry, made of configuration dataclasses.

Exit codes: 0 it worked; 1 it failed while running; 2 the command line or its input is wrong. `ideomotor up` ends with
the exit code of what ended the launch.
"""

import contextlib
import importlib.metadata
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import tyro

from ideomotor.command_line import cli_type, to_config
from ideomotor.config import Config, value
from ideomotor.errors import IdeomotorError

TRAINERS = "ideomotor.train"  # entry points: name -> module with TrainConfig and train(config)


class UsageError(IdeomotorError):
    """The command line cannot be followed."""


@dataclass(frozen=True, kw_only=True)
class Up(Config):
    """Run a ROS 2 XML launch file, without ROS 2's launch, until it ends or Ctrl-C.

    Unlike `ros2 launch`, which ignores them silently, this refuses arguments that the file does not declare.
    """

    file: Path = field(metadata={"doc": "Launch file."})
    arguments: tuple[str, ...] = value((), "Arguments of the launch file, NAME:=VALUE ...")
    show_args: bool = value(False, "List the arguments of the file and end.")
    dry_run: bool = value(False, "Print the command lines and end.")


@dataclass(frozen=True, kw_only=True)
class Inspect(Config):
    """Say what an artefact, a recording or a robot description contains, after checking it."""

    path: Path = field(metadata={"doc": "Folder of an artefact or bag, or a file .mcap, .urdf or .xacro."})


@dataclass(frozen=True, kw_only=True)
class View(Config):
    """Show a robot description, or play a recording, in the browser until Ctrl-C."""

    path: Path = field(metadata={"doc": "File .urdf or .xacro, or folder of a recording."})
    port: int = value(8080, "TCP port on the loopback interface.", ge=1, le=65535)


@dataclass(frozen=True, kw_only=True)
class Train(Config):
    """Train a model (needs ideomotor_learn); `ideomotor train NAME --help` lists a trainer's options."""

    what: str = field(metadata={"doc": "What to train, such as keypoints."})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    logging.basicConfig(level=logging.INFO, format="[%(levelname)s] [%(name)s]: %(message)s")
    try:
        code = run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()  # here, where a reader that has gone is no error
    except IdeomotorError as error:
        sys.stderr.write(f"ideomotor: {error}\n")
        code = 2
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader of our output had enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes
        code = 0
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code.

    Raises:
        IdeomotorError: on bad input.
        SystemExit: from tyro, on ``--help`` (0) and on usage errors (2).
    """
    if arguments[:1] == ["train"]:
        return _train(arguments[1:])
    types = {name: cli_type(c.config_type, positional=c.positional) for name, c in _COMMANDS.items()}
    parsed = tyro.extras.subcommand_cli_from_dict(
        types, prog="ideomotor", description=_DESCRIPTION, args=arguments, config=_TYRO
    )
    command = next(_COMMANDS[name] for name, made in types.items() if isinstance(parsed, made))
    return command.function(to_config(command.config_type, parsed))


_TYRO = (tyro.conf.FlagCreatePairsOff,)  # --dry-run, without --no-dry-run
_DESCRIPTION = "Robots that learn a model of their own body and act on it."


def _up(config: Up) -> int:
    from ideomotor.launching.parse import declared_arguments, load_launch
    from ideomotor.launching.run import command_line, run_launch

    given = dict(_name_and_value(argument) for argument in config.arguments)
    if config.show_args:
        for argument in declared_arguments(config.file, given):
            choices = f" One of: {', '.join(argument.choices)}." if argument.choices else ""
            default = "required" if argument.default is None else f"default: {argument.default!r}"
            print(f"  {argument.name} ({default}){' ' if argument.description else ''}{argument.description}{choices}")
        return 0
    processes = load_launch(config.file, given)
    if config.dry_run:
        for process in processes:
            print(f"[{process.name}] {command_line(process)}")
        return 0
    return run_launch(processes, sys.stdout)


def _name_and_value(argument: str) -> tuple[str, str]:
    name, separator, text = argument.partition(":=")
    if not separator or not name:
        raise UsageError(f"argument {argument!r}: expected NAME:=VALUE")
    return name, text


def _inspect(config: Inspect) -> int:
    from ideomotor.inspect import describe

    print(describe(config.path))
    return 0


def _view(config: View) -> int:
    from ideomotor.body.urdf import load_urdf
    from ideomotor.data.recording import Recording

    with contextlib.ExitStack() as stack:
        source = stack.enter_context(Recording(config.path)) if config.path.is_dir() else load_urdf(config.path)
        try:
            from ideomotor.robot_visual import ament_shares
            from ideomotor.view_recording import play
            from ideomotor.viewer import Viewer, ViewerConfig
        except ModuleNotFoundError as error:
            raise UsageError(f"the viewer needs {error.name}: pip install 'ideomotor[view]'") from error
        viewer = Viewer(ViewerConfig(port=config.port), (config.path.absolute().parent, *ament_shares()))
        stack.callback(viewer.close)
        if isinstance(source, str):
            viewer.set_description(source)
            viewer.add_joint_sliders()
        print(f"{viewer.url}  (Ctrl-C ends)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):  # that is how one ends it
            viewer.server.sleep_forever() if isinstance(source, str) else play(viewer, source)
    return 0


def _train(arguments: list[str]) -> int:
    trainers = {entry.name: entry for entry in importlib.metadata.entry_points(group=TRAINERS)}
    if not trainers:
        raise UsageError("training needs ideomotor_learn: in the repository, pip install -e packages/ideomotor_learn")
    if not arguments or arguments[0] not in trainers:
        if arguments[:1] in (["-h"], ["--help"]):
            print(f"usage: ideomotor train {{{','.join(sorted(trainers))}}} ...")
            return 0
        raise UsageError(f"{' '.join(('train', *arguments[:1]))}: expected one of {', '.join(sorted(trainers))}")
    module: ModuleType = trainers[arguments[0]].load()
    config_type = module.TrainConfig
    prog = f"ideomotor train {arguments[0]}"
    config = to_config(config_type, tyro.cli(cli_type(config_type), prog=prog, args=arguments[1:], config=_TYRO))
    print(module.train(config))
    return 0


def _train_help(config: Train) -> int:
    return _train([config.what])


class _Command(NamedTuple):
    config_type: type[Config]
    function: Callable[[Any], int]
    positional: tuple[str, ...]


_COMMANDS = {
    "up": _Command(Up, _up, ("file", "arguments")),
    "inspect": _Command(Inspect, _inspect, ("path",)),
    "view": _Command(View, _view, ("path",)),
    "train": _Command(Train, _train_help, ("what",)),
}
