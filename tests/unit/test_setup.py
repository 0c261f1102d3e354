"""tools/setup.py: names what a machine lacks before it downloads anything, and does each step once."""

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "tools" / "setup.py"
WHEEL_CMAKE = (
    "set_target_properties(std_msgs PROPERTIES\n"
    '  INTERFACE_INCLUDE_DIRECTORIES "/opt/python/cp311-cp311/include/python3.11;'
    '/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include"\n)\n'
)


@pytest.fixture(scope="module")
def setup() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("ideomotor_setup", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_bare_machine_is_told_what_to_install(tmp_path: Path) -> None:
    """With an empty PATH it names compiler, CMake and make with their packages, makes nothing, and ends with 2."""
    script = tmp_path / "tools" / "setup.py"
    script.parent.mkdir()
    script.write_bytes(SCRIPT.read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", script], env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    for words in (
        "a C++ compiler; in the Debian and Ubuntu package g++",
        "CMake",
        "make",
        "sudo apt-get install cmake g++ make",
    ):
        assert words in done.stderr
    assert done.stdout == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tools"]


def test_machine_without_egl(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing EGL library is named with the driver it will need, without asking it for devices."""
    monkeypatch.setattr(setup, "can_load", lambda library: library != "libEGL.so.1")
    monkeypatch.setattr(setup, "egl_device_works", lambda: pytest.fail("asked a library that is not there"))
    assert [m.package for m in setup.missing_from_machine()] == ["libegl1", "libgl1-mesa-dri"]


def test_machine_without_egl_driver(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library without a driver that draws is not enough."""
    monkeypatch.setattr(setup, "egl_device_works", lambda: False)
    assert [m.package for m in setup.missing_from_machine()] == ["libgl1-mesa-dri"]


@pytest.mark.parametrize("version", [(3, 9), (3, 13)])
def test_python_without_wheels(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]) -> None:
    """An interpreter that the ROS wheels do not exist for is refused, by its version."""
    monkeypatch.setattr(setup, "PYTHON", version)
    assert any(f"this is {version[0]}.{version[1]}" in m.what for m in setup.missing_from_machine())


def test_repair_points_wheels_to_this_interpreter_once(setup: ModuleType, tmp_path: Path) -> None:
    """Both paths of the build machine are replaced, other files stay, a second repair changes nothing."""
    folder = tmp_path / "share" / "std_msgs" / "cmake"
    folder.mkdir(parents=True)
    wheel, other = folder / "exportExport.cmake", folder / "other.cmake"
    wheel.write_text(WHEEL_CMAKE)
    other.write_text("find_package(x HINTS /opt/ros)\n")
    assert setup.repair_wheels(tmp_path, "/here/include/python3.12", "/here/numpy/include") == 1
    assert '"/here/include/python3.12;/here/numpy/include"' in wheel.read_text()
    assert "/opt/python" not in wheel.read_text()
    assert other.read_text() == "find_package(x HINTS /opt/ros)\n"
    assert setup.repair_wheels(tmp_path, "/here/include/python3.12", "/here/numpy/include") == 0


def test_stamp_follows_names_and_contents(setup: ModuleType, tmp_path: Path) -> None:
    """A step runs again when a file of its inputs is changed, added, renamed or removed, and only then."""
    source = tmp_path / "src"
    source.mkdir()
    (source / "a.msg").write_text("float64 x\n")
    stamp = tmp_path / "stamp"
    first = setup.digest([source])
    assert not setup.is_done(stamp, first)
    stamp.write_text(first)
    assert setup.is_done(stamp, setup.digest([source]))
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "a.pyc").write_bytes(b"\0")
    assert setup.is_done(stamp, setup.digest([source]))
    changes = (
        lambda: (source / "a.msg").write_text("float64 y\n"),
        lambda: (source / "b.msg").write_text(""),
        lambda: (source / "b.msg").rename(source / "c.msg"),
        lambda: (source / "c.msg").unlink(),
    )
    for change in changes:
        before = setup.digest([source])
        change()
        assert setup.digest([source]) != before


def test_sourcing_makes_the_environment_a_ros_prefix(setup: ModuleType, tmp_path: Path) -> None:
    """What the set-up writes into .venv puts it before what was there, and works in a plain shell."""
    site_packages = tmp_path / "lib" / "python3.11" / "site-packages"
    (site_packages / "ros_rcl.libs").mkdir(parents=True)
    setup.write_local_setup(tmp_path, site_packages)
    script = f'. {tmp_path}/local_setup.sh && printf "%s\\n" "$AMENT_PREFIX_PATH" "$LD_LIBRARY_PATH" "$PATH"'
    environment = {"PATH": os.environ["PATH"], "AMENT_PREFIX_PATH": "/other", "LD_LIBRARY_PATH": "/lib/other"}
    done = subprocess.run(["sh", "-ec", script], env=environment, capture_output=True, text=True, check=True)
    ament, libraries, path = done.stdout.splitlines()
    assert ament == f"{tmp_path}:/other"
    assert libraries == f"{tmp_path}/lib:{site_packages}/ros_rcl.libs:/lib/other"
    assert path.startswith(f"{tmp_path}/bin:")


def _direct_requirements() -> list[Requirement]:
    """Return what our packages and the requirements files ask for by name."""
    lines = [r for package in ("ideomotor", "ideomotor-learn", "ideomotor-sim") for r in requires(package) or []]
    for file in REPOSITORY.glob("requirements*.txt"):
        lines += [line.partition("#")[0] for line in file.read_text().splitlines() if not line.startswith(("#", "-"))]
    found = [Requirement(line) for line in lines if line.strip()]
    return [r for r in found if not r.name.startswith("ideomotor")]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_constraints_pin_what_is_asked_for(python: str) -> None:
    """On every supported Python each direct requirement has exactly one pin, and the pin satisfies it (`make lock`)."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    pins: dict[str, Version] = {}
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        pin = Requirement(line)
        (specifier,) = pin.specifier
        assert specifier.operator == "==", line
        if pin.marker is None or pin.marker.evaluate(environment):
            assert canonicalize_name(pin.name) not in pins, line
            pins[canonicalize_name(pin.name)] = Version(specifier.version)
    direct = _direct_requirements()
    assert len(direct) > 50
    wrong = [str(r) for r in direct if not r.specifier.contains(pins.get(canonicalize_name(r.name), Version("0")))]
    assert wrong == []
    assert [r.name for r in direct if canonicalize_name(r.name) not in pins] == []
