"""Configuration values that carry their own documentation and bounds.

The same frozen dataclasses are declared as ROS parameters by the nodes and parsed by the command line.
"""

from dataclasses import dataclass, field, fields
from typing import Any

from ideomotor.errors import IdeomotorError


class ConfigError(IdeomotorError):
    """A configuration value is outside its documented range or choices."""


def value(
    default: Any,  # noqa: ANN401 - a field of any type
    doc: str,
    *,
    ge: float | None = None,
    le: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:  # noqa: ANN401
    """Declare a field: default, one-line doc with [unit], closed bounds or choices."""
    metadata = {"doc": doc, "ge": ge, "le": le, "choices": choices}
    if isinstance(default, (list, dict, set)):
        raise TypeError(f"mutable default {default!r}; use a tuple")
    return field(default=default, metadata=metadata)


def check_bounds(config: Any) -> None:  # noqa: ANN401
    """Raise ConfigError naming the field, its value and what is allowed (NaN is outside)."""
    for f in fields(config):
        v, ge, le = getattr(config, f.name), f.metadata.get("ge"), f.metadata.get("le")
        if (ge is not None and not v >= ge) or (le is not None and not v <= le):
            raise ConfigError(f"{f.name}={v!r} is outside [{ge}, {le}]: {f.metadata['doc']}")
        choices = f.metadata.get("choices")
        if choices is not None and v not in choices:
            raise ConfigError(f"{f.name}={v!r} is not one of {list(choices)}: {f.metadata['doc']}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of all configurations: fields declared with `value`, checked on construction."""

    def __post_init__(self) -> None:
        check_bounds(self)
