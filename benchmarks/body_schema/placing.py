"""Placing over ROS, through action, safety gate and simulator: `place_error_*`."""

import sys

import numpy as np

from benchmarks.body_schema.cases import Options
from benchmarks.body_schema.stack import running_stack
from benchmarks.runner import Cases
from ideomotor.planning.goals import reachable_positions
from ideomotor_nodes import convert
from ideomotor_nodes.client import BodySchemaClient, ClientError

GOALS = 20  # per seed
COMPARED = 5  # of them, also without the extension
DURATION = 3.0  # [s] of looking


def measure(options: Options) -> dict[str, Cases]:
    """Return errors [mm] of the true working point, and the share of goals reached, with and without the extension.

    Each seed places one rigid tool; the tools take turns. An object that cannot be estimated reaches no goal.
    """
    result: dict[str, Cases] = {"place_error": [], "place_error_without": [], "place_success": []}
    for seed in options.seeds:
        with running_stack(options, seed, options.rigid_tool(seed)) as client:
            _place(client, options, seed, result)
    return result


def _place(client: BodySchemaClient, options: Options, seed: int, result: dict[str, Cases]) -> None:
    try:
        schema = client.estimate(DURATION)
    except ClientError as failure:
        sys.stderr.write(f"placing, seed {seed}: {failure}\n")
        result["place_success"] += [(seed, 0.0)] * GOALS
        return
    chain = client.extended_chain(schema)
    q = client.joint_states.latest(chain.joint_names)
    goals = reachable_positions(chain, q, GOALS, np.random.default_rng(seed))
    runs = (("place_error", schema.tip_link, goals), ("place_error_without", options.ee_link, goals[:COMPARED]))
    for key, link, chosen in runs:
        for goal in chosen:
            answer = client.move_tip(goal, chain.base_link, link)
            reached = answer.error_code == answer.NONE
            if not reached:
                sys.stderr.write(f"placing, seed {seed}, {link}: {answer.error_msg}\n")
            if answer.error_code == answer.HELD_BY_GATE:
                client.release_gate()  # counts as not reached; the next goal shall not fail for it
            if key == "place_error":
                result["place_success"].append((seed, 100.0 * reached))
            truth = client.fresh_true_tip()
            if reached and truth is not None:
                error = np.linalg.norm(convert.matrix(truth.pose)[:3, 3] - goal)
                result[key].append((seed, 1e3 * float(error)))
