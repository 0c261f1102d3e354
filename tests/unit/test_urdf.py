"""URDF text: loading, refusing what is malformed, extending and taking the extension back."""

import io
import xml.etree.ElementTree as ET
from pathlib import Path

import mujoco
import numpy as np
import pinocchio as pin
import pytest
import yourdfpy
from hypothesis import given, settings
from hypothesis import strategies as st

from ideomotor.body.chain import KinematicChain
from ideomotor.body.extension import BodyExtension, ExtensionError, JointType, VirtualJoint
from ideomotor.body.urdf import UrdfError, description_sha256, extend_urdf, load_urdf, retract_urdf, validate_urdf
from ideomotor.errors import IdeomotorError

URDF = Path(__file__).parents[2] / "urdf"
IIWA = load_urdf(URDF / "iiwa7.urdf.xacro")
TWO_LINKS = """<?xml version="1.0" encoding="UTF-8"?>
<robot name="two">
  <link name="a"/>
  <link name="b"/>
  <joint name="ab" type="revolute">
    <parent link="a"/>
    <child link="b"/>
    <axis xyz="0 0 1"/>
    <limit lower="-1" upper="1" effort="1" velocity="1"/>
  </joint>
</robot>
"""


def joint(name: str, parent: str, child: str, kind: JointType = JointType.FIXED, **fields: object) -> VirtualJoint:
    moving = {} if kind is JointType.FIXED else {"axis": [0.0, 0.6, 0.8], "lower": -0.5, "upper": np.float64(0.5)}
    defaults = {"xyz": [0.01, -0.02, 0.1], "rpy": [0.1, 0.2, 0.3], "covariance": np.eye(6) * 1e-6}
    return VirtualJoint(name, parent, child, kind, **{**defaults, **moving, **fields})


# A hinged stick whose far part also slides, with a side branch: every kind of virtual joint at once.
TOOL = BodyExtension(
    ee_link="gripper_tcp",
    joints=(
        joint("kp_0_joint", "gripper_tcp", "kp_0"),
        joint("kp_1_joint", "kp_0", "kp_1", JointType.REVOLUTE),
        joint("kp_2_joint", "kp_1", "kp_2", xyz=[0, 0, -0.07], rpy=[0, 0, 0]),
        joint("kp_3_joint", "kp_2", "kp_3", JointType.PRISMATIC),
        joint("side_joint", "gripper_tcp", "side", JointType.PRISMATIC, xyz=[0, 0, 0]),
    ),
    tip_link="kp_3",
    keypoint_links=("kp_0", "kp_1", "kp_2", "kp_3"),
)
EXTENDED = extend_urdf(IIWA, TOOL)


# --- loading


def test_load_takes_text_path_and_xacro(tmp_path: Path) -> None:
    plain = tmp_path / "robot.urdf"
    text = TWO_LINKS.replace('<link name="a"/>', '<link name="a"><!-- package://somewhere/mesh.stl ü --></link>')
    plain.write_text(text, encoding="utf-8")
    assert load_urdf(text) == load_urdf(plain) == load_urdf(str(plain)) == text


def test_load_passes_xacro_arguments() -> None:
    assert '<link name="world"/>' not in IIWA
    assert '<link name="world"/>' in load_urdf(URDF / "iiwa7.urdf.xacro", {"world": "true"})


def test_load_names_the_missing_file() -> None:
    with pytest.raises(UrdfError, match=r"nowhere/robot\.urdf: no such file .*expected a path"):
        load_urdf("nowhere/robot.urdf")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('<link name="${wings}"/>', r"bad\.urdf\.xacro: xacro: .*wings"),
        ("<xacro:fly/>", r"bad\.urdf\.xacro: xacro: .*fly"),
        ('<xacro:include filename="gone.xacro"/>', r"bad\.urdf\.xacro: xacro: .*gone\.xacro"),
        ("<xacro:if value='${1 +}'><link name='a'/></xacro:if>", r"bad\.urdf\.xacro: xacro: "),
        ("<link name='$(arg unset)'/>", r"bad\.urdf\.xacro: xacro: .*unset"),
        ("<link>", r"bad\.urdf\.xacro: xacro: .*line 2"),
        ("", "no <link>"),
    ],
)
def test_load_says_what_xacro_refuses(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.urdf.xacro"
    path.write_text(f'<robot name="r" xmlns:xacro="http://www.ros.org/wiki/xacro">\n{content}</robot>')
    with pytest.raises(UrdfError, match=message):
        load_urdf(path)
    assert load_urdf(URDF / "iiwa7.urdf.xacro") == IIWA  # a failed expansion leaves nothing behind


def test_sha256_is_of_the_utf8_text() -> None:
    assert description_sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert description_sha256(IIWA) != description_sha256(EXTENDED)


# --- malformed descriptions


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</robot>", "", "line 12, column 0: no element found"),
        ('<link name="b"/>', '<link name="b">', r"line 11, column \d+: mismatched tag"),
        (TWO_LINKS, "", "line 1, column 0: no element found"),
        (TWO_LINKS, "hello", "line 1, column 0: syntax error"),
        (TWO_LINKS, "<sdf/>", "root element is <sdf>, expected <robot>"),
        (TWO_LINKS, "<robot name='r'/>", "no <link>, expected at least one"),
        ('<link name="b"/>', "<link/>", "a <link> has no name"),
        ('<link name="b"/>', '<link name="b"/><link name="b"/>', r"link names \['b'\] occur more than once"),
        ('<child link="b"/>', '<child link="c"/>', r"joint 'ab': child 'c' is not among \['a', 'b'\]"),
        ('<child link="b"/>', "", "joint 'ab': child '' is not among"),
        ('<parent link="a"/>', '<parent link="x"/>', "joint 'ab': parent 'x' is not among"),
        ('type="revolute"', 'type="hinge"', r"joint 'ab': type='hinge', expected one of \['revolute'"),
        ('type="revolute"', "", "joint 'ab': type=None"),
        ('xyz="0 0 1"', 'xyz="0 0"', "joint 'ab': <axis xyz='0 0'>, expected 3 finite numbers"),
        ('xyz="0 0 1"', 'xyz="0 0 nan"', "expected 3 finite numbers"),
        ('xyz="0 0 1"', 'xyz="0 0 up"', "expected 3 finite numbers"),
        ('xyz="0 0 1"', 'xyz="0 0 0"', "joint 'ab': axis is zero"),
        ("<axis", '<origin rpy="0 0 inf"/><axis', "<origin rpy='0 0 inf'>, expected 3 finite"),
        ('lower="-1"', 'lower="2"', r"joint 'ab': lower=2\.0 is above upper=1\.0"),
        ('lower="-1"', 'lower="low"', "<limit lower='low'>, expected 1 finite"),
        ('<limit lower="-1" upper="1" effort="1" velocity="1"/>', "", r"joint 'ab': no <limit effort>"),
        ('effort="1" ', "", "joint 'ab': no <limit effort>"),
        ("<axis", "<dynamics/><axis", "joint 'ab': <dynamics> with neither damping nor friction"),
        ("<axis", "<dynamics damping='x'/><axis", "<dynamics damping='x'>, expected 1 finite"),
        ('name="two"', "", "<robot> has no name"),
        ('<link name="b"/>', '<link name="b"><inertial/></link>', "link 'b': no <inertial/mass value>"),
        (
            '<link name="b"/>',
            '<link name="b"><inertial><mass value="NaN"/></inertial></link>',
            "link 'b': <inertial/mass value='NaN'>, expected 1 finite",
        ),
        ('<link name="b"/>', '<link name="b"><visual/></link>', "link 'b': <visual> without <geometry>"),
        (
            '<link name="b"/>',
            '<link name="b"><collision><geometry><box size="1 2"/></geometry></collision></link>',
            "<geometry/box size='1 2'>, expected 3",
        ),
        ('<link name="b"/>', '<link name="b"/><link name="c"/>', r"root links \['a', 'c'\], expected one"),
        (
            "</joint>",
            '</joint><joint name="ba" type="fixed"><parent link="b"/><child link="a"/></joint>',
            r"joints of \['a', 'b'\] form a loop",
        ),
        (
            "</joint>",
            '</joint><joint name="ba" type="fixed"><parent link="a"/><child link="b"/></joint>',
            "link 'b' is the child of more than one joint",
        ),
    ],
)
def test_malformed_urdf_is_named(old: str, new: str, message: str) -> None:
    validate_urdf(TWO_LINKS)
    assert old in TWO_LINKS
    with pytest.raises(UrdfError, match=message):
        validate_urdf(TWO_LINKS.replace(old, new, 1))


@settings(max_examples=60)
@given(st.integers(0, len(IIWA)), st.integers(0, 60))
def test_damaged_text_is_refused_or_still_loads(start: int, length: int) -> None:
    """Whatever a cut leaves over, the answer is a named error or a chain."""
    try:
        chain = KinematicChain.from_urdf(IIWA[:start] + IIWA[start + length :], ee_link="iiwa_link_7")
    except IdeomotorError:
        return
    assert np.isfinite(chain.forward(chain.mid)).all()


# --- extension


def test_extended_is_valid_for_pinocchio_urdfdom_mujoco_and_yourdfpy(capfd: pytest.CaptureFixture[str]) -> None:
    """Every parser finds the same links and the same joints, in the same types."""
    links = {link.get("name") for link in ET.fromstring(IIWA).findall("link")} | {
        "kp_0",
        "kp_1",
        "kp_2",
        "kp_3",
        "side",
    }
    moving = [f"iiwa_joint_{i}" for i in range(1, 8)] + ["kp_1_joint", "kp_3_joint", "side_joint"]
    model = pin.buildModelFromXML(EXTENDED)  # urdfdom parses, pinocchio builds
    assert sorted(list(model.names)[1:]) == sorted(moving)
    assert {f.name for f in model.frames if f.type == pin.FrameType.BODY} == links
    other = yourdfpy.URDF.load(io.BytesIO(EXTENDED.encode()))
    assert sorted(other.actuated_joint_names) == sorted(moving)
    assert set(other.link_map) == links
    assert other.validate()
    in_mujoco = mujoco.MjModel.from_xml_string(EXTENDED)
    assert sorted(in_mujoco.joint(i).name for i in range(in_mujoco.njnt)) == sorted(moving)
    types = {name: int(in_mujoco.joint(name).type[0]) for name in moving[-3:]}
    hinge, slide = int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)
    assert types == {"kp_1_joint": hinge, "kp_3_joint": slide, "side_joint": slide}
    assert capfd.readouterr().err == ""  # no parser warns


def test_the_added_mass_is_a_gram_per_moving_link() -> None:
    """MuJoCo needs it to move at all; the arm must not feel it."""
    added = [pin.computeTotalMass(pin.buildModelFromXML(text)) for text in (EXTENDED, IIWA)]
    assert added[0] - added[1] == pytest.approx(3e-3)


def test_virtual_links_have_visuals_along_the_body_but_no_collision() -> None:
    """Each rod runs between two joint origins that are rigid to its link, whatever the joint positions."""
    robot = ET.fromstring(EXTENDED)
    links = {link.get("name"): link for link in robot.findall("link")}
    viewer = yourdfpy.URDF.load(io.BytesIO(EXTENDED.encode()))
    moved = {"kp_1_joint": 0.4, "kp_3_joint": 0.3}
    viewer.update_cfg(dict.fromkeys(viewer.actuated_joint_names, 0.1) | moved)

    def ends(link: str) -> list[np.ndarray]:
        found = []
        for visual in links[link].findall("visual"):
            cylinder = visual.find("geometry/cylinder")
            if cylinder is None:
                continue
            xyz, rpy = (np.array(visual.find("origin").get(key).split(), dtype=float) for key in ("xyz", "rpy"))
            half = pin.rpy.rpyToMatrix(rpy) @ [0, 0, float(cylinder.get("length")) / 2]
            T = viewer.get_transform(link, "gripper_tcp")
            found += [T[:3, :3] @ (xyz + s * half) + T[:3, 3] for s in (-1, 1)]
        return found

    def origin(frame: str) -> np.ndarray:
        return viewer.get_transform(frame, "gripper_tcp")[:3, 3]

    assert all(links[joint.child_link].find("collision") is None for joint in TOOL.joints)
    assert all(links[joint.child_link].find("visual/geometry/sphere") is not None for joint in TOOL.joints)
    slide = viewer.get_transform("kp_2", "gripper_tcp") @ np.append(TOOL.joints[3].xyz, 1.0)  # where the rod slides
    expected = {
        "kp_0": [origin("gripper_tcp"), origin("kp_0"), origin("kp_0"), origin("kp_1")],
        "kp_1": [],
        "kp_2": [origin("kp_1"), origin("kp_2"), origin("kp_2"), slide[:3]],
    }
    for link, points in expected.items():
        have = sorted(np.round(ends(link), 9).tolist())
        np.testing.assert_allclose(have, sorted(np.round(points, 9).tolist()), atol=1e-8)


names = st.text("abkλ0_<&\"' ", min_size=1, max_size=6)
tails = st.sampled_from(["", "\n", "\n\n", "\n<!-- </robot> -->\n", "  <!-- ende ü -->"])
endings = st.sampled_from(["</robot>", "\n</robot>", "\r\n\t</robot >", "<!-- ü --> </robot\n>"])


@settings(max_examples=60)
@given(st.lists(names, min_size=2, max_size=8, unique=True), tails, endings, st.randoms())
def test_retract_is_the_exact_inverse_of_extend(links: list[str], tail: str, ending: str, random: object) -> None:
    """Whatever the names and however the text ends, retracting gives the same characters back."""
    urdf = TWO_LINKS.rstrip().removesuffix("</robot>").rstrip() + ending + tail
    joints, parents = [], ["b"]
    for i, name in enumerate(links):
        kind = random.choice(list(JointType))
        joints.append(joint(f"{name}/joint", random.choice(parents), f"{name}/link{i}", kind))
        parents.append(f"{name}/link{i}")
    extension = BodyExtension("b", tuple(joints), parents[-1], ())
    extended = extend_urdf(urdf, extension)
    validate_urdf(extended)
    assert extended != urdf
    assert retract_urdf(extended, extension) == urdf


def test_retract_also_finds_an_extension_with_other_values_in_reformatted_text() -> None:
    """Names identify it: not the estimate, not the layout."""
    fresh = BodyExtension(
        "gripper_tcp", tuple(joint(j.name, j.parent_link, j.child_link) for j in TOOL.joints), "kp_3", ()
    )
    assert retract_urdf(EXTENDED, fresh) == IIWA
    reformatted = ET.tostring(ET.fromstring(EXTENDED), encoding="unicode")
    back = ET.fromstring(retract_urdf(reformatted, TOOL))
    assert ET.canonicalize(ET.tostring(back), strip_text=True) == ET.canonicalize(IIWA, strip_text=True)


def test_retract_of_one_extension_keeps_the_other() -> None:
    second = BodyExtension("kp_3", (joint("more_joint", "kp_3", "more"),), "more", ("more",))
    assert retract_urdf(extend_urdf(EXTENDED, second), second) == EXTENDED


def test_ros2_control_joints_of_the_same_name_stay() -> None:
    """Only children of <robot> are the extension's; ros2_control may name a joint too."""
    extension = BodyExtension("b", (joint("v", "b", "v_link"),), "v_link", ())
    control = '<ros2_control name="c"><joint name="v"/></ros2_control>'
    before = TWO_LINKS.replace('<robot name="two">', f'<robot name="two">{control}')
    assert retract_urdf(extend_urdf(before, extension), extension) == before
    after = extend_urdf(TWO_LINKS, extension).replace("</robot>", f"{control}</robot>")
    assert retract_urdf(after, extension) == TWO_LINKS.replace("</robot>", f"{control}</robot>")


@pytest.mark.parametrize(
    ("extension", "message"),
    [
        (BodyExtension("hand", (joint("j", "hand", "l"),), "l", ()), "ee_link='hand' is not among the links"),
        (BodyExtension("b", (joint("j", "b", "a"),), "a", ()), r"names \['a'\] of the extension are already in use"),
        (BodyExtension("b", (joint("ab", "b", "l"),), "l", ()), r"names \['ab'\] of the extension are already in use"),
        (BodyExtension("b", (joint("j", "b", "l"), joint("j", "l", "m")), "m", ()), "already in use"),
    ],
)
def test_extension_that_does_not_fit(extension: BodyExtension, message: str) -> None:
    with pytest.raises(ExtensionError, match=message):
        extend_urdf(TWO_LINKS, extension)


def test_retract_of_what_is_not_there() -> None:
    with pytest.raises(ExtensionError, match=r"has no \[.*\('joint', 'kp_0_joint'\).*\('link', 'kp_0'\)"):
        retract_urdf(IIWA, TOOL)


def test_extend_and_retract_of_malformed_text() -> None:
    for function in (extend_urdf, retract_urdf):
        with pytest.raises(UrdfError, match="expected XML"):
            function(IIWA[:-20], TOOL)


@pytest.mark.parametrize(("lower", "upper"), [(1.0, 0.0), (-np.inf, 0.0), (0.0, np.inf), (np.nan, 1.0)])
def test_virtual_limits_must_be_finite_and_in_order(lower: float, upper: float) -> None:
    with pytest.raises(ExtensionError, match="expected finite, in order"):
        joint("j", "b", "l", JointType.REVOLUTE, lower=lower, upper=upper)
