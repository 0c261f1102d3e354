"""The demonstration of a learned reward: place the tip on goals nobody showed, at several speeds, and print a table.

A client of the other nodes, as a user's own program would be; `tip_controller` has the reward. Only true errors need
the simulator. What is right is what the script of `demonstrate` would have done from the same start.
"""

import json
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState as JointStateMsg

from ideomotor.body.chain import KinematicChain
from ideomotor.config import value
from ideomotor.planning.held_points import HeldPoints
from ideomotor.planning.path_error import path_error
from ideomotor.planning.reward_planner import PathProblem, plan
from ideomotor.planning.scripted import (
    PlacingConfig,
    random_goal,
    random_start,
    scripted_placing,
)
from ideomotor.rewards.artefact import LearnedReward
from ideomotor.rewards.weights import Uniform
from ideomotor_interfaces.action import MoveTip
from ideomotor_interfaces.msg import BodySchema, RewardState
from ideomotor_nodes import convert
from ideomotor_nodes.client import BodySchemaClient, ClientError, run_client
from ideomotor_nodes.params import NodeConfig, check_overrides, declare_config
from ideomotor_nodes.pictures import Pictures
from ideomotor_nodes.qos import STREAM

START_TIMEOUT = 60.0  # [s] for all nodes to come up
PICTURE_TIMEOUT = 5.0  # [s]
STEPS = 50  # of the straight way
DRAWN = 40  # states of a path in a picture


@dataclass(frozen=True, kw_only=True)
class RewardUseConfig(NodeConfig):
    """Parameters of the demonstration."""

    reward: str = value("", "Folder of the reward that tip_controller has.")
    ee_link: str = value("gripper_tcp", "Link that holds the tool.")
    estimation_duration: float = value(3.0, "How long to look at the tool while waving it [s].", ge=0.5, le=60.0)
    goals: int = value(2, "Number of goals.", ge=1, le=100)
    paces: tuple[float, ...] = value((0.7, 1.0, 2.0), "Durations by the demonstrations' mean duration [1].")
    spread: float = value(0.2, "Largest change of a joint to a start or to a goal [rad] or [m].", ge=0.01, le=1.0)
    success_error: float = value(0.02, "Largest distance from the goal of a success [m].", ge=0.0, le=1.0)
    seed: int = value(0, "Seed of goals and starts.", ge=0, le=2**31)
    run_folder: str = value("", "Folder for table and pictures; empty: none are written.")


@dataclass(frozen=True)
class Execution:
    """One way to a goal."""

    goal: int
    asked: float  # duration [s]
    taken: float | None  # [s]; None if it did not come to the end of the path
    failure: str  # the controller's reason; empty if the goal was reached
    final_error: float  # of the tool's true working point; by kinematics on a real robot [m]
    path_error: float | None  # from the script's path [m]; None if it did not come to the end of its own
    straight_path_error: float  # that of the straight way [m]


class RewardUse(BodySchemaClient):
    """Runs one episode."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("reward_use", **node_options)
        self.config = declare_config(self, RewardUseConfig)
        check_overrides(self)
        self._reward = LearnedReward.load(self.config.reward, provider="CPUExecutionProvider")
        self._placing = PlacingConfig(variation=0.0)
        self._rng = np.random.default_rng([self.config.seed, 1])  # others than those of `demonstrate` of this seed
        self._pictures = Pictures(self, self.config.run_folder)
        self._chain: KinematicChain | None = None
        self._true_path: list[np.ndarray] = []  # of the tip, (3,) in the base frame [m]
        self._measured_path: list[np.ndarray] = []  # the same by kinematics
        self._states: list[RewardState] = []
        self.create_subscription(RewardState, "reward", self._states.append, STREAM)

    def run(self) -> bool:
        """Run the episode; return whether every goal was reached.

        Raises:
            ClientError: a node is missing, or the body schema could not be estimated.
            ScriptedMotionError: there is no goal within the spread.
        """
        config = self.config
        self.wait_for_robot(START_TIMEOUT)
        positions = self.joint_states.positions
        schema = self.estimate(config.estimation_duration)
        if any(joint.type != joint.FIXED for joint in schema.joints):
            raise ClientError("the held object has a joint of its own; placing is done with a rigid one")
        chain = self._chain = self.extended_chain(schema)
        q = chain.from_names(positions)
        executions: list[Execution] = []
        _say(f"{'goal [m]':<24} {'asked [s]':>9} {'taken [s]':>9} {'from goal [mm]':>14} {'path error [mm]':>15}")
        for number in range(config.goals):
            T_base_goal = random_goal(chain, q, self._rng, spread=config.spread, config=self._placing)
            T_base_start = chain.forward(
                random_start(chain, q, T_base_goal, self._rng, spread=config.spread, config=self._placing)
            )
            paths = []
            for pace in config.paces:
                execution, path = self._execute(number, chain, T_base_start, T_base_goal, pace)
                executions.append(execution)
                paths.append(path)
                self._tell(T_base_goal, execution)
            _say(f"{'':<24} {'straight way':<34} {1e3 * executions[-1].straight_path_error:>15.1f}")
            self._take_picture(f"goal_{number}", schema, chain, paths)
        self._write(executions)
        return all(not e.failure and e.final_error <= config.success_error for e in executions)

    def _execute(
        self, number: int, chain: KinematicChain, T_base_start: np.ndarray, T_base_goal: np.ndarray, pace: float
    ) -> tuple[Execution, np.ndarray]:
        """Go to the start and then to the goal; return also the tip's path, shape (N, 3) in the base frame [m]."""
        result = self.move_tip_to_pose(T_base_start, chain.base_link, chain.ee_link)
        if result.error_code != MoveTip.Result.NONE:
            raise ClientError(f"moving to the start failed (code {result.error_code}): {result.error_msg}")
        self.wait_until_at_rest(chain)
        q_start = self.joint_states.latest(chain.joint_names)
        shown = scripted_placing(chain, q_start, T_base_goal, rng=self._rng, config=self._placing)
        for record in (self._true_path, self._measured_path, self._states):
            record.clear()
        duration = pace * self._reward.duration
        result = self.move_tip_to_pose(T_base_goal, chain.base_link, chain.ee_link, duration)
        self.wait_until_at_rest(chain)
        path = np.array(self._true_path or self._measured_path)
        taken, reference = _taken(self._states), _tip(chain, shown)
        execution = Execution(
            goal=number,
            asked=duration,
            taken=taken,
            failure="" if result.error_code == result.NONE else result.error_msg,
            final_error=float(np.linalg.norm(path[-1] - T_base_goal[:3, 3])),
            path_error=None if taken is None else _path_error(path, reference),
            straight_path_error=_path_error(straight_way(chain, q_start, T_base_goal), reference),
        )
        return execution, path

    def _tell(self, T_base_goal: np.ndarray, e: Execution) -> None:
        goal = " ".join(f"{x:7.3f}" for x in T_base_goal[:3, 3])
        taken = "-" if e.taken is None else f"{e.taken:.2f}"
        path = "-" if e.path_error is None else f"{1e3 * e.path_error:.1f}"
        _say(f"{goal:<24} {e.asked:>9.2f} {taken:>9} {1e3 * e.final_error:>14.1f} {path:>15}  {e.failure}".rstrip())

    def _take_picture(self, name: str, schema: BodySchema, chain: KinematicChain, paths: list[np.ndarray]) -> None:
        """Draw the chain, and the paths that the tip took."""
        if not self._pictures.wanted:
            return
        self._pictures.forget()
        with suppress(ClientError):  # a real robot has no overview: then only what there is
            self.wait_for(lambda: self._pictures.complete, "pictures", PICTURE_TIMEOUT)
        joints = self.joint_states.latest(chain.joint_names)
        links = [self.config.ee_link, *(joint.child_link for joint in schema.joints)]
        positions = [chain.forward(joints, link)[:3, 3] for link in links]
        parents = [-1, *(links.index(joint.parent_link) for joint in schema.joints)]
        for path in paths:
            few = path[np.linspace(0, len(path) - 1, DRAWN).astype(int)]
            parents += [-1, *range(len(positions), len(positions) + DRAWN - 1)]
            positions += list(few)
        self._pictures.save(name, chain.base_link, np.array(positions), parents)

    def _write(self, executions: list[Execution]) -> None:
        if self.config.run_folder:
            folder = Path(self.config.run_folder)
            folder.mkdir(parents=True, exist_ok=True)
            content = [asdict(e) for e in executions]
            (folder / "executions.json").write_text(json.dumps(content, indent=2) + "\n")
            _say(f"pictures and numbers: {folder}")

    def _on_true_tip(self, msg: PoseStamped) -> None:
        super()._on_true_tip(msg)
        self._true_path.append(convert.matrix(msg.pose)[:3, 3])

    def _on_joint_state(self, msg: JointStateMsg) -> None:
        super()._on_joint_state(msg)
        if self._chain is not None:
            q = self.joint_states.latest(self._chain.joint_names)
            self._measured_path.append(self._chain.forward(q)[:3, 3])


def straight_way(chain: KinematicChain, q_start: np.ndarray, T_base_goal: np.ndarray) -> np.ndarray:
    """Return where the tip goes if nothing is preferred, shape (N, 3) in the base frame [m]."""
    points = HeldPoints(chain, np.concatenate([np.zeros((1, 3)), 0.1 * np.eye(3)]))  # a pose is three directions
    goal = points.position_ee @ T_base_goal[:3, :3].T + T_base_goal[:3, 3]
    path: np.ndarray = plan(PathProblem(points, Uniform(), q_start, goal, np.eye(3)), STEPS).keypoints[:, 0]
    return path


def _tip(chain: KinematicChain, q: np.ndarray) -> np.ndarray:
    path: np.ndarray = chain.forward_batch(q)[:, :3, 3]
    return path


def _path_error(path: np.ndarray, reference: np.ndarray) -> float:
    """Return the distance of two paths of the tip, shapes (N, 3) and (M, 3) [m]."""
    return path_error(path[:, None], reference[:, None])


def _taken(states: list[RewardState]) -> float | None:
    """Return how long the path took [s]; None if it was not followed to its end."""
    stamps = [convert.seconds(state.header.stamp) for state in states]
    ends = [stamp for stamp, state in zip(stamps, states, strict=True) if state.progress >= 1.0]
    return ends[0] - stamps[0] if ends else None


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(args: list[str] | None = None) -> int:
    """Run the episode; 0 if every goal was reached, 1 if not, 2 for bad parameters."""
    return run_client(RewardUse, args)
