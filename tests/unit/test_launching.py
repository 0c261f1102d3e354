"""Reading launch files: substitutions, parameter values, and errors that say where and what is known.

That the result is what ROS 2's own launch makes of the same files is tested in tests/launch/test_launch_cases.py.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ideomotor.launching.elements import LaunchError
from ideomotor.launching.index import PackageError, executable_in_package, package_prefix, package_share
from ideomotor.launching.parameters import ParameterError, parameter_value
from ideomotor.launching.parse import declared_arguments, load_launch
from ideomotor.launching.run import command_line
from ideomotor.launching.substitutions import Call, SubstitutionError, Values, expand, parse

VALUES = Values({"a": "1", "name": "a", "s": "x y"}, {"HOME": "/home"}, Path("/launch/x.launch.xml"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain $5 text", "plain $5 text"),
        ("$(var a)", "1"),
        ("x$(var $(var name))y", "x1y"),
        ("$(var none 'a (default) $(var s)')", "a (default) x y"),
        ('$(var none "it\'s")', "it's"),
        ("$(var none '')", ""),
        (r"\$(var a) \\ \'", r"$(var a) \ '"),
        ("$(env HOME)/$(env NONE d)", "/home/d"),
        ("$(dirname)|$(filename)", "/launch|/launch/x.launch.xml"),
        ("$(not $(var a))", "false"),
    ],
)
def test_expand(text: str, expected: str) -> None:
    assert expand(text, VALUES) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$(var b)", "no argument or variable 'b'; known are a, name, s"),
        ("$(env NONE)", "'NONE' is not set and has no default"),
        ("$(eval 1)", r"unknown substitution \$\(eval\); known are var, env, find-pkg-share"),
        ("$(var)", r"\$\(var\) takes 1 or 2 arguments, got 0"),
        ("$(dirname x)", r"takes 0 arguments, got 1"),
        ("$(var a", "expected a space and an argument"),
        ("$(var  a)", "empty argument"),
        ("$(var a )", "empty argument"),
        ("$( a)", r"no name after \$\("),
        ("$(var 'a)", "no closing '"),
        ("$(var a'b)", "needs quotes around"),
        ("$(not maybe)", "'maybe' is not one of true, 1, false, 0"),
        ("$(find-pkg-share nope)", "package 'nope' not found; AMENT_PREFIX_PATH is empty: source"),
        ("$(command 'false')", "command 'false' ended with 1"),
        ("$(command 'true' maybe)", "on_stderr is 'maybe', expected fail or ignore"),
    ],
)
def test_bad_substitutions(text: str, message: str) -> None:
    with pytest.raises((SubstitutionError, PackageError), match=message):
        expand(text, VALUES)


def test_dirname_where_ros_2_versions_differ() -> None:
    with pytest.raises(SubstitutionError, match="after an <include>"):
        expand("$(dirname)", Values({}, {}, None))


@given(st.text(alphabet=st.characters(max_codepoint=0x2FF)))
def test_text_without_substitutions_is_itself_but_for_escapes(text: str) -> None:
    plain = text.replace("$(", "")
    assert expand(plain.replace("\\", "\\\\"), VALUES) == plain


@given(st.text(alphabet="$()'\"\\ varx-"))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        template = parse(text)
    except SubstitutionError:
        return
    assert all(isinstance(part, (str, Call)) for part in template)


@given(st.text(alphabet=st.characters(blacklist_characters="'\\$", max_codepoint=0x2FF)))
def test_a_quoted_argument_is_any_text(text: str) -> None:
    assert expand(f"$(var none '{text}')", VALUES) == text


# Parameters


def same(text: str) -> str:
    return expand(text, VALUES)


@given(
    st.one_of(
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(alphabet="ab c:1.,", min_size=1),
        st.lists(st.integers(), min_size=1),
        st.lists(st.floats(allow_nan=False), min_size=1),
        st.lists(st.booleans(), min_size=1),
    )
)
def test_yaml_values_keep_their_type(value: Any) -> None:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
    read = parameter_value(text, "yaml", None, same)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "separator", "message"),
    [
        ("x", "int", None, "'x' is not of type int"),
        ("2", "bool", None, "'2' is int, not bool"),
        ("{a: 1}", "yaml", None, "is dict, not yaml; a text can be forced by type='str'"),
        ("[1, a]", "yaml", None, "it has int, str"),
        ("[1, 2.0]", "list_of_int", None, "is not a list of int: it has float, int"),
        ("1", "list_of_int", None, r"'1' is no list such as \[a, b\]"),
        ("1,2", "int", ",", "value-sep makes a list, type is int"),
        ("1", "number", None, "type 'number' is unknown; known are str, int"),
        ("[1", "yaml", None, "is not of type yaml"),
    ],
)
def test_bad_parameter_values(text: str, kind: str, separator: str | None, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        parameter_value(text, kind, separator, same)


# The index


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    (tmp_path / "share/ament_index/resource_index/packages").mkdir(parents=True)
    (tmp_path / "share/ament_index/resource_index/packages/demo").touch()
    (tmp_path / "lib/demo").mkdir(parents=True)
    for name, mode in (("node", 0o755), ("data", 0o644)):
        (tmp_path / "lib/demo" / name).write_text("#!/bin/sh\n")
        (tmp_path / "lib/demo" / name).chmod(mode)
    return tmp_path


def test_index(prefix: Path) -> None:
    environment = {"AMENT_PREFIX_PATH": os.pathsep.join(["", "/no/such/prefix", str(prefix)])}
    assert package_prefix("demo", environment) == prefix
    assert package_share("demo", environment) == prefix / "share/demo"
    assert executable_in_package("demo", "node", environment) == prefix / "lib/demo/node"
    for name in ("data", "none"):
        with pytest.raises(PackageError, match=f"no executable {name!r} in .*lib/demo; it has node"):
            executable_in_package("demo", name, environment)


# Whole files


def load(tmp_path: Path, body: str, **arguments: str) -> list[str]:
    path = tmp_path / "test.launch.xml"
    path.write_text(f"<launch>\n{body}\n</launch>")
    return [command_line(p) for p in load_launch(path, arguments, {"PATH": os.environ["PATH"]})]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<nodes/>", r":2: <nodes>: unknown inside <launch>; known are arg, executable, group"),
        ("\n<node exec='x' colour='red'/>", r":3: <node>: unknown attribute 'colour'; known are exec, pkg, exec_name"),
        ("<node/>", r":2: <node>: attribute 'exec' is missing"),
        (
            "<include file='a'><let name='b' value='c'/></include>",
            r":2: <let>: unknown inside <include>; known are",
        ),
        ("<group if='0'><x/></group>", r":2: <x>: unknown inside <group>"),
        ("<executable cmd='echo $(eval 1)'/>", r":2: <executable>: cmd='echo \$\(eval 1\)': unknown substitution"),
        ("<executable cmd='echo' if='maybe'/>", r"if='maybe' is 'maybe'; expected true, 1, false or 0"),
        ("<executable cmd='no-such-program'/>", r"'no-such-program' is no executable file and none on PATH"),
        ("<executable cmd='echo' cwd='/no/such'/>", r"cwd='/no/such' is no directory"),
        ("<executable cmd='echo' output='paper'/>", r"output is 'paper'; expected one of log, screen, both"),
        ("<executable cmd='echo' respawn_delay='$(var x)'/>", r"respawn_delay is .*; expected a number of seconds"),
        ("<executable cmd='echo' respawn_max_retries='x'/>", r"respawn_max_retries is 'x'; expected an integer"),
        ("<arg name='needed' description='what'/>", r"'needed' is not given \(what\); add needed:=VALUE"),
        ("<let name='launch-prefix' value='gdb'/>", r"variable 'launch-prefix' has a meaning for ros2 launch"),
        ("<node exec='echo'><param from='/no/such.yaml'/></node>", r"<param>: cannot read the parameter file"),
        ("<node exec='echo'><param value='1'/></node>", r"<param>: expected either name or from"),
        ("<node exec='echo'><param name='a'/></node>", r"<param>: expected either a value"),
        (
            "<node exec='echo'><param name='a' value='[1'/></node>",
            r"<param>: a: value='\[1': '\[1' is not of type yaml",
        ),
        ("<include file='/no/such.launch.xml'/>", r":2: <include>: no launch file /no/such\.launch\.xml"),
        ("<include file='$(filename)'/>", r":2: <include>: .*test\.launch\.xml includes itself"),
        ("<open>", r"test\.launch\.xml:3: not XML: mismatched tag"),
    ],
)
def test_errors_say_where_and_what_is_known(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(LaunchError, match=message) as caught:
        load(tmp_path, body)
    assert str(caught.value).startswith(str(tmp_path / "test.launch.xml") + ":")


def test_missing_launch_file(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"gone\.launch\.xml: cannot read the launch file: No such file"):
        load_launch(tmp_path / "gone.launch.xml", {})


def test_unknown_arguments_are_refused_and_the_declared_ones_listed(tmp_path: Path) -> None:
    (tmp_path / "inner.launch.xml").write_text("<launch><arg name='deep' default='1'/><arg name='passed'/></launch>")
    body = (
        "<arg name='a' default='inner'/><group if='false'><arg name='unused' default=''/></group>"
        "<include file='$(dirname)/$(var a).launch.xml'><arg name='passed' value='1'/></include>"
    )
    load(tmp_path, body, deep="2", unused="3")
    for name in ("nope", "passed"):
        with pytest.raises(LaunchError, match=f"unknown arguments {name}; declared are a, unused, deep"):
            load(tmp_path, body, **{name: "1"})


def test_declared_arguments(tmp_path: Path) -> None:
    path = tmp_path / "test.launch.xml"
    path.write_text(
        "<launch><arg name='a' description='which'><choice value='x'/><choice value='y'/></arg>\n"
        "<arg name='b' default='$(var a)'/><include file='$(var a)/unknown.launch.xml'/></launch>"
    )
    a, b = declared_arguments(path)
    assert (a.name, a.default, a.description, a.choices, a.where) == ("a", None, "which", ("x", "y"), f"{path}:1")
    assert (b.name, b.default, b.where) == ("b", "$(var a)", f"{path}:2")


def test_command_line_shows_parameters(tmp_path: Path) -> None:
    (line,) = load(tmp_path, "<node exec='echo'><param name='a' value='1'/></node>")
    assert line == "echo --ros-args --params-file '<</**:\n  ros__parameters:\n    a: 1>>'"
    (line,) = load(tmp_path, f"<node exec='echo'><param name='a' value='{'x' * 5000}' type='str'/></node>")
    assert len(line) < 500
    assert "characters)" in line
