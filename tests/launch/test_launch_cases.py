"""The runner makes the same processes of a launch file as ROS 2's own launch did (see record_expected.py)."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from ideomotor.launching.elements import LaunchError, read_launch_file
from ideomotor.launching.index import PackageError, package_prefix
from ideomotor.launching.parse import load_launch
from ideomotor.launching.process import ParameterFile, Process

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
OWN_FILES = sorted((REPOSITORY / "launch").glob("*.launch.xml"))
OWN_CASES: dict[str, dict[str, Any]] = {
    **{path.name.removesuffix(".launch.xml"): {"path": path, "arguments": {}} for path in OWN_FILES},
    **{
        name: {**case, "path": REPOSITORY / "launch" / f"{case['file']}.launch.xml"}
        for name, case in yaml.safe_load((HERE / "repository.yaml").read_text()).items()
    },
}
CASES: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "cases.yaml").read_text())
ENVIRONMENT = {"PATH": os.environ["PATH"], "AMENT_PREFIX_PATH": str(HERE / "prefix")}


def load(case: dict[str, Any]) -> list[dict[str, Any]]:
    environment = {**ENVIRONMENT, **case.get("environment", {})}
    path = HERE / "cases" / f"{case['file']}.launch.xml"
    return [as_recorded(p, environment) for p in load_launch(path, case.get("arguments", {}), environment)]


def as_recorded(process: Process, environment: dict[str, str]) -> dict[str, Any]:
    changed: dict[str, str | None] = {k: portable(v) for k, v in process.environment.items() if environment.get(k) != v}
    changed.update({k: None for k in environment if k not in process.environment})
    fields = {k: v for k, v in vars(process).items() if k not in ("command", "environment")}
    return {**fields, "command": [word(w) for w in process.command], "environment": changed}


def word(w: str | ParameterFile) -> Any:
    return {"parameters": shortened(yaml.safe_load(portable(w.text)))} if isinstance(w, ParameterFile) else portable(w)


def shortened(value: Any) -> Any:
    """Leave out long texts (robot descriptions), which change without the launch files."""
    if isinstance(value, dict):
        return {name: shortened(v) for name, v in value.items()}
    return "<long text>" if isinstance(value, str) and len(value) > 1000 else value


def portable(text: str) -> str:
    return text.replace(str(REPOSITORY), "<repository>")


@pytest.mark.parametrize("name", CASES)
def test_same_processes_as_ros2_launch(name: str) -> None:
    case = CASES[name]
    expected = json.loads((HERE / "expected" / f"{name}.json").read_text())
    if "refused" in expected or case.get("ours") == "refused":
        with pytest.raises(LaunchError, match=r"\.launch\.xml:\d+: "):
            load(case)
    else:
        assert load(case) == expected["processes"]


def test_every_case_file_is_used() -> None:
    """A launch file that no row names tests nothing."""
    used = {HERE / "cases" / f"{case['file']}.launch.xml" for case in CASES.values()}
    included = {HERE / "cases" / "included.launch.xml"}
    assert set((HERE / "cases").glob("*.launch.xml")) == used | included


@pytest.mark.parametrize("path", OWN_FILES, ids=lambda p: p.name)
def test_the_repositorys_launch_files_are_in_the_covered_subset(path: Path) -> None:
    assert read_launch_file(path).tag == "launch"


@pytest.mark.parametrize("name", OWN_CASES)
def test_the_repositorys_launch_files_are_what_ros2_launch_makes_of_them(name: str) -> None:
    """With their default arguments, and as repository.yaml says. Packages are found in the built, sourced workspace."""
    path, arguments = OWN_CASES[name]["path"], OWN_CASES[name]["arguments"]
    recorded = HERE / "expected" / f"repository_{name}.json"
    expected = json.loads(recorded.read_text()) if recorded.is_file() else {}
    current = hashlib.sha256(b"".join(p.read_bytes() for p in OWN_FILES)).hexdigest()
    if expected.get("launch_files_sha256") != current:
        pytest.skip("launch/ has changed: record again with ROS 2, python3 tests/launch/record_expected.py")
    environment = dict(os.environ)
    try:
        package_prefix("ideomotor_bringup", environment)
    except PackageError:
        pytest.skip("ros2_ws is not built, or ros2_ws/install/setup.bash not sourced")
    if "refused" in expected:  # an argument is required
        with pytest.raises(LaunchError):
            load_launch(path, arguments, environment)
    else:
        assert [as_recorded(p, environment) for p in load_launch(path, arguments, environment)] == expected["processes"]
