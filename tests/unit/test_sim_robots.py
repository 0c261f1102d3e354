"""Robots from elsewhere: any mesh, no gripper, and the same kinematics as pinocchio's."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from ideomotor.body.chain import KinematicChain
from ideomotor.body.urdf import load_urdf
from ideomotor_sim.camera import CameraConfig, look_at
from ideomotor_sim.dataset import EXTRA_ROBOTS, example_robots_folder
from ideomotor_sim.robots import MESH_FACES, Robot, find_mesh, robot_spec
from ideomotor_sim.scene import plain_scene
from ideomotor_sim.tools import sample_tool
from ideomotor_sim.transforms import transform
from ideomotor_sim.world import World

CAMERA = CameraConfig(width=64, height=48)


@pytest.mark.parametrize("name", EXTRA_ROBOTS)
def test_example_robots_hold_a_tool_and_move_as_in_pinocchio(name: str) -> None:
    folder = example_robots_folder()
    if folder is None:
        pytest.skip("example-robot-data is not installed")
    path, ee_link = folder / EXTRA_ROBOTS[name][0], EXTRA_ROBOTS[name][1]
    robot = Robot(name, load_urdf(path), ee_link, path.parent)
    tool = sample_tool("stick", np.random.default_rng(0))
    world = World(robot, tool, plain_scene(), CAMERA, look_at(np.array([1.5, 1.0, 1.0]), np.zeros(3)))
    assert world.model.nmesh > 3  # the meshes were found and read
    chain = KinematicChain.from_urdf(robot.urdf, ee_link=ee_link)
    rng = np.random.default_rng(1)
    for _ in range(5):
        q = chain.random(rng)
        world.set_configuration(dict(zip(chain.joint_names, q.tolist(), strict=True)))
        assert np.allclose(world.T_base_ee(), chain.forward(q), atol=1e-6)
        assert np.allclose(
            world.tip_position_base(), transform(chain.forward(q), tool.keypoints_ee(tool.T_ee_tool)[-1])
        )
    before = world.joint_state().position
    world.set_command(dict(zip(world.joint_names, before.tolist(), strict=True)) if name != "panda" else {})
    world.step(50)
    assert np.isfinite(world.joint_state().position).all()


def write_mesh(path: Path, mesh: trimesh.Trimesh) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mesh.export(path)


def test_meshes_are_found_by_package_relative_and_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = tmp_path / "share" / "arm_description" / "meshes" / "link.stl"
    write_mesh(mesh, trimesh.creation.box())
    urdf_folder = mesh.parents[1] / "urdf"
    urdf_folder.mkdir()
    assert find_mesh("package://arm_description/meshes/link.stl", urdf_folder) == mesh
    assert find_mesh("../meshes/link.stl", urdf_folder).resolve() == mesh  # type: ignore[union-attr]
    assert find_mesh(f"file://{mesh}", None) == mesh
    assert find_mesh("package://arm_description/meshes/link.stl", None) is None
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    assert find_mesh("package://arm_description/meshes/link.stl", None) == mesh


def test_dense_meshes_are_thinned_without_changing_their_size(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(subdivisions=5, radius=0.08)
    assert len(ball.faces) > MESH_FACES
    write_mesh(tmp_path / "ball.stl", ball)
    urdf = """<robot name="r"><link name="a"><visual><geometry><mesh filename="ball.stl"/></geometry></visual></link>
    </robot>"""
    model = robot_spec(Robot("r", urdf, "a", tmp_path)).compile()
    assert 500 < model.nmeshface < len(ball.faces)
    assert np.allclose(2.0 * np.abs(model.mesh_vert).max(), 0.16, atol=0.005)
