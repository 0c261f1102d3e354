"""The same configuration dataclasses that nodes declare as parameters, as command lines (tyro)."""

import dataclasses
import typing
from collections.abc import Collection
from typing import Annotated, Any, Literal, TypeVar

import tyro

from ideomotor.config import Config

C = TypeVar("C", bound=Config)


def cli_type(config_type: type[Config], *, positional: Collection[str] = (), defaults: Config | None = None) -> Any:  # noqa: ANN401 - a made type
    """Return a dataclass with the fields of ``config_type`` that tells tyro their documentation, ranges and choices.

    Args:
        config_type: a configuration; its fields may be configurations.
        positional: names of the fields that are given without their names.
        defaults: where the defaults come from; those of ``config_type`` if there are none.
    """
    hints = typing.get_type_hints(config_type)
    made = []
    for f in dataclasses.fields(config_type):
        default = _default(f) if defaults is None else getattr(defaults, f.name)
        if isinstance(default, Config):
            nested = cli_type(type(default), defaults=default)
            made.append((f.name, nested, dataclasses.field(default_factory=nested)))
            continue
        choices = f.metadata.get("choices")
        hint: Any = Literal[choices] if choices else hints[f.name]
        hint = Annotated[hint, tyro.conf.arg(help=_help(f))]
        if f.name in positional:
            hint = tyro.conf.Positional[hint]  # type: ignore[misc]  # it is a generic alias
        keywords = {} if default is dataclasses.MISSING else {"default": default}
        made.append((f.name, hint, dataclasses.field(**keywords)))
    namespace = {"__doc__": config_type.__doc__}
    return dataclasses.make_dataclass(config_type.__name__, made, namespace=namespace, frozen=True, kw_only=True)


def to_config(config_type: type[C], parsed: Any) -> C:  # noqa: ANN401 - an instance of a made type
    """Return the configuration that a parsed `cli_type` stands for.

    Raises:
        ConfigError: if a value is outside its range.
    """
    values = {}
    for f in dataclasses.fields(config_type):
        given, default = getattr(parsed, f.name), _default(f)
        values[f.name] = to_config(type(default), given) if isinstance(default, Config) else given
    return config_type(**values)


def _default(f: "dataclasses.Field[Any]") -> Any:  # noqa: ANN401
    return f.default if f.default_factory is dataclasses.MISSING else f.default_factory()


def _help(f: "dataclasses.Field[Any]") -> str:
    doc, ge, le = (f.metadata.get(key) for key in ("doc", "ge", "le"))
    bounds = [f"{word} {bound:g}" for word, bound in (("at least", ge), ("at most", le)) if bound is not None]
    return " ".join([*([doc] if doc else []), *([f"({', '.join(bounds)})"] if bounds else [])])
