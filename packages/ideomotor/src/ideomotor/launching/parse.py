"""From a launch file and arguments to the processes it describes. Starts nothing (``$(command)`` apart).

Elements are evaluated in document order, as ROS 2 Jazzy's launch does, with its scoping: a ``<group>`` keeps variables,
environment and namespace to itself, an ``<include>`` does not.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from ideomotor.launching.elements import Element, LaunchError, read_launch_file
from ideomotor.launching.process import Argument, Process
from ideomotor.launching.process_elements import add_executable, add_node
from ideomotor.launching.scope import ROS_NAMESPACE, Scope, absolute, boolean, check_namespace, prefixed
from ideomotor.launching.substitutions import unescape

# Variables that change how ROS 2's launch runs every process; the runner has the attributes instead.
_RESERVED = ("launch-prefix", "launch-prefix-filter", "emulate_tty", "sigterm_timeout", "sigkill_timeout")


def load_launch(
    path: Path, arguments: Mapping[str, str], environment: Mapping[str, str] | None = None
) -> tuple[Process, ...]:
    """Evaluate a launch file.

    Args:
        path: the launch file.
        arguments: values of its arguments.
        environment: what the processes inherit and packages are looked up in; this process's own by default.

    Raises:
        LaunchError: with file and line, if anything is unknown, missing or does not evaluate, or an executable, a
            package, a parameter file or a working directory is not there.
    """
    path = path.absolute()
    root = read_launch_file(path)
    declared = declared_arguments(path, arguments, environment)
    unknown = sorted(set(arguments) - {argument.name for argument in declared})
    if unknown:
        known = ", ".join(dict.fromkeys(argument.name for argument in declared)) or "none"
        raise LaunchError(f"{path}: unknown arguments {', '.join(unknown)}; declared are {known}")
    inherited = dict(os.environ if environment is None else environment)
    scope = Scope(variables=dict(arguments), environment=inherited, files=(path,), given=frozenset(arguments))
    _evaluate_children(root, scope)
    return tuple(scope.processes)


def declared_arguments(
    path: Path, arguments: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> tuple[Argument, ...]:
    """Return the arguments that a launch file and the files it includes declare, in all branches.

    An included file whose name depends on what is not known without evaluating the launch is left out.

    Raises:
        LaunchError: if a file is not a launch file of the covered subset.
    """
    path = path.absolute()
    inherited = dict(os.environ if environment is None else environment)
    given = dict(arguments or {})
    scope = Scope(variables=given, environment=inherited, files=(path,), given=frozenset(given))
    return tuple(_declared(read_launch_file(path), scope))


def _declared(element: Element, scope: Scope) -> list[Argument]:
    found: list[Argument] = []
    for child in element.children:
        if child.tag == "arg":
            found.append(_argument(child))
            if "default" in child.attributes and child.attributes["name"] not in scope.variables:
                _try_set(child, "default", child.attributes["name"], scope)
        elif child.tag == "let":
            _try_set(child, "value", child.attributes["name"], scope)
        elif child.tag == "group":
            found += _declared(child, scope)
        elif child.tag == "include":
            try:
                file = Path(scope.expand(child, "file")).absolute()
            except LaunchError:
                continue
            if not file.is_file() or file in scope.files:
                continue  # an error only if this branch is taken
            inner = dataclasses.replace(scope, files=(*scope.files, file), variables=dict(scope.variables))
            passed = {argument.attributes["name"] for argument in child.named("arg")}
            found += [a for a in _declared(read_launch_file(file), inner) if a.name not in passed]
    return found


def _try_set(element: Element, attribute: str, name: str, scope: Scope) -> None:
    try:
        scope.variables[name] = scope.expand(element, attribute)
    except LaunchError:
        scope.variables.pop(name, None)


def _argument(element: Element) -> Argument:
    a = element.attributes
    choices = tuple(unescape(choice.attributes["value"]) for choice in element.named("choice"))
    where = f"{element.file}:{element.line}"
    return Argument(unescape(a["name"]), a.get("default"), unescape(a.get("description", "")), choices, where)


# Evaluation: one function an element.


def _evaluate_children(parent: Element, scope: Scope) -> None:
    for element in parent.children:
        if _condition(element, scope):
            _EVALUATE[element.tag](element, scope)


def _condition(element: Element, scope: Scope) -> bool:
    for attribute, wanted in (("if", True), ("unless", False)):
        if attribute in element.attributes:
            return boolean(element, attribute, scope.expand(element, attribute).strip().lower()) == wanted
    return True


def _arg(element: Element, scope: Scope) -> None:
    argument = _argument(element)
    _check_variable(element, argument.name)
    conditional = scope.conditional or "if" in element.attributes or "unless" in element.attributes
    included = len(scope.files) > 1
    # An included file must be given its required arguments by the <include>: that a variable of the including file
    # happens to have the name is not enough (nor is it for ROS 2's launch).
    must_be_given = included and not conditional and argument.default is None
    known = scope.given if must_be_given else scope.variables
    if argument.name not in known:
        if argument.default is None:
            by = "this file's <include>" if included else f"{argument.name}:=VALUE"
            raise element.error(f"required argument {argument.name!r} is not given ({argument.description}); add {by}")
        scope.variables[argument.name] = scope.expand(element, "default")
    if argument.choices and scope.variables[argument.name] not in argument.choices:
        value = scope.variables[argument.name]
        raise element.error(f"argument {argument.name!r} is {value!r}; expected one of {', '.join(argument.choices)}")


def _check_variable(element: Element, name: str) -> None:
    if name in _RESERVED:
        raise element.error(f"variable {name!r} has a meaning for ros2 launch that this runner does not cover")


def _let(element: Element, scope: Scope) -> None:
    name = scope.expand(element, "name")
    _check_variable(element, name)
    scope.variables[name] = scope.expand(element, "value")


def _group(element: Element, scope: Scope) -> None:
    scoped = boolean(element, "scoped", element.attributes.get("scoped", "true").lower())
    conditional = scope.conditional or "if" in element.attributes or "unless" in element.attributes
    inner = dataclasses.replace(scope, conditional=conditional)
    if scoped:
        inner.variables, inner.environment = dict(scope.variables), dict(scope.environment)
    _evaluate_children(element, inner)
    scope.after_include = inner.after_include


def _include(element: Element, scope: Scope) -> None:
    file = Path(scope.expand(element, "file")).absolute()
    if not file.is_file():
        raise element.error(f"no launch file {file}")
    if file in scope.files:
        raise element.error(f"{file} includes itself")
    given = set()
    scope.after_include = True  # ROS 2 Jazzy's launch is inside the included file from here on
    for argument in element.named("arg"):
        name = scope.expand(argument, "name")
        _check_variable(argument, name)
        scope.variables[name] = scope.expand(argument, "value")
        given.add(name)
    inner = dataclasses.replace(
        scope, files=(*scope.files, file), given=frozenset(given), after_include=False, conditional=False
    )
    try:
        root = read_launch_file(file)
    except LaunchError as error:
        raise LaunchError(f"{error}\n  included by {element.file}:{element.line}") from error
    _evaluate_children(root, inner)


def _push_namespace(element: Element, scope: Scope) -> None:
    namespace = absolute(prefixed(scope.variables.get(ROS_NAMESPACE), scope.expand(element, "namespace")))
    check_namespace(element, namespace)
    scope.variables[ROS_NAMESPACE] = namespace


def _set_env(element: Element, scope: Scope) -> None:
    scope.environment[scope.expand(element, "name")] = scope.expand(element, "value")


def _unset_env(element: Element, scope: Scope) -> None:
    scope.environment.pop(scope.expand(element, "name"), None)


_EVALUATE: dict[str, Callable[[Element, Scope], None]] = {
    "arg": _arg,
    "let": _let,
    "group": _group,
    "include": _include,
    "push-ros-namespace": _push_namespace,
    "push_ros_namespace": _push_namespace,
    "set_env": _set_env,
    "unset_env": _unset_env,
    "node": add_node,
    "executable": add_executable,
}
