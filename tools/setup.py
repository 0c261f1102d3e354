#!/usr/bin/env python3
"""Makes everything `make demo` and `make test` need: .venv with pinned wheels, and ros2_ws built by colcon.

    python3 tools/setup.py            what runs (demo: no torch)
    python3 tools/setup.py --dev      that, and what trains, tests and checks
    python3 tools/setup.py --build    only the workspace

Runs on the system's Python, standard library only. Every step is skipped while its inputs are what they were.
On machines with a ROS 2 installation see CONTRIBUTING.md: there, colcon and the system's packages do all of this.
"""

import argparse
import ctypes.util
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHON_VERSIONS = ((3, 10), (3, 12))  # oldest and newest the wheels exist for

# The ROS wheels name the Python they were built with: /opt/python/cp311-cp311/{include/python3.11,lib/...}.
WHEEL_PYTHON_INCLUDE = re.compile(r"/opt/python/cp\d+-cp\d+/include/python3\.\d+")
WHEEL_NUMPY_INCLUDE = re.compile(r"/opt/python/cp\d+-cp\d+/lib/python3\.\d+/site-packages/numpy/_?core/include")

# What colcon's setup scripts source of an underlay. The wheels make .venv an ament prefix but leave this out.
LOCAL_SETUP = """\
# Written by tools/setup.py: makes this virtual environment a ROS 2 prefix that colcon's setup scripts can chain.
_prefix="{prefix}"
export AMENT_PREFIX_PATH="$_prefix${{AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}}"
export CMAKE_PREFIX_PATH="$_prefix${{CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}}"
export LD_LIBRARY_PATH="{libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
export PATH="$_prefix/bin:$PATH"
export ROS_VERSION=2 ROS_DISTRO=jazzy ROS_PYTHON_VERSION=3
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1  # else every Python starts itself a second time to set LD_LIBRARY_PATH
unset _prefix
"""


class SetupError(Exception):
    """A step failed; the message says which one and what to do."""


class Missing(NamedTuple):
    """Something this machine lacks, and the Debian or Ubuntu package that has it."""

    what: str
    package: str


def missing_from_machine() -> list[Missing]:
    """Return what the machine lacks for the set-up and the demo; looks only, downloads nothing."""
    missing = []
    oldest, newest = PYTHON_VERSIONS
    if not oldest <= sys.version_info[:2] <= newest:
        have = ".".join(map(str, sys.version_info[:2]))
        missing.append(Missing(f"Python 3.10 to 3.12 (this is {have}; choose one: make PYTHON=python3.11 ...)", "python3"))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        import ensurepip  # noqa: F401  (Debian ships venv without it)
    except ImportError:
        missing.append(Missing("Python's venv module", f"python{version}-venv"))
    import sysconfig

    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        missing.append(Missing("Python's C headers (Python.h)", f"python{version}-dev"))
    if not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
        missing.append(Missing("a C++ compiler", "g++"))
    if not shutil.which("cmake"):
        missing.append(Missing("CMake", "cmake"))
    if not shutil.which("make"):
        missing.append(Missing("make", "make"))
    if not ctypes.util.find_library("EGL"):
        missing.append(Missing("the EGL library for off-screen rendering (libEGL.so.1)", "libegl1"))
    return missing


def digest(paths: Iterable[Path], *texts: str) -> str:
    """Return a hash of names and contents of files, folders taken with all that is in them."""
    total = hashlib.sha256()
    for text in texts:
        total.update(text.encode() + b"\0")
    for path in paths:
        for file in sorted(_files(path)):
            total.update(str(file).encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for root, folders, names in os.walk(path):
        folders[:] = [f for f in folders if f not in {"__pycache__"} and not f.endswith(".egg-info")]
        yield from (Path(root) / name for name in names)


def is_done(stamp: Path, inputs: str) -> bool:
    """Return whether the step of this stamp has run on these inputs."""
    return stamp.is_file() and stamp.read_text() == inputs


def repair_wheels(prefix: Path, python_include: str, numpy_include: str) -> int:
    """Point the ROS wheels' CMake files to this interpreter's headers; return how many files were changed."""
    changed = 0
    for file in sorted(prefix.glob("share/*/cmake/*.cmake")):
        before = file.read_text()
        after = WHEEL_NUMPY_INCLUDE.sub(numpy_include, WHEEL_PYTHON_INCLUDE.sub(python_include, before))
        if after != before:
            file.write_text(after)
            changed += 1
    return changed


def write_local_setup(prefix: Path, site_packages: Path) -> None:
    """Make the virtual environment a prefix that `ros2_ws/install/setup.bash` can chain."""
    libraries = [prefix / "lib", *sorted(site_packages.glob("ros_*.libs"))]
    text = LOCAL_SETUP.format(prefix=prefix, libraries=":".join(map(str, libraries)))
    for shell in ("sh", "bash", "zsh"):
        (prefix / f"local_setup.{shell}").write_text(text)


def run(step: str, command: list[str], **options: object) -> None:
    """Run a command; a failure names the step."""
    if subprocess.run(command, **options).returncode:  # type: ignore[call-overload]
        raise SetupError(f"{step} failed: {' '.join(command)}")


def say(text: str) -> None:
    """Tell the user which step runs."""
    print(f"set-up: {text}", flush=True)


def make_environment(prefix: Path) -> Path:
    """Create the virtual environment where there is none; return its interpreter."""
    python = prefix / "bin" / "python"
    if not python.exists():
        say(f"virtual environment in {prefix.name}")
        venv.create(prefix, with_pip=True)
    return python


def install(python: Path, requirements: str) -> None:
    """Install the pinned packages, our own in place."""
    stamp = python.parent.parent / f".ideomotor-{requirements}"
    inputs = digest(sorted(REPOSITORY.glob("requirements*.txt")) + [REPOSITORY / "constraints.txt"])
    inputs = digest(sorted([*REPOSITORY.glob("packages/*/pyproject.toml"), *REPOSITORY.glob("sim/pyproject.toml")]), inputs)
    if is_done(stamp, inputs):
        return
    say(f"packages of {requirements}, versions of constraints.txt")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--constraint", "constraints.txt"]
    run("pip", [*pip, "setuptools<80"], cwd=REPOSITORY)
    run("pip", [*pip, "--no-build-isolation", "--requirement", requirements], cwd=REPOSITORY)
    stamp.write_text(inputs)


def environment_paths(python: Path) -> tuple[Path, str, str]:
    """Return site-packages, Python's include folder and numpy's, of the virtual environment."""
    code = "import sysconfig, numpy; p = sysconfig.get_paths(); print(p['purelib'], p['include'], numpy.get_include(), sep='\\n')"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise SetupError(f"{python} cannot import numpy: {done.stderr.strip()}")
    site_packages, python_include, numpy_include = done.stdout.split("\n")[:3]
    return Path(site_packages), python_include, numpy_include


def build_environment(prefix: Path) -> dict[str, str]:
    """Return the environment colcon builds in: the virtual environment is the ROS installation."""
    hidden = ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH", "PYTHONPATH")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    environment["AMENT_PREFIX_PATH"] = environment["CMAKE_PREFIX_PATH"] = str(prefix)
    environment["VIRTUAL_ENV"] = str(prefix)
    environment["PATH"] = f"{prefix / 'bin'}:{environment['PATH']}"
    return environment


def build_workspace(python: Path) -> None:
    """Build ros2_ws with colcon, with tf2_msgs only where the underlay lacks it."""
    prefix = python.parent.parent
    workspace = REPOSITORY / "ros2_ws"
    installed = [REPOSITORY / folder for folder in ("launch", "urdf", "artefacts")]
    inputs = digest([workspace / "src", workspace / "underlay", *installed, Path(__file__)], str(python))
    stamp = workspace / "install" / ".ideomotor-built"
    if is_done(stamp, inputs):
        return
    say("ROS 2 workspace (colcon)")
    sources = ["src"]
    if not (prefix / "share" / "tf2_msgs").is_dir():
        sources.append("underlay")
    site_packages, python_include, numpy_include = environment_paths(python)
    repair_wheels(prefix, python_include, numpy_include)
    write_local_setup(prefix, site_packages)
    command = [str(python), "-m", "colcon", "--log-level", "error", "build", "--base-paths", *sources, "--symlink-install"]
    command += ["--event-handlers", "console_cohesion-", "console_start_end-", "summary+", "--cmake-args"]
    command += ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={python}"]
    run("colcon", command, cwd=workspace, env=build_environment(prefix))
    stamp.write_text(inputs)


def main() -> int:
    """Run the steps; exit codes: 0 done, 1 a step failed, 2 the machine lacks something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dev", action="store_true", help="also what trains, tests and checks (torch, ruff, mypy, pytest)")
    parser.add_argument("--build", action="store_true", help="only build the workspace")
    arguments = parser.parse_args()
    if missing := missing_from_machine():
        for what, package in missing:
            print(f"missing: {what}; Debian and Ubuntu have it in the package {package}", file=sys.stderr)
        print(f"install with: sudo apt-get install {' '.join(sorted({m.package for m in missing}))}", file=sys.stderr)
        return 2
    try:
        python = make_environment(REPOSITORY / ".venv")
        with (REPOSITORY / ".venv" / ".ideomotor-lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one set-up at a time
            if not arguments.build:
                install(python, "requirements-dev.txt" if arguments.dev else "requirements.txt")
            build_workspace(python)
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
