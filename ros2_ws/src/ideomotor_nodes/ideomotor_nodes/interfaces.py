"""Message types by name, as recordings and the graph name them."""

from importlib import import_module
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from ideomotor.data.recording import RecordingError


def message_class(name: str) -> Any:  # noqa: ANN401 - a generated class
    """Return the class of a type such as ``sensor_msgs/msg/Image``.

    Raises:
        RecordingError: its package is not installed, or has no such message.
    """
    package, _, message = name.partition("/msg/")
    try:
        return getattr(import_module(f"{package}.msg"), message)
    except (ImportError, AttributeError) as error:
        raise RecordingError(f"message type {name!r} is not installed: {error}") from error


def message_definition(name: str) -> str:
    """Return the text of the ``.msg`` file of a type.

    Raises:
        RecordingError: its package is not installed, or has no such message.
    """
    package, _, message = name.partition("/msg/")
    try:
        return (Path(get_package_share_directory(package)) / "msg" / f"{message}.msg").read_text(encoding="utf-8")
    except (PackageNotFoundError, OSError) as error:
        raise RecordingError(f"no definition of message type {name!r}: {error}") from error
