"""The experience recorder over DDS: recordings one after another, read back as episodes."""

from pathlib import Path
from typing import Any

import numpy as np
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import Trigger

from ideomotor.data.experience import read_episodes
from ideomotor.data.recording import Recording
from ideomotor_nodes.experience_recorder import ExperienceRecorderNode
from ideomotor_nodes.qos import LATCHED
from tests.graph.conftest import Graph
from tests.graph.experience_rig import JOINTS, Rig


def recorder(graph: Graph, folder: Path) -> ExperienceRecorderNode:
    return graph.start(ExperienceRecorderNode(parameter_overrides=[Parameter("folder", value=str(folder))]))


def call(graph: Graph, what: str) -> Any:
    return graph.call(Trigger, f"experience_recorder/{what}", Trigger.Request())


def test_recordings_one_after_another(graph: Graph, tmp_path: Path) -> None:
    rig = Rig(graph)
    recorder(graph, tmp_path / "run")
    rig.wait_for_recorder()
    for number in (0, 1):
        started = call(graph, "start")
        assert (started.success, started.message) == (True, str(tmp_path / "run" / f"{number:04d}"))
        rig.episode(f"episode {number}", steps=30)
        stopped = call(graph, "stop")
        assert (stopped.success, stopped.message) == (True, started.message)
        (episode,) = read_episodes(Path(stopped.message), joints=JOINTS)
        assert (episode.name, episode.steps, episode.rate) == (f"episode {number}", 30, 250.0)
        np.testing.assert_array_equal(episode.effort[:, 0], rig.first + 1 + np.arange(30))
        assert episode.floating_base
        with Recording(Path(stopped.message)) as recording:  # each recording stands for itself
            description = [recording.message(r).data for r in recording.records(["/robot_description"])]
        assert description == ["<robot/>"]


def test_what_is_refused(graph: Graph, tmp_path: Path) -> None:
    recorder(graph, tmp_path)
    assert "call experience_recorder/start first" in call(graph, "stop").message
    assert call(graph, "start").success
    again = call(graph, "start")
    assert not again.success
    assert "not closed yet" in again.message
    assert call(graph, "stop").success
    node = graph.add(ExperienceRecorderNode(parameter_overrides=[Parameter("folder", value="")]))
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE


def test_a_mark_of_before_is_not_one_of_a_new_recording(graph: Graph, tmp_path: Path) -> None:
    mark = graph.helper.create_publisher(String, "experience", LATCHED)
    mark.publish(String(data="killed"))
    rig = Rig(graph)
    recorder(graph, tmp_path)
    rig.wait_for_recorder()
    graph.spin(0.3)
    started = call(graph, "start")
    rig.episode("new", steps=5)
    assert call(graph, "stop").success
    assert [e.name for e in read_episodes(Path(started.message))] == ["new"]


def test_deactivating_completes_the_recording(graph: Graph, tmp_path: Path) -> None:
    rig = Rig(graph)
    node = recorder(graph, tmp_path)
    rig.wait_for_recorder()
    started = call(graph, "start")
    rig.episode("one", steps=5)
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert len(read_episodes(Path(started.message))) == 1
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert call(graph, "start").message == str(tmp_path / "0001")
