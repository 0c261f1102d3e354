"""The simulated robot: the topics of its driver and of its camera, /clock, and ground truth under sim/."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMsg

from ideomotor.body.urdf import load_urdf, parse_urdf, root_link
from ideomotor.config import value
from ideomotor.errors import IdeomotorError
from ideomotor_interfaces.srv import DisplaceObject, ResetSimulation, StepSimulation
from ideomotor_nodes import convert
from ideomotor_nodes.diagnostics import OK, Report
from ideomotor_nodes.effort_shell import answered
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.params import NodeConfig, ParameterError
from ideomotor_nodes.qos import COMMAND
from ideomotor_nodes.run import run_node
from ideomotor_nodes.sim_outputs import SimJoints, SimOutputs
from ideomotor_nodes.sim_state import ODOM, SimState
from ideomotor_sim.camera import CameraConfig, camera_pose
from ideomotor_sim.controllers import JointTrajectory, Pacer, Rhythm, TrajectoryFollower, forward_command
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.robots import Robot
from ideomotor_sim.scene import plain_scene, sample_scene
from ideomotor_sim.tools import sample_tool
from ideomotor_sim.world import World, WorldConfig

_OVERVIEW = CameraConfig(width=960, height=640)
_OVERVIEW_RATE = 2.0  # [Hz]
_TF_RATE = 50.0  # [Hz] of the pose of a floating base
_REPETITION = 0.1  # [s] of real time, between two publications of the first state
_EPOCH = 1.0  # [s] time on /clock at the start: no stamp is zero, which many nodes read as "no time"


@dataclass(frozen=True, kw_only=True)
class MujocoSimConfig(NodeConfig, WorldConfig, CameraConfig):
    """Parameters of mujoco_sim."""

    robot_description: str = value("", "URDF text; or give urdf.")
    urdf: str = value("", "Path of a .urdf or .xacro file, if robot_description is empty.")
    ee_link: str = value("gripper_tcp", "Link that holds the tool, along its z axis.")
    joints: tuple[str, ...] = value((), "Order of the numbers of the forward command controllers; empty: the robot's.")
    initial_positions: tuple[float, ...] = value((), "Positions of `joints` after a reset [rad or m]; empty: zero.")
    tool: str = value("stick", "What the robot holds: stick, hammer, l, spatula, hinged_stick, sliding_rod or none.")
    scene: str = value("random", "Surroundings; random ones follow from the seed.", choices=("random", "plain"))
    seed: int = value(0, "Seed of the tool, its grasp, the scene and the sensor noise.", ge=0, le=2**31)
    camera_pose: tuple[float, float, float, float, float, float] = value(
        (1.3, 0.6, 0.8, 0.0, 0.3, -2.5), "Camera body, x y z roll pitch yaw in the base frame [m, rad]."
    )
    published_camera_pose: tuple[float, ...] = value((), "What tf_static says instead; empty: the truth [m, rad].")
    base_frame: str = value("", "Frame of the robot's root link; empty: its name.")
    camera_frame: str = value("camera_color_optical_frame", "Optical frame of the images.")
    camera_rate: float = value(30.0, "Images a second of simulated time, 0: none [Hz].", ge=0.0, le=240.0)
    joint_state_rate: float = value(100.0, "Joint states a second of simulated time [Hz].", ge=1.0, le=1000.0)
    overview_pose: tuple[float, float, float, float, float, float] = value(
        (1.45, 1.1, 0.95, 0.0, 0.263, -2.309), "Camera for people, x y z roll pitch yaw in the base frame [m, rad]."
    )
    real_time_factor: float = value(1.0, "Simulated by real time; 0: as fast as possible.", ge=0.0, le=100.0)
    lockstep: float = value(
        0.0,
        "At effort level: wait so long for the answer to a state, for the first for ever; 0: time goes on [s].",
        ge=0.0,
        le=60.0,
    )
    paused: bool = value(False, "Start paused.")


class MujocoSimNode(LifecycleNode[MujocoSimConfig]):
    """Shell around `World`: commands in, sensors and truth out, in simulated time."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("mujoco_sim", MujocoSimConfig, **node_options)

    def configure(self) -> None:
        """Build the world, create the topics and services."""
        c = self.config
        if not (c.robot_description or c.urdf):
            raise ParameterError("robot_description and urdf are both empty, expected URDF text or a path")
        urdf = load_urdf(c.robot_description or Path(c.urdf))
        self._robot = Robot(root_link(parse_urdf(urdf)), urdf, c.ee_link, Path(c.urdf).parent if c.urdf else None)
        if len(c.published_camera_pose) not in (0, 6):
            raise ParameterError(f"published_camera_pose={list(c.published_camera_pose)}, expected none or 6 numbers")
        self._seed, self._tool, self._epoch = c.seed, c.tool, _EPOCH
        self._start(self._build(c.seed, c.tool))
        self._pacer, self._paused = Pacer(c.real_time_factor), c.paused
        frame = c.base_frame or self._robot.name
        self._out = SimOutputs(self, ODOM if c.floating_base else frame, c.camera_frame)
        layout = self._world.layout
        self._effort_level, self._unanswered = c.actuation == "effort", 0
        self._begun, self._next_repetition = False, 0.0
        if self._effort_level:
            self._state = SimState(self, frame, layout.joints, layout.contact_links, c.floating_base)
        else:
            self._joint_out = SimJoints(self)
        self._create_inputs()
        self.add_report("simulation", self._report)

    def activate(self) -> None:
        """Let time pass."""
        self._pacer.restart()
        published = self.config.published_camera_pose or self.config.camera_pose
        poses = camera_pose(*published), camera_pose(*self.config.overview_pose)
        self._out.camera_poses(*poses, convert.stamp(self._now()))
        free = self.config.real_time_factor == 0.0 and self.config.lockstep == 0.0
        period = 0.0 if free else 0.5 / self.config.joint_state_rate
        self.create_steady_timer(period, self._on_timer)

    def cleanup(self) -> None:
        """Free the renderer."""
        self._world.close()

    def _build(self, seed: int, tool: str) -> World:
        c, rng = self.config, np.random.default_rng(seed)
        held = None if tool == "none" else sample_tool(tool, rng)
        scene = sample_scene(rng) if c.scene == "random" else plain_scene()
        home = forward_command(c.joints, c.initial_positions) if c.initial_positions else {}
        return World(self._robot, held, scene, c, camera_pose(*c.camera_pose), c, seed=seed, home=home)

    def _start(self, world: World) -> None:
        self._world = world
        self._joints = self.config.joints or world.command_names
        world.set_command(dict.fromkeys(self._joints, 0.0) if self.config.actuation != "position" else {})
        self._follower: TrajectoryFollower | None = None
        rates = self.config.joint_state_rate, _OVERVIEW_RATE, _TF_RATE
        self._states, self._pictures, self._transforms = map(Rhythm, rates)
        self._images = Rhythm(self.config.camera_rate) if self.config.camera_rate > 0.0 else None
        self._answer_due: float | None = None  # [s] real time until when the last state may be answered
        self._commanded = False  # by somebody who answers states

    def _create_inputs(self) -> None:
        actuation = self.config.actuation
        commands = f"forward_{actuation}_controller/commands"
        on_command = self._on_effort if actuation == "effort" else self._on_command
        self.create_subscription(Float64MultiArray, commands, on_command, COMMAND)
        if actuation == "position":
            topic = "joint_trajectory_controller/joint_trajectory"
            self.create_subscription(JointTrajectoryMsg, topic, self._on_trajectory, COMMAND)
        self.create_service(ResetSimulation, "sim/reset", self._answer(self._on_reset))
        self.create_service(SetBool, "sim/pause", self._answer(self._on_pause))
        self.create_service(StepSimulation, "sim/step", self._answer(self._on_step))
        self.create_service(DisplaceObject, "sim/displace_object", self._answer(self._on_displace))

    # --- time -------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._epoch + self._world.time

    def _on_timer(self) -> None:
        if self._paused or self._is_waiting():
            return
        if self.config.lockstep > 0.0 and not self._begun and self._effort_level:
            self._await_first_command()
            return
        chunk = 1.0 / self.config.joint_state_rate
        until = self._pacer.target(self._world.time, time.monotonic(), chunk)
        if self.config.lockstep == 0.0:
            self._advance(min(until, self._world.time + 2.0 * chunk))  # catch up in small steps: commands come between
        elif until > self._states.next - self.config.timestep / 2.0:
            self._advance(self._states.next)  # a whole period: what happens in it follows from state and command alone

    def _await_first_command(self) -> None:
        """Publish the first state again and again: a robot that nobody commands yet must not fall."""
        if time.monotonic() >= self._next_repetition:
            self._next_repetition = time.monotonic() + _REPETITION
            self._states = Rhythm(self.config.joint_state_rate)
            self._publish()
            self._pacer.restart()

    def _is_waiting(self) -> bool:
        """Whether time stands still until the last state is answered."""
        if self._answer_due is None:
            return False
        if time.monotonic() < self._answer_due:
            return True
        self._answer_due, self._commanded, self._unanswered = None, False, self._unanswered + 1
        wait = self.config.lockstep
        self.get_logger().warning(f"no command for {wait} s: time goes on without", throttle_duration_sec=1.0)
        return False

    def _advance(self, until: float) -> None:
        """Run the physics to ``until`` [s of the world], publishing what is due on the way."""
        try:
            self._run(until)
        except SimulationError as error:
            self._paused = True
            self.get_logger().error(f"paused until it is reset: {error}")

    def _run(self, until: float) -> None:
        step = self.config.timestep
        self._publish()  # at the start of time
        while (now := self._world.time) < until - step / 2.0:
            due = min(self._states.next, until if self._images is None else self._images.next, until)
            if self._follower is not None:
                self._world.set_command(self._follower.at(now + step))
                due = min(due, now + 5.0 * step)
                self._follower = None if self._follower.done(now) else self._follower
            self._world.step(max(1, round((due - now) / step)))
            self._publish()

    def _publish(self) -> None:
        world, stamp = self._world, convert.stamp(self._now())
        time = world.time + self.config.timestep / 2.0
        if self._effort_level:
            self._publish_state(time, stamp)
        elif self._states.is_due(time):
            s = world.joint_state()
            self._joint_out.publish(convert.joint_state_msg(s.names, s.position, stamp, s.velocity, s.effort))
        if self._images is not None and self._images.is_due(time):
            image = world.render()
            self._out.images(image.rgb, image.depth, self.config.intrinsics, stamp)
            if world.held:
                self._out.truth(world.T_base_tool(), world.keypoints_base(), stamp)
        if self._pictures.is_due(time) and self._out.overview_wanted:
            pose = camera_pose(*self.config.overview_pose)
            self._out.overview(world.overview(pose, _OVERVIEW), _OVERVIEW.intrinsics, stamp)

    def _publish_state(self, now: float, stamp: Time) -> None:
        """Publish the state of a robot at effort level, and wait for its answer."""
        if not self._states.is_due(now):
            return
        q, v, force = self._world.state()
        if self._transforms.is_due(now):
            self._state.publish_transform(q, stamp)
        self._state.publish(q, v, force, self._world.data.ctrl[self._world.layout.actuators], stamp)
        self._answers = (stamp.sec, stamp.nanosec)
        waits = self.config.lockstep > 0.0 and self._commanded
        self._answer_due = time.monotonic() + self.config.lockstep if waits else None

    # --- commands ---------------------------------------------------------------------------------------------

    def _on_command(self, msg: Float64MultiArray) -> None:
        try:
            self._world.set_command(forward_command(self._joints, msg.data))
            self._follower = None
        except IdeomotorError as error:
            self.get_logger().warning(f"command ignored: {error}", throttle_duration_sec=1.0)

    def _on_effort(self, msg: Float64MultiArray) -> None:
        stamp = answered(msg.layout)
        if self._answer_due is not None and stamp is not None and stamp != self._answers:
            return  # to an earlier state: it came too late
        try:
            self._world.set_effort(np.frombuffer(msg.data))
        except IdeomotorError as error:
            self.get_logger().warning(f"command ignored: {error}", throttle_duration_sec=1.0)
            return
        self._begun = self._commanded = True
        self._answer_due = None
        if self.config.lockstep > 0.0 and self.is_active:
            self._on_timer()  # it may be time already

    def _on_trajectory(self, msg: JointTrajectoryMsg) -> None:
        try:
            self._follower = self._follow(msg)
        except (IdeomotorError, ValueError) as error:
            self.get_logger().warning(f"trajectory ignored: {error}", throttle_duration_sec=1.0)

    def _follow(self, msg: JointTrajectoryMsg) -> TrajectoryFollower:
        times = [p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in msg.points]
        positions = np.array([p.positions for p in msg.points], dtype=float)
        given = bool(msg.points) and all(len(p.velocities) for p in msg.points)
        velocities = np.array([p.velocities for p in msg.points], dtype=float) if given else None
        trajectory = JointTrajectory(tuple(msg.joint_names), np.array(times), positions, velocities)
        state, stamp = self._world.joint_state(), convert.seconds(msg.header.stamp)
        start = self._world.time if stamp == 0.0 else stamp - self._epoch
        return TrajectoryFollower(trajectory, start, dict(zip(state.names, state.position.tolist(), strict=True)))

    # --- services ---------------------------------------------------------------------------------------------

    def _answer(self, action: Callable[[Any], str]) -> Callable[[Any, Any], Any]:
        """Return a service callback that reports what ``action`` says, or the error it raises."""

        def callback(request: Any, response: Any) -> Any:  # noqa: ANN401
            try:
                response.success, response.message = True, action(request)
            except IdeomotorError as error:
                response.success, response.message = False, str(error)
            return response

        return callback

    def _on_reset(self, request: ResetSimulation.Request) -> str:
        seed, tool = self._seed if request.seed < 0 else request.seed, request.tool or self._tool
        world, now = self._build(seed, tool), self._now()  # raises before anything has changed
        self._world.close()
        self._seed, self._tool, self._epoch = seed, tool, now  # time on /clock never jumps back
        answering = self._commanded
        self._start(world)
        self._commanded = answering
        self._pacer.restart()
        if self.is_active and self._effort_level:
            self._publish()  # where the robot is now, also to those who answer while time stands still
        return f"tool {tool}, seed {seed}"

    def _on_pause(self, request: SetBool.Request) -> str:
        self._paused = request.data
        self._pacer.restart()
        return "paused" if self._paused else "running"

    def _on_step(self, request: StepSimulation.Request) -> str:
        if not (self._paused and self.is_active):
            raise ParameterError("the simulation is running; pause it with sim/pause before sim/step")
        self._advance(self._world.time + request.steps * self.config.timestep)
        return f"time {self._now():.3f} s"

    def _on_displace(self, request: DisplaceObject.Request) -> str:
        if request.drop:
            self._world.drop_object()
            return "dropped"
        self._world.displace_object(convert.matrix(request.displacement))
        return "displaced"

    def _report(self) -> Report:
        values = {"time [s]": self._now(), "tool": self._tool, "held": self._world.held, "seed": self._seed}
        values |= {"unanswered states": self._unanswered} if self.config.lockstep > 0.0 else {}
        return Report(OK, "paused" if self._paused else "running", values)


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(MujocoSimNode, args)
