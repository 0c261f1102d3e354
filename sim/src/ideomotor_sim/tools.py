r"""Tools that a robot can hold: shapes, centre line, working point, internal joint.

Tool frame: the origin lies where the tool leaves the gripper, +z points along the tool, away from the gripper
(z < 0 is the grip, hidden between the fingers). The *centre line* is a polyline from the back of the grip to the
working point. A tool may have one internal joint, which carries a part of its shapes and of its centre line:

.. math::
    p_{tool}(q) = o + R(a, q)\,(p - o) \quad\text{(revolute)}, \qquad
    p_{tool}(q) = p + q\,a \quad\text{(prismatic)}

Keypoints lie at the fractions 1/4 .. 4/4 of the centre line's arc length from where it crosses the plane z = 0 of
the end-effector frame to the working point. They are found on the tool at rest (q = 0) and then carried by the part
they are on, so that a keypoint is a material point of one rigid part.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import mujoco
import numpy as np

from ideomotor_sim.errors import SimulationError
from ideomotor_sim.surfaces import Surface, add_material, random_surface
from ideomotor_sim.transforms import pose_from, quaternion_from, rotation_about, transform

KEYPOINT_NAMES = ("kp_0", "kp_1", "kp_2", "kp_3")
MAX_TILT = np.deg2rad(40.0)

_GEOM_TYPE = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
}


@dataclass(frozen=True)
class ToolGeom:
    """One primitive of a tool, with MuJoCo's meaning of ``size``."""

    shape: Literal["box", "capsule", "cylinder", "sphere"]
    size: tuple[float, ...]  # half extents; radius and half length (without caps); radius [m]
    T_tool_geom: np.ndarray  # (4, 4)
    surface: int = 0  # index in Tool.surfaces
    moving: bool = False  # carried by the tool's joint

    @property
    def volume(self) -> float:
        """Volume [m^3]."""
        s = self.size
        if self.shape == "box":
            return 8.0 * s[0] * s[1] * s[2]
        ball = 4.0 / 3.0 * np.pi * s[0] ** 3
        if self.shape == "sphere":
            return float(ball)
        return float(2.0 * np.pi * s[0] ** 2 * s[1] + (ball if self.shape == "capsule" else 0.0))


@dataclass(frozen=True)
class ToolJoint:
    """The internal joint of an articulated tool: a damped spring towards q = 0."""

    type: Literal["revolute", "prismatic"]
    origin: np.ndarray  # (3,) in the tool frame [m]
    axis: np.ndarray  # (3,) unit vector in the tool frame
    lower: float  # [rad] or [m]
    upper: float  # [rad] or [m]
    stiffness: float  # [N m/rad] or [N/m]
    damping: float  # [N m s/rad] or [N s/m]

    def motion(self, position: float) -> np.ndarray:
        """Return T_tool_moved, shape (4, 4), for a joint position [rad] or [m]."""
        if self.type == "prismatic":
            return pose_from(position * self.axis, np.eye(3))
        R = rotation_about(self.axis, position)
        return pose_from(self.origin - R @ self.origin, R)


@dataclass(frozen=True)
class Tool:
    """A tool, and how it is held."""

    kind: str
    geoms: tuple[ToolGeom, ...]
    surfaces: tuple[Surface, ...]
    centre_line: np.ndarray  # (P, 3) in the tool frame at rest, from the back of the grip to the working point [m]
    T_ee_tool: np.ndarray  # (4, 4) the grasp
    density: float  # [kg/m^3]
    joint: ToolJoint | None = None
    first_moving: int = 0  # points of the centre line from this index on are carried by the joint

    def tip_tool(self, joint_position: float = 0.0) -> np.ndarray:
        """Return the working point in the tool frame, shape (3,) [m]."""
        tip = self.centre_line[-1]
        return tip if self.joint is None else transform(self.joint.motion(joint_position), tip)

    def keypoints_ee(self, T_ee_tool: np.ndarray, joint_position: float = 0.0) -> np.ndarray:
        """Return the keypoints in the end-effector frame, shape (4, 3) [m]; the last one is the working point.

        Args:
            T_ee_tool: the present grasp, shape (4, 4); it differs from the tool's own after a slip.
            joint_position: of the internal joint [rad] or [m].
        """
        line = self.centre_line
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])  # (P,)
        start = self._exit_arc_length(T_ee_tool, length[1])
        arc = start + (length[-1] - start) * np.arange(1, len(KEYPOINT_NAMES) + 1) / len(KEYPOINT_NAMES)  # (K,)
        points = np.stack([np.interp(arc, length, line[:, i]) for i in range(3)], axis=-1)  # (K, 3)
        if self.joint is not None:
            moving = arc > length[self.first_moving] - 1e-9
            points[moving] = transform(self.joint.motion(joint_position), points[moving])
        return transform(T_ee_tool, points)

    def _exit_arc_length(self, T_ee_tool: np.ndarray, grip: float) -> float:
        """Arc length at which the first segment leaves the gripper: where it crosses z = 0 of the ee frame."""
        z0, z1 = transform(T_ee_tool, self.centre_line[:2])[:, 2]
        if z0 >= 0.0:
            return 0.0
        return grip if z1 <= 0.0 else float(grip * -z0 / (z1 - z0))


def _z_rod(shape: str, radius: float, start: float, end: float, surface: int = 0, *, moving: bool = False) -> ToolGeom:
    """Return a rod along z from ``start`` to ``end``; its square section is as wide as the round one."""
    return _rod(shape, radius, np.array([0.0, 0.0, start]), np.array([0.0, 0.0, end]), surface, moving=moving)


def _rod(
    shape: str, radius: float, start: np.ndarray, end: np.ndarray, surface: int = 0, *, moving: bool = False
) -> ToolGeom:
    direction = end - start
    half = float(np.linalg.norm(direction)) / 2.0
    z = direction / (2.0 * half)
    x = np.array([1.0, 0.0, 0.0]) if abs(z[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    x = x - z * (x @ z)
    x /= np.linalg.norm(x)
    T = pose_from((start + end) / 2.0, np.stack([x, np.cross(z, x), z], axis=-1))
    if shape == "box":
        return ToolGeom("box", (radius, radius, half), T, surface, moving)
    if shape == "capsule":
        return ToolGeom("capsule", (radius, max(half - radius, 1e-4)), T, surface, moving)
    return ToolGeom("cylinder", (radius, half), T, surface, moving)


@dataclass(frozen=True)
class _Blank:
    """What all kinds of tools share, drawn before the kind's own shape."""

    length: float  # out of the gripper, along the handle [m]
    grip: float  # behind the origin [m]
    radius: float  # radius or half thickness [m]
    shape: str  # of rods


def _tool(blank: _Blank, geoms: list[ToolGeom], line: list[tuple[float, float, float]], **joint: object) -> Tool:
    centre_line = np.array([(0.0, 0.0, -blank.grip), *line])
    return Tool("", tuple(geoms), (), centre_line, np.eye(4), 500.0, **joint)  # type: ignore[arg-type]


def _stick(b: _Blank, rng: np.random.Generator) -> Tool:
    return _tool(b, [_z_rod(b.shape, b.radius, -b.grip, b.length)], [(0.0, 0.0, b.length)])


def _hammer(b: _Blank, rng: np.random.Generator) -> Tool:
    face, peen = rng.uniform(0.035, 0.07), rng.uniform(0.015, 0.035)  # [m] from the handle's axis
    thick = max(rng.uniform(0.012, 0.02), 1.2 * b.radius)
    z = b.length - thick
    head = _rod(rng.choice(["box", "cylinder"]), thick, np.array([-0.2 * face, 0.0, z]), np.array([face, 0.0, z]), 1)
    back = _rod("box", 0.6 * thick, np.array([-peen - 0.2 * face, 0.0, z]), np.array([-0.2 * face, 0.0, z]), 1)
    return _tool(b, [_z_rod(b.shape, b.radius, -b.grip, z), head, back], [(0.0, 0.0, z), (face, 0.0, z)])


def _l(b: _Blank, rng: np.random.Generator) -> Tool:
    leg, angle = rng.uniform(0.05, 0.12), np.deg2rad(rng.uniform(70.0, 110.0))
    corner = np.array([0.0, 0.0, b.length])
    end = corner + leg * np.array([np.sin(angle), 0.0, np.cos(angle)])
    surface = int(rng.integers(2))
    shape = "box" if b.shape == "box" else "capsule"
    outer = corner + b.radius * np.array([0.0, 0.0, 1.0 if shape == "capsule" else 0.0])
    geoms = [_z_rod(shape, b.radius, -b.grip, outer[2]), _rod(shape, b.radius, corner, end, surface)]
    return _tool(b, geoms, [tuple(corner), tuple(end)])


def _spatula(b: _Blank, rng: np.random.Generator) -> Tool:
    blade, half_width, pitch = rng.uniform(0.06, 0.12), rng.uniform(0.022, 0.045), np.deg2rad(rng.uniform(0.0, 30.0))
    neck = max(b.length - blade, 0.05)
    direction = np.array([np.sin(pitch), 0.0, np.cos(pitch)])
    start = np.array([0.0, 0.0, neck])
    end = start + blade * direction
    T = pose_from((start + end) / 2.0, rotation_about(np.array([0.0, 1.0, 0.0]), pitch))
    plate = ToolGeom("box", (rng.uniform(0.0015, 0.003), half_width, blade / 2.0), T, 1)
    return _tool(b, [_z_rod(b.shape, b.radius, -b.grip, neck), plate], [tuple(start), tuple(end)])


def _hinged_stick(b: _Blank, rng: np.random.Generator) -> Tool:
    hinge = b.length * rng.uniform(0.35, 0.6)
    geoms = [
        _z_rod(b.shape, b.radius, -b.grip, hinge),
        _rod("cylinder", 1.4 * b.radius, np.array([0, -1.3 * b.radius, hinge]), np.array([0, 1.3 * b.radius, hinge])),
        _z_rod(b.shape, 0.9 * b.radius, hinge, b.length, 1, moving=True),
    ]
    limit = np.deg2rad(rng.uniform(45.0, 70.0))
    # A spring that lets the outer part hang by 20 to 35 degrees when it is held level.
    mass, arm = 500.0 * geoms[2].volume, (b.length - hinge) / 2.0
    inertia = mass * (2.0 * arm) ** 2 / 3.0
    stiffness = mass * 9.81 * arm / np.deg2rad(rng.uniform(20.0, 35.0))
    damping = 2.0 * rng.uniform(0.1, 0.25) * np.sqrt(stiffness * inertia)
    joint = ToolJoint(
        "revolute", np.array([0.0, 0.0, hinge]), np.array([0.0, 1.0, 0.0]), -limit, limit, stiffness, damping
    )
    return _tool(b, geoms, [(0.0, 0.0, hinge), (0.0, 0.0, b.length)], joint=joint, first_moving=1)


def _sliding_rod(b: _Blank, rng: np.random.Generator) -> Tool:
    sleeve, travel = b.length * rng.uniform(0.45, 0.55), rng.uniform(0.02, 0.035)
    radius = max(b.radius, 0.008)
    geoms = [
        _z_rod("box" if b.shape == "box" else "cylinder", radius, -b.grip, sleeve),
        _z_rod("cylinder", rng.uniform(0.5, 0.7) * radius, sleeve - travel - 0.005, b.length, 1, moving=True),
    ]
    # A spring that lets the rod sink by about its travel when it is held upright.
    mass = 500.0 * geoms[1].volume
    stiffness = mass * 9.81 / (travel * rng.uniform(0.9, 1.2))
    damping = 2.0 * rng.uniform(0.15, 0.3) * np.sqrt(stiffness * mass)
    joint = ToolJoint("prismatic", np.zeros(3), np.array([0.0, 0.0, 1.0]), -travel, travel, stiffness, damping)
    return _tool(b, geoms, [(0.0, 0.0, sleeve), (0.0, 0.0, b.length)], joint=joint, first_moving=1)


def _ball(b: _Blank, rng: np.random.Generator) -> Tool:
    radius = rng.uniform(0.015, 0.03)
    ball = ToolGeom("sphere", (radius,), pose_from(np.array([0.0, 0.0, b.length - radius]), np.eye(3)), 1)
    return _tool(b, [_z_rod(b.shape, b.radius, -b.grip, b.length - radius), ball], [(0.0, 0.0, b.length)])


def _t(b: _Blank, rng: np.random.Generator) -> Tool:
    half, z = rng.uniform(0.03, 0.06), b.length - b.radius
    bar = _rod("box", b.radius, np.array([-half, 0.0, z]), np.array([half, 0.0, z]), int(rng.integers(2)))
    return _tool(b, [_z_rod(b.shape, b.radius, -b.grip, z), bar], [(0.0, 0.0, b.length)])


_KINDS: dict[str, Callable[[_Blank, np.random.Generator], Tool]] = {
    "stick": _stick,
    "hammer": _hammer,
    "l": _l,
    "spatula": _spatula,
    "hinged_stick": _hinged_stick,
    "sliding_rod": _sliding_rod,
    "ball": _ball,
    "t": _t,
}
TOOL_KINDS = ("stick", "hammer", "l", "spatula", "hinged_stick", "sliding_rod")  # what the benchmarks use
TRAINING_KINDS = (*TOOL_KINDS, "ball", "t")


def sample_tool(kind: str, rng: np.random.Generator) -> Tool:
    """Draw a tool of ``kind`` with random size, surface and grasp.

    Raises:
        SimulationError: if the kind is unknown.
    """
    if kind not in _KINDS:
        raise SimulationError(f"tool={kind!r} is not one of {list(_KINDS)}")
    blank = _Blank(
        length=rng.uniform(0.12, 0.30),
        grip=rng.uniform(0.04, 0.07),
        radius=rng.uniform(0.006, 0.014),
        shape=str(rng.choice(["box", "capsule", "cylinder"])),
    )
    tool = _KINDS[kind](blank, rng)
    first = random_surface(rng)
    surfaces = (first, random_surface(rng) if rng.random() < 0.7 or tool.joint is not None else first)
    return replace(tool, kind=kind, surfaces=surfaces, T_ee_tool=sample_grasp(rng))


def sample_grasp(rng: np.random.Generator) -> np.ndarray:
    """Draw T_ee_tool, shape (4, 4): a few mm beside the end-effector frame, tilted up to 40 deg, any roll."""
    towards, tilt, roll = rng.uniform(-np.pi, np.pi), MAX_TILT * np.sqrt(rng.random()), rng.uniform(-np.pi, np.pi)
    x, z = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
    R = rotation_about(z, towards) @ rotation_about(x, tilt) @ rotation_about(z, roll - towards)
    offset = rng.uniform([-0.004, -0.004, -0.010], [0.004, 0.004, 0.015])
    return pose_from(offset, R)


def add_tool(spec: mujoco.MjSpec, parent: mujoco.MjsBody, tool: Tool, *, prefix: str = "tool") -> mujoco.MjsBody:
    """Attach ``tool`` below ``parent`` as bodies ``{prefix}`` and ``{prefix}_moving``, joint ``{prefix}_joint``.

    The grasp can be changed later in the compiled model's ``body_pos`` and ``body_quat``.
    """
    materials = [add_material(spec, f"{prefix}_{i}", surface) for i, surface in enumerate(tool.surfaces)]
    body = parent.add_body(
        name=prefix, pos=tool.T_ee_tool[:3, 3], quat=quaternion_from(tool.T_ee_tool[:3, :3]), gravcomp=0.0
    )
    moving = body
    if tool.joint is not None:
        moving = body.add_body(name=f"{prefix}_moving")
        revolute = tool.joint.type == "revolute"
        moving.add_joint(
            name=f"{prefix}_joint",
            type=mujoco.mjtJoint.mjJNT_HINGE if revolute else mujoco.mjtJoint.mjJNT_SLIDE,
            pos=tool.joint.origin,
            axis=tool.joint.axis,
            limited=1,
            range=[np.rad2deg(tool.joint.lower), np.rad2deg(tool.joint.upper)]
            if revolute and spec.compiler.degree
            else [tool.joint.lower, tool.joint.upper],
            stiffness=tool.joint.stiffness,
            damping=tool.joint.damping,
        )
    for geom in tool.geoms:
        size = np.zeros(3)
        size[: len(geom.size)] = geom.size
        (moving if geom.moving else body).add_geom(
            type=_GEOM_TYPE[geom.shape],
            size=size,
            pos=geom.T_tool_geom[:3, 3],
            quat=quaternion_from(geom.T_tool_geom[:3, :3]),
            material=materials[geom.surface],
            density=tool.density,
            contype=0,
            conaffinity=0,
        )
    return body
