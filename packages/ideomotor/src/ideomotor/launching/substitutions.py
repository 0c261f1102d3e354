"""Substitutions such as ``$(var name)`` in the text of a launch file."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ideomotor.errors import IdeomotorError
from ideomotor.launching.index import package_prefix, package_share

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_ESCAPE = re.compile(r"\\(.)")


class SubstitutionError(IdeomotorError):
    """A substitution is unknown, malformed or has no value."""


@dataclass(frozen=True)
class Call:
    """One substitution: its name and arguments."""

    name: str
    arguments: tuple["Template", ...]


Template = tuple[str | Call, ...]  # text and substitutions, in order; texts are unescaped


@dataclass(frozen=True)
class Values:
    """What substitutions get their values from."""

    variables: Mapping[str, str]
    environment: Mapping[str, str]
    file: Path | None  # the launch file being read; None where that is not the same in every ROS 2 version


def expand(text: str, values: Values) -> str:
    """Return ``text`` with every substitution replaced by its value.

    Raises:
        SubstitutionError: if one is unknown, malformed or has no value.
    """
    return perform(parse(text), values)


def perform(template: Template, values: Values) -> str:
    """Return the text of a parsed template.

    Raises:
        SubstitutionError: if a substitution has no value.
    """
    return "".join(part if isinstance(part, str) else _perform_call(part, values) for part in template)


def _perform_call(call: Call, values: Values) -> str:
    arguments = [perform(argument, values) for argument in call.arguments]
    return _SUBSTITUTIONS[call.name].function(values, *arguments)


def unescape(text: str) -> str:
    """Return ``text`` with every backslash escape replaced by the character it stands for."""
    return _ESCAPE.sub(r"\1", text)


# What each substitution means.


def _var(values: Values, name: str, default: str | None = None) -> str:
    value = values.variables.get(name, default)
    if value is None:
        raise SubstitutionError(f"no argument or variable {name!r}; known are {', '.join(values.variables) or 'none'}")
    return value


def _env(values: Values, name: str, default: str | None = None) -> str:
    value = values.environment.get(name, default)
    if value is None:
        raise SubstitutionError(f"environment variable {name!r} is not set and has no default")
    return value


def _filename(values: Values) -> str:
    if values.file is None:
        raise SubstitutionError(
            "dirname and filename after an <include>, and in its <arg>, are those of the included file in ROS 2 Jazzy,"
            " not of this one; keep them with a <let> before the <include>"
        )
    return str(values.file)


def _dirname(values: Values) -> str:
    return os.path.dirname(_filename(values))


def _command(values: Values, command: str, on_stderr: str = "fail") -> str:
    if on_stderr not in ("fail", "ignore"):
        raise SubstitutionError(f"command {command!r}: on_stderr is {on_stderr!r}, expected fail or ignore")
    try:
        result = subprocess.run(
            shlex.split(command), env=values.environment, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise SubstitutionError(f"command {command!r}: {error}") from error
    if result.returncode != 0 or (result.stderr and on_stderr == "fail"):
        raise SubstitutionError(f"command {command!r} ended with {result.returncode}: {result.stderr.strip()}")
    return result.stdout


def _is_true(text: str) -> bool:
    if text.strip().lower() not in ("true", "1", "false", "0"):
        raise SubstitutionError(f"{text!r} is not one of true, 1, false, 0")
    return text.strip().lower() in ("true", "1")


def _text(condition: bool) -> str:
    return str(condition).lower()


@dataclass(frozen=True)
class _Substitution:
    arguments: range  # how many it takes
    function: Callable[..., str]


_SUBSTITUTIONS = {
    "var": _Substitution(range(1, 3), _var),
    "env": _Substitution(range(1, 3), _env),
    "find-pkg-share": _Substitution(range(1, 2), lambda v, p: str(package_share(p, v.environment))),
    "find-pkg-prefix": _Substitution(range(1, 2), lambda v, p: str(package_prefix(p, v.environment))),
    "dirname": _Substitution(range(1), _dirname),
    "filename": _Substitution(range(1), _filename),
    "command": _Substitution(range(1, 3), _command),
    "not": _Substitution(range(1, 2), lambda _, a: _text(not _is_true(a))),
    "and": _Substitution(range(2, 3), lambda _, a, b: _text(_is_true(a) and _is_true(b))),
    "or": _Substitution(range(2, 3), lambda _, a, b: _text(_is_true(a) or _is_true(b))),
}


# Reading a template. A quoted argument is a template of its own; inside it the other quote is a character.
# As in the grammar of ROS 2's launch, $( and ( after a backslash are text, even if that backslash is escaped itself.


def parse(text: str) -> Template:
    """Split ``text`` into plain text and substitutions.

    Raises:
        SubstitutionError: if a substitution is malformed or unknown, or has too many or too few arguments.
    """
    template, _ = _template(text, 0, None)
    return template or ("",)


def _template(text: str, i: int, quote: str | None) -> tuple[Template, int]:
    """Read up to the end of the text, or past the closing ``quote``."""
    parts: list[str | Call] = []
    start = i
    while i < len(text) and text[i] != quote:
        if text.startswith("$(", i) and text[i - 1 : i] != "\\":
            _add(parts, text[start:i])
            call, i = _call(text, i, quote)
            parts.append(call)
            start = i
        else:
            i += 2 if text[i] == "\\" else 1
    _add(parts, text[start:i])
    if quote is not None:
        if i >= len(text):
            raise SubstitutionError(f"no closing {quote} in {text!r}")
        i += 1
    return tuple(parts), i


def _call(text: str, i: int, quote: str | None) -> tuple[Call, int]:
    """Read a substitution from its ``$(`` past its ``)``."""
    match = _IDENTIFIER.match(text, i + 2)
    if match is None:
        raise SubstitutionError(f"no name after $( in {text[i:]!r}")
    name, j = match.group(), match.end()
    arguments = []
    while j < len(text) and text[j] == " ":
        argument, j = _argument(text, j + 1, quote)
        arguments.append(argument)
    if j >= len(text) or text[j] != ")":
        raise SubstitutionError(f"expected a space and an argument, or ), at {text[j:]!r} in {text!r}")
    if name not in _SUBSTITUTIONS:
        raise SubstitutionError(f"unknown substitution $({name}); known are {', '.join(_SUBSTITUTIONS)}")
    allowed = _SUBSTITUTIONS[name].arguments
    if len(arguments) not in allowed:
        raise SubstitutionError(f"$({name}) takes {' or '.join(map(str, allowed))} arguments, got {len(arguments)}")
    return Call(name, tuple(arguments)), j + 1


def _argument(text: str, i: int, quote: str | None) -> tuple[Template, int]:
    if quote is None and text[i : i + 1] in ("'", '"'):
        return _template(text, i + 1, text[i])
    forbidden = "'\"(" if quote is None else quote + "("
    parts: list[str | Call] = []
    first = start = i
    while i < len(text) and text[i] not in " )":
        if text.startswith("$(", i) and text[i - 1 : i] != "\\":
            _add(parts, text[start:i])
            call, i = _call(text, i, quote)
            parts.append(call)
            start = i
        elif text[i] in forbidden and not (text[i] == "(" and text[i - 1] == "\\"):
            raise SubstitutionError(f"{text[i]!r} in an argument needs quotes around the argument, in {text!r}")
        else:
            i += 2 if text[i] == "\\" and text[i + 1 : i + 2] != " " else 1
    _add(parts, text[start:i])
    if i == first:
        raise SubstitutionError(f"empty argument in {text!r}; arguments are separated by one space")
    return tuple(parts), i


def _add(parts: list[str | Call], raw: str) -> None:
    if raw:
        parts.append(unescape(raw))
