"""Record what ROS 2's own launch makes of the launch files of cases.yaml, into expected/*.json.

The launch files of the repository itself are recorded too, as repository_NAME.json: with their default arguments, and
as repository.yaml says.
Needs `launch`, `launch_xml` and `launch_ros` importable (a sourced ROS 2 Jazzy), and for the repository's own
files a built and sourced ros2_ws; starts no process:

    python3 tests/launch/record_expected.py [CASE ...]

Not part of the tests, which compare our runner with what was recorded.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from launch.actions import ExecuteLocal, IncludeLaunchDescription
from launch.launch_context import LaunchContext
from launch.launch_description_sources import AnyLaunchDescriptionSource
from launch.utilities import perform_substitutions

from launch import LaunchDescription, LaunchService

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]

recorded: list[dict[str, Any]] = []
inherited: dict[str, str] = {}  # the environment before the launch, which changes os.environ itself


def record(action: Any, context: LaunchContext) -> None:
    """Stand in for `ExecuteLocal.execute`: evaluate everything, start nothing."""
    action.prepare(context)
    description = action.process_description
    private = vars(action)
    recorded.append(
        {
            "name": description.final_name,
            "command": [_parameter_file_or_text(word) for word in description.final_cmd],
            "cwd": description.final_cwd,
            "environment": _difference(description.final_env),
            "output": perform_substitutions(context, action.output),
            "respawn": private["_ExecuteLocal__respawn"],
            "respawn_delay": private["_ExecuteLocal__respawn_delay"] or 0.0,
            "respawn_max_retries": private["_ExecuteLocal__respawn_max_retries"],
            "required": private["_ExecuteLocal__on_exit"] is not None,
            "sigterm_timeout": float(perform_substitutions(context, action.sigterm_timeout)),
            "sigkill_timeout": float(perform_substitutions(context, action.sigkill_timeout)),
        }
    )


def _parameter_file_or_text(word: str) -> Any:
    """Replace the path of a temporary parameter file by what is in it."""
    if Path(word).name.startswith("launch_params_"):
        return {"parameters": _shortened(yaml.safe_load(_portable(Path(word).read_text())))}
    return _portable(word)


def _shortened(value: Any) -> Any:
    """Leave out long texts (robot descriptions), which change without the launch files."""
    if isinstance(value, dict):
        return {name: _shortened(v) for name, v in value.items()}
    return "<long text>" if isinstance(value, str) and len(value) > 1000 else value


def launch_files_sha256() -> str:
    """Return the hash of the repository's launch files: what was recorded of them is void when it changes."""
    files = sorted((REPOSITORY / "launch").glob("*.launch.xml"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _portable(text: str) -> str:
    return text.replace(str(REPOSITORY), "<repository>")


def _difference(environment: dict[str, str]) -> dict[str, str | None]:
    changed: dict[str, str | None] = {k: _portable(v) for k, v in environment.items() if inherited.get(k) != v}
    changed.update({k: None for k in inherited if k not in environment})
    return changed


def record_case(case: dict[str, Any]) -> dict[str, Any]:
    """Return what launch makes of one case; an error's text is left out, as it is not ours to match."""
    import launch.descriptions.executable as executable

    recorded.clear()
    executable._executable_process_counter = 0
    before = dict(os.environ)
    os.environ.update(case.get("environment", {}))
    inherited.clear()
    inherited.update(os.environ)
    try:
        service = LaunchService(noninteractive=True)
        arguments = list(case.get("arguments", {}).items())
        include = IncludeLaunchDescription(AnyLaunchDescriptionSource(str(case["path"])), launch_arguments=arguments)
        service.include_launch_description(LaunchDescription([include]))
        failed = service.run() != 0
        return {"refused": True} if failed else {"processes": list(recorded)}
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> None:
    """Record the named cases, or all."""
    ExecuteLocal.execute = record
    prefix = os.environ["AMENT_PREFIX_PATH"]
    os.environ["AMENT_PREFIX_PATH"] = f"{HERE / 'prefix'}{os.pathsep}{prefix}"
    cases = yaml.safe_load((HERE / "cases.yaml").read_text())
    for case in cases.values():
        case["path"] = HERE / "cases" / f"{case['file']}.launch.xml"
    for path in sorted((REPOSITORY / "launch").glob("*.launch.xml")):
        cases[f"repository_{path.name.removesuffix('.launch.xml')}"] = {"path": path}
    for name, case in yaml.safe_load((HERE / "repository.yaml").read_text()).items():
        cases[f"repository_{name}"] = {**case, "path": REPOSITORY / "launch" / f"{case['file']}.launch.xml"}
    for name in sys.argv[1:] or cases:
        result = record_case(cases[name])
        if name.startswith("repository_"):
            result["launch_files_sha256"] = launch_files_sha256()
        (HERE / "expected" / f"{name}.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
        sys.stdout.write(f"{name}: {'refused' if 'refused' in result else len(result['processes'])}\n")


if __name__ == "__main__":
    main()
