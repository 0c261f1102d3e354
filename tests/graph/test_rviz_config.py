"""Every topic and frame that the RViz configuration names exists in the running graph."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ideomotor_nodes.transforms import TransformListener
from tests.graph.conftest import Graph
from tests.graph.small_detector import write_small_detector
from tests.launch.conftest import RunningLaunch

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "ros2_ws" / "src" / "ideomotor_bringup" / "rviz" / "ideomotor.rviz"
TYPES = {  # message type that each display expects
    "rviz_default_plugins/RobotModel": "std_msgs/msg/String",
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/DepthCloud": "sensor_msgs/msg/Image",
}


def manager() -> dict[str, Any]:
    return dict(yaml.safe_load(CONFIG.read_text())["Visualization Manager"])


def topics() -> dict[str, str]:
    """Return the topics that are named, and the type each display expects."""
    found = {}
    for display in manager()["Displays"]:
        for key, value in display.items():
            if key.endswith("Topic") and value:
                topic = value["Value"] if isinstance(value, dict) else value
                found[topic] = TYPES[display["Class"]]
    return found


def frames() -> set[str]:
    """Return the frames that are named."""
    found = {manager()["Global Options"]["Fixed Frame"]}
    for display in manager()["Displays"]:
        found |= set(display.get("Frames", {})) - {"All Enabled"}
        found.add(display.get("Reference Frame", "<Fixed Frame>"))
    return found - {"<Fixed Frame>"}


@pytest.fixture(scope="module")
def running(domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLaunch]:
    """The simulated robot with all nodes, as a user starts it."""
    artefact = write_small_detector(tmp_path_factory.mktemp("rviz") / "artefact")
    arguments = {"artefact": str(artefact), "real_time_factor": "0.5"}
    launch = RunningLaunch(ROOT / "launch" / "simulated.launch.xml", arguments, dict(os.environ, MUJOCO_GL="egl"))
    yield launch
    launch.stop()


def test_the_file_names_something() -> None:
    assert {"/robot_description", "/body_schema/markers", "/camera/color/image_raw"} <= set(topics())
    assert "base_link" in frames()


def test_topics_and_frames_exist(graph: Graph, running: RunningLaunch) -> None:
    listener = TransformListener(graph.helper)

    def missing() -> set[str]:
        published = {
            name: types
            for name, types in graph.helper.get_topic_names_and_types()
            if graph.helper.count_publishers(name) > 0
        }
        without = {topic for topic, type_name in topics().items() if type_name not in published.get(topic, ())}
        return without | (frames() - set(listener.tree.frames))

    try:
        graph.spin_until(lambda: not missing(), timeout=60.0)
    except AssertionError:
        pytest.fail(f"not in the graph: {sorted(missing())}; the launch says\n{running.output}")


def test_qos_fits_what_the_nodes_offer(graph: Graph, running: RunningLaunch) -> None:
    """A display that asks for more than is offered shows nothing, silently."""
    for display in manager()["Displays"]:
        value = display.get("Topic", display.get("Description Topic"))
        if not value:
            continue
        graph.spin_until(lambda topic=value["Value"]: graph.helper.count_publishers(topic) > 0, timeout=60.0)
        for info in graph.helper.get_publishers_info_by_topic(value["Value"]):
            reliable = value["Reliability Policy"] == "Reliable"
            assert not reliable or info.qos_profile.reliability.name == "RELIABLE", value
            latched = value["Durability Policy"] == "Transient Local"
            assert not latched or info.qos_profile.durability.name == "TRANSIENT_LOCAL", value
