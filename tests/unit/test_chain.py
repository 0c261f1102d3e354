"""Kinematic chain against independent implementations: yourdfpy, MuJoCo, finite differences, its own URDF path."""

import importlib.metadata
import io
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import FrozenInstanceError
from pathlib import Path

import mujoco
import numpy as np
import pytest
import yourdfpy

from ideomotor.body.chain import ChainError, KinematicChain
from ideomotor.body.urdf import UrdfError, load_urdf

URDF = Path(__file__).parents[2] / "urdf"
IIWA = load_urdf(URDF / "iiwa7.urdf.xacro")
SOLO = load_urdf(URDF / "solo12.urdf.xacro")

ROBOTS = {  # name: (file in example-robot-data or text, base link, end effector, number of joints)
    "iiwa7": (IIWA, None, "gripper_tcp", 7),
    "iiwa7 wrist": (IIWA, "iiwa_link_4", "gripper_tcp", 3),
    "solo12 front left": (SOLO, None, "FL_FOOT", 3),
    "solo12 hind right": (SOLO, "base_link", "HR_FOOT", 3),
    "panda": ("panda_description/urdf/panda.urdf", None, "panda_leftfinger", 8),  # prismatic last
    "panda mimic": ("panda_description/urdf/panda.urdf", "panda_link0", "panda_rightfinger", 8),
    "ur5": ("ur_description/urdf/ur5_robot.urdf", None, "tool0", 6),
    "ur10": ("ur_description/urdf/ur10_robot.urdf", "base_link", "ee_link", 6),
    "kinova": ("kinova_description/robots/kinova.urdf", None, "j2s6s200_end_effector", 6),  # continuous
    "talos arm": ("talos_data/robots/talos_reduced.urdf", None, "gripper_left_base_link", 9),
    "talos arm from torso": ("talos_data/robots/talos_reduced.urdf", "torso_2_link", "arm_left_7_link", 7),
    "xarm7": ("xarm_description/urdf/xarm7.urdf", None, "link7", 7),
}

FOURBAR = """<robot name="gear">
  <link name="root"/><link name="a"/><link name="b"/><link name="tip"/>
  <joint name="gear_a" type="continuous"><origin xyz="0 0 0.1" rpy="0.1 0 0"/><axis xyz="0 1 0"/>
    <parent link="root"/><child link="a"/></joint>
  <joint name="gear_b" type="revolute"><origin xyz="0.2 0 0"/><axis xyz="0 0 1"/>
    <parent link="a"/><child link="b"/><limit lower="-9" upper="9" effort="1" velocity="1"/>
    <mimic joint="gear_a" multiplier="-2" offset="0.3"/></joint>
  <joint name="slide" type="prismatic"><origin xyz="0 0.1 0" rpy="0 0.4 0"/><axis xyz="0.6 0.8 0"/>
    <parent link="b"/><child link="tip"/><limit lower="0" upper="1" effort="1" velocity="1"/></joint>
</robot>"""


def urdf_text(source: str) -> str:
    if source.lstrip().startswith("<"):
        return source
    files = importlib.metadata.files("example-robot-data")
    assert files is not None
    (path,) = [f for f in files if str(f).endswith("example-robot-data/robots/" + source)]
    return Path(str(path.locate())).read_text()


def without_shapes(urdf: str) -> str:
    """The same kinematics for MuJoCo, which wants meshes and masses: no shapes, every link a body of its own."""
    robot = ET.fromstring(urdf)
    for link in robot.findall("link"):
        for child in list(link):
            link.remove(child)
        inertial = ET.SubElement(link, "inertial")
        ET.SubElement(inertial, "mass", value="1")
        ET.SubElement(inertial, "inertia", ixx="1", ixy="0", ixz="0", iyy="1", iyz="0", izz="1")
    for joint in robot.findall("joint"):
        for limit in joint.findall("limit"):  # limits are compared elsewhere; MuJoCo has its own idea of effort 0
            joint.remove(limit)
        if joint.get("type") in ("revolute", "prismatic"):
            ET.SubElement(joint, "limit", lower="-10", upper="10", effort="1", velocity="1")
    for extra in ("transmission", "ros2_control", "mujoco", "gazebo"):
        for element in robot.findall(extra):
            robot.remove(element)
    ET.SubElement(ET.SubElement(robot, "mujoco"), "compiler", fusestatic="false")
    return ET.tostring(robot, encoding="unicode")


@pytest.fixture(params=ROBOTS, ids=lambda name: name.replace(" ", "_"))
def robot(request: pytest.FixtureRequest) -> tuple[str, KinematicChain]:
    source, base, ee, n = ROBOTS[request.param]
    urdf = urdf_text(source)
    chain = KinematicChain.from_urdf(urdf, ee_link=ee, base_link=base)
    assert chain.n == n
    return urdf, chain


def test_forward_agrees_with_yourdfpy(robot: tuple[str, KinematicChain]) -> None:
    """Forward kinematics by an implementation that shares no code with pinocchio."""
    urdf, chain = robot
    other = yourdfpy.URDF.load(io.BytesIO(urdf.encode()), load_meshes=False, build_collision_scene_graph=False)
    rng = np.random.default_rng(0)
    for _ in range(5):
        q = chain.random(rng)
        other.update_cfg(dict.fromkeys(other.actuated_joint_names, 0.0) | dict(zip(chain.joint_names, q, strict=True)))
        expected = other.get_transform(chain.ee_link, chain.base_link)
        np.testing.assert_allclose(chain.forward(q), expected, atol=1e-9)


def test_forward_agrees_with_mujoco(robot: tuple[str, KinematicChain]) -> None:
    """Forward kinematics in the simulator's own engine, joints bound by name."""
    urdf, chain = robot
    model = mujoco.MjModel.from_xml_string(without_shapes(urdf))
    data = mujoco.MjData(model)
    mimics = {j.get("name"): j.find("mimic") for j in ET.fromstring(urdf).findall("joint")}
    rng = np.random.default_rng(1)

    def pose(link: str) -> np.ndarray:
        T = np.eye(4)
        if model.body(0).name != link and link in {model.body(i).name for i in range(model.nbody)}:
            T[:3, :3], T[:3, 3] = data.body(link).xmat.reshape(3, 3), data.body(link).xpos
        return T  # the root link is MuJoCo's world

    for _ in range(5):
        q = chain.random(rng)
        position = dict(zip(chain.joint_names, q, strict=True))
        data.qpos[:] = 0.0
        for i in range(model.njnt):
            mimic = mimics[model.joint(i).name]
            source = model.joint(i).name if mimic is None else mimic.get("joint")
            scale = 1.0 if mimic is None else float(mimic.get("multiplier", "1"))
            data.qpos[model.jnt_qposadr[i]] = scale * position.get(source, 0.0)
        mujoco.mj_forward(model, data)
        expected = np.linalg.inv(pose(chain.base_link)) @ pose(chain.ee_link)
        np.testing.assert_allclose(chain.forward(q), expected, atol=1e-8)


def test_jacobian_agrees_with_finite_differences(robot: tuple[str, KinematicChain]) -> None:
    """Columns are the link's linear and angular velocity along the base axes, per unit joint velocity."""
    _, chain = robot
    q, h = chain.random(np.random.default_rng(2)), 1e-6
    R = chain.forward(q)[:3, :3]
    for i, J_i in enumerate(chain.jacobian(q).T):
        step = np.eye(chain.n)[i] * h
        above, below = chain.forward(q + step), chain.forward(q - step)
        omega = (above - below)[:3, :3] / (2 * h) @ R.T  # skew matrix of the angular velocity
        linear = (above - below)[:3, 3] / (2 * h)
        np.testing.assert_allclose(J_i, [*linear, omega[2, 1], omega[0, 2], omega[1, 0]], atol=1e-7)


def test_batch_is_forward_of_each(robot: tuple[str, KinematicChain]) -> None:
    _, chain = robot
    rng = np.random.default_rng(3)
    q = np.array([chain.random(rng) for _ in range(9)])
    np.testing.assert_array_equal(chain.forward_batch(q[:0]), np.empty((0, 4, 4)))
    np.testing.assert_allclose(chain.forward_batch(q), [chain.forward(row) for row in q], atol=1e-14)


def test_iiwa_against_hand_computation() -> None:
    """Stretched upwards the arm is 0.34 + 0.40 + 0.40 + 0.126 m to the flange, 0.125 m more to the tcp."""
    chain = KinematicChain.from_urdf(IIWA, ee_link="gripper_tcp")
    T = chain.forward(np.zeros(7))
    np.testing.assert_allclose(T[:3, 3], [0, 0, 0.34 + 0.40 + 0.40 + 0.126 + 0.125], atol=1e-12)
    np.testing.assert_allclose(T[:3, :3], np.eye(3), atol=1e-12)
    bent = chain.forward(np.array([0, np.pi / 2, 0, 0, 0, 0, 0]), "iiwa_link_ee")
    np.testing.assert_allclose(bent[:3, 3], [0.926, 0, 0.34], atol=1e-12)  # forward is +x for positive joint 2
    turned = chain.forward(np.array([np.pi / 2, np.pi / 2, 0, 0, 0, 0, 0]), "iiwa_link_ee")
    np.testing.assert_allclose(turned[:3, 3], [0, 0.926, 0.34], atol=1e-12)


def test_mimic_and_continuous_joints_are_one_angle_each() -> None:
    """b turns by -2 a + 0.3; the source stands for both, unbounded; yourdfpy agrees."""
    chain = KinematicChain.from_urdf(FOURBAR, ee_link="tip")
    assert chain.joint_names == ("gear_a", "slide")
    np.testing.assert_array_equal(chain.lower, [-np.inf, 0])
    np.testing.assert_array_equal(chain.mid, [0, 0.5])
    other = yourdfpy.URDF.load(io.BytesIO(FOURBAR.encode()))
    q = np.array([5.0, 0.7])
    other.update_cfg(dict(zip(chain.joint_names, q, strict=True)))
    np.testing.assert_allclose(chain.forward(q), other.get_transform("tip", "root"), atol=1e-12)
    h = 1e-6
    numeric = [(chain.forward(q + h * e) - chain.forward(q - h * e))[:3, 3] / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(chain.jacobian(q)[:3].T, numeric, atol=1e-8)


def test_mimic_of_a_joint_outside_the_chain_is_driven_by_it() -> None:
    """The panda's right finger follows the left one, which is not between base and right finger."""
    panda = urdf_text("panda_description/urdf/panda.urdf")
    chain = KinematicChain.from_urdf(panda, ee_link="panda_rightfinger")
    assert chain.joint_names[-1] == "panda_finger_joint1"
    hand, q = "panda_hand", chain.mid
    opened = q + 0.01 * np.eye(8)[7]
    T_hand_finger = [np.linalg.inv(chain.forward(x, hand)) @ chain.forward(x) for x in (q, opened)]
    np.testing.assert_allclose((T_hand_finger[1] - T_hand_finger[0])[:3, 3], [0, -0.01, 0], atol=1e-12)


def test_locked_joints_move_the_chain() -> None:
    """Joints outside the chain are where they are said to be."""
    q, wrist = np.array([0.1, 0.2, 0.3]), {"iiwa_joint_2": 0.5, "iiwa_joint_1": -1.0}
    whole = KinematicChain.from_urdf(IIWA, ee_link="gripper_tcp")
    part = KinematicChain.from_urdf(IIWA, ee_link="gripper_tcp", base_link="iiwa_link_4", locked=wrist)
    full_q = np.array([-1.0, 0.5, 0, 0, *q])
    np.testing.assert_allclose(
        part.forward(q, "base_link"), np.linalg.inv(whole.forward(full_q, "iiwa_link_4")), atol=1e-12
    )


def test_continuous_joint_is_locked_at_an_angle() -> None:
    kinova = urdf_text("kinova_description/robots/kinova.urdf")
    whole = KinematicChain.from_urdf(kinova, ee_link="j2s6s200_link_2")
    locked = KinematicChain.from_urdf(
        kinova, ee_link="j2s6s200_link_2", base_link="j2s6s200_link_1", locked={"j2s6s200_joint_1": 0.7}
    )
    expected = np.linalg.inv(whole.forward(np.array([0.7, 1.0]), "j2s6s200_link_1"))
    np.testing.assert_allclose(locked.forward(np.array([1.0]), "base"), expected, atol=1e-12)


def test_limits_are_the_urdfs(robot: tuple[str, KinematicChain]) -> None:
    urdf, chain = robot
    joints = {j.get("name"): j for j in ET.fromstring(urdf).findall("joint")}
    for i, name in enumerate(chain.joint_names):
        limit = joints[name].find("limit")
        assert chain.velocity_limit[i] == pytest.approx(float(limit.get("velocity")))
        assert chain.effort_limit[i] == pytest.approx(float(limit.get("effort")))
        if joints[name].get("type") != "continuous":
            assert (chain.lower[i], chain.upper[i]) == (float(limit.get("lower")), float(limit.get("upper")))


def test_random_neutral_and_mid_are_inside_the_limits(robot: tuple[str, KinematicChain]) -> None:
    _, chain = robot
    rng = np.random.default_rng(4)
    low = np.where(np.isfinite(chain.lower), chain.lower, -np.pi)
    high = np.where(np.isfinite(chain.upper), chain.upper, np.pi)
    for q in (chain.neutral, chain.mid, *(chain.random(rng, margin=0.2) for _ in range(20))):
        assert (q >= low).all()
        assert (q <= high).all()
    np.testing.assert_allclose(chain.random(rng, margin=0.5), chain.mid, atol=1e-12)
    spread = np.array([chain.random(rng, margin=0.1) for _ in range(200)])
    assert (spread.min(0) >= low + 0.1 * (high - low)).all()
    np.testing.assert_array_equal(
        chain.random(np.random.default_rng(9)), chain.random(np.random.default_rng(9))
    )  # the seed decides


def test_chain_is_immutable() -> None:
    chain = KinematicChain.from_urdf(IIWA, ee_link="gripper_tcp")
    with pytest.raises(FrozenInstanceError):
        chain.ee_link = "iiwa_link_0"
    with pytest.raises(ValueError, match="read-only"):
        chain.lower[0] = 0.0


def test_loading_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither urdfdom nor pinocchio talks, also where the URDF is bad."""
    KinematicChain.from_urdf(IIWA, ee_link="gripper_tcp")
    with pytest.raises(UrdfError):
        KinematicChain.from_urdf(IIWA.replace("<child", "<shild", 1), ee_link="gripper_tcp")
    out, err = capfd.readouterr()
    assert out + err == ""


def test_no_need_of_xacro_or_ros() -> None:
    code = (
        "import sys; sys.modules.update(rclpy=None, xacro=None, torch=None, mujoco=None); import ideomotor.body.chain"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ee_link": "hand"}, r"ee_link='hand' is not among the links \['base_link', 'iiwa_link_0'"),
        ({"ee_link": "gripper_tcp", "base_link": "b"}, "base_link='b' is not among the links"),
        (
            {"ee_link": "gripper_tcp", "base_link": "gripper_left_finger"},
            r"'gripper_left_finger' is not above ee_link='gripper_tcp'; above it are \['gripper_palm'",
        ),
        ({"ee_link": "gripper_tcp", "locked": {"nose": 1.0}}, r"locked names joints \['nose'\] that are not among"),
        ({"ee_link": "iiwa_link_3", "locked": {"iiwa_joint_5": np.nan}}, "locked joint 'iiwa_joint_5' at nan"),
        ({"ee_link": "gripper_tcp", "passive": ["nose"]}, r"passive names joints \['nose'\]"),
    ],
)
def test_bad_chain_names_what_exists(arguments: dict, message: str) -> None:
    with pytest.raises(ChainError, match=message):
        KinematicChain.from_urdf(IIWA, **arguments)


def test_floating_joint_in_the_chain_is_refused() -> None:
    floating = FOURBAR.replace('type="continuous"', 'type="floating"')
    with pytest.raises(ChainError, match="joint 'gear_a' is floating"):
        KinematicChain.from_urdf(floating, ee_link="a")


def test_mimic_of_nothing_is_refused() -> None:
    """Only in the chain: published robots have such joints elsewhere."""
    dangling = FOURBAR.replace('<mimic joint="gear_a"', '<mimic joint="gear_z"')
    with pytest.raises(ChainError, match=r"joint 'gear_b' mimics 'gear_z', which is not among \['gear_a', 'gear_b'"):
        KinematicChain.from_urdf(dangling, ee_link="tip")
    assert KinematicChain.from_urdf(dangling, ee_link="a").joint_names == ("gear_a",)


def test_mimic_loop_is_refused() -> None:
    loop = FOURBAR.replace('<parent link="root"/>', '<parent link="root"/><mimic joint="gear_b"/>')
    with pytest.raises(ChainError, match="mimics itself"):
        KinematicChain.from_urdf(loop, ee_link="tip")


@pytest.mark.parametrize(
    ("q", "message"),
    [
        ([0.0] * 6, r"q has shape \(6,\), expected \(7,\) for the joints \['iiwa_joint_1'"),
        ([], r"shape \(0,\)"),
        (0.0, r"shape \(\)"),
        ([[0.0] * 7], r"shape \(1, 7\)"),
        ([0, 0, np.nan, 0, 0, np.inf, 0], r"q is not finite at \['iiwa_joint_3', 'iiwa_joint_6'\]"),
    ],
)
def test_bad_positions(q: object, message: str) -> None:
    chain = KinematicChain.from_urdf(IIWA, ee_link="gripper_tcp")
    for function in (chain.forward, chain.jacobian, chain.configuration):
        with pytest.raises(ChainError, match=message):
            function(np.array(q))


def test_bad_batch_and_link() -> None:
    chain = KinematicChain.from_urdf(IIWA, ee_link="gripper_tcp")
    with pytest.raises(ChainError, match="not finite at"):
        chain.forward_batch(np.full((3, 7), np.nan))
    for q in (np.zeros(7), np.zeros((2, 6)), np.zeros(()), np.zeros((2, 3, 7))):
        with pytest.raises(ChainError, match="q has shape"):
            chain.forward_batch(q)
    for function, q in ((chain.forward, np.zeros(7)), (chain.jacobian, np.zeros(7)), (chain.forward_batch, [])):
        with pytest.raises(ChainError, match="link 'elbow' is not among"):
            function(q, "elbow")


def test_from_names_binds_by_name_and_refuses_gaps() -> None:
    chain = KinematicChain.from_urdf(IIWA, ee_link="gripper_tcp")
    positions = {f"iiwa_joint_{i}": 0.1 * i for i in (7, 3, 1, 5, 2, 4, 6)} | {"other": 9.0}
    np.testing.assert_allclose(chain.from_names(positions), 0.1 * np.arange(1, 8))
    with pytest.raises(ChainError, match=r"no position for joints \['iiwa_joint_3'\]; there are \['iiwa_joint_1'"):
        chain.from_names({name: x for name, x in positions.items() if name != "iiwa_joint_3"})
    with pytest.raises(ChainError, match=r"not finite at \['iiwa_joint_4'\]"):
        chain.from_names(positions | {"iiwa_joint_4": float("nan")})


@pytest.mark.parametrize("margin", [-0.1, 0.6, float("nan")])
def test_bad_margin(margin: float) -> None:
    with pytest.raises(ChainError, match="margin="):
        KinematicChain.from_urdf(IIWA, ee_link="gripper_tcp").random(np.random.default_rng(0), margin)
