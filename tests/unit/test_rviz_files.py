"""The RViz file of controllers names topics that nodes document or launch files make."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "ros2_ws" / "src" / "ideomotor_bringup" / "rviz" / "controller.rviz"


def test_the_topics_of_the_controllers_file_are_published() -> None:
    displays = yaml.safe_load(FILE.read_text())["Visualization Manager"]["Displays"]
    named = {
        value["Value"].lstrip("/")
        for display in displays
        for key, value in display.items()
        if key.endswith("Topic") and isinstance(value, dict)
    }
    assert named == {"robot_description", "target_robot_description", "controller_trainer/curves"}
    texts = [(ROOT / "docs" / "nodes.md").read_text(), (ROOT / "launch" / "effort_robot.launch.xml").read_text()]
    assert all(any(topic in text for text in texts) for topic in named)


def test_the_ghost_has_the_prefix_of_the_launch_file() -> None:
    displays = {d["Name"]: d for d in yaml.safe_load(FILE.read_text())["Visualization Manager"]["Displays"]}
    launch = (ROOT / "launch" / "effort_robot.launch.xml").read_text()
    assert f'name="frame_prefix" value="{displays["Target"]["TF Prefix"]}/"' in launch
