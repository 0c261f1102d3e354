"""The controllers' nodes get what the robot's config says, whatever the launch files say: by rclpy's own order."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node

from ideomotor.launching.parse import load_launch
from ideomotor.launching.process import ParameterFile

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
POLICY, TRAIN = LAUNCH / "policy.launch.xml", LAUNCH / "train_controller.launch.xml"
ON_ROBOT = {"simulator": "false"}


@pytest.fixture
def context(own_domain: dict[str, str]) -> Iterator[Context]:
    context = Context()
    rclpy.init(context=context, domain_id=int(own_domain["ROS_DOMAIN_ID"]))
    yield context
    context.try_shutdown()


@pytest.fixture
def parameters(context: Context, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return what a node of a launch file is given: ``parameters(path, node, config, argument="value")``."""

    def resolve(path: Path, name: str, config: Path, **arguments: str) -> dict[str, Any]:
        arguments = {"robot": "iiwa7", "config": str(config), **arguments}
        if path == TRAIN:
            arguments["run_folder"] = str(tmp_path / "run")
        (process,) = [p for p in load_launch(path, arguments) if p.name.rpartition("-")[0] == name]
        words = [_written(w, tmp_path / f"{name}.{i}.yaml") for i, w in enumerate(process.command)]
        node = Node(
            name,
            context=context,
            cli_args=words[1:],
            start_parameter_services=False,
            automatically_declare_parameters_from_overrides=True,
        )
        try:
            return {k: p.value for k, p in node.get_parameters_by_prefix("").items()}
        finally:
            node.destroy_node()

    return resolve


def _written(word: str | ParameterFile, path: Path) -> str:
    if isinstance(word, str):
        return word
    path.write_text(word.text)
    return str(path)


@pytest.mark.parametrize("arguments", [{}, ON_ROBOT], ids=["simulated", "on a robot"])
@pytest.mark.parametrize("path", [POLICY, TRAIN], ids=lambda p: p.name)
def test_the_policy_controller_gets_what_the_config_names(
    parameters: Callable[..., Any], robot_config: Callable[..., Path], path: Path, arguments: dict[str, str]
) -> None:
    """Thresholds that a launch file switched off would protect nobody."""
    named = {"hold_threshold": 0.5, "slow_threshold": 0.25, "state_timeout": 0.3, "realtime_priority": 7}
    given = parameters(path, "policy_controller", robot_config("iiwa7", policy_controller=named), **arguments)
    assert {k: given[k] for k in named} == named


@pytest.mark.parametrize("arguments", [{}, ON_ROBOT], ids=["simulated", "on a robot"])
def test_the_trainer_gets_what_the_config_names(
    parameters: Callable[..., Any], robot_config: Callable[..., Path], arguments: dict[str, str]
) -> None:
    named = {"updates": 20, "hidden": 16, "reset": "wait", "motions": "/motions"}
    given = parameters(TRAIN, "controller_trainer", robot_config("iiwa7", controller_trainer=named), **arguments)
    assert {k: given[k] for k in named} == named


@pytest.mark.parametrize("path", [POLICY, TRAIN], ids=lambda p: p.name)
@pytest.mark.parametrize(("arguments", "timeout"), [({}, 2.0), (ON_ROBOT, 0.1)], ids=["simulated", "on a robot"])
def test_without_its_word_a_run_waits_for_states_as_long_as_simulator_or_robot_need(
    parameters: Callable[..., Any],
    robot_config: Callable[..., Path],
    path: Path,
    arguments: dict[str, str],
    timeout: float,
) -> None:
    given = parameters(path, "policy_controller", robot_config("iiwa7"), **arguments)
    assert given["state_timeout"] == timeout
    assert not {"hold_threshold", "slow_threshold"} & set(given)


@pytest.mark.parametrize(("arguments", "reset"), [({}, "simulation"), (ON_ROBOT, "wait")], ids=["simulated", "robot"])
def test_without_its_word_people_put_a_robot_back_and_the_simulator_does_it_itself(
    parameters: Callable[..., Any], robot_config: Callable[..., Path], arguments: dict[str, str], reset: str
) -> None:
    given = parameters(TRAIN, "controller_trainer", robot_config("iiwa7"), **arguments)
    assert given["reset"] == reset
    assert not {"updates", "hidden"} & set(given)


def test_an_argument_counts_where_the_config_does_not_name_it(
    parameters: Callable[..., Any], robot_config: Callable[..., Path]
) -> None:
    assert (
        parameters(POLICY, "policy_controller", robot_config("iiwa7"), realtime_priority="9")["realtime_priority"] == 9
    )
    assert parameters(TRAIN, "controller_trainer", robot_config("iiwa7"), motions="/mine")["motions"] == "/mine"
