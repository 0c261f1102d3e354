"""The arrows of docs/architecture.md, held without a tool, and what every package promises."""

import ast
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ROS = (
    "rclpy",
    "ament_index_python",
    "sensor_msgs",
    "geometry_msgs",
    "std_msgs",
    "ideomotor_interfaces",
    "ideomotor_nodes",
)
FORBIDDEN = {
    "ideomotor": (*ROS, "torch", "mujoco", "ideomotor_learn", "ideomotor_sim"),
    "ideomotor_learn": (*ROS, "mujoco", "ideomotor_sim"),
    "ideomotor_sim": (*ROS, "torch", "ideomotor_learn"),
}
NODES = REPOSITORY / "ros2_ws/src/ideomotor_nodes/ideomotor_nodes"
SIMULATOR_NODES = {"mujoco_sim"}  # these alone may import the simulator
LEARNER_NODES = {"reward_learner_goal", "controller_trainer_goal"}  # these alone may import what learns


def modules_of(package: str) -> list[str]:
    """Return the names of a package and all that is in it."""
    root = importlib.import_module(package)
    return [package, *(m.name for m in pkgutil.walk_packages(root.__path__, f"{package}."))]


def imports_of(file: Path) -> Iterator[str]:
    """Yield the top-level names that a file imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def tracked_files() -> list[Path]:
    """Return the files git knows, or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    return [REPOSITORY / name for name in listed if (REPOSITORY / name).is_file()]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_every_module_imports_without_what_it_must_not_know(package: str) -> None:
    """All modules of a library import in a Python where the forbidden packages cannot be imported."""
    code = "import importlib, sys\nsys.modules.update(dict.fromkeys(%r))\nfor m in %r: importlib.import_module(m)"
    modules = [m for m in modules_of(package) if not m.endswith("__main__")]
    done = subprocess.run([sys.executable, "-c", code % (FORBIDDEN[package], modules)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_import_inside_a_function_goes_against_the_arrows(package: str) -> None:
    """A late import is an import."""
    files = [f for f in tracked_files() if f"/src/{package}/" in f.as_posix() and f.suffix == ".py"]
    assert files
    assert {f.name: bad for f in files if (bad := set(imports_of(f)) & set(FORBIDDEN[package]))} == {}


def test_nodes_import_simulator_and_learner_only_where_they_may() -> None:
    """One node simulates; no node needs torch or MuJoCo itself."""
    for file in NODES.glob("*.py"):
        imported = set(imports_of(file))
        assert not imported & {"torch", "mujoco"}, file.name
        assert "ideomotor_sim" not in imported or file.stem in SIMULATOR_NODES, file.name
        assert "ideomotor_learn" not in imported or file.stem in LEARNER_NODES, file.name


def test_every_executable_has_its_module() -> None:
    """Each entry point of the nodes package names a module with a main()."""
    setup = (NODES.parent / "setup.py").read_text()
    nodes = ast.literal_eval(re.search(r"NODES = (\(.*?\n\))", setup, re.DOTALL).group(1))  # type: ignore[union-attr]
    for node in nodes:
        tree = ast.parse((NODES / f"{node}.py").read_text())
        assert "main" in {f.name for f in tree.body if isinstance(f, ast.FunctionDef)}, node


@pytest.mark.parametrize("package", FORBIDDEN)
def test_all_names_what_exists(package: str) -> None:
    """What a module lists in __all__ is there, and once."""
    for name in modules_of(package):
        if name.endswith("__main__"):
            continue
        module = importlib.import_module(name)
        exported = getattr(module, "__all__", [])
        assert len(set(exported)) == len(exported), name
        assert [n for n in exported if not hasattr(module, n)] == [], name


def test_no_absolute_paths() -> None:
    """No file names a folder of somebody's machine."""
    somebodys = re.compile(r"(?<![\w./])/((home|Users)/\w+|root|work|tmp)/[\w.]+")
    kinds = {".py", ".xml", ".yaml", ".yml", ".toml", ".sh", ".rviz", ".xacro", ".txt", ".json"}
    exempt = {Path(__file__).resolve(), REPOSITORY / "docker/compose.yaml"}  # X11's socket
    found = [
        f"{file.relative_to(REPOSITORY)}:{i}: {line.strip()[:80]}"
        for file in tracked_files()
        if file.suffix in kinds and file not in exempt
        for i, line in enumerate(file.read_text(errors="replace").splitlines(), 1)
        if somebodys.search(line)
    ]
    assert found == []


def test_generated_files_are_ignored() -> None:
    """What set-up, tests and runs leave behind cannot be committed by accident."""
    left = [
        ".venv/x",
        "ros2_ws/build/x",
        "ros2_ws/install/x",
        "ros2_ws/log/x",
        "runs/x",
        ".mypy_cache/x",
        "MUJOCO_LOG.TXT",
    ]
    done = subprocess.run(["git", "check-ignore", *left], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.split() == left


def test_libraries_ship_their_types() -> None:
    """Each package carries py.typed (PEP 561)."""
    for package in FORBIDDEN:
        root = importlib.import_module(package)
        assert (Path(root.__path__[0]) / "py.typed").is_file()


@pytest.mark.parametrize("package", ["ideomotor_learn", "benchmarks.body_schema"])
def test_triton_is_loaded_before_a_renderer_can_be(package: str, tmp_path: Path) -> None:
    """The other order is a segmentation fault where torch is a CUDA build and Mesa renders; here with a stand-in."""
    (tmp_path / "triton.py").touch()
    code = f"import sys, {package}; sys.exit('triton' not in sys.modules)"
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": path})
