"""The XML of a launch file: its elements with their lines, and which of them the runner covers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from ideomotor.errors import IdeomotorError
from ideomotor.launching.substitutions import SubstitutionError, parse


class LaunchError(IdeomotorError):
    """A launch file cannot be run. The message has the file, the line, and what is known there."""


@dataclass(frozen=True)
class Element:
    """One XML element."""

    tag: str
    attributes: dict[str, str]
    children: tuple["Element", ...]
    file: Path
    line: int

    def error(self, message: str) -> LaunchError:
        """Return (do not raise) an error that says where this element is."""
        return LaunchError(f"{self.file}:{self.line}: <{self.tag}>: {message}")

    def named(self, tag: str) -> Iterator["Element"]:
        """Yield the children with this tag, in order."""
        return (child for child in self.children if child.tag == tag)


@dataclass(frozen=True)
class Rule:
    """What an element may have."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    children: tuple[str, ...] = ()


_CONDITION = ("if", "unless")
_ACTIONS = (
    "arg",
    "executable",
    "group",
    "include",
    "let",
    "node",
    "push-ros-namespace",
    "push_ros_namespace",
    "set_env",
    "unset_env",
)
_PROCESS = (
    *_CONDITION,
    *("name", "cwd", "output", "on_exit", "launch-prefix", "respawn", "respawn_delay", "respawn_max_retries"),
    *("sigterm_timeout", "sigkill_timeout"),
)
_NAMESPACE = Rule(("namespace",), _CONDITION)

#: The covered subset, by tag. `_INSIDE` has the rules of elements that mean something else inside another one.
RULES = {
    "launch": Rule((), (), _ACTIONS),
    "arg": Rule(("name",), ("default", "description", *_CONDITION), ("choice",)),
    "choice": Rule(("value",)),
    "let": Rule(("name", "value"), _CONDITION),
    "include": Rule(("file",), _CONDITION, ("arg",)),
    "group": Rule((), ("scoped", *_CONDITION), _ACTIONS),
    "push-ros-namespace": _NAMESPACE,
    "push_ros_namespace": _NAMESPACE,
    "set_env": Rule(("name", "value"), _CONDITION),
    "unset_env": Rule(("name",), _CONDITION),
    "node": Rule(
        ("exec",), ("pkg", "exec_name", "namespace", "args", "ros_args", *_PROCESS), ("param", "remap", "env")
    ),
    "executable": Rule(("cmd",), _PROCESS, ("env",)),
    "param": Rule((), ("name", "value", "value-sep", "type", "from", "allow_substs"), ("param",)),
    "remap": Rule(("from", "to")),
    "env": Rule(("name", "value")),
}
_INSIDE = {
    ("include", "arg"): Rule(("name", "value")),
    ("param", "param"): Rule(("name",), ("value", "value-sep", "type"), ("param",)),
}

_LITERAL = {("arg", "name"), ("arg", "description"), ("choice", "value")}  # attributes that take no substitutions


def read_launch_file(path: Path) -> Element:
    """Read a launch file and check that all of it, used or not, is in the covered subset.

    Raises:
        LaunchError: with file and line, if the file cannot be read or something in it is unknown.
    """
    root = _read_xml(path)
    if root.tag != "launch":
        raise root.error("unknown root element; expected <launch>")
    _check(root, RULES["launch"])
    return root


@dataclass
class _Open:
    """An element whose end tag has not been read."""

    tag: str
    attributes: dict[str, str]
    line: int
    children: list[Element] = field(default_factory=list)


def _read_xml(path: Path) -> Element:
    parser = expat.ParserCreate()
    stack = [_Open("", {}, 0)]

    def start(tag: str, attributes: dict[str, str]) -> None:
        stack.append(_Open(tag, attributes, parser.CurrentLineNumber))

    def end(_: str) -> None:
        o = stack.pop()
        stack[-1].children.append(Element(o.tag, o.attributes, tuple(o.children), path, o.line))

    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(path.read_bytes(), True)
    except OSError as error:
        raise LaunchError(f"{path}: cannot read the launch file: {error.strerror}") from error
    except expat.ExpatError as error:
        raise LaunchError(f"{path}:{error.lineno}: not XML: {expat.ErrorString(error.code)}") from error
    return stack[0].children[0]


def _check(element: Element, rule: Rule) -> None:
    known = (*rule.required, *rule.optional)
    for name, value in element.attributes.items():
        if name not in known:
            raise element.error(f"unknown attribute {name!r}; known are {', '.join(known) or 'none'}")
        if (element.tag, name) not in _LITERAL:
            try:
                parse(value)
            except SubstitutionError as error:
                raise element.error(f"{name}={value!r}: {error}") from error
    for name in rule.required:
        if name not in element.attributes:
            raise element.error(f"attribute {name!r} is missing; it has {', '.join(element.attributes) or 'none'}")
    if "if" in element.attributes and "unless" in element.attributes:
        raise element.error("if and unless cannot both be used")
    for child in element.children:
        if child.tag not in rule.children:
            raise child.error(f"unknown inside <{element.tag}>; known are {', '.join(rule.children) or 'none'}")
        _check(child, _INSIDE.get((element.tag, child.tag), RULES[child.tag]))
