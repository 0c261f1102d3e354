"""What a world is made of, compiled into one MuJoCo model; what it does is in `ideomotor_sim.world`."""

from dataclasses import dataclass, replace

import mujoco

from ideomotor.config import Config, value
from ideomotor_sim.actuation import add_actuators
from ideomotor_sim.camera import HIDDEN_GROUP, CameraConfig, add_camera
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.peg import DROPPED_CONTACT, HELD_CONTACT, Hole, add_hole, check_fit
from ideomotor_sim.robots import Robot, robot_spec
from ideomotor_sim.scene import Scene, add_scene
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
        SimulationError: if MuJoCo cannot compile it, or the tool does not fit the hole.
    """
    spec = robot_spec(robot) if spec is None else spec.copy()
    spec.option.timestep = config.timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    compensated = config.actuation != "effort"
    for body in spec.bodies[1:]:
        body.gravcomp = float(compensated)
    add_actuators(spec, robot.urdf, compensated=compensated)
    add_scene(spec, scene)
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
