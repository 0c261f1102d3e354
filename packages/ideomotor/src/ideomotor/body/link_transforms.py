"""Transforms from each link to the next, as robot_state_publisher sends them to tf."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ideomotor.body.urdf import UrdfError, parse_urdf


@dataclass(frozen=True)
class LinkTransform:
    """Pose of ``child`` in ``parent``."""

    parent: str
    child: str
    T_parent_child: np.ndarray  # (4, 4) [m]


@dataclass(frozen=True)
class _Joint:
    parent: str
    child: str
    source: str  # joint whose position moves this one: itself, or the one it mimics; empty for a fixed joint
    multiplier: float
    offset: float
    prismatic: bool
    T_parent_joint: np.ndarray  # (4, 4)
    axis: np.ndarray  # (3,)

    def at(self, position: float) -> LinkTransform:
        q = self.multiplier * position + self.offset
        M = np.eye(4)
        if self.prismatic:
            M[:3, 3] = self.axis * q
        else:
            M[:3, :3] = Rotation.from_rotvec(self.axis * q).as_matrix()
        return LinkTransform(self.parent, self.child, self.T_parent_joint @ M)


class LinkTransforms:
    """The joints of a robot description.

    Raises:
        UrdfError: the description is malformed.
    """

    def __init__(self, urdf: str) -> None:
        elements = {joint.get("name", ""): joint for joint in parse_urdf(urdf).findall("joint")}
        self._joints = [_joint(name, elements) for name in elements]

    @property
    def static(self) -> list[LinkTransform]:
        """Transforms of the fixed joints."""
        return [joint.at(0.0) for joint in self._joints if not joint.source]

    def moving(self, positions: Mapping[str, float]) -> list[LinkTransform]:
        """Return the transforms of the joints whose positions [rad] or [m] are given; other names are ignored."""
        return [joint.at(positions[joint.source]) for joint in self._joints if joint.source in positions]


def _joint(name: str, elements: Mapping[str, ET.Element]) -> _Joint:
    element = elements[name]
    kind = element.get("type", "")
    source, multiplier, offset = name if kind in ("revolute", "continuous", "prismatic") else "", 1.0, 0.0
    seen = {source}
    while source and (mimic := elements[source].find("mimic")) is not None:
        offset += multiplier * float(mimic.get("offset", 0.0))
        multiplier *= float(mimic.get("multiplier", 1.0))
        source = mimic.get("joint", "")
        if source not in elements or source in seen:
            raise UrdfError(f"joint {name!r} mimics {source!r}, which is unknown or mimics it")
        seen.add(source)
    axis = _vector(element.find("axis"), "xyz", "1 0 0")
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", _vector(element.find("origin"), "rpy")).as_matrix()
    T[:3, 3] = _vector(element.find("origin"), "xyz")
    return _Joint(
        parent=_link(element, "parent"),
        child=_link(element, "child"),
        source=source,
        multiplier=multiplier,
        offset=offset,
        prismatic=kind == "prismatic",
        T_parent_joint=T,
        axis=axis / np.linalg.norm(axis),
    )


def _link(joint: ET.Element, end: str) -> str:
    element = joint.find(end)
    return "" if element is None else element.get("link", "")


def _vector(element: ET.Element | None, attribute: str, default: str = "0 0 0") -> np.ndarray:
    return np.array((default if element is None else element.get(attribute, default)).split(), dtype=float)
