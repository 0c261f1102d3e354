"""What a robot looks like: the coloured shapes of a URDF's links, for viewers."""

import io
import logging
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pinocchio as pin
import trimesh
import yourdfpy

from ideomotor.body.urdf import parse_urdf
from ideomotor.errors import IdeomotorError

logger = logging.getLogger(__name__)

DEFAULT_COLOUR = (0.72, 0.74, 0.78, 1.0)  # of a visual without a material, RGBA


class RobotVisualError(IdeomotorError):
    """A description that cannot be drawn."""


@dataclass(frozen=True)
class Shape:
    """One visual of a link."""

    link: str
    T_link_shape: np.ndarray  # (4, 4)
    mesh: trimesh.Trimesh  # vertices in the shape's frame [m]
    colour: tuple[float, float, float, float]  # RGBA in [0, 1]


def shapes_of(urdf: str, resolve: Callable[[str], Path | None]) -> tuple[Shape, ...]:
    """Return the visuals of all links.

    A mesh that cannot be found or read is left out with one warning: a viewer without meshes still helps.

    Args:
        urdf: the description.
        resolve: gives the file of a mesh's URI (`mesh_resolver`), or None.

    Raises:
        IdeomotorError: if the description is not a URDF.
    """
    parse_urdf(urdf)
    try:
        robot = yourdfpy.URDF.load(
            io.BytesIO(urdf.encode()), build_scene_graph=False, load_meshes=False, build_collision_scene_graph=False
        ).robot
    except (yourdfpy.urdf.URDFError, ValueError, TypeError, AttributeError) as error:
        raise RobotVisualError(f"the description cannot be read as URDF: {error}") from error
    if robot is None:
        raise RobotVisualError("the description has no <robot> element")
    materials = {material.name: material for material in robot.materials or []}
    shapes = []
    for link in robot.links:
        for visual in link.visuals:
            mesh = _mesh(visual.geometry, resolve)
            if mesh is not None:
                origin = np.eye(4) if visual.origin is None else np.asarray(visual.origin)
                shapes.append(Shape(link.name, origin, mesh, _colour(visual.material, materials)))
    return tuple(shapes)


def mesh_resolver(package_dirs: Sequence[Path], relative_to: Path | None = None) -> Callable[[str], Path | None]:
    """Return a function from a mesh URI to an existing file, or None.

    Args:
        package_dirs: folders that contain packages by name (``share`` folders).
        relative_to: folder for URIs that are relative paths.
    """

    def resolve(uri: str) -> Path | None:
        if uri.startswith("package://"):
            candidates = [folder / uri.removeprefix("package://") for folder in package_dirs]
        else:
            path = Path(uri.removeprefix("file://"))
            candidates = [path] if path.is_absolute() else [(relative_to or Path.cwd()) / path]
        return next((path for path in candidates if path.is_file()), None)

    return resolve


def ament_shares() -> tuple[Path, ...]:
    """Return the ``share`` folders of the ROS 2 packages in this environment, where meshes may lie."""
    return tuple(Path(prefix) / "share" for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if prefix)


def _mesh(geometry: yourdfpy.urdf.Geometry, resolve: Callable[[str], Path | None]) -> trimesh.Trimesh | None:
    mesh: trimesh.Trimesh | None = None
    if geometry.box is not None:
        mesh = trimesh.creation.box(extents=geometry.box.size)
    elif geometry.cylinder is not None:
        mesh = trimesh.creation.cylinder(geometry.cylinder.radius, geometry.cylinder.length, sections=32)
    elif geometry.sphere is not None:
        mesh = trimesh.creation.icosphere(subdivisions=3, radius=geometry.sphere.radius)
    elif geometry.mesh is not None:
        mesh = _load(geometry.mesh, resolve)
    return mesh


def _load(mesh: yourdfpy.urdf.Mesh, resolve: Callable[[str], Path | None]) -> trimesh.Trimesh | None:
    path = resolve(mesh.filename)
    if path is None:
        logger.warning("mesh %s not found; the link is drawn without it", mesh.filename)
        return None
    try:
        loaded: trimesh.Trimesh = trimesh.load_mesh(path)
    except (OSError, ValueError, ImportError, AttributeError) as error:
        logger.warning("mesh %s cannot be read (%s); the link is drawn without it", path, error)
        return None
    if mesh.scale is not None:
        loaded.vertices = np.asarray(loaded.vertices) * np.asarray(mesh.scale, dtype=float)
    return loaded


def _colour(
    material: yourdfpy.urdf.Material | None, materials: Mapping[str, yourdfpy.urdf.Material]
) -> tuple[float, float, float, float]:
    if material is not None and material.color is None:
        material = materials.get(material.name)
    if material is None or material.color is None:
        return DEFAULT_COLOUR
    r, g, b, a = (float(c) for c in material.color.rgba)
    return (r, g, b, a)


class LinkTree:
    """Where all links of a robot are; `ideomotor.body.chain` looks at one chain only.

    Joints with several degrees of freedom (floating, planar) stay at zero: joint states do not carry them.

    Raises:
        IdeomotorError: if the description cannot be loaded.
    """

    def __init__(self, urdf: str) -> None:
        robot = parse_urdf(urdf)
        try:
            self._model = pin.buildModelFromXML(urdf)
        except (ValueError, RuntimeError) as error:
            raise RobotVisualError(f"the description cannot be loaded: {error}") from error
        self._data = self._model.createData()
        self._mimic = {
            joint.get("name", ""): _source(mimic)
            for joint in robot.findall("joint")
            if (mimic := joint.find("mimic")) is not None
        }
        names = list(zip(self._model.names, self._model.joints, strict=True))[1:]  # the first is the universe
        self._joints = {name: joint for name, joint in names if joint.nv == 1}
        self.joint_names = tuple(name for name in self._joints if name not in self._mimic)
        self._frame = {f.name: i for i, f in enumerate(self._model.frames) if f.type == pin.FrameType.BODY}
        self.links = tuple(self._frame)

    def limits(self, joint: str) -> tuple[float, float]:
        """Return the lower and upper limit of a joint [rad] or [m]; one turn for a continuous joint."""
        model = self._joints[joint]
        if model.nq == 2:
            return -np.pi, np.pi
        lower, upper = (a[model.idx_q] for a in (self._model.lowerPositionLimit, self._model.upperPositionLimit))
        return float(lower), float(upper)

    def link_poses(self, positions: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Return the pose of every link in the root link, shape (4, 4), at the positions of `joint_names`."""
        q = pin.neutral(self._model)
        for name, joint in self._joints.items():
            source, multiplier, offset = self._mimic.get(name, (name, 1.0, 0.0))
            x = multiplier * positions[source] + offset
            q[joint.idx_q : joint.idx_q + joint.nq] = [x] if joint.nq == 1 else [np.cos(x), np.sin(x)]
        pin.framesForwardKinematics(self._model, self._data, q)
        return {link: self._data.oMf[i].homogeneous for link, i in self._frame.items()}

    def has(self, links: Iterable[str]) -> bool:
        """Whether all links exist."""
        return all(link in self._frame for link in links)

    def path_to(self, link: str) -> tuple[str, ...]:
        """Return the links from the root to ``link``."""
        path, i = [link], self._frame[link]
        while i != 0:
            i = self._model.frames[i].parentFrame
            if self._model.frames[i].type == pin.FrameType.BODY:
                path.append(self._model.frames[i].name)
        return tuple(reversed(path))


def _source(mimic: ET.Element) -> tuple[str, float, float]:
    """Return (joint, multiplier, offset)."""
    return mimic.get("joint", ""), float(mimic.get("multiplier", 1.0)), float(mimic.get("offset", 0.0))
