"""Arm motions, and what the camera sees of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ideomotor.body.chain import KinematicChain
from ideomotor.body.excitation import ExcitationConfig, excitation_trajectory
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.world import JointState, KeypointTruth, Rgbd, World

CONTROL_PERIOD = 0.01  # [s] between commands

Reference = Callable[[float], Mapping[str, float]]  # time [s] -> joint positions by name [rad] or [m]


@dataclass(frozen=True)
class Frame:
    """What sensors and ground truth say at one moment."""

    stamp: float  # [s]
    joint_state: JointState
    image: Rgbd
    truth: KeypointTruth
    T_base_ee: np.ndarray  # (4, 4)
    T_ee_tool: np.ndarray  # (4, 4)
    tool_joint: float  # [rad] or [m]


def waving(world: World, rng: np.random.Generator, config: ExcitationConfig | None = None) -> Reference:
    """Return the body schema's waving motion, starting in the world's present configuration."""
    chain = KinematicChain.from_urdf(world.robot.urdf, ee_link=world.robot.ee_link)
    state = world.joint_state()
    start = chain.from_names(dict(zip(state.names, state.position.tolist(), strict=True)))
    inside = np.clip(start, chain.lower + 1e-6, chain.upper - 1e-6)  # gravity may press a joint onto its limit
    trajectory = excitation_trajectory(chain, inside, rng, config)
    return lambda time: dict(zip(chain.joint_names, trajectory.at(time).tolist(), strict=True))


def record_episode(world: World, reference: Reference, duration: float, rate: float = 30.0) -> Iterator[Frame]:
    """Drive the arm along ``reference`` and yield a frame every 1/rate seconds, the first one at once.

    The physics run between the frames; what happens to the world between two frames (a slip) happens at that moment.

    Raises:
        SimulationError: if the world takes no position commands, or holds nothing.
    """
    if world.config.actuation != "position":
        raise SimulationError(f"actuation={world.config.actuation!r}, expected 'position' to follow a reference")
    start, step = world.time, world.config.timestep
    ticks = max(1, round(CONTROL_PERIOD / step))
    for frame in range(round(duration * rate)):
        due = round((start + frame / rate) / step)
        while (now := round(world.time / step)) < due:
            world.set_command(reference(world.time - start))
            world.step(min(ticks, due - now))
        yield take_frame(world)


def take_frame(world: World) -> Frame:
    """Return images, joint state and ground truth of this moment."""
    return Frame(
        stamp=world.time,
        joint_state=world.joint_state(),
        image=world.render(),
        truth=world.keypoint_truth(),
        T_base_ee=world.T_base_ee(),
        T_ee_tool=world.T_ee_tool,
        tool_joint=world.tool_joint_position,
    )
