"""The demonstration: learn the held tool, put its tip where it is asked to, print a table, leave pictures.

A client of the other nodes, as a user's own program would be. Only the column of true errors needs the simulator.
"""

import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ideomotor.body.chain import KinematicChain
from ideomotor.config import value
from ideomotor.planning.goals import reachable_positions
from ideomotor_interfaces.msg import BodySchema, VirtualJoint
from ideomotor_nodes import convert
from ideomotor_nodes.client import BodySchemaClient, ClientError, run_client
from ideomotor_nodes.params import NodeConfig, check_overrides, declare_config
from ideomotor_nodes.pictures import Pictures

PICTURE_TIMEOUT = 5.0  # [s]; the first overview takes the longest
START_TIMEOUT = 60.0  # [s] for all nodes to come up
JOINT_TYPES = {VirtualJoint.FIXED: "fixed", VirtualJoint.REVOLUTE: "revolute", VirtualJoint.PRISMATIC: "prismatic"}


@dataclass(frozen=True, kw_only=True)
class ToolUseConfig(NodeConfig):
    """Parameters of the demonstration."""

    ee_link: str = value("gripper_tcp", "Link that holds the tool.")
    duration: float = value(3.0, "How long to look at the tool while waving it [s].", ge=0.5, le=60.0)
    goals: int = value(3, "Number of goals for the tip.", ge=1, le=100)
    compare: int = value(1, "Of these, how many are tried again without the extension.", ge=0, le=100)
    success_error: float = value(0.03, "Largest distance from the goal of a success [m].", ge=0.0, le=1.0)
    seed: int = value(0, "Seed of the goals.", ge=0, le=2**31)
    run_folder: str = value("", "Folder for table and pictures; empty: none are written.")


@dataclass(frozen=True)
class Placement:
    """One goal, and how far from it the tip ended."""

    link: str  # that was moved to the goal
    goal: tuple[float, ...]  # (3,) in the base frame [m]
    failure: str  # the controller's reason; empty if the goal was reached
    error_by_kinematics: float  # of the moved link [m]
    error: float | None  # of the tool's true working point [m]; None on a real robot


class ToolUse(BodySchemaClient):
    """Runs one episode."""

    def __init__(self) -> None:
        super().__init__("tool_use")
        self.config = declare_config(self, ToolUseConfig)
        check_overrides(self)
        self._pictures = Pictures(self, self.config.run_folder)

    def run(self) -> bool:
        """Run the episode; return whether every goal was reached with the extension.

        Raises:
            ClientError: a node is missing, or the body schema could not be estimated.
        """
        self.wait_for_robot(START_TIMEOUT)
        schema = self.estimate(self.config.duration)
        chain = self.extended_chain(schema)
        self._take_picture("extended", schema, chain)
        q = self.joint_states.latest(chain.joint_names)
        goals = reachable_positions(chain, q, self.config.goals, np.random.default_rng(self.config.seed))
        placements = [self._place(chain.base_link, schema.tip_link, goal) for goal in goals]
        self._take_picture("placed", schema, chain)
        without = [self._place(chain.base_link, self.config.ee_link, goal) for goal in goals[: self.config.compare]]
        self._report(schema, placements, without)
        return all(self._succeeded(p) for p in placements)

    def _take_picture(self, name: str, schema: BodySchema, chain: KinematicChain) -> None:
        if self._pictures.wanted:
            self._pictures.forget()
            with suppress(ClientError):  # a real robot has no overview: then only what there is
                self.wait_for(lambda: self._pictures.complete, "pictures", PICTURE_TIMEOUT)
            joints = self.joint_states.latest(chain.joint_names)
            links = [self.config.ee_link, *(joint.child_link for joint in schema.joints)]
            positions = np.array([chain.forward(joints, link)[:3, 3] for link in links])
            parents = [-1, *(links.index(joint.parent_link) for joint in schema.joints)]
            self._pictures.save(name, chain.base_link, positions, parents)

    def _succeeded(self, placement: Placement) -> bool:
        error = placement.error_by_kinematics if placement.error is None else placement.error
        return not placement.failure and error <= self.config.success_error

    def _place(self, frame: str, link: str, goal: np.ndarray) -> Placement:
        result = self.move_tip(goal, frame, link)
        truth = self.fresh_true_tip()
        error = None
        if truth is not None:
            error = float(np.linalg.norm(goal - convert.matrix(truth.pose)[:3, 3]))
        failure = "" if result.error_code == result.NONE else result.error_msg
        return Placement(link, tuple(goal.tolist()), failure, result.position_error, error)

    def _report(self, schema: BodySchema, placements: list[Placement], without: list[Placement]) -> None:
        std = 1e3 * schema.tip_std
        _say(f"{len(schema.joints)} virtual joints from {schema.frames} frames, tip known to {std:.1f} mm (1 sigma)")
        for joint in schema.joints:
            _say(f"  {joint.name:<24} {JOINT_TYPES[joint.type]:<10} on {joint.parent_link}")
        _say(f"{'moved link':<16} {'goal [m]':<24} {'tip from goal [mm]':>18}")
        for p in [*placements, *without]:
            error = p.error_by_kinematics if p.error is None else p.error
            goal = " ".join(f"{x:7.3f}" for x in p.goal)
            note = "without the extension" if p in without else p.failure
            _say(f"{p.link:<16} {goal:<24} {1e3 * error:>18.1f}  {note}")
        if self.config.run_folder:
            content = {"with": [vars(p) for p in placements], "without": [vars(p) for p in without]}
            Path(self.config.run_folder, "placements.json").write_text(json.dumps(content, indent=2) + "\n")
            _say(f"pictures and numbers: {self.config.run_folder}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(args: list[str] | None = None) -> int:
    """Run the episode; 0 if every goal was reached, 1 if not."""
    return run_client(ToolUse, args)
