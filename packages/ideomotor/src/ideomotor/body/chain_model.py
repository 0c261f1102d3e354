"""The pinocchio model under a kinematic chain: made from a URDF, with everything else locked, and extended.

Free functions of `ideomotor.body.chain`.
"""

import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pinocchio as pin

from ideomotor.body.extension import JointType, VirtualJoint
from ideomotor.body.urdf import UrdfError
from ideomotor.errors import IdeomotorError

_MOVABLE = ("revolute", "continuous", "prismatic")


class ChainError(IdeomotorError):
    """A chain that cannot be built, or joint positions that do not fit it."""


def full_model(urdf: str) -> pin.Model:
    """Return the model of all joints; meshes are not read.

    Raises:
        UrdfError: urdfdom refuses the text.
    """
    try:
        return pin.buildModelFromXML(urdf)
    except (ValueError, RuntimeError) as error:  # urdfdom has said on stderr what it does not like
        raise UrdfError(f"URDF: urdfdom refuses it: {error}") from error


def name_of(joint: ET.Element) -> str:
    """Return the name of a URDF joint."""
    return joint.get("name", "")


def joints_between(robot: ET.Element, base_link: str, ee_link: str) -> list[ET.Element]:
    """Return the URDF's joints from base to end effector, in this order.

    Raises:
        ChainError: a link does not exist, the base is not above the end effector, or a joint has several freedoms.
    """
    links = [link.get("name", "") for link in robot.findall("link")]
    for field_name, link in (("base_link", base_link), ("ee_link", ee_link)):
        if link not in links:
            raise ChainError(f"{field_name}={link!r} is not among the links {links}")
    above = {joint.find("child").get("link"): joint for joint in robot.findall("joint")}  # type: ignore[union-attr]
    path: list[ET.Element] = []
    link = ee_link
    while link != base_link:
        if link not in above:
            chain = [ee_link, *(j.find("parent").get("link") for j in path)]  # type: ignore[union-attr]
            raise ChainError(f"base_link={base_link!r} is not above ee_link={ee_link!r}; above it are {chain[1:]}")
        path.append(above[link])
        link = above[link].find("parent").get("link", "")  # type: ignore[union-attr]
    for joint in path:
        if joint.get("type") not in ("fixed", *_MOVABLE):
            raise ChainError(f"joint {name_of(joint)!r} is {joint.get('type')}; a chain has {_MOVABLE} or fixed joints")
    return path[::-1]


def mimic_coupling(robot: ET.Element, path: Sequence[ET.Element]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return (C, o, names) with position of the path's joints = C @ q + o, q by names.

    Raises:
        ChainError: a joint mimics one that does not exist, or itself.
    """
    joints = {name_of(j): j for j in robot.findall("joint")}
    columns: list[str] = []
    rows: list[tuple[str, float, float]] = []  # source, multiplier, offset
    for joint in path:
        source, multiplier, offset = name_of(joint), 1.0, 0.0
        seen = {source}
        while (mimic := joints[source].find("mimic")) is not None:
            scale = float(mimic.get("multiplier", 1.0))
            offset, multiplier = offset + multiplier * float(mimic.get("offset", 0.0)), multiplier * scale
            source = mimic.get("joint", "")
            if source not in joints:
                raise ChainError(f"joint {name_of(joint)!r} mimics {source!r}, which is not among {list(joints)}")
            if source in seen:
                raise ChainError(f"joint {name_of(joint)!r} mimics itself through {sorted(seen)}")
            seen.add(source)
        rows.append((source, multiplier, offset))
        if source not in columns:
            columns.append(source)
    coupling = np.zeros((len(rows), len(columns)))
    for i, (source, multiplier, _) in enumerate(rows):
        coupling[i, columns.index(source)] = multiplier
    return coupling, np.array([offset for _, _, offset in rows]), columns


def without_others(full: pin.Model, keep: Sequence[str], locked: Mapping[str, float]) -> pin.Model:
    """Return the model with only the joints ``keep``; the others are locked, at 0 unless told otherwise.

    Raises:
        ChainError: a locked joint is unknown or kept, or its position is not finite.
    """
    check_members(locked, [name for name in full.names[1:] if name not in keep], "locked")
    reference = pin.neutral(full)
    for name, position in locked.items():
        if not np.isfinite(position):
            raise ChainError(f"locked joint {name!r} at {position}, expected a finite position")
        joint = full.joints[full.getJointId(name)]
        reference[joint.idx_q : joint.idx_q + joint.nq] = (
            [position] if joint.nq == 1 else [np.cos(position), np.sin(position)]
        )
    others = [i for i in range(1, full.njoints) if full.names[i] not in keep]
    return pin.buildReducedModel(full, others, reference)


def check_members(names: Collection[str], allowed: Sequence[str], what: str) -> None:
    """Raise ChainError if a name is not among those allowed."""
    unknown = sorted(set(names) - set(allowed))
    if unknown:
        raise ChainError(f"{what} names joints {unknown} that are not among {list(allowed)}")


def joint_limits(full: pin.Model, name: str) -> tuple[float, float, float, float]:
    """Return (lower, upper, velocity, effort) of one joint."""
    joint = full.joints[full.getJointId(name)]
    q, v = joint.idx_q, joint.idx_v
    speed_and_effort = float(full.velocityLimit[v]), float(full.effortLimit[v])
    if joint.nq == 2:
        return -np.inf, np.inf, *speed_and_effort
    return float(full.lowerPositionLimit[q]), float(full.upperPositionLimit[q]), *speed_and_effort


def add_virtual_joint(model: pin.Model, joint: VirtualJoint, parent_frame: int) -> int:
    """Add the joint and its child link to the model; return the child's frame id."""
    parent = model.frames[parent_frame]
    placement = parent.placement * pin.SE3(pin.rpy.rpyToMatrix(joint.rpy), joint.xyz)
    joint_id, T_joint_child = parent.parentJoint, placement
    if joint.type is not JointType.FIXED:
        kind = pin.JointModelRevoluteUnaligned if joint.type is JointType.REVOLUTE else pin.JointModelPrismaticUnaligned
        nobody = np.zeros(1)  # no motor: neither effort nor a velocity that could be commanded
        limits = nobody, nobody, np.array([joint.lower]), np.array([joint.upper])
        joint_id = model.addJoint(parent.parentJoint, kind(joint.axis), placement, joint.name, *limits)
        parent_frame = model.addJointFrame(joint_id, parent_frame)  # algorithms look it up by the joint's name
        T_joint_child = pin.SE3.Identity()
    frame = pin.Frame(joint.child_link, joint_id, parent_frame, T_joint_child, pin.FrameType.BODY)
    return int(model.addFrame(frame))
