"""A reward learner that is killed: no half artefact, and the old one is as it was."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rclpy.action import ActionClient

from ideomotor.rewards.artefact import LearnedReward
from ideomotor_interfaces.action import LearnReward
from ideomotor_learn.rewards.train_reward import TrainConfig, train
from tests.graph.conftest import Graph
from tests.unit.demonstration_recording import messages, turned_then_lowered, write

# What is written is complete and has been checked, beside the artefact; it would now take the place of the old one.
HANG = "import time, ideomotor.artefacts; ideomotor.artefacts._swap_in = lambda *_: time.sleep(1000.0);"


@pytest.mark.parametrize("writes", [False, True], ids=["while it learns", "while it writes"])
@pytest.mark.parametrize("old", [True, False], ids=["with an old artefact", "into a new folder"])
def test_a_killed_node_leaves_no_half_artefact(
    graph: Graph, node_command: Callable[..., list[str]], tmp_path: Path, old: bool, writes: bool
) -> None:
    recording, artefact = write(tmp_path / "rec", messages(path=turned_then_lowered)), tmp_path / "out" / "reward"
    if old:
        train(TrainConfig(data=str(recording), out=str(artefact), runs="", outer_steps=1))
    before = {path.name: path.read_bytes() for path in artefact.iterdir()} if old else {}
    client = ActionClient(graph.helper, LearnReward, "reward_learner/learn")
    python, flag, code, *arguments = node_command("reward_learner", outer_steps=1 if writes else 100000)
    process = subprocess.Popen([python, flag, HANG + code, *arguments])
    try:
        graph.spin_until(client.server_is_ready, 30.0, "the node")
        feedback: list[object] = []
        goal = LearnReward.Goal(demonstrations=str(recording), artefact=str(artefact), seed=5)
        graph.send_goal(client, goal, feedback.append)
        reached = (lambda: is_written(artefact)) if writes else (lambda: len(feedback) > 2)
        graph.spin_until(reached, 60.0, "the place to kill it at")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    if old:
        assert {path.name: path.read_bytes() for path in artefact.iterdir()} == before
        assert LearnedReward.load(artefact).artefact.manifest.seed == 0
    else:
        assert not artefact.exists()


def is_written(artefact: Path) -> bool:
    """Return whether a new artefact lies in a temporary folder beside the old one."""
    return any(artefact.parent.glob(f".{artefact.name}.*/new/manifest.json"))
