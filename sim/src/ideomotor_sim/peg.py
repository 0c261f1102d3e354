r"""A peg in the gripper and a hole in the world: the one task in which the simulated robot touches something.

Hole frame: the origin is the centre of the mouth, +z points out of the hole. Drawn through the axis, d = ``depth``,
c = ``chamfer``, w = ``width``:

.. code-block:: text

                  z ^
          +----.    |    .----+   z = 0    mouth, w + 2 c wide
          |     \   +   /     |   z = -c
          |     |       |     |            w wide
          |     +-------+     |   z = -d   floor
          +-------------------+
           rim

The clearance is *total*: w = (width of the peg) + clearance, so that a centred peg has half of it on either side.

A hole is a ring of facets, n_k their directions: four for a square one, `ROUND_FACETS` for a round one. Each facet is
three boxes: the wall, the chamfer (turned by 45 deg) and the rim beside the chamfer. Each of them lies outside of one
half-space, and the opening is where those half-spaces meet, so that no box narrows it. A round peg is a true cylinder.
Its axis can be where n_k . p <= clearance / 2 for all k: the play of a round peg is that of a round hole, but for
1 / cos(pi / `ROUND_FACETS`), 2 %, towards the edges between the facets.

Only peg and hole touch (and a dropped peg, the floor): hole and gripper go through each other.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import mujoco
import numpy as np

from ideomotor_sim.errors import SimulationError
from ideomotor_sim.surfaces import Surface, add_material
from ideomotor_sim.tools import Tool, ToolGeom
from ideomotor_sim.transforms import inverse, pose_from, quaternion_from, rotation_about, transform

Section = Literal["square", "round"]

ROUND_FACETS = 16
DROPPED_CONTACT, HELD_CONTACT = 1, 2  # bits of MuJoCo's contype and conaffinity; the floor has the first one
INSIDE_TOLERANCE = 1e-4  # [m] walls give way by less: what is farther out is not in the hole

_BASE = 0.01  # [m] thickness of the block below the hole's floor
# As hard as the default time step of 2 ms allows (a time constant of two steps); docs/simulator.md has measurements.
_SOLREF, _SOLIMP = (0.004, 1.0), (0.99, 0.999, 1e-4, 0.5, 2.0)
# [m] With MuJoCo's own 1e-6, one in twenty contacts of cylinder and box pushes the wrong way (4.0.0; none with 1e-8).
_CCD_TOLERANCE = 1e-9
_PEG_SURFACE = Surface((0.85, 0.83, 0.78), (0.7, 0.7, 0.7))
_HOLE_SURFACE = Surface((0.35, 0.42, 0.5), (0.3, 0.3, 0.3))


def peg(
    section: Section = "round",
    width: float = 0.016,
    length: float = 0.1,
    *,
    grip: float = 0.05,
    T_ee_tool: np.ndarray | None = None,
    density: float = 1400.0,
    surface: Surface = _PEG_SURFACE,
) -> Tool:
    """Return a straight rigid peg.

    Args:
        section: of the peg; the sides of a square one are along x and y of the tool frame.
        width: diameter, or side [m].
        length: out of the gripper [m].
        grip: in the gripper [m].
        T_ee_tool: the grasp, shape (4, 4); along the end-effector link's +z if None.
        density: [kg/m^3]; that of acetal, which pegs are often made of.
        surface: its look.

    Raises:
        SimulationError: a size that is not positive, an unknown section, or a grasp that is not a pose.
    """
    _check_section(section)
    for name, number in (("width", width), ("length", length), ("grip", grip), ("density", density)):
        _check_positive(name, number)
    half = (length + grip) / 2.0
    size = (width / 2.0, half) if section == "round" else (width / 2.0, width / 2.0, half)
    T_tool_geom = pose_from(np.array([0.0, 0.0, length - half]), np.eye(3))
    geom = ToolGeom("cylinder" if section == "round" else "box", size, T_tool_geom)
    grasp = np.eye(4) if T_ee_tool is None else checked_pose("T_ee_tool", T_ee_tool)
    line = np.array([[0.0, 0.0, -grip], [0.0, 0.0, 0.0], [0.0, 0.0, length]])
    return Tool("peg", (geom,), (surface,), line, grasp, density)


@dataclass(frozen=True)
class Hole:
    """A block with a blind hole, standing in the world; `hole_for` makes the one that suits a peg.

    Raises:
        SimulationError: a size or pose that makes no hole.
    """

    T_base_hole: np.ndarray  # (4, 4)
    section: Section
    width: float  # of the opening: diameter, or side [m]
    depth: float = 0.03  # [m]
    chamfer: float = 0.001  # of the mouth, 45 deg; 0 is a sharp edge [m]
    rim: float = 0.02  # material around the opening [m]
    friction: float = 0.3  # sliding; plastic on metal, dry
    surface: Surface = _HOLE_SURFACE

    def __post_init__(self) -> None:
        _check_section(self.section)
        object.__setattr__(self, "T_base_hole", checked_pose("T_base_hole", self.T_base_hole))
        for name in ("width", "depth", "rim"):
            _check_positive(name, getattr(self, name))
        if not 0.0 <= self.chamfer < min(self.depth, self.rim):
            raise SimulationError(
                f"chamfer={self.chamfer!r}, expected 0 or more, less than depth={self.depth!r} and rim={self.rim!r} [m]"
            )
        if not 0.0 <= self.friction < np.inf:
            raise SimulationError(f"friction={self.friction!r}, expected a finite number of 0 or more")

    @property
    def directions(self) -> np.ndarray:
        """Unit vectors from the axis to the facets, shape (N, 3) in the hole frame."""
        count = 4 if self.section == "square" else ROUND_FACETS
        angle = 2.0 * np.pi * np.arange(count) / count  # (N,)
        return np.stack([np.cos(angle), np.sin(angle), np.zeros(len(angle))], axis=-1)


@dataclass(frozen=True)
class Insertion:
    """Where the end of the peg is, seen from the hole."""

    depth: float  # of the end's centre below the mouth, negative above it [m]
    offset: float  # of the end's centre from the hole's axis [m]
    tilt: float  # between the axes of peg and hole [rad]
    inside: bool  # the whole end is below the mouth and between the walls

    def reached(self, depth: float, tolerance: float = 0.001) -> bool:
        """Whether the peg is inside, ``depth`` deep up to ``tolerance`` [m]."""
        return self.inside and abs(self.depth - depth) <= tolerance


def hole_for(
    tool: Tool | None,
    clearance: float,
    T_base_hole: np.ndarray,
    *,
    depth: float = 0.03,
    chamfer: float = 0.001,
    friction: float = 0.3,
) -> Hole:
    """Return the hole of a peg's section that is wider than the peg by ``clearance`` in total [m].

    Raises:
        SimulationError: ``tool`` is not a peg, the clearance is not positive, or as for `Hole`.
    """
    section, width = peg_section(tool)
    _check_positive("clearance", clearance)
    return Hole(T_base_hole, section, width + clearance, depth, chamfer, friction=friction)


def peg_section(tool: Tool | None) -> tuple[Section, float]:
    """Return section and width [m] of a peg.

    Raises:
        SimulationError: ``tool`` is not a peg.
    """
    if tool is None or tool.kind != "peg":
        raise SimulationError(f"tool={None if tool is None else tool.kind!r}, expected a peg for a hole")
    geom = tool.geoms[0]
    return "square" if geom.shape == "box" else "round", 2.0 * geom.size[0]


def check_fit(tool: Tool | None, hole: Hole) -> None:
    """Check that the tool is a peg that the hole is made for.

    Raises:
        SimulationError: it is not.
    """
    section, width = peg_section(tool)
    if section != hole.section:
        raise SimulationError(f"section={hole.section!r} of the hole, expected {section!r} as that of the peg")
    if hole.width <= width:
        raise SimulationError(f"width={hole.width!r} of the hole, expected more than the peg's width {width!r} [m]")


def measure_insertion(tool: Tool, hole: Hole, T_base_tool: np.ndarray, T_base_hole: np.ndarray) -> Insertion:
    """Return where the peg's end is in the hole, from the poses of both, shape (4, 4)."""
    T_hole_tool = inverse(T_base_hole) @ T_base_tool
    end = transform(T_hole_tool, tool.tip_tool())  # (3,)
    depth = -float(end[2])
    room = (hole.width - peg_section(tool)[1]) / 2.0 + max(hole.chamfer - depth, 0.0)
    inside = depth > 0.0 and float(np.max(hole.directions @ end)) <= room + INSIDE_TOLERANCE
    tilt = float(np.arccos(np.clip(-T_hole_tool[2, 2], -1.0, 1.0)))
    return Insertion(depth, float(np.hypot(end[0], end[1])), tilt, inside)


def add_hole(spec: mujoco.MjSpec, hole: Hole) -> None:
    """Add the block as body ``hole``; it can be moved later in the compiled model, see `place_hole`."""
    spec.option.ccd_tolerance, spec.option.ccd_iterations = _CCD_TOLERANCE, 100
    # With pyramids a wedged peg trembles, and with equal impedances one that presses on the rim creeps.
    spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 10.0
    T = hole.T_base_hole
    body = spec.worldbody.add_body(name="hole", pos=T[:3, 3], quat=quaternion_from(T[:3, :3]))
    material = add_material(spec, "hole", hole.surface)
    for half_size, T_hole_geom in _boxes(hole):
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=half_size,
            pos=T_hole_geom[:3, 3],
            quat=quaternion_from(T_hole_geom[:3, :3]),
            material=material,
            mass=0.0,
            contype=DROPPED_CONTACT | HELD_CONTACT,
            conaffinity=DROPPED_CONTACT | HELD_CONTACT,
            priority=1,  # its contact parameters hold, whatever touches it
            condim=3,
            friction=[hole.friction, 0.0, 0.0],
            solref=_SOLREF,
            solimp=_SOLIMP,
        )


def place_hole(model: mujoco.MjModel, T_base_hole: np.ndarray) -> None:
    """Move the block of a compiled model; takes effect with the next forward kinematics."""
    body = model.body("hole")
    body.pos, body.quat = T_base_hole[:3, 3], quaternion_from(T_base_hole[:3, :3])


def checked_pose(name: str, T: np.ndarray) -> np.ndarray:
    """Return a copy of a pose, shape (4, 4).

    Raises:
        SimulationError: it is not finite, of another shape, or no rigid transform.
    """
    T = np.array(T, dtype=float)
    rigid = T.shape == (4, 4) and np.isfinite(T).all()
    if rigid:
        R = T[:3, :3]
        rigid = np.allclose(R @ R.T, np.eye(3), atol=1e-6) and np.linalg.det(R) > 0.0
    if not rigid or not np.array_equal(T[3], [0.0, 0.0, 0.0, 1.0]):
        raise SimulationError(f"{name}={T.tolist()}, expected a finite pose of shape (4, 4)")
    return T


def _boxes(hole: Hole) -> list[tuple[tuple[float, float, float], np.ndarray]]:
    """Return half sizes and T_hole_geom, shape (4, 4), of the boxes; x of a facet points away from the axis."""
    a, c, d = hole.width / 2.0, hole.chamfer, hole.depth
    outer = a + hole.rim
    y = outer * float(np.tan(np.pi / len(hole.directions)))  # half the length of a facet at the outside
    thick = hole.rim / 2.0  # of the chamfer's box
    boxes = [((outer, outer, _BASE / 2.0), pose_from(np.array([0.0, 0.0, -d - _BASE / 2.0]), np.eye(3)))]
    for direction in hole.directions:
        T_hole_facet = pose_from(np.zeros(3), rotation_about(np.array([0.0, 0.0, 1.0]), np.arctan2(*direction[1::-1])))
        shapes = [_box((a, outer), y, (-d, -c))]
        if c > 0.0:
            shapes.append(_box((a + c, outer), y, (-d, 0.0)))
            # Its upper face ends on the wall and on the mouth; below, it stays within the block.
            face = pose_from(
                np.array([a + c / 2.0, 0.0, -c / 2.0]), rotation_about(np.array([0.0, 1.0, 0.0]), -np.pi / 4)
            )
            half = c / np.sqrt(2.0)
            size, T_face_box = _box((-half, half), y, (-thick, 0.0))
            shapes.append((size, face @ T_face_box))
        boxes += [(size, T_hole_facet @ T_facet_box) for size, T_facet_box in shapes]
    return boxes


def _box(x: tuple[float, float], y: float, z: tuple[float, float]) -> tuple[tuple[float, float, float], np.ndarray]:
    """Return half sizes and pose, shape (4, 4), of the box between these bounds; y is half of its length."""
    centre = np.array([(x[0] + x[1]) / 2.0, 0.0, (z[0] + z[1]) / 2.0])
    return ((x[1] - x[0]) / 2.0, y, (z[1] - z[0]) / 2.0), pose_from(centre, np.eye(3))


def _check_section(section: str) -> None:
    if section not in get_args(Section):
        raise SimulationError(f"section={section!r} is not one of {list(get_args(Section))}")


def _check_positive(name: str, number: float) -> None:
    if not 0.0 < number < np.inf:
        raise SimulationError(f"{name}={number!r}, expected a finite number above 0")
