"""Values of ``<param>`` elements, typed as ROS 2's launch types them (YAML rules, or the type that is given)."""

from collections.abc import Callable
from typing import Any

import yaml

from ideomotor.launching.substitutions import SubstitutionError, parse

_SCALARS = {"str": str, "int": int, "float": float, "bool": bool}
TYPES = (*_SCALARS, *(f"list_of_{name}" for name in _SCALARS), "yaml")

Expand = Callable[[str], str]


class ParameterError(SubstitutionError):
    """The value of a parameter is not of its type, or of none that a ROS parameter can have."""


def parameter_value(text: str, type_name: str, separator: str | None, expand: Expand) -> Any:  # noqa: ANN401
    """Return the value of a parameter: a bool, int, float or str, or a list of one of them.

    Args:
        text: the attribute ``value``.
        type_name: one of `TYPES`; ``yaml`` is the default of launch files.
        separator: the attribute ``value-sep``, if there is one: it makes the value a list.
        expand: replaces the substitutions of a text.

    Raises:
        ParameterError: if the value is not of that type, or its elements are of several.
        SubstitutionError: from ``expand``.
    """
    if type_name not in TYPES:
        raise ParameterError(f"type {type_name!r} is unknown; known are {', '.join(TYPES)}")
    item_type = type_name.removeprefix("list_of_")
    if separator is not None:
        if type_name in _SCALARS:
            raise ParameterError(f"value-sep makes a list, type is {type_name}")
        return _list([_text_or_value(item, item_type) for item in text.split(separator)], item_type, expand)
    if type_name in _SCALARS:
        return _convert(expand(text), type_name)
    # YAML first, substitutions in its strings then, and YAML again: "[$(var a), $(var b)]" is a list.
    value = _text_or_value(text, "yaml")
    if isinstance(value, list):
        return _list(value, item_type, expand)
    if type_name != "yaml":
        raise ParameterError(f"{text!r} is no list such as [a, b]")
    if not isinstance(value, str):
        return value
    if not _has_substitution(value):
        return expand(value)  # not read a second time: "'5'" stays the string 5
    value = _convert(expand(value), "yaml")
    return _uniform(value, "yaml") if isinstance(value, list) else value


def _has_substitution(text: str) -> bool:
    return any(not isinstance(part, str) for part in parse(text))


def _list(items: list[Any], item_type: str, expand: Expand) -> list[Any]:
    values = []
    for item in items:
        if isinstance(item, str):
            item = _convert(expand(item), item_type) if _has_substitution(item) else expand(item)
        values.append(item)
    return _uniform(values, item_type)


def _uniform(values: list[Any], item_type: str) -> list[Any]:
    kinds = {type(value) for value in values}
    expected = {_SCALARS[item_type]} if item_type in _SCALARS else set(_SCALARS.values())
    if len(kinds) > 1 or not kinds <= expected:
        wanted = f"a list of {item_type}" if item_type in _SCALARS else "a list of bool, int, float or str"
        raise ParameterError(f"{values} is not {wanted}: it has {', '.join(sorted(k.__name__ for k in kinds))}")
    return values


def _text_or_value(text: str, type_name: str) -> Any:  # noqa: ANN401
    """Convert ``text``, or return it as it is where it has substitutions and is not of the type yet."""
    try:
        return _convert(text, type_name)
    except ParameterError:
        if _has_substitution(text):
            return text
        raise


def _convert(text: str, type_name: str) -> Any:  # noqa: ANN401
    if type_name == "str":
        return text
    try:
        if type_name in ("int", "float"):
            return _SCALARS[type_name](text)
        if type_name == "bool":
            text = {"1": "true", "0": "false"}.get(text, text)
        value = yaml.safe_load(text) if text else text
    except (ValueError, yaml.YAMLError) as error:
        raise ParameterError(f"{text!r} is not of type {type_name}") from error
    if not isinstance(value, bool if type_name == "bool" else (bool, int, float, str, list)):
        raise ParameterError(f"{text!r} is {type(value).__name__}, not {type_name}; a text can be forced by type='str'")
    return value
