"""The action LearnReward over DDS: an artefact or the reason why not, and the old artefact until then."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from visualization_msgs.msg import Marker, MarkerArray

from ideomotor.rewards.artefact import LearnedReward
from ideomotor_interfaces.action import LearnReward
from ideomotor_learn.rewards.train_reward import TrainConfig, train
from ideomotor_nodes.qos import LATCHED
from ideomotor_nodes.reward_learner import RewardLearnerNode
from tests.graph.conftest import Graph
from tests.unit.demonstration_recording import LINKS, Q1, messages, true_keypoints, turned_then_lowered, write

Result = LearnReward.Result
ENDLESS = 100000  # outer steps


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four demonstrations of different duration."""
    return write(
        tmp_path_factory.mktemp("recordings") / "rec", messages((1.5, 3.0, 2.0, 2.5), path=turned_then_lowered)
    )


class Learning:
    """The node, and a client of its action."""

    def __init__(self, graph: Graph, recording: Path, artefact: Path, **parameters: Any) -> None:
        self.graph, self.artefact, self.recording = graph, artefact, recording
        overrides = [Parameter(name, value=v) for name, v in ({"outer_steps": 12} | parameters).items()]
        self.node = graph.start(RewardLearnerNode(parameter_overrides=overrides))
        self.client = ActionClient(graph.helper, LearnReward, "reward_learner/learn")
        self.feedback: list[LearnReward.Feedback] = []

    def send(self, **fields: Any) -> Any:
        goal = {"demonstrations": str(self.recording), "artefact": str(self.artefact), "max_horizon": 12} | fields
        handle = self.graph.send_goal(self.client, LearnReward.Goal(**goal), lambda m: self.feedback.append(m.feedback))
        assert handle.accepted
        return handle

    def result(self, handle: Any) -> Any:
        return self.graph.result(handle, 60.0)

    def content(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.artefact.iterdir()}


def test_learns_and_shows_the_field(graph: Graph, recording: Path, tmp_path: Path) -> None:
    learning = Learning(graph, recording, tmp_path / "new" / "reward", run_folder=str(tmp_path / "run"))
    response = learning.result(learning.send(family="progress", min_horizon=10, seed=3))
    result = response.result
    assert (response.status, result.error_code, result.error_msg) == (GoalStatus.STATUS_SUCCEEDED, Result.NONE, "")
    reward = LearnedReward.load(learning.artefact)
    assert (reward.family, reward.keypoint_names) == ("progress", LINKS)
    training = reward.artefact.manifest.training
    assert (training["min_horizon"], training["max_horizon"], training["outer_steps"]) == (10, 12, 12)
    assert reward.artefact.manifest.seed == 3
    assert (result.demonstrations, result.held_out) == (3, 1)
    assert result.duration == pytest.approx(reward.duration)
    assert list(result.pace) == [0.25, 1.0, 4.0]
    assert max(result.final_error) < 1e-3
    assert result.path_error[1] == pytest.approx(reward.artefact.manifest.metrics["path_error_m@1"])

    assert len(learning.feedback) > 2  # the last ones may come later than the result
    for i, feedback in enumerate(learning.feedback):
        assert feedback.progress == pytest.approx((i + 1) / 12)
        assert 10 <= feedback.horizon <= 12
    assert result.outer_loss < learning.feedback[-1].outer_loss < learning.feedback[0].outer_loss
    pictures = {"field.png", "outer_loss.png", "paths.png", "weights.png"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == pictures | {"metrics.json"}

    fields = graph.collect(MarkerArray, "reward_field", LATCHED)  # for those, too, who come later
    graph.spin_until(lambda: fields)
    markers = fields[0].markers
    assert [m.ns for m in markers] == ["reward_field_xz", "reward_field_xy"]
    goal = true_keypoints(Q1[None])[0, 1]  # of the tip
    for marker in markers:
        assert (marker.header.frame_id, marker.type) == ("base", Marker.SPHERE_LIST)
        points = np.array([(p.x, p.y, p.z) for p in marker.points])
        np.testing.assert_allclose(points[len(points) // 2], goal, atol=1e-3)
        np.testing.assert_allclose(np.ptp(points, axis=0).max(), 0.4, atol=2e-3)
        assert len(marker.colors) == len(points)
        dark = marker.colors[len(points) // 2]  # it costs nothing to be at the goal
        np.testing.assert_allclose((dark.r, dark.g, dark.b), (68 / 255, 1 / 255, 84 / 255), atol=1e-6)
    assert max(colour.r for marker in markers for colour in marker.colors) == pytest.approx(253 / 255)


def test_cancel_keeps_what_was_there(graph: Graph, recording: Path, tmp_path: Path) -> None:
    """Bytes and all; and the node takes the next goal."""
    train(TrainConfig(data=str(recording), out=str(tmp_path / "reward"), runs="", outer_steps=1))
    learning = Learning(graph, recording, tmp_path / "reward", outer_steps=ENDLESS)
    before = learning.content()
    handle = learning.send(family="neural")
    graph.spin_until(lambda: len(learning.feedback) > 2, timeout=30.0)
    busy = learning.result(learning.send())
    assert (busy.result.error_code, busy.result.error_msg) == (Result.BUSY, "another goal is running; cancel it first")
    handle.cancel_goal_async()
    response = learning.result(handle)
    assert (response.status, response.result.error_code) == (GoalStatus.STATUS_CANCELED, Result.CANCELLED)
    assert learning.content() == before
    assert [path.name for path in tmp_path.iterdir()] == ["reward"]
    learning.feedback.clear()
    again = learning.send()
    graph.spin_until(lambda: learning.feedback, timeout=30.0)
    learning.node.trigger_deactivate()
    response = learning.result(again)
    assert (response.status, response.result.error_code) == (GoalStatus.STATUS_ABORTED, Result.CANCELLED)
    assert response.result.error_msg == "the node was deactivated"
    assert learning.content() == before


def test_stays_responsive_while_it_learns(graph: Graph, recording: Path, tmp_path: Path) -> None:
    """Diagnostics come once a second, and say how far it is."""
    learning = Learning(graph, recording, tmp_path / "reward", outer_steps=ENDLESS)
    handle = learning.send()
    messages = graph.collect(DiagnosticArray, "/diagnostics")
    graph.spin_until(lambda: learning.feedback, timeout=30.0)

    def told() -> bool:
        texts = [s.message for m in messages for s in m.status if s.name.endswith("learning")]
        return sum("outer step" in text for text in texts) >= 2

    graph.spin_until(told, timeout=10.0)
    handle.cancel_goal_async()
    learning.result(handle)
    messages.clear()
    graph.spin_until(lambda: any(s.message == "no goal" for m in messages for s in m.status))


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"demonstrations": ""}, Result.INVALID_GOAL, "demonstrations is empty"),
        ({"artefact": ""}, Result.INVALID_GOAL, "artefact is empty"),
        ({"family": "magic"}, Result.INVALID_GOAL, "family='magic' is not one of ['progress', 'neural']"),
        ({"min_horizon": 13}, Result.INVALID_GOAL, "min_horizon=13 is above max_horizon=12"),
        ({"min_horizon": 1}, Result.INVALID_GOAL, "min_horizon=1 is outside [2, 200]"),
        ({"seed": 2**32 - 1}, Result.INVALID_GOAL, "seed=4294967295 is outside"),
        ({"demonstrations": "/nowhere"}, Result.BAD_DEMONSTRATIONS, "/nowhere: no such folder"),
        ({"artefact": "TMP"}, Result.BAD_ARTEFACT_FOLDER, "is there and is no artefact"),
        ({"artefact": "TMP/letter.txt/reward"}, Result.BAD_ARTEFACT_FOLDER, "cannot write to"),
    ],
)
def test_bad_goals_say_what_is_wrong_and_nothing_is_written(
    graph: Graph, recording: Path, tmp_path: Path, fields: dict[str, Any], code: int, message: str
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    learning = Learning(graph, recording, tmp_path / "reward")
    fields = {k: v.replace("TMP", str(tmp_path)) if isinstance(v, str) else v for k, v in fields.items()}
    response = learning.result(learning.send(**fields))
    assert response.status == GoalStatus.STATUS_ABORTED
    assert response.result.error_code == code
    assert message in response.result.error_msg
    assert not learning.feedback
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_spoiled_recording_is_named(graph: Graph, tmp_path: Path) -> None:
    content = [m for m in messages() if m.topic != "/joint_states" or not 2.0 < m.time < 2.5]
    learning = Learning(graph, write(tmp_path / "rec", content), tmp_path / "reward")
    result = learning.result(learning.send()).result
    assert result.error_code == Result.BAD_DEMONSTRATIONS
    assert "rec.mcap: a: joint_states" in result.error_msg
    assert "gap" in result.error_msg


def test_an_artefact_folder_that_goes_bad_meanwhile(graph: Graph, recording: Path, tmp_path: Path) -> None:
    """Somebody puts something else there while the node learns."""
    learning = Learning(graph, recording, tmp_path / "reward", outer_steps=3)
    handle = learning.send()
    learning.artefact.mkdir()
    (learning.artefact / "letter.txt").write_text("dear")
    result = learning.result(handle).result
    assert result.error_code == Result.BAD_ARTEFACT_FOLDER
    assert "is no artefact" in result.error_msg
    assert learning.content() == {"letter.txt": b"dear"}


def test_without_torch_it_says_what_to_install(node_command: Callable[..., list[str]]) -> None:
    """As on a robot's computer: exit code 2, no traceback."""
    python, flag, code, *arguments = node_command("reward_learner")
    code = f"import sys; sys.modules['torch'] = None; {code}"
    done = subprocess.run([python, flag, code, *arguments], capture_output=True, text=True, timeout=60.0)
    assert done.returncode == 2
    said = done.stdout + done.stderr
    assert "cannot configure: learning needs torch: in the repository, pip install -e packages/ideomotor_learn" in said
    assert "Traceback" not in said
    assert python == sys.executable
