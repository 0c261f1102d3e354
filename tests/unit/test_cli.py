"""The command ``ideomotor``: what it prints and its exit codes."""

import importlib.metadata
import subprocess
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ideomotor.cli import TRAINERS, main
from ideomotor.command_line import cli_type, to_config
from ideomotor.config import Config, value

LAUNCH = "<launch><arg name='n' default='1' description='how many'/><executable cmd='echo $(var n)'/></launch>"


def code_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0)


@pytest.fixture
def launch_file(tmp_path: Path) -> str:
    path = tmp_path / "a.launch.xml"
    path.write_text(LAUNCH)
    return str(path)


@pytest.mark.parametrize("command", [[], ["up"], ["inspect"], ["view"], ["train"]])
def test_help_ends_with_0(command: list[str], trained: list["TrainConfig"], capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(*command, "--help") == 0
    assert " ".join(["usage: ideomotor", *command]) in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["fly"], ["up"], ["inspect"], ["up", "x", "--fast"]])
def test_usage_errors_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(*arguments) == 2
    assert capsys.readouterr().err != ""


def test_bad_input_is_one_line_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("inspect", "/no/such/thing") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ideomotor: /no/such/thing is no such file or folder; expected a folder with manifest.json")


def test_show_args(launch_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("up", launch_file, "--show-args") == 0
    assert capsys.readouterr().out == "  n (default: '1') how many\n"


def test_dry_run(launch_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("up", launch_file, "n:=a b", "--dry-run") == 0
    assert capsys.readouterr().out == "[echo-1] echo 'a b'\n"


def test_output_that_nobody_reads_to_its_end_is_no_error() -> None:
    """`ideomotor inspect ROBOT | head -1`."""
    robot = Path(__file__).parents[2] / "urdf" / "solo12.urdf.xacro"
    code = f"import ideomotor.cli; ideomotor.cli.main(['inspect', {str(robot)!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read().decode()
    assert (process.returncode, error) == (0, "")


def test_unknown_launch_arguments_are_refused(launch_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("up", launch_file, "m:=1") == 2
    assert "unknown arguments m; declared are n" in capsys.readouterr().err
    assert code_of("up", launch_file, "n=1") == 2
    assert "argument 'n=1': expected NAME:=VALUE" in capsys.readouterr().err


def test_completion(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("--tyro-print-completion", "bash") == 0
    assert "inspect" in capsys.readouterr().out


# Trainers


@dataclass(frozen=True, kw_only=True)
class Inner(Config):
    width: int = value(3, "Width [px].", ge=1)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """Trains nothing."""

    rate: float = value(0.5, "Rate [Hz].", ge=0.0, le=1.0)
    mode: str = value("a", "Mode.", choices=("a", "b"))
    inner: Inner = field(default_factory=lambda: Inner(width=7))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """Install a trainer called fake; return the configurations it is called with."""
    seen: list[TrainConfig] = []
    module = types.ModuleType("fake_trainer")
    module.TrainConfig = TrainConfig  # type: ignore[attr-defined]
    module.train = lambda config: seen.append(config) or "trained"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_trainer", module)
    entry = importlib.metadata.EntryPoint("fake", "fake_trainer", TRAINERS)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [entry] if group == TRAINERS else [])
    return seen


def test_train_gets_its_configuration(trained: list[TrainConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("train", "fake", "--rate", "0.25", "--mode", "b", "--inner.width", "9") == 0
    assert trained == [TrainConfig(rate=0.25, mode="b", inner=Inner(width=9))]
    assert capsys.readouterr().out == "trained\n"
    assert code_of("train", "fake") == 0
    assert trained[1] == TrainConfig()


def test_train_help_has_units_ranges_and_choices(
    trained: list[TrainConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of("train", "fake", "--help") == 0
    text = capsys.readouterr().out
    assert "Rate [Hz]. (at least 0, at most 1) (default: 0.5)" in text
    assert "--mode {a,b}" in text
    assert "Width [px]. (at least 1) (default: 7)" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "2"], "rate=2.0 is outside [0.0, 1.0]: Rate [Hz]."),
        (["--inner.width", "0"], "width=0 is outside"),
        (["--mode", "c"], "invalid choice"),
    ],
)
def test_train_refuses_bad_values(
    trained: list[TrainConfig], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of("train", "fake", *arguments) == 2
    assert message in capsys.readouterr().err
    assert trained == []


def test_train_without_a_trainer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [])
    assert code_of("train", "keypoints") == 2
    assert "pip install -e packages/ideomotor_learn" in capsys.readouterr().err


def test_train_what_is_unknown(trained: list[TrainConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("train", "nothing") == 2
    assert "train nothing: expected one of fake" in capsys.readouterr().err


def test_positional_fields_of_a_made_type() -> None:
    made = cli_type(Inner, positional=("width",))
    assert to_config(Inner, made(width=4)) == Inner(width=4)


def test_the_command_line_needs_neither_ros_nor_torch() -> None:
    absent = "dict.fromkeys(['rclpy', 'torch', 'mujoco', 'ideomotor_learn'])"
    code = f"import sys; sys.modules.update({absent}); import ideomotor.cli"
    subprocess.run([sys.executable, "-c", code], check=True)
