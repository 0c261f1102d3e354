"""A MuJoCo world: a robot on its actuators, a tool in its gripper, an RGB-D camera, ground truth.

The base frame is the robot's root link and MuJoCo's world frame; with a floating base it is where the robot started,
on the floor. Robot and held tool touch nothing, but for a held peg and its hole, and the contact links and the floor; a
dropped tool falls on the floor. What the world does follows from its arguments and its seed.
"""

from collections.abc import Mapping

import mujoco
import numpy as np

from ideomotor_sim.actuation import robot_joints, tune_actuators
from ideomotor_sim.camera import CameraConfig, Renderer, RgbdSensor, set_camera_pose
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.ground import stand
from ideomotor_sim.observations import JointState as JointState
from ideomotor_sim.observations import KeypointTruth as KeypointTruth
from ideomotor_sim.observations import Rgbd as Rgbd
from ideomotor_sim.peg import Hole, Insertion, checked_pose, measure_insertion, place_hole
from ideomotor_sim.robots import Robot, root_name
from ideomotor_sim.scene import Scene
from ideomotor_sim.state_layout import check_physics
from ideomotor_sim.tools import Tool
from ideomotor_sim.transforms import inverse, pose_from, quaternion_from, transform
from ideomotor_sim.world_model import TOOL_GROUP, body_id, compile_world, hidden, show_tool, state_layout
from ideomotor_sim.world_model import WorldConfig as WorldConfig


class World:
    """One robot, one held tool (or none), one camera.

    Args:
        robot: the robot, from `ideomotor_sim.robots.Robot`.
        tool: what it holds.
        scene: the surroundings.
        camera: the camera and its noise.
        T_base_camera: pose of the camera's optical frame, shape (4, 4).
        config: physics and actuation.
        seed: of the sensor noise.
        home: joint positions after a reset, by name; joints not named are at zero, or at the nearest limit.
        spec: the robot's specification if it was read before (`robot_spec`); it is not changed.
        hole: a hole for the tool, which is then a peg.

    Raises:
        SimulationError: if the robot or the world cannot be built.
    """

    def __init__(
        self,
        robot: Robot,
        tool: Tool | None,
        scene: Scene,
        camera: CameraConfig,
        T_base_camera: np.ndarray,
        config: WorldConfig | None = None,
        *,
        seed: int = 0,
        home: Mapping[str, float] | None = None,
        spec: mujoco.MjSpec | None = None,
        hole: Hole | None = None,
    ) -> None:
        self.robot, self.tool, self.camera, self.hole = robot, tool, camera, hole
        self.config = config or WorldConfig()
        self.T_base_camera = np.array(T_base_camera)
        self.model = compile_world(robot, tool, scene, camera, self.config, spec, hole)
        self.data = mujoco.MjData(self.model)
        self._renderer: Renderer | None = None
        self._overview: Renderer | None = None
        self._ee = body_id(self.model, robot.ee_link)
        self._joints = robot_joints(self.model, robot.urdf)
        self.joint_names = tuple(self._joints)
        self.command_names = tuple(name for name, joint in self._joints.items() if joint.mimic is None)
        self.layout = state_layout(self.model, robot, self.config)
        self._home = {name: float(np.clip(0.0, j.lower, j.upper)) for name, j in self._joints.items()}
        self._home |= self._checked(home or {})
        set_camera_pose(self.model, self.T_base_camera)
        tune_actuators(self.model, self._joints, self.config.actuation, self.config.bandwidth)
        self.reset(seed)

    # --- state ------------------------------------------------------------------------------------------------

    def reset(self, seed: int) -> None:
        """Go back to home, the tool's own grasp and the hole's own place; start the sensor noise from ``seed``."""
        self._sensor = RgbdSensor(self.camera, np.random.default_rng(seed))
        self.held = self.tool is not None
        mujoco.mj_resetData(self.model, self.data)
        if self.tool is not None:
            self._place_tool(self.tool.T_ee_tool)
            show_tool(self.model, held=True, solid=self.hole is not None)
        if self.hole is not None:
            place_hole(self.model, self.hole.T_base_hole)
        self.set_configuration(self._home)
        if self.config.floating_base:
            stand(self.model, self.data, root_name(self.robot))
        if self.config.actuation == "position":
            self.set_command({name: self._home[name] for name in self.command_names})

    def set_configuration(self, position: Mapping[str, float], tool_joint: float | None = None) -> None:
        """Place the robot at rest in a configuration, without physics.

        Args:
            position: joint positions by name [rad] or [m]; joints not named stay.
            tool_joint: position of the tool's internal joint [rad] or [m]; None leaves it.

        Raises:
            SimulationError: for an unknown joint or a value that is not finite.
        """
        for name, target in self._checked(position).items():
            self.data.qpos[self._joints[name].qpos] = target
        for joint in self._joints.values():
            if joint.mimic is not None:
                source, multiplier, offset = joint.mimic
                self.data.qpos[joint.qpos] = offset + multiplier * self.data.qpos[self._joints[source].qpos]
        if tool_joint is not None and self.tool is not None and self.tool.joint is not None:
            self.data.joint("tool_joint").qpos[0] = tool_joint
        self.data.qvel[:] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def set_command(self, command: Mapping[str, float]) -> None:
        """Set the command of joints by name, in the unit of the actuation; others keep theirs.

        Commands outside of the joint's limits are clipped to them, as the hardware would.

        Raises:
            SimulationError: for an unknown joint or a value that is not finite; no command is changed then.
        """
        checked = self._checked(command)
        for name in checked:
            if self._joints[name].mimic is not None:
                raise SimulationError(f"joint {name!r} mimics another one and takes no command")
        for name, target in checked.items():
            self.data.ctrl[self._joints[name].actuator] = target
        for joint in self._joints.values():
            if joint.mimic is not None:
                source, multiplier, offset = joint.mimic
                shift = offset if self.config.actuation == "position" else 0.0
                self.data.ctrl[joint.actuator] = shift + multiplier * self.data.ctrl[self._joints[source].actuator]

    def set_effort(self, effort: np.ndarray) -> None:
        """Set the efforts of `layout.joints`, shape (n,) [N m] or [N]; more than the URDF's limits is clipped.

        Raises:
            SimulationError: without effort actuation, or for a wrong shape or a number that is not finite; no effort is
                changed then.
        """
        if self.config.actuation != "effort":
            raise SimulationError(f"set_effort with actuation {self.config.actuation!r}, expected 'effort'")
        self.data.ctrl[self.layout.actuators] = self.layout.effort(effort)

    def set_state(self, q: np.ndarray, v: np.ndarray) -> None:
        """Put the robot into a state, shapes (nq,) and (nv,) as in `ideomotor_sim.state_layout`, without physics.

        Raises:
            SimulationError: for a wrong shape, a number that is not finite, or a quaternion that is not of norm one.
        """
        self.layout.write(self.data, q, v)
        mujoco.mj_forward(self.model, self.data)

    def state(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return q (nq,), v (nv,) and the force of the floor on the contact links (3 nc,) [N].

        Conventions are those of `ideomotor_sim.state_layout`. The force is that of the last physics step.
        """
        data = self.data
        q, v, force = self.layout.read(data.qpos[None], data.qvel[None], data.sensordata[None])
        return q[0], v[0], force[0]

    def step(self, steps: int = 1) -> None:
        """Advance the physics.

        Raises:
            SimulationError: if it diverged.
        """
        mujoco.mj_step(self.model, self.data, steps)
        check_physics(self.data)
        mujoco.mj_kinematics(self.model, self.data)  # mj_step leaves the bodies where they were before its last step

    @property
    def time(self) -> float:
        """Simulated time since the reset [s]."""
        return float(self.data.time)

    def joint_state(self) -> JointState:
        """Return the robot's joints (not the tool's)."""
        joints = self._joints.values()
        qpos, dof = [j.qpos for j in joints], [j.dof for j in joints]
        return JointState(
            stamp=self.time,
            names=self.joint_names,
            position=self.data.qpos[qpos],
            velocity=self.data.qvel[dof],
            effort=self.data.qfrc_actuator[dof],
        )

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper joint limits, shape (n,) each, in the order of ``joint_names``."""
        joints = self._joints.values()
        return np.array([j.lower for j in joints]), np.array([j.upper for j in joints])

    # --- the held object --------------------------------------------------------------------------------------

    def displace_object(self, T_displacement: np.ndarray) -> None:
        """Move the held object in the gripper (a slip): T_ee_tool becomes ``T_displacement @ T_ee_tool``.

        Raises:
            SimulationError: if nothing is held or the pose is not a finite (4, 4) array.
        """
        if not self.held:
            raise SimulationError("no object is held: nothing to displace")
        T = np.asarray(T_displacement, dtype=float)
        if T.shape != (4, 4) or not np.isfinite(T).all():
            raise SimulationError(f"displacement {T.tolist()}, expected a finite pose of shape (4, 4)")
        self._place_tool(T @ self.T_ee_tool)
        mujoco.mj_kinematics(self.model, self.data)

    def drop_object(self) -> None:
        """Let go of the held object; it falls.

        Raises:
            SimulationError: if nothing is held.
        """
        if not self.held:
            raise SimulationError("no object is held: nothing to drop")
        fallen = self.data.joint("dropped_free")
        T = self.T_base_tool()
        fallen.qpos[:3], fallen.qpos[3:], fallen.qvel[:] = T[:3, 3], quaternion_from(T[:3, :3]), 0.0
        show_tool(self.model, held=False, solid=True)
        self.held = False
        mujoco.mj_forward(self.model, self.data)

    @property
    def T_ee_tool(self) -> np.ndarray:
        """The present grasp, shape (4, 4)."""
        body = self.model.body("tool")
        R = np.zeros(9)
        mujoco.mju_quat2Mat(R, body.quat)
        return pose_from(body.pos, R.reshape(3, 3))

    @property
    def tool_joint_position(self) -> float:
        """Position of the tool's internal joint [rad] or [m]; 0 for a rigid tool."""
        if self.tool is None or self.tool.joint is None:
            return 0.0
        return float(self.data.joint("tool_joint").qpos[0])

    # --- the hole ---------------------------------------------------------------------------------------------

    def move_hole(self, T_base_hole: np.ndarray) -> None:
        """Put the hole somewhere else, until the next reset.

        Raises:
            SimulationError: if there is none or the pose is not a finite (4, 4) array.
        """
        self._the_hole()
        place_hole(self.model, checked_pose("T_base_hole", T_base_hole))
        mujoco.mj_kinematics(self.model, self.data)

    def T_base_hole(self) -> np.ndarray:
        """Pose of the hole in the base frame, shape (4, 4): origin in the centre of its mouth, z out of it.

        Raises:
            SimulationError: if there is no hole.
        """
        self._the_hole()
        body = self.data.body("hole")
        return pose_from(body.xpos, body.xmat.reshape(3, 3))

    def insertion(self) -> Insertion:
        """Return how deep the peg is in the hole.

        Raises:
            SimulationError: if there is no hole, or the peg was dropped.
        """
        hole = self._the_hole()
        if self.tool is None or not self.held:
            raise SimulationError("no object is held: nothing to insert")
        return measure_insertion(self.tool, hole, self.T_base_tool(), self.T_base_hole())

    def _the_hole(self) -> Hole:
        if self.hole is None:
            raise SimulationError("there is no hole in this world")
        return self.hole

    # --- ground truth -----------------------------------------------------------------------------------------

    def T_base_ee(self) -> np.ndarray:
        """Pose of the end-effector link in the base frame, shape (4, 4)."""
        return pose_from(self.data.xpos[self._ee], self.data.xmat[self._ee].reshape(3, 3))

    def T_base_tool(self) -> np.ndarray:
        """Pose of the held object in the base frame, shape (4, 4)."""
        return self.T_base_ee() @ self.T_ee_tool

    def T_camera_ee(self) -> np.ndarray:
        """Pose of the end-effector link in the optical frame, shape (4, 4)."""
        return inverse(self.T_base_camera) @ self.T_base_ee()

    def keypoints_ee(self) -> np.ndarray:
        """Keypoints of the held object in the end-effector frame, shape (4, 3) [m].

        Raises:
            SimulationError: if nothing is held.
        """
        if self.tool is None or not self.held:
            raise SimulationError("no object is held: there are no keypoints")
        return self.tool.keypoints_ee(self.T_ee_tool, self.tool_joint_position)

    def keypoints_base(self) -> np.ndarray:
        """Keypoints of the held object in the base frame, shape (4, 3) [m]."""
        return transform(self.T_base_ee(), self.keypoints_ee())

    def tip_position_ee(self) -> np.ndarray:
        """Working point in the end-effector frame, shape (3,) [m]."""
        return self.keypoints_ee()[-1]

    def tip_position_base(self) -> np.ndarray:
        """Working point in the base frame, shape (3,) [m]."""
        return self.keypoints_base()[-1]

    def keypoint_truth(self) -> KeypointTruth:
        """Project the keypoints and see which ones the camera sees."""
        position = self.keypoints_ee()
        in_camera = transform(self.T_camera_ee(), position)  # (K, 3)
        uv = np.full((len(position), 2), np.nan)
        front = in_camera[:, 2] > 1e-3
        uv[front] = self.camera.intrinsics.project(in_camera[front])
        size = np.array([self.camera.width, self.camera.height])
        visible = front & ((uv > -0.5) & (uv < size - 0.5)).all(axis=-1)
        for k in np.flatnonzero(visible):
            visible[k] = not hidden(
                self.model, self.data, self.T_base_camera[:3, 3], transform(self.T_base_camera, in_camera[k])
            )
        return KeypointTruth(position, uv, in_camera[:, 2], visible)

    # --- camera -----------------------------------------------------------------------------------------------

    def set_camera_pose(self, T_base_camera: np.ndarray) -> None:
        """Move the camera's optical frame to a pose in the base frame, shape (4, 4)."""
        self.T_base_camera = np.array(T_base_camera)
        set_camera_pose(self.model, self.T_base_camera)
        mujoco.mj_camlight(self.model, self.data)

    def render(self) -> Rgbd:
        """Take a picture."""
        rgb, depth = self._rendering().rgbd(self.data)
        return Rgbd(self.time, self._sensor.colour(rgb), self._sensor.depth(depth), depth)

    def object_mask(self, depth_exact: np.ndarray) -> np.ndarray:
        """Pixels that show the held object, shape (H, W) bool, given the present picture's exact depth."""
        alone = self._rendering().depth_of_group(self.data, TOOL_GROUP)
        return (alone <= depth_exact + 1e-5) & (alone < 0.5 * self.model.vis.map.zfar)

    def overview(self, T_base_camera: np.ndarray, camera: CameraConfig) -> np.ndarray:
        """Return a noise-free picture for people from another pose, shape (H, W, 3) uint8; the field of view is shared.

        Args:
            T_base_camera: pose of its optical frame, shape (4, 4).
            camera: its image size; always the same for one world.
        """
        if self._overview is None:
            self._overview = Renderer(self.model, camera)
        try:
            set_camera_pose(self.model, T_base_camera)
            mujoco.mj_camlight(self.model, self.data)
            return self._overview.rgbd(self.data)[0]
        finally:
            self.set_camera_pose(self.T_base_camera)

    def close(self) -> None:
        """Free the renderers."""
        for renderer in (self._renderer, self._overview):
            if renderer is not None:
                renderer.close()
        self._renderer = self._overview = None

    def _rendering(self) -> Renderer:
        if self._renderer is None:
            self._renderer = Renderer(self.model, self.camera)
        return self._renderer

    # --- internals --------------------------------------------------------------------------------------------

    def _checked(self, values: Mapping[str, float]) -> dict[str, float]:
        for name, number in values.items():
            if name not in self._joints:
                raise SimulationError(f"unknown joint {name!r}; the robot has {list(self._joints)}")
            if not np.isfinite(number):
                raise SimulationError(f"joint {name!r}: {number}, expected a finite number")
        return {name: float(number) for name, number in values.items()}

    def _place_tool(self, T_ee_tool: np.ndarray) -> None:
        body = self.model.body("tool")
        body.pos, body.quat = T_ee_tool[:3, 3], quaternion_from(T_ee_tool[:3, :3])
