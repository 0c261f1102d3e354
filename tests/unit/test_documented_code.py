"""The Python in README.md and docs/simulator.md runs."""

import re
from pathlib import Path

import numpy as np
import pytest

from ideomotor.body.chain import KinematicChain
from ideomotor.body.urdf import load_urdf
from ideomotor_sim.camera import CameraConfig, camera_pose
from ideomotor_sim.motion import record_episode, waving
from ideomotor_sim.robots import Robot
from ideomotor_sim.scene import plain_scene
from ideomotor_sim.tools import sample_tool
from ideomotor_sim.world import World

ROOT = Path(__file__).parents[2]
HOME = {"iiwa_joint_2": -0.1, "iiwa_joint_4": -1.8, "iiwa_joint_6": 0.2}


def first_block(page: str) -> str:
    found = re.search(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a simulated arm's images, it finds the tip of a stick."""
    monkeypatch.chdir(ROOT)
    rng = np.random.default_rng(60)
    robot = Robot("iiwa7", load_urdf("urdf/iiwa7.urdf.xacro"), "gripper_tcp")
    camera, T_base_camera = CameraConfig(), camera_pose(1.35, 0.85, 0.95, 0.0, 0.32, -2.256)
    world = World(robot, sample_tool("stick", rng), plain_scene(), camera, T_base_camera, seed=60, home=HOME)
    names: dict[str, object] = {
        "urdf": robot.urdf,
        "intrinsics": camera.intrinsics,
        "T_base_camera": T_base_camera,
        "frames": [
            (frame.image.rgb, frame.image.depth, frame.stamp, frame.joint_state.position)
            for frame in record_episode(world, waving(world, rng), duration=1.5)
        ],
    }
    exec(compile(first_block("README.md"), "README.md", "exec"), names)
    extended = names["extended"]
    assert isinstance(extended, KinematicChain)
    tip = extended.forward(extended.from_names(dict(zip(world.joint_names, world.joint_state().position, strict=True))))
    assert np.linalg.norm(tip[:3, 3] - world.tip_position_base()) < 0.05
    world.close()


def test_simulator_page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints a line a frame: stamp, pixel and position of the tip."""
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    code = first_block("docs/simulator.md").replace("duration=1.0", "duration=0.1")  # each frame is the same
    exec(compile(code, "simulator.md", "exec"), names)
    assert len(re.findall(r"^\d\.\d+ \[", capsys.readouterr().out, re.MULTILINE)) == 3
