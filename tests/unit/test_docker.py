"""What can be checked of docker/ without an engine: its files name what is there."""

import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = (REPOSITORY / "docker/Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker/compose.yaml").read_text())


def launched() -> list[tuple[str, list[str]]]:
    """Return the launch file and argument names of every command that launches one."""
    commands = [service.get("command", "") for service in COMPOSE["services"].values()]
    split = [command.split() for command in commands if command.startswith("ros2 launch ideomotor_bringup ")]
    return [(words[3], [word.split(":=")[0] for word in words[4:]]) for words in split]


def test_every_copied_path_exists_and_reaches_the_builder() -> None:
    """COPY needs the path in the repository, and not excluded by .dockerignore."""
    kept = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source for sources in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for source in sources.split()
    }
    assert {"packages/ideomotor", "sim", "ros2_ws/src"} <= copied
    assert {source for source in copied if not (REPOSITORY / source).exists()} == set()
    assert copied == kept


def test_compose_builds_stages_that_exist() -> None:
    """Each service builds a stage of the Dockerfile and tags it by its own name."""
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))
    for name, service in COMPOSE["services"].items():
        target = service["build"]["target"]
        assert target in stages, name
        assert service["image"] == ("ideomotor" if target == "ideomotor" else f"ideomotor:{target}"), name


def test_compose_launches_with_arguments_the_files_declare() -> None:
    """A misspelt launch file or argument would only show at run time."""
    assert launched()
    for file, arguments in launched():
        declared = {arg.get("name") for arg in ET.parse(REPOSITORY / "launch" / file).getroot().findall("arg")}
        assert set(arguments) <= declared, file


def test_entrypoint_is_executable_shell() -> None:
    """The image starts with it, so it has its bit set and parses."""
    script = REPOSITORY / "docker/entrypoint.sh"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)
