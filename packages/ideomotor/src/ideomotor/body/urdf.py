"""URDF as text: loading, checking, hashing, and adding or removing virtual joints.

Text stays text: what this module does not add, it does not change, so that taking an extension back
gives the very description that was there before.
"""

import hashlib
import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

import numpy as np
import pinocchio as pin

from ideomotor.body.extension import BodyExtension, ExtensionError, JointType, VirtualJoint
from ideomotor.errors import IdeomotorError

_VISUAL_RADIUS = 0.004  # of the rods that stand for virtual links [m]
# MuJoCo refuses a moving body without mass; a gram does not disturb the robot's dynamics.
_MOVING_INERTIAL = """<inertial>
      <mass value="1e-3"/>
      <inertia ixx="1e-6" ixy="0" ixz="0" iyy="1e-6" iyz="0" izz="1e-6"/>
    </inertial>"""
_JOINT_TYPES = ("revolute", "continuous", "prismatic", "fixed", "floating", "planar")
_JOINT_NUMBERS = (
    *(("limit", attribute) for attribute in ("lower", "upper", "velocity", "effort")),
    *(("mimic", attribute) for attribute in ("multiplier", "offset")),
    *(("dynamics", attribute) for attribute in ("damping", "friction")),
)
_SHAPES = {"box": (("size",), 3), "cylinder": (("radius", "length"), 1), "sphere": (("radius",), 1)}


class UrdfError(IdeomotorError):
    """A robot description that is missing, malformed or not a tree of links."""


def load_urdf(source: str | Path, mappings: Mapping[str, str] | None = None) -> str:
    """Return URDF text from a path (``.xacro`` is expanded) or from text; ``package://`` is left alone.

    Args:
        source: path of a ``.urdf`` or ``.xacro`` file, or URDF text.
        mappings: xacro arguments.

    Raises:
        UrdfError: there is no such file, xacro refuses it, or it is not a valid URDF.
    """
    if isinstance(source, str) and source.lstrip().startswith("<"):
        text = source
    else:
        path = Path(source)
        if not path.is_file():
            raise UrdfError(f"{path}: no such file (expected a path of a .urdf or .xacro file, or URDF text)")
        text = _expand(path, mappings or {}) if path.suffix == ".xacro" else path.read_text(encoding="utf-8")
    validate_urdf(text)
    return text


def _expand(path: Path, mappings: Mapping[str, str]) -> str:
    import xacro  # here: a robot that gets its description from /robot_description needs no xacro

    try:
        # Not process_file: it writes the path into the text, and the text's hash names the description.
        xacro.init_stacks(str(path))
        document = xacro.parse(None, str(path))
        xacro.process_doc(document, mappings=dict(mappings))
    except (xacro.XacroException, expat.ExpatError) as error:
        raise UrdfError(f"{path}: xacro: {error}") from error
    return str(document.toprettyxml(indent="  "))


def description_sha256(urdf: str) -> str:
    """Return the SHA-256 of the description's UTF-8 text, hexadecimal."""
    return hashlib.sha256(urdf.encode("utf-8")).hexdigest()


def parse_urdf(urdf: str) -> ET.Element:
    """Return the ``<robot>`` element of a checked description.

    Raises:
        UrdfError: as `validate_urdf`.
    """
    try:
        robot = ET.fromstring(urdf)
    except ET.ParseError as error:
        line, column = error.position
        raise UrdfError(f"URDF line {line}, column {column}: {error}; expected XML") from error
    if robot.tag != "robot":
        raise UrdfError(f"URDF: the root element is <{robot.tag}>, expected <robot>")
    if not robot.get("name"):
        raise UrdfError("URDF: <robot> has no name")
    _check_names(robot)
    for link in robot.findall("link"):
        _check_link(link)
    for joint in robot.findall("joint"):
        _check_joint(joint)
    _check_tree(robot)
    return robot


def validate_urdf(urdf: str) -> None:
    """Check that the text is XML and one tree of uniquely named links and well-formed joints.

    Raises:
        UrdfError: naming the line, link or joint, what is there and what was expected.
    """
    parse_urdf(urdf)


def root_link(robot: ET.Element) -> str:
    """Return the link that is no joint's child."""
    children = {_link_of(joint, "child") for joint in robot.findall("joint")}
    return next(name for name in _names(robot, "link") if name not in children)


def _names(robot: ET.Element, tag: str) -> list[str]:
    return [element.get("name", "") for element in robot.findall(tag)]


def _link_of(joint: ET.Element, role: str) -> str:
    element = joint.find(role)
    return "" if element is None else element.get("link", "")


def _check_names(robot: ET.Element) -> None:
    for tag in ("link", "joint"):
        counts = Counter(_names(robot, tag))
        if "" in counts:
            raise UrdfError(f"URDF: a <{tag}> has no name")
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise UrdfError(f"URDF: {tag} names {twice} occur more than once")
    if not robot.findall("link"):
        raise UrdfError("URDF: no <link>, expected at least one")


def _numbers(element: ET.Element, path: str, attribute: str, count: int) -> tuple[float, ...] | None:
    """Return the numbers of an attribute of a descendant of a link or joint, None where it is absent."""
    found = element.find(path)
    text = None if found is None else found.get(attribute)
    if text is None:
        return None
    try:
        numbers = tuple(float(word) for word in text.split())
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        owner = f"{element.tag} {element.get('name')!r}"
        raise UrdfError(f"{owner}: <{path} {attribute}={text!r}>, expected {count} finite numbers")
    return numbers


def _required(element: ET.Element, path: str, attributes: Iterable[str], count: int = 1) -> None:
    for attribute in attributes:
        if _numbers(element, path, attribute, count) is None:
            raise UrdfError(f"{element.tag} {element.get('name')!r}: no <{path} {attribute}>")


def _check_link(link: ET.Element) -> None:
    if link.find("inertial") is not None:
        _required(link, "inertial/mass", ["value"])
        _required(link, "inertial/inertia", ["ixx", "ixy", "ixz", "iyy", "iyz", "izz"])
    for part in ("inertial", "visual", "collision"):
        for element in link.findall(part):
            for attribute in ("xyz", "rpy"):
                _numbers(element, "origin", attribute, 3)
    for element in (*link.findall("visual"), *link.findall("collision")):
        shape = element.find("geometry/*")
        if shape is None:
            raise UrdfError(f"link {link.get('name')!r}: <{element.tag}> without <geometry>")
        attributes, count = _SHAPES.get(shape.tag, ((), 0))
        _required(element, f"geometry/{shape.tag}", attributes, count)


def _check_joint(joint: ET.Element) -> None:
    name, kind = joint.get("name"), joint.get("type")
    if kind not in _JOINT_TYPES:
        raise UrdfError(f"joint {name!r}: type={kind!r}, expected one of {list(_JOINT_TYPES)}")
    for path, attribute in (("origin", "xyz"), ("origin", "rpy"), ("axis", "xyz")):
        numbers = _numbers(joint, path, attribute, 3)
        if path == "axis" and kind != "fixed" and numbers is not None and not any(numbers):
            raise UrdfError(f"joint {name!r}: axis is zero, expected a direction")
    for path, attribute in _JOINT_NUMBERS:
        _numbers(joint, path, attribute, 1)
    dynamics = joint.find("dynamics")
    if dynamics is not None and not {"damping", "friction"}.intersection(dynamics.keys()):
        raise UrdfError(f"joint {name!r}: <dynamics> with neither damping nor friction")
    if kind in ("revolute", "prismatic") or (kind == "continuous" and joint.find("limit") is not None):
        _required(joint, "limit", ["effort", "velocity"])
    if kind in ("revolute", "prismatic"):
        (lower,) = _numbers(joint, "limit", "lower", 1) or (0.0,)
        (upper,) = _numbers(joint, "limit", "upper", 1) or (0.0,)
        if lower > upper:
            raise UrdfError(f"joint {name!r}: lower={lower} is above upper={upper}")


def _check_tree(robot: ET.Element) -> None:
    links = _names(robot, "link")
    parent_of: dict[str, str] = {}
    for joint in robot.findall("joint"):
        for role in ("parent", "child"):
            if _link_of(joint, role) not in links:
                raise UrdfError(f"joint {joint.get('name')!r}: {role} {_link_of(joint, role)!r} is not among {links}")
        child = _link_of(joint, "child")
        if child in parent_of:
            raise UrdfError(f"link {child!r} is the child of more than one joint")
        parent_of[child] = _link_of(joint, "parent")
    roots = [link for link in links if link not in parent_of]
    if len(roots) > 1:
        raise UrdfError(f"URDF: root links {roots}, expected one (which joint is missing?)")
    if not roots or len(links) - 1 != len(parent_of) or not _all_reachable(links, parent_of):
        raise UrdfError(f"URDF: the joints of {sorted(parent_of)} form a loop, expected a tree")


def _all_reachable(links: Iterable[str], parent_of: Mapping[str, str]) -> bool:
    for start in links:
        seen, link = {start}, start
        while link in parent_of:
            link = parent_of[link]
            if link in seen:
                return False
            seen.add(link)
    return True


def extend_urdf(urdf: str, extension: BodyExtension) -> str:
    """Return the description with the virtual links and joints of ``extension`` appended.

    Virtual links have rods and balls as visuals, so that RViz draws the longer body, and no collision.
    A movable virtual joint has effort and velocity limits 0: no motor drives it.

    Raises:
        UrdfError: the description is malformed.
        ExtensionError: ``ee_link`` does not exist, or a name of the extension is already in use.
    """
    robot = parse_urdf(urdf)
    links = _names(robot, "link")
    if extension.ee_link not in links:
        raise ExtensionError(f"ee_link={extension.ee_link!r} is not among the links {links}")
    new_links, new_joints = _extension_names(extension)
    taken = sorted({*new_links} & {*links}) + sorted({*new_joints} & {*_names(robot, "joint")})
    if taken or len(set(new_joints)) < len(new_joints):
        raise ExtensionError(f"names {taken or new_joints} of the extension are already in use")
    end = _robot_end(urdf)
    body = urdf[:end].rstrip()
    elements = [text for joint in extension.joints for text in (_link_xml(joint, extension), _joint_xml(joint))]
    return body + "".join(f"\n  {element}" for element in elements) + urdf[len(body) :]


def retract_urdf(urdf: str, extension: BodyExtension) -> str:
    """Return the description without the links and joints of ``extension``: the inverse of `extend_urdf`.

    Raises:
        UrdfError: the description is malformed.
        ExtensionError: it does not contain the extension.
    """
    parse_urdf(urdf)
    links, joints = _extension_names(extension)
    wanted = {("link", name) for name in links} | {("joint", name) for name in joints}
    data = urdf.encode("utf-8")
    spans = {key: span for key, span in _element_spans(data).items() if key in wanted}
    if len(spans) < len(wanted):
        raise ExtensionError(f"the description has no {sorted(wanted - spans.keys())}: it is not extended by this")
    for start, end in sorted(spans.values(), reverse=True):
        data = data[:start].rstrip() + data[end:]
    return data.decode("utf-8")


def _extension_names(extension: BodyExtension) -> tuple[list[str], list[str]]:
    return [joint.child_link for joint in extension.joints], [joint.name for joint in extension.joints]


def _robot_end(urdf: str) -> int:
    """Return the index of ``</robot>``; comments may follow it."""
    data = urdf.encode("utf-8")
    _, end = _element_spans(data)["robot", ""]
    return len(data[: data.rindex(b"</robot", 0, end)].decode("utf-8"))


def _element_spans(data: bytes) -> dict[tuple[str, str], tuple[int, int]]:
    """Return the byte range of every child of <robot> by (tag, name), and of <robot> as ("robot", "")."""
    spans: dict[tuple[str, str], tuple[int, int]] = {}
    open_elements: list[tuple[str, str, int]] = []
    parser = expat.ParserCreate("utf-8")

    def start(tag: str, attributes: dict[str, str]) -> None:
        name = attributes.get("name", "") if open_elements else ""
        open_elements.append((tag, name, parser.CurrentByteIndex))

    def end(_: str) -> None:
        tag, name, begin = open_elements.pop()
        if len(open_elements) < 2:
            # At the end tag the index is that of "</"; of an empty element, that of its "<".
            spans[tag, name] = (begin, data.index(b">", parser.CurrentByteIndex) + 1)

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(data, True)
    return spans


def _words(numbers: Iterable[float]) -> str:
    """Numbers in full precision, so that the text means exactly the estimate."""
    return " ".join(repr(float(number)) for number in numbers)


def _joint_xml(joint: VirtualJoint) -> str:
    lines = [
        f"<joint name={quoteattr(joint.name)} type={quoteattr(joint.type.value)}>",
        f'  <origin xyz="{_words(joint.xyz)}" rpy="{_words(joint.rpy)}"/>',
        f"  <parent link={quoteattr(joint.parent_link)}/>",
        f"  <child link={quoteattr(joint.child_link)}/>",
    ]
    if joint.axis is not None:
        lines.append(f'  <axis xyz="{_words(joint.axis)}"/>')
        lower, upper = _words([joint.lower]), _words([joint.upper])
        lines.append(f'  <limit lower="{lower}" upper="{upper}" effort="0" velocity="0"/>')
    return "\n  ".join([*lines, "</joint>"])


def _link_xml(joint: VirtualJoint, extension: BodyExtension) -> str:
    """The child link: a ball at its origin, rods to what is rigid to it.

    A rod lies in the link that it moves with: towards the parent for a fixed joint, and from here to the
    origin of each movable child joint.
    """
    rods = [-pin.rpy.rpyToMatrix(joint.rpy).T @ joint.xyz] if joint.type is JointType.FIXED else []
    rods += [
        child.xyz
        for child in extension.joints
        if child.parent_link == joint.child_link and child.type is not JointType.FIXED
    ]
    parts = [_visual_xml("0 0 0", "0 0 0", f'<sphere radius="{1.5 * _VISUAL_RADIUS}"/>')]
    parts += [_rod_xml(end) for end in rods if np.linalg.norm(end) > 0]
    if joint.type is not JointType.FIXED:
        parts.insert(0, _MOVING_INERTIAL)
    return f"<link name={quoteattr(joint.child_link)}>\n    " + "\n    ".join(parts) + "\n  </link>"


def _rod_xml(end: np.ndarray) -> str:
    """A cylinder from the link's origin to ``end``, shape (3,) [m]."""
    x, y, z = end
    length = float(np.linalg.norm(end))
    pitch, yaw = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)  # Rz(yaw) Ry(pitch) turns z into end
    return _visual_xml(
        _words(end / 2), _words([0.0, pitch, yaw]), f'<cylinder radius="{_VISUAL_RADIUS}" length="{length!r}"/>'
    )


def _visual_xml(xyz: str, rpy: str, shape: str) -> str:
    lines = [
        "<visual>",
        f'  <origin xyz="{xyz}" rpy="{rpy}"/>',
        f"  <geometry>{shape}</geometry>",
        '  <material name="virtual_link"><color rgba="0.1 0.7 0.9 0.8"/></material>',
    ]
    return "\n    ".join([*lines, "</visual>"])
