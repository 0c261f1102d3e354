"""A video of a robot's motion, rendered off-screen; a target motion may go along with it as a translucent ghost."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import mujoco
import numpy as np

from ideomotor.config import Config, value
from ideomotor_sim.camera import CameraConfig, Renderer, look_at, set_camera_pose
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.robots import Robot
from ideomotor_sim.scene import plain_scene
from ideomotor_sim.state_layout import StateLayout
from ideomotor_sim.world_model import WorldConfig, compile_world, state_layout

GHOST = (0.15, 0.45, 0.95, 0.35)  # rgba
_VIEW = np.array([0.75, 0.95, 0.35])  # from the robot to the camera, in sizes of what is to be seen
_DISTANCE = 1.6  # the same, at the default field of view


@dataclass(frozen=True, kw_only=True)
class VideoConfig(Config):
    """Size and pace of a video."""

    width: int = value(640, "Image width [px].", ge=16, le=1920)
    height: int = value(480, "Image height [px].", ge=16, le=1080)
    fps: float = value(25.0, "Images a second [Hz].", ge=1.0, le=120.0)
    speed: float = value(
        1.0, "Seconds of the motion in a second of the video; below 1 is slow motion.", ge=0.01, le=10.0
    )


def write_video(
    path: Path,
    robot: Robot,
    world: WorldConfig,
    q: np.ndarray,
    rate: float,
    *,
    target: np.ndarray | None = None,
    T_base_camera: np.ndarray | None = None,
    config: VideoConfig | None = None,
) -> int:
    """Write a motion as MP4 and return its number of images.

    Args:
        path: the file; its folder exists.
        robot: the robot.
        world: the configuration it moved in: order of joints, free base or not, payload.
        q: the motion, shape (T, nq), in the convention of `ideomotor_sim.state_layout`.
        rate: its states a second [Hz].
        target: where it should have been, shape (T', nq) at the same rate; after its end it stays.
        T_base_camera: pose of the camera's optical frame, shape (4, 4); None sees all of the motion from the side.
        config: size and pace.

    Raises:
        SimulationError: if the motion has not the robot's shape or is not finite, or the file cannot be written.
    """
    config = config or VideoConfig()
    if not rate > 0.0:
        raise SimulationError(f"rate={rate}, expected a positive number of states a second [Hz]")
    camera = CameraConfig(width=config.width, height=config.height)
    model = compile_world(robot, None, plain_scene(), camera, world, None)
    layout = state_layout(model, robot, world)
    frames = _frames(len(q), rate * config.speed / config.fps)
    with _Stage(model, layout, camera) as stage:
        stage.look(look_at_all(model, layout, q) if T_base_camera is None else T_base_camera)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), config.fps, (config.width, config.height))
        if not writer.isOpened():
            raise SimulationError(f"{path}: cannot be written as a video; does its folder exist, does it end in .mp4?")
        try:
            for i in frames:
                ghost = None if target is None else target[min(i, len(target) - 1)]
                writer.write(cv2.cvtColor(stage.picture(q[i], ghost), cv2.COLOR_RGB2BGR))
        finally:
            writer.release()
    return len(frames)


def look_at_all(model: mujoco.MjModel, layout: StateLayout, q: np.ndarray) -> np.ndarray:
    """Return a camera pose, shape (4, 4), from which a motion (T, nq) is seen from its left front."""
    data, points = mujoco.MjData(model), []
    moving = np.flatnonzero(model.body_weldid > 0)
    for state in q[:: max(1, len(q) // 20)]:
        layout.write(data, state, np.zeros(layout.nv))
        mujoco.mj_kinematics(model, data)
        points.append(data.xpos[moving])
    low, high = np.concatenate(points).min(axis=0), np.concatenate(points).max(axis=0)
    size = max(0.3, float(np.linalg.norm(high - low)))
    centre = (low + high) / 2.0
    return look_at(centre + _DISTANCE * size * _VIEW / np.linalg.norm(_VIEW), centre)


def _frames(count: int, stride: float) -> list[int]:
    """Return which states are shown."""
    if count == 0:
        raise SimulationError("q has no states, expected shape (T, nq) with T at least 1")
    return [int(i) for i in np.arange(0.0, count - 0.5, stride)]


class _Stage:
    """The robot and its ghost before a camera; physics does not run."""

    def __init__(self, model: mujoco.MjModel, layout: StateLayout, camera: CameraConfig) -> None:
        self._model, self._layout = model, layout
        self._robot, self._ghost = mujoco.MjData(model), mujoco.MjData(model)
        self._renderer = Renderer(model, camera)

    def __enter__(self) -> "_Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self._renderer.close()

    def look(self, T_base_camera: np.ndarray) -> None:
        """Place the camera."""
        set_camera_pose(self._model, T_base_camera)

    def picture(self, q: np.ndarray, ghost: np.ndarray | None) -> np.ndarray:
        """Return an image, shape (H, W, 3) uint8."""
        self._pose(self._robot, q)
        if ghost is None:
            return self._renderer.rgbd(self._robot)[0]
        self._pose(self._ghost, ghost)
        return self._renderer.with_ghost(self._robot, self._ghost, GHOST)

    def _pose(self, data: mujoco.MjData, q: np.ndarray) -> None:
        self._layout.write(data, q, np.zeros(self._layout.nv))
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_camlight(self._model, data)
