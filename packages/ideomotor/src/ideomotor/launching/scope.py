"""The state of an evaluation, and what all elements share."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from ideomotor.launching.elements import Element
from ideomotor.launching.index import PackageError
from ideomotor.launching.process import Process
from ideomotor.launching.substitutions import SubstitutionError, Values, expand

ROS_NAMESPACE = "ros_namespace"  # the variable that ROS 2's launch keeps the pushed namespace in

_NAMESPACE = re.compile(r"/|(/[A-Za-z_][A-Za-z0-9_]*)+")


@dataclass(kw_only=True)
class Scope:
    """The state of an evaluation. Groups have one of their own; processes are of the whole launch."""

    variables: dict[str, str]
    environment: dict[str, str]
    files: tuple[Path, ...]  # the launch file being read, after those that include it
    given: frozenset[str]  # names of the arguments this file was given
    after_include: bool = False
    conditional: bool = False  # inside something with if or unless
    processes: list[Process] = field(default_factory=list)

    def expand(self, element: Element, attribute: str) -> str:
        """Return an attribute of ``element`` with its substitutions replaced.

        Raises:
            LaunchError: with file and line, if one has no value.
        """
        return self.expand_text(element, attribute, element.attributes[attribute])

    def expand_text(self, element: Element, attribute: str, text: str) -> str:
        """Do the same for a text; ``attribute`` is what the message calls it.

        Raises:
            LaunchError: with file and line, if a substitution has no value.
        """
        try:
            return expand(text, self.values())
        except (SubstitutionError, PackageError) as error:
            raise element.error(f"{attribute}={text!r}: {error}") from error

    def values(self) -> Values:
        """Return what substitutions get their values from here."""
        return Values(self.variables, self.environment, None if self.after_include else self.files[-1])


def boolean(element: Element, attribute: str, text: str) -> bool:
    """Return the truth of ``text``, the value of an attribute.

    Raises:
        LaunchError: if it is neither true nor false.
    """
    if text not in ("true", "1", "false", "0"):
        raise element.error(f"{attribute}={element.attributes[attribute]!r} is {text!r}; expected true, 1, false or 0")
    return text in ("true", "1")


def prefixed(base: str | None, name: str) -> str:
    """Return ``name`` below the namespace ``base``; an absolute name stays as it is."""
    joined = name if not base or name.startswith("/") else f"{base.rstrip('/')}/{name}"
    return joined if joined == "/" else joined.rstrip("/")


def absolute(namespace: str) -> str:
    """Return a namespace with a leading slash."""
    return namespace if namespace.startswith("/") else f"/{namespace}"


def check_namespace(element: Element, namespace: str) -> None:
    """Refuse what ROS 2 does not take for an absolute namespace.

    Raises:
        LaunchError: if it is none.
    """
    if not _NAMESPACE.fullmatch(namespace):
        raise element.error(f"namespace is {namespace!r}; expected names of letters, digits and _, separated by /")
