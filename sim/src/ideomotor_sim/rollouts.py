"""Many simulators of one robot, stepped by one policy: one compiled model, inference shared.

A simulator costs little beside MuJoCo's own step: contact forces are summed by MuJoCo's sensors, and states are read
for all robots at once. What a batch does follows from its starts, seeds and policy, bit for bit. The last bits of a
network's output may depend on how many rows it is given, so those of rollouts may depend on the size of their batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from ideomotor.config import Config, value
from ideomotor_sim.camera import CameraConfig
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.robots import Robot
from ideomotor_sim.scene import plain_scene
from ideomotor_sim.state_layout import check_physics
from ideomotor_sim.world_model import WorldConfig, compile_world, state_layout

Policy = Callable[[int, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(step, q (K, nq), v (K, nv), force (K, 3 nc)) -> effort (K, n); conventions of `ideomotor_sim.state_layout`."""


@dataclass(frozen=True, kw_only=True)
class RolloutConfig(Config):
    """Control period, noise, and when a robot with a floating base counts as fallen."""

    rate: float = value(250.0, "Efforts a second [Hz]; a whole number of physics steps each.", ge=1.0, le=10000.0)
    effort_noise: float = value(0.0, "Standard deviation of what is added to every effort [N m].", ge=0.0, le=1000.0)
    min_height: float = value(0.12, "Fallen: base lower than this [m].", ge=0.0, le=100.0)
    max_height: float = value(1.0, "Fallen: base higher than this [m].", ge=0.0, le=100.0)
    max_tilt: float = value(1.0, "Fallen: base's z axis further from upright than this [rad].", ge=0.0, le=3.2)


@dataclass(frozen=True)
class RolloutBatch:
    """What K robots did in T control steps; conventions of `ideomotor_sim.state_layout`."""

    q: np.ndarray  # (K, T+1, nq)
    v: np.ndarray  # (K, T+1, nv)
    force: np.ndarray  # (K, T+1, 3 nc) [N], of the last physics step before
    effort: np.ndarray  # (K, T, n) [N m], what the motors did from t to t+1: with noise, within the limits
    fallen: np.ndarray  # (K, T+1) bool, from the first state on that counts as fallen


class Rollouts:
    """Simulators of one robot.

    A robot that falls is simulated on, so that all rollouts are of one length; `RolloutBatch.fallen` says since when.

    Args:
        robot: the robot.
        world: physics; effort actuation.
        config: control period, noise, falls.

    Raises:
        SimulationError: if the world cannot be built, is not driven by efforts, or the control period is not a whole
            number of its time steps.
    """

    def __init__(self, robot: Robot, world: WorldConfig, config: RolloutConfig | None = None) -> None:
        self.config = config or RolloutConfig()
        if world.actuation != "effort":
            raise SimulationError(f"rollouts with actuation {world.actuation!r}, expected 'effort'")
        steps = 1.0 / (self.config.rate * world.timestep)
        self.substeps = round(steps)
        if self.substeps < 1 or abs(steps - self.substeps) > 1e-6:
            raise SimulationError(
                f"rate={self.config.rate} Hz is {steps:.4f} physics steps of timestep={world.timestep} s, "
                "expected a whole number"
            )
        self.model = compile_world(robot, None, plain_scene(), CameraConfig(), world, None)
        self.layout = state_layout(self.model, robot, world)
        self._data: list[mujoco.MjData] = []

    def collect(
        self, policy: Policy, q: np.ndarray, v: np.ndarray, steps: int, seeds: Sequence[int] | None = None
    ) -> RolloutBatch:
        """Run the policy from K states for a number of control steps.

        Args:
            policy: called once a control step for all robots.
            q: first states, shape (K, nq).
            v: their velocities, shape (K, nv).
            steps: T.
            seeds: of each robot's noise, K of them; None: 0 to K-1.

        Raises:
            SimulationError: for a bad state, an effort that is not finite, or if the physics diverged.
        """
        q, v = np.asarray(q, dtype=float), np.asarray(v, dtype=float)
        seeds = range(len(q)) if seeds is None else seeds
        if not q.ndim == v.ndim == 2 or not len(q) == len(v) == len(seeds) or len(q) == 0:
            raise SimulationError(f"q {q.shape}, v {v.shape} and {len(seeds)} seeds, expected (K, nq), (K, nv) and K")
        robots = _Robots(self._simulators(len(q)), self.model)
        for data, position, velocity in zip(robots.data, q, v, strict=True):
            mujoco.mj_resetData(self.model, data)
            self.layout.write(data, position, velocity)
            mujoco.mj_forward(self.model, data)
        return self._run(policy, robots, steps, self._noise(seeds, steps))

    def _run(self, policy: Policy, robots: "_Robots", steps: int, noise: np.ndarray | None) -> RolloutBatch:
        layout, count = self.layout, len(robots.data)
        q, v = np.empty((steps + 1, count, layout.nq)), np.empty((steps + 1, count, layout.nv))
        force, effort = np.empty((steps + 1, count, layout.nforce)), np.empty((steps, count, layout.n))
        q[0], v[0], force[0] = layout.read(*robots.read())
        for t in range(steps):
            wanted = np.asarray(policy(t, q[t], v[t], force[t]))
            if wanted.shape != effort[t].shape:
                raise SimulationError(f"step {t}: effort has shape {wanted.shape}, expected {effort[t].shape}")
            effort[t] = layout.effort(wanted if noise is None else wanted + noise[t])
            robots.step(layout.actuators, effort[t], self.substeps)
            q[t + 1], v[t + 1], force[t + 1] = layout.read(*robots.read())
        for data in robots.data:
            check_physics(data)
        by_robot = (np.ascontiguousarray(a.swapaxes(0, 1)) for a in (q, v, force, effort, self._fallen(q)))
        return RolloutBatch(*by_robot)

    def _simulators(self, count: int) -> list[mujoco.MjData]:
        while len(self._data) < count:
            self._data.append(mujoco.MjData(self.model))
        return self._data[:count]

    def _noise(self, seeds: Sequence[int], steps: int) -> np.ndarray | None:
        """Return what is added to the efforts, shape (T, K, n), from a generator for each robot."""
        if self.config.effort_noise == 0.0:
            return None
        shape = (steps, self.layout.n)
        normals = [np.random.default_rng(seed).normal(size=shape) for seed in seeds]
        return self.config.effort_noise * np.stack(normals, axis=1)

    def _fallen(self, q: np.ndarray) -> np.ndarray:
        """Return since when robots are down, shape (T+1, K) bool, from their states (T+1, K, nq)."""
        if not self.layout.floating_base:
            return np.zeros(q.shape[:2], dtype=bool)
        x, y, height = q[..., 3], q[..., 4], q[..., 2]
        upright = 1.0 - 2.0 * (x * x + y * y)  # cosine of the tilt
        c = self.config
        down = (height < c.min_height) | (height > c.max_height) | (upright < np.cos(c.max_tilt))
        return np.logical_or.accumulate(down, axis=0)


class _Robots:
    """Simulators with their arrays at hand: looking an array up in MjData costs more than copying it."""

    def __init__(self, data: list[mujoco.MjData], model: mujoco.MjModel) -> None:
        self.data, self._model = data, model
        self._arrays = [[getattr(d, name) for d in data] for name in ("qpos", "qvel", "sensordata")]
        self._rows = [np.empty((len(data), arrays[0].size)) for arrays in self._arrays]
        self._ctrl = [d.ctrl for d in data]

    def read(self) -> list[np.ndarray]:
        """Return qpos, qvel and sensordata, a row for each robot; valid until the next call."""
        for arrays, rows in zip(self._arrays, self._rows, strict=True):
            np.concatenate(arrays, out=rows.reshape(-1))
        return self._rows

    def step(self, actuators: np.ndarray, effort: np.ndarray, substeps: int) -> None:
        """Advance all robots with their efforts, shape (K, n)."""
        controls = np.zeros((len(self.data), self._model.nu))
        controls[:, actuators] = effort
        for data, ctrl, row in zip(self.data, self._ctrl, controls, strict=True):
            ctrl[:] = row
            mujoco.mj_step(self._model, data, substeps)
