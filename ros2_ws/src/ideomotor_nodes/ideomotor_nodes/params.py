"""Declare configuration dataclasses as ROS parameters, and refuse parameters that nobody declared."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from ideomotor.config import Config, value
from ideomotor.errors import IdeomotorError

C = TypeVar("C", bound=Config)

_SCALAR = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
}
_ARRAY = {
    bool: Parameter.Type.BOOL_ARRAY,
    int: Parameter.Type.INTEGER_ARRAY,
    float: Parameter.Type.DOUBLE_ARRAY,
    str: Parameter.Type.STRING_ARRAY,
}
_DECLARED_LATER = ("qos_overrides.",)  # rclpy declares these when it creates the publisher or subscription


class ParameterError(IdeomotorError):
    """A parameter has the wrong type or length, or nobody declared it."""


@dataclass(frozen=True, kw_only=True)
class NodeConfig(Config):
    """Parameters of every node."""

    autostart: bool = value(True, "Configure and activate at start; false under a lifecycle manager.")


def declare_config(node: Node, config_type: type[C]) -> C:
    """Declare every field of ``config_type`` on ``node``, read-only, and return the values.

    Raises:
        ConfigError: a value is outside its documented range or choices.
        ParameterError: a fixed-length tuple got another number of elements.
        rclpy.exceptions.ParameterException: a value has another type or is outside its range.
    """
    types = get_type_hints(config_type)
    values = {}
    for f in fields(config_type):
        parameter_type = _parameter_type(f.name, types[f.name])
        default = list(f.default) if isinstance(f.default, tuple) else f.default
        # an empty list has no element type: declare by type, without a value
        declared = node.declare_parameter(
            f.name, parameter_type if default == [] else default, _descriptor(f.metadata, types[f.name])
        )
        v = default if declared.value is None else declared.value
        values[f.name] = _tuple(f.name, v, types[f.name]) if get_origin(types[f.name]) is tuple else v
    return config_type(**values)


def check_overrides(node: Node, live: Collection[str] = ()) -> None:
    """Refuse overrides of parameters that nobody declared; rclpy ignores them silently.

    Args:
        node: a node whose configuration is declared.
        live: names of parameters the node declares afterwards.

    Raises:
        ParameterError: naming the unknown parameters and the declared ones.
    """
    unknown = [
        name
        for name in node._parameter_overrides  # rclpy has no public way to read them
        if not node.has_parameter(name) and name not in live and not name.startswith(_DECLARED_LATER)
    ]
    if unknown:
        declared = sorted({*node.get_parameters_by_prefix(""), *live})
        raise ParameterError(f"{node.get_name()} has no parameter {sorted(unknown)}; it declares {declared}")


def _parameter_type(name: str, annotation: Any) -> Parameter.Type:  # noqa: ANN401
    if get_origin(annotation) is tuple:
        elements = {a for a in get_args(annotation) if a is not Ellipsis}
        if len(elements) == 1 and (element := elements.pop()) in _ARRAY:
            return _ARRAY[element]
    elif annotation in _SCALAR:
        return _SCALAR[annotation]
    raise TypeError(f"{name}: {annotation} is no ROS parameter type; use str, int, float, bool or a tuple of one")


def _descriptor(metadata: Any, annotation: Any) -> ParameterDescriptor:  # noqa: ANN401
    doc, ge, le = metadata["doc"], metadata["ge"], metadata["le"]
    if metadata["choices"] is not None:
        doc = f"{doc} One of: {', '.join(metadata['choices'])}."
    descriptor = ParameterDescriptor(description=doc, read_only=True)
    if ge is not None and le is not None:
        if annotation is float:
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(ge), to_value=float(le))]
        elif annotation is int:
            descriptor.integer_range = [IntegerRange(from_value=int(ge), to_value=int(le), step=1)]
    return descriptor


def _tuple(name: str, values: Any, annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401
    expected = get_args(annotation)
    if Ellipsis not in expected and len(values) != len(expected):
        raise ParameterError(f"{name}={list(values)!r} has {len(values)} elements, expected {len(expected)}")
    return tuple(values)
