"""Configuration dataclasses as ROS parameters: declared with range and description, checked, nothing ignored."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import rclpy
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.parameter import Parameter

from ideomotor.config import Config, ConfigError, value
from ideomotor_nodes.params import ParameterError, check_overrides, declare_config
from tests.graph.conftest import Graph


@dataclass(frozen=True, kw_only=True)
class ExampleConfig(Config):
    rate: float = value(50.0, "Control rate [Hz].", ge=1.0, le=1000.0)
    count: int = value(3, "How many.", ge=0, le=10)
    mode: str = value("slow", "How.", choices=("slow", "fast"))
    loud: bool = value(False, "Whether.")
    names: tuple[str, ...] = value((), "Names.")
    pose: tuple[float, float, float] = value((1.0, 2.0, 3.0), "Pose [m].")


def make(**overrides: object) -> tuple[rclpy.node.Node, ExampleConfig]:
    node = rclpy.create_node("example", parameter_overrides=[Parameter(name, value=v) for name, v in overrides.items()])
    try:
        config = declare_config(node, ExampleConfig)
        check_overrides(node, live=("alive",))
    except BaseException:
        node.destroy_node()
        raise
    return node, config


def test_defaults_and_overrides(ros: None) -> None:
    node, config = make()
    assert config == ExampleConfig()
    node.destroy_node()
    node, config = make(rate=20.0, count=1, mode="fast", loud=True, names=["a", "b"], pose=[0.0, 0.0, 1.0], alive=3)
    assert config == ExampleConfig(rate=20.0, count=1, mode="fast", loud=True, names=("a", "b"), pose=(0.0, 0.0, 1.0))
    node.destroy_node()


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"rate": 5000.0}, InvalidParameterValueException, "rate"),
        ({"rate": 50}, InvalidParameterTypeException, "rate"),
        ({"count": 11}, InvalidParameterValueException, "count"),
        ({"mode": "medium"}, ConfigError, r"mode='medium' is not one of \['slow', 'fast'\]"),
        ({"pose": [1.0]}, ParameterError, "pose=.* has 1 elements, expected 3"),
        ({"names": "a"}, InvalidParameterTypeException, "names"),
        ({"raet": 50.0, "rate": 20.0}, ParameterError, r"example has no parameter \['raet'\]; it declares .*'rate'"),
    ],
)
def test_bad_parameters_are_refused(ros: None, overrides: dict[str, object], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        make(**overrides)


def test_they_are_described_and_read_only(graph: Graph) -> None:
    node, _ = make()
    graph.add(node)
    names = ["rate", "count", "mode"]
    rate, count, mode = graph.call(
        DescribeParameters, "example/describe_parameters", DescribeParameters.Request(names=names)
    ).descriptors
    assert (rate.description, rate.read_only) == ("Control rate [Hz].", True)
    assert (rate.floating_point_range[0].from_value, rate.floating_point_range[0].to_value) == (1.0, 1000.0)
    assert (count.integer_range[0].from_value, count.integer_range[0].to_value) == (0, 10)
    assert mode.description == "How. One of: slow, fast."
    request = SetParameters.Request(parameters=[Parameter("rate", value=20.0).to_parameter_msg()])
    assert not graph.call(SetParameters, "example/set_parameters", request).results[0].successful


def test_fields_of_other_types_are_a_defect_of_the_node(ros: None) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Wrong(Config):
        path: complex = value(1j, "A complex number.")

    node = rclpy.create_node("example")
    with pytest.raises(TypeError, match="no ROS parameter type"):
        declare_config(node, Wrong)
    node.destroy_node()


def test_misspelt_parameter_ends_the_process_with_code_2(domain: int, node_command: Callable[..., list[str]]) -> None:
    done = subprocess.run(
        node_command("safety_gate", raet=5.0), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert "has no parameter ['raet']" in done.stderr
    assert "command_timeout" in done.stderr
