"""How long learning takes, and how fast the arm replans with the exported reward (ONNX Runtime, horizon 20)."""

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.rewards.cases import Case, open_case
from benchmarks.rewards.execution import STEP
from benchmarks.rewards.task import Task
from benchmarks.runner import Cases
from ideomotor.planning.reward_planner import PathProblem, plan
from ideomotor.rewards.artefact import LearnedReward
from ideomotor.rewards.weights import Reward
from ideomotor_learn.rewards.export import export_reward
from ideomotor_learn.rewards.learn import LearnConfig, RewardLearner, Shown

HORIZON = 20
CYCLES = 200
STATE_NOISE, GOAL_MOTION = 0.005, 0.002  # [rad] of the measured joints, [m] of the goal from cycle to cycle


def measure(task: Task, families: tuple[str, ...], seeds: tuple[int, ...]) -> dict[str, Cases]:
    """Return by key the time of learning [s], and plans a second."""
    result: dict[str, Cases] = {}
    for seed in seeds:
        with open_case(task, seed) as case, tempfile.TemporaryDirectory() as folder:
            for i, family in enumerate(families):
                prefix, shown = f"{family}_" * (i > 0), case.shown(case.demonstrations)
                learner = RewardLearner(shown, LearnConfig(family=family, seed=seed))
                start = time.perf_counter()
                for _ in learner.steps():
                    pass
                result.setdefault(f"{prefix}learn_s", []).append((seed, time.perf_counter() - start))
                reward = _exported(learner, shown, Path(folder, family), STEP * task.mean_steps)
                result.setdefault(f"{prefix}plan_hz", []).append((seed, _plans_a_second(case, reward)))
    return result


def _exported(learner: RewardLearner, shown: list[Shown], out: Path, duration: float) -> LearnedReward:
    """Return the reward as it runs on a robot."""
    names = [f"kp_{k}" for k in range(shown[0].keypoints.shape[1])]
    export_reward(
        learner.model,
        out,
        config=learner.config,
        keypoint_names=names,
        shown=shown,
        duration=duration,
        metrics={},
    )
    return LearnedReward.load(out)


def _plans_a_second(case: Case, reward: Reward) -> float:
    """Plan again and again, each time from another state, to a goal that moves, begun at the plan before."""
    rng, test = np.random.default_rng([case.seed, 5]), case.tests[0]
    goal = test.goal
    path = plan(PathProblem(case.known, reward, test.q0, goal, np.eye(3)), HORIZON).q
    start = time.perf_counter()
    for _ in range(CYCLES):
        goal = goal + rng.normal(0.0, GOAL_MOTION, 3)
        measured = test.q0 + rng.normal(0.0, STATE_NOISE, len(test.q0))
        path = plan(PathProblem(case.known, reward, measured, goal, np.eye(3)), HORIZON, start=path).q
    return CYCLES / (time.perf_counter() - start)
