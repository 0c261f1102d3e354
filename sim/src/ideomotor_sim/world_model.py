"""What a world is made of, compiled into one MuJoCo model; what it does is in `ideomotor_sim.world`."""

from dataclasses import dataclass, replace

import mujoco

from ideomotor.config import Config, value
from ideomotor_sim.actuation import add_actuators
from ideomotor_sim.camera import CameraConfig, add_camera
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.robots import Robot, robot_spec
from ideomotor_sim.scene import Scene, add_scene
from ideomotor_sim.tools import Tool, add_tool


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
) -> mujoco.MjModel:
    """Put robot, actuators, scene, camera, and the tool twice (held, and dropped) into one model.

    Raises:
        SimulationError: if MuJoCo cannot compile it.
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
    try:
        return spec.compile()
    except ValueError as error:
        raise SimulationError(f"robot {robot.name!r}: MuJoCo cannot compile the world: {error}") from error


def body_id(model: mujoco.MjModel, link: str) -> int:
    """Return the body of a link; the root link is MuJoCo's world."""
    return max(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, link), 0)
