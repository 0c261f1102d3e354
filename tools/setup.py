#!/usr/bin/env python3
"""Makes everything `make demo` and `make test` need: .venv with pinned wheels, and ros2_ws built by colcon.

    python3 tools/setup.py            what runs (make demo: no torch)
    python3 tools/setup.py test       that, and what trains, tests and checks
    python3 tools/setup.py bench      that, and what the benchmarks compare with
    python3 tools/setup.py --build    only the workspace

Runs on the system's Python, standard library only. Every step is skipped while its inputs are what they were.
On machines with a ROS 2 installation see CONTRIBUTING.md.
"""

from __future__ import annotations  # an old Python shall reach the message that it is too old

import argparse
import ctypes
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHON_VERSIONS = ((3, 10), (3, 12))  # oldest and newest the wheels exist for
REQUIREMENTS = {"demo": "requirements.txt", "test": "requirements-dev.txt", "bench": "requirements-bench.txt"}
PYTHON = sys.version_info[:2]
EGL_PLATFORM_DEVICE = 0x313F  # EGL_PLATFORM_DEVICE_EXT

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
export MUJOCO_GL="${{MUJOCO_GL:-egl}}"  # cameras draw without a display
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
    version = ".".join(map(str, PYTHON))
    if not oldest <= PYTHON <= newest:
        missing.append(
            Missing(f"Python 3.10 to 3.12 (this is {version}; choose with make PYTHON=python3.11)", "python3")
        )
    if importlib.util.find_spec("ensurepip") is None:
        missing.append(Missing("Python's venv module", f"python{version}-venv"))
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append(Missing("Python's C headers (Python.h)", f"python{version}-dev"))
    if not any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++")):
        missing.append(Missing("a C++ compiler", "g++"))
    if not shutil.which("cmake"):
        missing.append(Missing("CMake", "cmake"))
    if not shutil.which("make"):
        missing.append(Missing("make", "make"))
    if not can_load("libEGL.so.1"):
        missing.append(Missing("EGL for off-screen rendering (libEGL.so.1)", "libegl1"))
    if not (can_load("libEGL.so.1") and egl_device_works()):
        missing.append(Missing("an EGL driver for off-screen rendering", "libgl1-mesa-dri"))
    if not can_load("libOpenGL.so.0"):
        missing.append(Missing("OpenGL for off-screen rendering (libOpenGL.so.0)", "libopengl0"))
    return missing


def can_load(library: str) -> bool:
    """Return whether the dynamic linker finds a library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def egl_device_works() -> bool:
    """Return whether one EGL device initialises, which is what MuJoCo needs to draw without a display."""
    handle = ctypes.c_void_p
    egl = ctypes.CDLL("libEGL.so.1")
    egl.eglGetProcAddress.restype = handle
    egl.eglInitialize.argtypes = [handle, handle, handle]
    query_devices = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, handle, handle)(
        egl.eglGetProcAddress(b"eglQueryDevicesEXT") or 0
    )
    platform_display = ctypes.CFUNCTYPE(handle, ctypes.c_uint, handle, handle)(
        egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT") or 0
    )
    if not (query_devices and platform_display):  # no device platform: an EGL without drivers
        return False
    devices, count = (handle * 16)(), ctypes.c_int()
    query_devices(len(devices), devices, ctypes.byref(count))
    displays = [platform_display(EGL_PLATFORM_DEVICE, device, None) for device in devices[: count.value]]
    return any(egl.eglInitialize(display, None, None) for display in displays)


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


def install(python: Path, purpose: str) -> None:
    """Install the pinned packages, our own in place."""
    purposes = list(REQUIREMENTS)  # each one's packages contain those of the ones before it
    enough = [python.parent.parent / f".ideomotor-{p}" for p in purposes[purposes.index(purpose) :]]
    requirements = REQUIREMENTS[purpose]
    projects = ("requirements*.txt", "constraints.txt", "packages/*/pyproject.toml", "sim/pyproject.toml")
    inputs = digest(sorted(file for pattern in projects for file in REPOSITORY.glob(pattern)))
    if any(is_done(stamp, inputs) for stamp in enough):
        return
    say(f"packages of {requirements}, versions of constraints.txt (minutes)")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "-c", "constraints.txt"]
    run("pip", [*pip, "setuptools<80", "wheel"], cwd=REPOSITORY)
    run("pip", [*pip, "--no-build-isolation", "-r", requirements], cwd=REPOSITORY)
    enough[0].write_text(inputs)


def environment_paths(python: Path) -> tuple[Path, str, str]:
    """Return site-packages, Python's include folder and numpy's, of the virtual environment."""
    get = "sysconfig.get_path('purelib'), sysconfig.get_path('include'), numpy.get_include()"
    code = f"import numpy, sysconfig; print({get}, sep='\\n')"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise SetupError(f"{python} cannot import numpy: {done.stderr.strip()}; run `make setup`")
    site_packages, python_include, numpy_include = done.stdout.splitlines()
    return Path(site_packages), python_include, numpy_include


def build_environment(prefix: Path) -> dict[str, str]:
    """Return the environment colcon builds in: the virtual environment is the ROS installation."""
    hidden = ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH", "PYTHONPATH")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    environment["AMENT_PREFIX_PATH"] = environment["CMAKE_PREFIX_PATH"] = str(prefix)
    environment["VIRTUAL_ENV"] = str(prefix)
    environment["PATH"] = f"{prefix / 'bin'}:{environment['PATH']}"
    environment["MAKEFLAGS"] = f"-j{os.cpu_count()}"  # else colcon waits where the machine has other work
    return environment


def build_workspace(python: Path) -> None:
    """Build ros2_ws with colcon, with tf2_msgs only where the underlay lacks it."""
    prefix = python.parent.parent
    workspace = REPOSITORY / "ros2_ws"
    installed = [REPOSITORY / name for name in ("launch", "urdf", "artefacts", "constraints.txt")]
    inputs = digest([workspace / "src", workspace / "underlay", *installed, Path(__file__)], str(python))
    stamp = workspace / "install" / ".ideomotor-built"
    if is_done(stamp, inputs):
        return
    say("ROS 2 workspace with colcon (a minute)")
    site_packages, python_include, numpy_include = environment_paths(python)
    repair_wheels(prefix, python_include, numpy_include)
    write_local_setup(prefix, site_packages)
    sources = ["src"] if (prefix / "share" / "tf2_msgs").is_dir() else ["src", "underlay"]
    colcon = [
        str(python),
        "-m",
        "colcon",
        "--log-level",
        "error",
        "build",
        "--symlink-install",
        "--base-paths",
        *sources,
    ]
    colcon += ["--event-handlers", "console_start_end-", "--cmake-args", "-DCMAKE_BUILD_TYPE=Release"]
    colcon += ["-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={python}"]
    run("colcon", colcon, cwd=workspace, env=build_environment(prefix))
    stamp.write_text(inputs)


def main() -> int:
    """Run the steps; exit codes: 0 done, 1 a step failed, 2 the machine lacks something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("purpose", nargs="?", default="demo", choices=list(REQUIREMENTS), help="which packages")
    parser.add_argument("--build", action="store_true", help="only build the workspace")
    arguments = parser.parse_args()
    if missing := missing_from_machine():
        for what, package in missing:
            print(f"missing: {what}; in the Debian and Ubuntu package {package}", file=sys.stderr)
        print(f"install with: sudo apt-get install {' '.join(sorted({m.package for m in missing}))}", file=sys.stderr)
        return 2
    try:
        python = make_environment(REPOSITORY / ".venv")
        with (REPOSITORY / ".venv" / ".ideomotor-lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one set-up at a time
            if not arguments.build:
                install(python, arguments.purpose)
            build_workspace(python)
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
