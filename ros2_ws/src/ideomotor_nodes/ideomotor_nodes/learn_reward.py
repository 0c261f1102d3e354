"""Have a reward learned, say how far it is, and what came of it: a client of `reward_learner`."""

import sys
from dataclasses import dataclass
from typing import Any

from rclpy.action import ActionClient

from ideomotor.config import value
from ideomotor_interfaces.action import LearnReward
from ideomotor_nodes.client import Client, ClientError, run_client
from ideomotor_nodes.params import NodeConfig, check_overrides, declare_config

START_TIMEOUT = 60.0  # [s] for the node to come up
SILENCE = 120.0  # [s] the longest piece of work: the export
LINES = 10  # of progress


@dataclass(frozen=True, kw_only=True)
class LearnRewardConfig(NodeConfig):
    """Parameters of the client: the action's goal."""

    demonstrations: str = value("", "Folder of a recording of demonstrations, or of several recordings.")
    family: str = value("", "Cost family; empty: the default.")
    min_horizon: int = value(0, "Fewest steps of an inner problem; 0: the default.", ge=0, le=200)
    max_horizon: int = value(0, "Most steps of an inner problem; 0: the default.", ge=0, le=200)
    artefact: str = value("", "Folder of the artefact to write.")
    seed: int = value(0, "Seed of weights and horizons.", ge=0, le=2**31 - 1)


class LearnRewardClient(Client):
    """Sends one goal."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("learn_reward", **node_options)
        self.config = declare_config(self, LearnRewardConfig)
        check_overrides(self)
        self._client = ActionClient(self, LearnReward, "reward_learner/learn")
        self._told = 0.0

    def run(self) -> bool:
        """Learn; return true.

        Raises:
            ClientError: there is no reward_learner, or it could not learn.
        """
        config = self.config
        goal = LearnReward.Goal(
            demonstrations=config.demonstrations,
            family=config.family,
            min_horizon=config.min_horizon,
            max_horizon=config.max_horizon,
            artefact=config.artefact,
            seed=config.seed,
        )
        self.wait_for(self._client.server_is_ready, "action server reward_learner/learn", START_TIMEOUT)
        result = self.call(self._client, goal, "learning", SILENCE, self._on_feedback)
        if result.error_code != result.NONE:
            raise ClientError(f"learning failed (code {result.error_code}): {result.error_msg}")
        measured = f"{result.held_out} more" if result.held_out else "them"
        _say(f"learned from {result.demonstrations} demonstrations of {result.duration:.1f} s; measured on {measured}:")
        for pace, final, path in zip(result.pace, result.final_error, result.path_error, strict=True):
            _say(f"  in {pace:4g} x the steps: {1e3 * final:6.1f} mm from the goal, path error {1e3 * path:6.1f} mm")
        _say(f"artefact: {config.artefact}")
        return True

    def _on_feedback(self, feedback: LearnReward.Feedback) -> None:
        if feedback.progress >= self._told + 1.0 / LINES or feedback.progress == 1.0:
            self._told = feedback.progress
            loss = 1e3 * feedback.outer_loss
            _say(f"{100 * feedback.progress:3.0f} %: outer loss {loss:.1f} mm with {feedback.horizon} steps")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(args: list[str] | None = None) -> int:
    """Learn; 0 if the artefact was written, 1 if not, 2 for bad parameters."""
    return run_client(LearnRewardClient, args)
