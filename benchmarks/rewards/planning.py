"""How fast the arm replans with the exported reward, as the tip controller does: ONNX Runtime, horizon 20."""

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.rewards.cases import open_case
from benchmarks.rewards.task import Task
from benchmarks.runner import Cases
from ideomotor.planning.reward_planner import PathProblem, plan
from ideomotor.rewards.artefact import LearnedReward
from ideomotor_learn.rewards.export import export_reward
from ideomotor_learn.rewards.learn import LearnConfig, RewardLearner

HORIZON = 20
CYCLES = 200
STATE_NOISE, GOAL_MOTION = 0.005, 0.002  # [rad] of the measured joints, [m] of the goal from cycle to cycle


def measure(task: Task, families: tuple[str, ...], seeds: tuple[int, ...]) -> dict[str, Cases]:
    """Return plans a second, by key: each from another state, to a goal that moves, begun at the plan before."""
    result: dict[str, Cases] = {}
    for seed in seeds:
        with open_case(task, seed) as case, tempfile.TemporaryDirectory() as folder:
            for i, family in enumerate(families):
                shown = case.shown(case.demonstrations)
                learner = RewardLearner(shown, LearnConfig(family=family, seed=seed))
                for _ in learner.steps():
                    pass
                names = [f"kp_{k}" for k in range(len(case.known.position_ee))]
                out = Path(folder, family)
                export_reward(
                    learner.model,
                    out,
                    config=learner.config,
                    keypoint_names=names,
                    shown=shown,
                    duration=0.1 * task.mean_steps,
                    metrics={},
                )
                reward, rng, test = LearnedReward.load(out), np.random.default_rng([seed, 5]), case.tests[0]
                q0, goal = test.q0, test.goal
                path = plan(PathProblem(case.known, reward, q0, goal, np.eye(3)), HORIZON).q
                start = time.perf_counter()
                for _ in range(CYCLES):
                    goal = goal + rng.normal(0.0, GOAL_MOTION, 3)
                    measured = q0 + rng.normal(0.0, STATE_NOISE, len(q0))
                    path = plan(PathProblem(case.known, reward, measured, goal, np.eye(3)), HORIZON, start=path).q
                key = f"{family}_" * (i > 0) + "plan_hz"
                result.setdefault(key, []).append((seed, CYCLES / (time.perf_counter() - start)))
    return result
