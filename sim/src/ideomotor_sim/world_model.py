"""What a world is made of, compiled into one MuJoCo model; what it does is in `ideomotor_sim.world`."""

from dataclasses import dataclass, replace
from typing import Any

import mujoco
import numpy as np

from ideomotor.config import Config, value
from ideomotor_sim.actuation import add_actuators, robot_joints
from ideomotor_sim.camera import HIDDEN_GROUP, CameraConfig, add_camera
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.ground import (
    add_floating_base,
    add_ground,
    add_joint_losses,
    add_payload,
    set_rotor_inertia,
)
from ideomotor_sim.peg import DROPPED_CONTACT, HELD_CONTACT, Hole, add_hole, check_fit
from ideomotor_sim.robots import Robot, robot_spec, root_name
from ideomotor_sim.scene import Scene, add_scene
from ideomotor_sim.state_layout import StateLayout
from ideomotor_sim.tools import Tool, add_tool

TOOL_GROUP = 2  # MuJoCo geom group of the held tool


@dataclass(frozen=True, kw_only=True)
class WorldConfig(Config):
    """Physics and actuation."""

    timestep: float = value(0.002, "Integration step [s].", ge=1e-4, le=0.01)
    actuation: str = value(
        "position",
        "Command interface of every joint; position and velocity compensate the robot's gravity, effort does not.",
        choices=("position", "velocity", "effort"),
    )
    bandwidth: float = value(60.0, "Natural frequency of the position controllers [rad/s].", ge=1.0, le=300.0)
    joints: tuple[str, ...] = value((), "Order of the joints in states and efforts; empty: the robot's.")
    floating_base: bool = value(False, "The root link is free, above a floor; with effort actuation only.")
    contact_links: tuple[str, ...] = value((), "Links whose collision shapes touch the floor; their force is sensed.")
    contact_friction: float = value(0.8, "Coulomb's coefficient of links on the floor.", ge=0.0, le=5.0)
    payload: float = value(0.0, "Mass fixed to ee_link, or to a floating base [kg].", ge=0.0, le=100.0)
    payload_position: tuple[float, float, float] = value((0.0, 0.0, 0.05), "Its centre in that link's frame [m].")
    joint_friction: float = value(0.0, "Dry friction of every joint beside the URDF's [N m].", ge=0.0, le=100.0)
    joint_damping: float = value(0.0, "Damping of every joint beside the URDF's [N m s/rad].", ge=0.0, le=100.0)
    rotor_inertia: tuple[float, ...] = value((), "Of every joint, seen through its gear [kg m^2]; empty: typical ones.")


def effort_config(**values: Any) -> WorldConfig:  # noqa: ANN401
    """Return a configuration for efforts: steps of 1 ms, for contacts and for torques that no controller smooths."""
    defaults: dict[str, Any] = {"actuation": "effort", "timestep": 0.001}
    return WorldConfig(**(defaults | values))


def compile_world(
    robot: Robot,
    tool: Tool | None,
    scene: Scene,
    camera: CameraConfig,
    config: WorldConfig,
    spec: mujoco.MjSpec | None,
    hole: Hole | None = None,
) -> mujoco.MjModel:
    """Put robot, actuators, scene, camera, the tool twice (held, and dropped), and a hole into one model.

    Raises:
        SimulationError: if MuJoCo cannot compile it, the tool does not fit the hole, or the robot does not fit the
            configuration.
    """
    solid = ground_links(robot, config)
    spec = robot_spec(robot, solid) if spec is None else spec.copy()
    spec.option.timestep = config.timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    compensated = config.actuation != "effort"
    for body in spec.bodies[1:]:
        body.gravcomp = float(compensated)
    add_actuators(spec, robot.urdf, compensated=compensated)
    _add_dynamics(spec, robot, config)
    add_scene(spec, replace(scene, floor_height=0.0) if solid else scene)
    if solid:
        add_ground(spec, solid, config.contact_links, config.contact_friction)
    add_camera(spec, camera)
    if tool is not None:
        add_tool(spec, spec.body(robot.ee_link) or spec.worldbody, tool)
        dropped = add_tool(spec, spec.worldbody, replace(tool, joint=None), prefix="dropped")
        dropped.add_freejoint(name="dropped_free")
    if hole is not None:
        check_fit(tool, hole)
        add_hole(spec, hole)
    try:
        return spec.compile()
    except ValueError as error:
        raise SimulationError(f"robot {robot.name!r}: MuJoCo cannot compile the world: {error}") from error


def ground_links(robot: Robot, config: WorldConfig) -> tuple[str, ...]:
    """Return the links that touch the floor: the contact links, and a floating base.

    Raises:
        SimulationError: for a floating base that is not driven by efforts.
    """
    if not config.floating_base:
        return config.contact_links
    if config.actuation != "effort":
        raise SimulationError(f"floating_base with actuation {config.actuation!r}, expected 'effort'")
    return tuple(dict.fromkeys((*config.contact_links, root_name(robot))))


def _add_dynamics(spec: mujoco.MjSpec, robot: Robot, config: WorldConfig) -> None:
    """Add what the URDF does not say: friction, rotors, a free base, a payload."""
    add_joint_losses(spec, config.joint_friction, config.joint_damping)
    if config.rotor_inertia:
        set_rotor_inertia(spec, config.joints, config.rotor_inertia)
    root = root_name(robot)
    if config.floating_base:
        add_floating_base(spec, root)
    if config.payload > 0.0:
        link = root if config.floating_base else robot.ee_link
        add_payload(spec, link, config.payload, config.payload_position)


def state_layout(model: mujoco.MjModel, robot: Robot, config: WorldConfig) -> StateLayout:
    """Return where the robot's state is in a compiled world.

    Raises:
        SimulationError: if the configuration's joints are not the robot's.
    """
    joints = robot_joints(model, robot.urdf)
    order = config.joints or tuple(name for name, joint in joints.items() if joint.mimic is None)
    return StateLayout(model, joints, order, root_name(robot) if config.floating_base else None, config.contact_links)


def body_id(model: mujoco.MjModel, link: str) -> int:
    """Return the body of a link; the root link is MuJoCo's world."""
    return max(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, link), 0)


def show_tool(model: mujoco.MjModel, *, held: bool, solid: bool) -> None:
    """Show the held tool or the dropped one, and hide the other.

    Args:
        model: the compiled world.
        held: whether it is in the gripper; the dropped one has weight only when it is shown.
        solid: whether it touches things: the held tool the hole, the dropped one hole and floor.
    """
    model.body_gravcomp[model.body("dropped").id] = float(held)
    shown, contact, group = ("tool", HELD_CONTACT, TOOL_GROUP) if held else ("dropped", DROPPED_CONTACT, 0)
    for body in range(model.nbody):
        name = model.body(body).name
        if not name.startswith(("tool", "dropped")):
            continue
        start = model.body_geomadr[body]
        geoms = slice(start, start + model.body_geomnum[body])
        visible = name.startswith(shown)
        model.geom_group[geoms] = group if visible else HIDDEN_GROUP
        model.geom_contype[geoms] = model.geom_conaffinity[geoms] = contact if visible and solid else 0
        model.body_contype[body] = model.body_conaffinity[body] = contact if visible and solid else 0


def hidden(model: mujoco.MjModel, data: mujoco.MjData, eye: np.ndarray, position: np.ndarray) -> bool:
    """Whether something other than the held object lies between two points in the base frame, shape (3,) [m]."""
    groups = np.array([1, 1, 0, 0, 0, 0], np.uint8)  # without TOOL_GROUP and HIDDEN_GROUP
    hit = mujoco.mj_ray(model, data, eye, position - eye, groups, 1, -1, np.zeros(1, np.int32))
    return 0.0 <= hit < 1.0  # in lengths of the ray
