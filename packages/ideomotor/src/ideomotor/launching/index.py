"""Where packages and their executables are: the ament index, found by ``AMENT_PREFIX_PATH``."""

import os
from collections.abc import Mapping
from pathlib import Path

from ideomotor.errors import IdeomotorError


class PackageError(IdeomotorError):
    """A package or one of its executables is not in the ament index."""


def package_prefix(package: str, environment: Mapping[str, str]) -> Path:
    """Return the prefix ``package`` is installed in; the first one of the path that has it.

    Raises:
        PackageError: if none has it.
    """
    prefixes = [p for p in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    for prefix in prefixes:
        if (Path(prefix) / "share" / "ament_index" / "resource_index" / "packages" / package).is_file():
            return Path(prefix)
    searched = os.pathsep.join(prefixes) or "empty: source ros2_ws/install/setup.bash first"
    raise PackageError(f"package {package!r} not found; AMENT_PREFIX_PATH is {searched}")


def package_share(package: str, environment: Mapping[str, str]) -> Path:
    """Return the share folder of ``package``.

    Raises:
        PackageError: if the package is not found.
    """
    return package_prefix(package, environment) / "share" / package


def executable_in_package(package: str, executable: str, environment: Mapping[str, str]) -> Path:
    """Return the path of an executable of ``package``.

    Raises:
        PackageError: if the package is not found or has no such executable; the message lists those it has.
    """
    folder = package_prefix(package, environment) / "lib" / package
    path = folder / executable
    if not (path.is_file() and os.access(path, os.X_OK)):
        there = [p for p in folder.iterdir() if p.is_file() and os.access(p, os.X_OK)] if folder.is_dir() else []
        known = ", ".join(sorted(p.name for p in there)) or "none"
        raise PackageError(f"package {package!r} has no executable {executable!r} in {folder}; it has {known}")
    return path
