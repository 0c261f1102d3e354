"""The reference robots in urdf/: published constants, and one robot whichever program reads the description."""

import importlib.metadata
import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import mujoco
import numpy as np
import pinocchio as pin
import pytest
import yourdfpy

from ideomotor.body.chain import KinematicChain
from ideomotor.body.urdf import description_sha256, load_urdf

URDF = Path(__file__).parents[2] / "urdf"
ROBOTS = {name: load_urdf(URDF / f"{name}.urdf.xacro") for name in ("iiwa7", "solo12")}


@pytest.fixture(params=ROBOTS)
def urdf(request: pytest.FixtureRequest) -> str:
    return ROBOTS[request.param]


def example_solo12() -> str:
    files = importlib.metadata.files("example-robot-data")
    assert files is not None
    (path,) = [f for f in files if str(f).endswith("solo_description/robots/solo12.urdf")]
    return Path(str(path.locate())).read_text()


def test_iiwa7_constants() -> None:
    """Limits and velocities of KUKA's data sheet, masses of the published description."""
    chain = KinematicChain.from_urdf(ROBOTS["iiwa7"], ee_link="gripper_tcp")
    assert chain.base_link == "base_link"
    assert chain.joint_names == tuple(f"iiwa_joint_{i}" for i in range(1, 8))
    limits = np.radians([170, 120, 170, 120, 170, 120, 175])
    np.testing.assert_allclose(chain.upper, limits)
    np.testing.assert_allclose(chain.lower, -limits)
    np.testing.assert_allclose(chain.velocity_limit, np.radians([98, 98, 100, 130, 140, 180, 180]))
    np.testing.assert_allclose(chain.effort_limit, [176, 176, 110, 110, 110, 40, 40])
    model = pin.buildModelFromXML(ROBOTS["iiwa7"])
    np.testing.assert_allclose([inertia.mass for inertia in model.inertias][1:-1], [4, 4, 3, 2.7, 1.7, 1.8])
    assert model.inertias[7].mass == pytest.approx(0.3 + 0.6 + 2 * 0.05)  # link 7 carries the gripper


def test_iiwa7_axes_are_kukas() -> None:
    """Screw axes in the base at zero, as published for the LBR iiwa 7 (D-H: 0.34, 0.40, 0.40, 0.126 m)."""
    J = KinematicChain.from_urdf(ROBOTS["iiwa7"], ee_link="iiwa_link_ee").jacobian(np.zeros(7))
    z, y = [0, 0, 1], [0, 1, 0]
    np.testing.assert_allclose(J[3:].T, [z, y, z, np.negative(y), z, y, z], atol=1e-12)
    height_above_axis = [0, 0.926, 0, 0.526, 0, 0.126, 0]
    np.testing.assert_allclose(np.abs(J[0]), height_above_axis, atol=1e-12)


def test_solo12_is_the_published_robot() -> None:
    """Joint order, placements, axes and inertias equal those of example-robot-data; only shapes and limits differ."""
    ours, published = (pin.buildModelFromXML(text) for text in (ROBOTS["solo12"], example_solo12()))
    assert list(ours.names) == list(published.names)
    assert {f.name for f in ours.frames} == {f.name for f in published.frames}
    for i in range(ours.njoints):
        assert ours.joints[i].shortname() == published.joints[i].shortname()
        assert ours.jointPlacements[i].isApprox(published.jointPlacements[i])
        np.testing.assert_allclose(ours.inertias[i].matrix(), published.inertias[i].matrix(), atol=1e-10)


def test_solo12_limits_are_those_of_its_driver() -> None:
    for leg in ("FL", "FR", "HL", "HR"):
        chain = KinematicChain.from_urdf(ROBOTS["solo12"], ee_link=f"{leg}_FOOT")
        assert chain.joint_names == (f"{leg}_HAA", f"{leg}_HFE", f"{leg}_KFE")
        np.testing.assert_allclose([-chain.lower, chain.upper], [[0.9, 1.45, 2.8]] * 2)
        np.testing.assert_allclose(chain.effort_limit, 0.025 * 9 * 8)
        np.testing.assert_allclose(chain.velocity_limit, 80)


def test_mujoco_sees_the_same_robot(urdf: str) -> None:
    """Joint order, limits, masses, and foot or gripper poses at random configurations."""
    model, simulated = pin.buildModelFromXML(urdf), mujoco.MjModel.from_xml_string(urdf)
    data, simulation = model.createData(), mujoco.MjData(simulated)
    names = [simulated.joint(i).name for i in range(simulated.njnt)]
    assert names == list(model.names)[1:]
    np.testing.assert_allclose(simulated.jnt_range, np.c_[model.lowerPositionLimit, model.upperPositionLimit])
    np.testing.assert_allclose(simulated.jnt_actfrcrange[:, 1], model.effortLimit)
    assert simulated.body_mass[1:].sum() == pytest.approx(sum(inertia.mass for inertia in model.inertias[1:]))
    rng = np.random.default_rng(0)
    for _ in range(5):
        simulation.qpos[:] = q = rng.uniform(model.lowerPositionLimit, model.upperPositionLimit)
        mujoco.mj_forward(simulated, simulation)
        pin.forwardKinematics(model, data, q)
        for i, name in enumerate(names, start=1):
            body = simulated.jnt_bodyid[simulated.joint(name).id]
            np.testing.assert_allclose(simulation.xpos[body], data.oMi[i].translation, atol=1e-9)
            np.testing.assert_allclose(simulation.xmat[body].reshape(3, 3), data.oMi[i].rotation, atol=1e-9)
        mass = np.zeros((simulated.nv, simulated.nv))
        mujoco.mj_fullM(simulated, simulation, mass)
        crba = pin.crba(model, data, q)
        np.testing.assert_allclose(mass, np.triu(crba) + np.triu(crba, 1).T, atol=1e-6)


def test_inertias_are_physical(urdf: str) -> None:
    """Positive mass, and principal moments that fulfil the triangle inequality."""
    for link in ET.fromstring(urdf).findall("link"):
        inertial = link.find("inertial")
        if inertial is None:
            continue
        xx, xy, xz, yy, yz, zz = (
            float(inertial.find("inertia").get(f"i{k}")) for k in ("xx", "xy", "xz", "yy", "yz", "zz")
        )
        moments = np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        assert float(inertial.find("mass").get("value")) > 0
        assert moments[0] > 0
        assert moments[0] + moments[1] >= moments[2]


def test_shapes_are_primitives_and_every_moving_link_has_some(urdf: str) -> None:
    robot = ET.fromstring(urdf)
    assert not robot.findall(".//mesh")
    links = {link.get("name"): link for link in robot.findall("link")}
    for joint in robot.findall("joint"):
        if joint.get("type") != "fixed":
            child = links[joint.find("child").get("link")]
            assert child.find("visual") is not None
            assert child.find("collision") is not None


def test_usual_poses_are_free_of_self_collision() -> None:
    """A controller that starts in one of these must not meet contact forces."""
    poses = {
        "iiwa7": [[0] * 7, [0, 0.5, 0, -1.4, 0, 1.0, 0], [0, 0.5, 0, -2, 0, 2, 0], [1, -0.6, 0.8, 1.5, -1, -1.5, 2]],
        "solo12": [[0] * 12, [0, 0.8, -1.6] * 4, [0, 0.8, -1.6] * 2 + [0, -0.8, 1.6] * 2],
    }
    for name, configurations in poses.items():
        model = mujoco.MjModel.from_xml_string(ROBOTS[name])
        data = mujoco.MjData(model)
        for q in configurations:
            data.qpos[:] = q
            mujoco.mj_forward(model, data)
            assert data.ncon == 0, (name, q)


def test_ros2_control_offers_every_joint_once(urdf: str) -> None:
    """ros2_control's joints are the robot's; commands and states; its limits are the URDF's."""
    robot = ET.fromstring(urdf)
    movable = {j.get("name"): j for j in robot.findall("joint") if j.get("type") != "fixed"}
    (system,) = robot.findall("ros2_control")
    assert [j.get("name") for j in system.findall("joint")] == list(movable)
    assert system.find("hardware/plugin").text == "mock_components/GenericSystem"
    for joint in system.findall("joint"):
        limit = movable[joint.get("name")].find("limit")
        assert [s.get("name") for s in joint.findall("state_interface")] == ["position", "velocity", "effort"]
        commands = {
            c.get("name"): [float(p.text) for p in c.findall("param")] for c in joint.findall("command_interface")
        }
        speed, effort = float(limit.get("velocity")), float(limit.get("effort"))
        position = [float(limit.get("lower")), float(limit.get("upper"))]
        assert commands == {"position": position, "velocity": [-speed, speed], "effort": [-effort, effort]}
    assert not robot.findall("transmission")


def test_gripper_tcp_lies_between_the_finger_tips() -> None:
    """z out of the gripper, y across the fingers, the given opening between them."""
    urdf = load_urdf(URDF / "iiwa7.urdf.xacro", {"finger_opening": "0.05"})
    robot = yourdfpy.URDF.load(io.BytesIO(urdf.encode()))
    left, right = (robot.get_transform(f"gripper_{side}_finger", "gripper_tcp")[:3, 3] for side in ("left", "right"))
    np.testing.assert_allclose((left + right) / 2, [0, 0, -0.065], atol=1e-12)  # finger roots; they are 0.08 m long
    np.testing.assert_allclose(left - right, [0, 0.05 + 0.012, 0], atol=1e-12)


def test_world_link_is_optional() -> None:
    fixed = KinematicChain.from_urdf(load_urdf(URDF / "iiwa7.urdf.xacro", {"world": "true"}), ee_link="gripper_tcp")
    assert fixed.base_link == "world"
    q = fixed.mid
    np.testing.assert_allclose(
        fixed.forward(q), KinematicChain.from_urdf(ROBOTS["iiwa7"], ee_link="gripper_tcp").forward(q)
    )


def test_expansion_is_the_same_everywhere(tmp_path: Path) -> None:
    """The text's hash names a description: neither process, folder nor earlier expansions may show in it."""
    code = (
        "import sys; from ideomotor.body.urdf import *;"
        "print(*[description_sha256(load_urdf(path)) for path in reversed(sys.argv[1:])])"
    )
    paths = [str(URDF / f"{name}.urdf.xacro") for name in ROBOTS]
    ran = subprocess.run([sys.executable, "-c", code, *paths], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [description_sha256(text) for text in reversed(ROBOTS.values())]
    assert not any(re.search(str(URDF.parent), text) for text in ROBOTS.values())
