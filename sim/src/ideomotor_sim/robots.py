"""A robot's URDF as a MuJoCo specification: any mesh format, nothing but shapes, joints and inertias.

Links touch nothing, so one shape each is enough: the visual one, or the collision one where the visual mesh cannot be
read. A link whose shapes are all unreadable is invisible. Links that touch the ground keep their collision shapes too.
"""

import io
import logging
import os
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
import trimesh

from ideomotor_sim.camera import HIDDEN_GROUP
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.ground import GROUND_CONTACT

logger = logging.getLogger(__name__)

MESH_CELL = 0.004  # [m] vertices of dense meshes are merged on a grid of this size: off-screen rendering is on the CPU
MESH_FACES = 4000  # meshes up to this many faces are left as they are


@dataclass(frozen=True)
class Robot:
    """A robot ready to be put in a world."""

    name: str
    urdf: str  # plain URDF, xacro expanded
    ee_link: str
    folder: Path | None = None  # where relative and package:// meshes are looked for, with its parents


def root_name(robot: Robot) -> str:
    """Return the name of the link that is no joint's child.

    Raises:
        SimulationError: if the URDF is malformed.
    """
    root = _parse(robot)
    children = {child.get("link") for child in root.iterfind("joint/child")}
    return next(name for link in root.iterfind("link") if (name := link.get("name", "")) not in children)


def robot_spec(robot: Robot, contact_links: tuple[str, ...] = ()) -> mujoco.MjSpec:
    """Return the robot as a MuJoCo specification; its root link is fixed to MuJoCo's world body.

    Args:
        robot: the robot.
        contact_links: links that can touch the ground: their collision shapes are there too, out of sight.

    Raises:
        SimulationError: if the URDF is malformed or MuJoCo refuses it.
    """
    root = _parse(robot)
    links = [link.get("name") for link in root.iter("link")]
    if robot.ee_link not in links:
        raise SimulationError(f"robot {robot.name!r}: ee_link {robot.ee_link!r} is not among its links {links}")
    assets: dict[str, bytes] = {}
    for link in root.iter("link"):
        _keep_shapes(link, robot.folder, assets, solid=link.get("name") in contact_links)
    for unused in ("gazebo", "transmission", "ros2_control"):
        for element in root.findall(unused):
            root.remove(element)
    extension = ET.SubElement(root, "mujoco")
    ET.SubElement(
        extension, "compiler", discardvisual="false", fusestatic="false", strippath="false", balanceinertia="true"
    )
    try:
        spec = mujoco.MjSpec.from_string(ET.tostring(root, encoding="unicode"), assets=assets)
    except ValueError as error:
        raise SimulationError(f"robot {robot.name!r}: MuJoCo cannot read the URDF: {error}") from error
    for body in spec.bodies:
        _set_contacts(body, solid=body.name in contact_links)
    return spec


def _parse(robot: Robot) -> ET.Element:
    try:
        root = ET.fromstring(robot.urdf)
    except ET.ParseError as error:
        raise SimulationError(f"robot {robot.name!r}: the URDF is not well-formed XML: {error}") from error
    if root.tag != "robot":
        raise SimulationError(f"robot {robot.name!r}: root element <{root.tag}>, expected <robot>")
    return root


def _set_contacts(body: mujoco.MjsBody, *, solid: bool) -> None:
    """Let only the collision shapes of a solid link touch the ground; they are hidden behind visual ones."""
    collision = [geom for geom in body.geoms if geom.contype]  # MuJoCo reads visual ones with contype 0
    for geom in body.geoms:
        geom.contype, geom.conaffinity, geom.group = 0, 0, 0
    for geom in collision if solid else []:
        geom.contype, geom.group = GROUND_CONTACT, HIDDEN_GROUP if len(collision) < len(body.geoms) else 0


def _keep_shapes(link: ET.Element, folder: Path | None, assets: dict[str, bytes], *, solid: bool) -> None:
    """Leave the visual shapes, or the collision ones where a visual mesh is unreadable, or both for a solid link."""
    shapes = {kind: link.findall(kind) for kind in ("visual", "collision")}
    readable = (k for k, s in shapes.items() if s and all([_load_shape(shape, folder, assets) for shape in s]))
    kept = set(readable) if solid else {next(readable, None)}
    for kind, elements in shapes.items():
        for element in elements:
            if kind not in kept:
                link.remove(element)


def _load_shape(shape: ET.Element, folder: Path | None, assets: dict[str, bytes]) -> bool:
    """Read the mesh of a visual or collision element into ``assets``; False if it cannot be read."""
    for material in shape.findall("material"):
        shape.remove(material)  # colours are the scene's
    mesh = shape.find("geometry/mesh")
    if mesh is None:
        return shape.find("geometry") is not None
    filename = mesh.get("filename", "")
    key = filename.replace("://", "/").replace("/", "_").rsplit(".", 1)[0] + ".stl"
    if key not in assets:
        path = find_mesh(filename, folder)
        data = None if path is None else _read_mesh(path)
        if data is None:
            logger.warning("mesh %s cannot be read: using another shape for its link", filename)
            return False
        assets[key] = data
    mesh.set("filename", key)
    return True


def find_mesh(filename: str, folder: Path | None) -> Path | None:
    """Return the file a URDF names, or None: absolute, relative to ``folder``, ``file://`` or ``package://``.

    Packages are looked for in AMENT_PREFIX_PATH/share and among ``folder``'s parents.
    """
    if filename.startswith("file://"):
        filename = filename.removeprefix("file://")
    candidates = []
    parents = [] if folder is None else [folder, *folder.resolve().parents]
    if filename.startswith("package://"):
        package, _, rest = filename.removeprefix("package://").partition("/")
        prefixes = [Path(p) / "share" for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
        candidates = [base / package / rest for base in [*prefixes, *parents]]
    else:
        candidates = [base / filename for base in (parents[:1] or [Path()])]
    return next((path for path in candidates if path.is_file()), None)


def _read_mesh(path: Path) -> bytes | None:
    """Return the mesh as binary STL, thinned if it is dense; None if it has no readable triangles."""
    try:
        mesh = trimesh.load(path, force="mesh")
    except (ValueError, KeyError, IndexError, ImportError, OSError, ET.ParseError, NotImplementedError) as error:
        logger.warning("cannot read mesh %s: %s", path, error)
        return None
    if not isinstance(mesh, trimesh.Trimesh) or len(mesh.faces) == 0:
        return None
    if len(mesh.faces) > MESH_FACES:
        mesh = _thin(mesh)
    buffer = io.BytesIO()
    mesh.export(buffer, file_type="stl")
    return buffer.getvalue()


def _thin(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Merge the vertices that fall in one cell of a grid, and drop the triangles that vanish."""
    size = float(np.max(mesh.extents))
    cell = MESH_CELL * max(1.0, size) if size < 10.0 else size / 100.0  # meshes in mm come with a scale
    _, first, inverse = np.unique(np.round(mesh.vertices / cell), axis=0, return_index=True, return_inverse=True)
    faces = inverse.reshape(-1)[mesh.faces]  # (F, 3)
    distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
    return trimesh.Trimesh(mesh.vertices[first], np.unique(faces[distinct], axis=0), process=False)
