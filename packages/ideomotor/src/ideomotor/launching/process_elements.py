"""From ``<node>`` and ``<executable>`` to processes, with the command lines ROS 2's launch gives them."""

import os
import re
import shlex
import shutil
from pathlib import Path

import yaml

from ideomotor.launching.elements import Element
from ideomotor.launching.index import PackageError, executable_in_package
from ideomotor.launching.parameters import parameter_value
from ideomotor.launching.process import OUTPUTS, ParameterFile, Process
from ideomotor.launching.scope import ROS_NAMESPACE, Scope, absolute, boolean, check_namespace, prefixed
from ideomotor.launching.substitutions import SubstitutionError, expand, parse, perform

_NODE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def add_executable(element: Element, scope: Scope) -> None:
    """Add the process of an ``<executable>`` to ``scope.processes``.

    Raises:
        LaunchError: with file and line, if something does not evaluate or is not there.
    """
    name = scope.expand(element, "name") if "name" in element.attributes else None
    _add_process(element, scope, _split_command(element, "cmd", scope), name)


def add_node(element: Element, scope: Scope) -> None:
    """Add the process of a ``<node>`` to ``scope.processes``.

    Raises:
        LaunchError: with file and line, if something does not evaluate or is not there.
    """
    a = element.attributes
    command: list[str | ParameterFile] = [_node_executable(element, scope)]
    if "args" in a:
        command += _split_command(element, "args", scope)
    if "ros_args" in a:
        command += ["--ros-args", *_split_command(element, "ros_args", scope)]
    command.append("--ros-args")
    name = scope.expand(element, "name") if "name" in a else None
    if name is not None:
        if not _NODE_NAME.fullmatch(name):
            raise element.error(f"name is {name!r}; expected letters, digits and _, not starting with a digit")
        command += ["-r", f"__node:={name}"]
    namespace = scope.variables.get(ROS_NAMESPACE)
    if "namespace" in a:
        namespace = absolute(prefixed(namespace, scope.expand(element, "namespace")))
    if namespace is not None:
        check_namespace(element, namespace)
        command += ["-r", f"__ns:={namespace}"]
    full_name = prefixed(namespace, name) if namespace is not None and name is not None else None
    for param in element.named("param"):
        command += ["--params-file", _parameter_file(param, full_name, scope)]
    for remap in element.named("remap"):
        command += ["-r", f"{scope.expand(remap, 'from')}:={scope.expand(remap, 'to')}"]
    _add_process(element, scope, command, scope.expand(element, "exec_name") if "exec_name" in a else None)


def _node_executable(element: Element, scope: Scope) -> str:
    executable = scope.expand(element, "exec")
    if "pkg" not in element.attributes:
        return executable
    try:
        return str(executable_in_package(scope.expand(element, "pkg"), executable, scope.environment))
    except PackageError as error:
        raise element.error(str(error)) from error


def _add_process(element: Element, scope: Scope, command: list[str | ParameterFile], name: str | None) -> None:
    a = element.attributes
    prefix = shlex.split(scope.expand(element, "launch-prefix")) if "launch-prefix" in a else []
    command = [*prefix, *command]
    environment = dict(scope.environment)
    for env in element.named("env"):
        environment[scope.expand(env, "name")] = scope.expand(env, "value")
    cwd = scope.expand(element, "cwd") if "cwd" in a else None
    if cwd is not None and not os.path.isdir(cwd):
        raise element.error(f"cwd={cwd!r} is no directory")
    program = str(command[0])
    found = shutil.which(os.path.join(cwd or "", program) if "/" in program else program, path=environment.get("PATH"))
    if found is None:
        raise element.error(f"{program!r} is no executable file and none on PATH")
    output = scope.expand(element, "output") if "output" in a else "log"
    if output not in OUTPUTS:
        raise element.error(f"output is {output!r}; expected one of {', '.join(OUTPUTS)}")
    if a.get("on_exit", "shutdown") != "shutdown":
        raise element.error(f"on_exit is {a['on_exit']!r}; expected shutdown")
    respawn = "respawn" in a and boolean(element, "respawn", scope.expand(element, "respawn").lower())
    scope.processes.append(
        Process(
            name=f"{name if name is not None else os.path.basename(program)}-{len(scope.processes) + 1}",
            command=tuple(command),
            environment=environment,
            cwd=cwd,
            output=output,
            respawn=respawn,
            respawn_delay=_seconds(element, "respawn_delay", 0.0),
            respawn_max_retries=_retries(element),
            required="on_exit" in a,
            sigterm_timeout=_seconds(element, "sigterm_timeout", 5.0),
            sigkill_timeout=_seconds(element, "sigkill_timeout", 5.0),
        )
    )


# Parts of the elements.


def _seconds(element: Element, attribute: str, default: float) -> float:
    """Return a duration. ROS 2's launch takes no substitutions here."""
    text = element.attributes.get(attribute, str(default))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise element.error(f"{attribute} is {text!r}; expected a number of seconds, not negative")
    return seconds


def _retries(element: Element) -> int:
    text = element.attributes.get("respawn_max_retries", "-1")
    try:
        return int(text)
    except ValueError as error:
        raise element.error(f"respawn_max_retries is {text!r}; expected an integer, negative for no limit") from error


def _split_command(element: Element, attribute: str, scope: Scope) -> list[str | ParameterFile]:
    """Split a command line at the spaces of its text; the value of a substitution is never split."""
    words: list[str] = []
    word: list[str] = []  # parts of the word that is being read

    def end_word() -> None:
        words.append("".join(word))
        word.clear()

    try:
        for part in parse(element.attributes[attribute]):
            if not isinstance(part, str):
                word.append(perform((part,), scope.values()))
                continue
            tokens = shlex.split(part)
            if not tokens or (part[0].isspace() and word):
                end_word()
            for i, token in enumerate(tokens):
                if i > 0:
                    end_word()
                word.append(token)
            if tokens and part[-1].isspace():
                end_word()
    except (SubstitutionError, PackageError, ValueError) as error:  # ValueError: an open quote
        raise element.error(f"{attribute}={element.attributes[attribute]!r}: {error}") from error
    if word:
        end_word()
    return list(words)


def _parameter_file(param: Element, node: str | None, scope: Scope) -> str | ParameterFile:
    a = param.attributes
    if ("name" in a) == ("from" in a):
        raise param.error("expected either name or from")
    if "from" in a:
        return _given_parameter_file(param, scope)
    parameters = _parameters([param], scope)
    return ParameterFile(yaml.dump({node or "/**": {"ros__parameters": parameters}}, default_flow_style=False))


def _given_parameter_file(param: Element, scope: Scope) -> str | ParameterFile:
    if param.children or set(param.attributes) - {"from", "allow_substs"}:
        raise param.error("a <param> with from takes allow_substs only")
    path = Path(scope.expand(param, "from"))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise param.error(f"cannot read the parameter file {path}: {error}") from error
    substitute = boolean(param, "allow_substs", param.attributes.get("allow_substs", "false").lower())
    if substitute:
        text = scope.expand_text(param, "text of the file", text)
    try:
        yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise param.error(f"{path} is not YAML: {error}") from error
    return ParameterFile(text) if substitute else str(path)


def _parameters(params: list[Element], scope: Scope, prefix: str = "") -> dict[str, object]:
    """Return the values of parameters by their full names, nested ones joined with dots."""
    values: dict[str, object] = {}
    for param in params:
        a = param.attributes
        if "allow_substs" in a:
            raise param.error("allow_substs goes with from only")
        name = prefix + scope.expand(param, "name")
        if ("value" in a) == bool(param.children) or (param.children and "type" in a):
            raise param.error("expected either a value (and a type) or nested <param>")
        if param.children:
            values.update(_parameters(list(param.children), scope, f"{name}."))
            continue
        try:
            values[name] = parameter_value(
                a["value"], a.get("type", "yaml"), a.get("value-sep"), lambda text: expand(text, scope.values())
            )
        except (SubstitutionError, PackageError) as error:
            raise param.error(f"{name}: value={a['value']!r}: {error}") from error
    return values
