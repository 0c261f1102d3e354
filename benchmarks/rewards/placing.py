"""Placing at five speeds: rewards learned once, the ancestor's time-dependent costs, and peers.

All learn from the same demonstrations. Every method gives a path of the joints for a start, a goal
and a number of steps; the simulator executes all paths alike.
"""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Literal

import numpy as np

from benchmarks.rewards.cases import Case, Test, open_case
from benchmarks.rewards.execution import STEP, execute
from benchmarks.rewards.task import Task
from benchmarks.runner import Cases
from ideomotor.planning.path_error import path_error
from ideomotor.planning.reward_planner import PathProblem, plan
from ideomotor.rewards.weights import Reward, Uniform
from ideomotor_learn.rewards.ancestors import AncestorConfig, Example, execute_ancestor, learn_ancestor
from ideomotor_learn.rewards.learn import LearnConfig, RewardLearner, Shown
from ideomotor_learn.rewards.torch_chain import TorchChain

ANCESTORS = {"timedep": "timedep", "stretched_timedep": "stretched"}  # prefix of the keys -> family
PeerMethod = Literal["bc", "airl"]
PEERS: tuple[PeerMethod, ...] = ("bc", "airl")
FINE = 50  # steps of a plan, at least
ANCESTOR_INNER_STEPS = 10  # unrolled; the published single step is worse

Tests = list[tuple[Test, int]]  # with the number of steps
Planner = Callable[[Tests], list[np.ndarray]]  # -> paths of the joints, (steps + 1, n)


def measure(task: Task, families: tuple[str, ...], seeds: tuple[int, ...]) -> dict[str, Cases]:
    """Return errors by key, one case a test and speed: ours without prefix (the first family), others with theirs."""
    result: dict[str, Cases] = {}
    for seed in seeds:
        with open_case(task, seed) as case:
            for prefix, planner in _planners(case, families, result):
                _at_all_speeds(case, prefix, planner, result)
    return result


def learned(shown: list[Shown], family: str, seed: int, loss: str = "path") -> Reward:
    """Return a reward learned from demonstrations."""
    learner = RewardLearner(shown, LearnConfig(family=family, seed=seed, loss=loss))
    for _ in learner.steps():
        pass
    return learner.reward


def _planners(case: Case, families: tuple[str, ...], result: dict[str, Cases]) -> Iterator[tuple[str, Planner]]:
    """Yield the prefix of a method's keys, and what plans by it."""
    for i, family in enumerate(families):
        prefix, shown = f"{family}_" if i else "", case.shown(case.demonstrations)
        planner = _by_reward(case, learned(shown, family, case.seed))
        yield prefix, planner
        _out_of_distribution(case, prefix, planner, result)
        _misaligned(case, prefix, family, planner, result)
    yield "straight_", _by_reward(case, Uniform())
    for prefix, family in ANCESTORS.items():
        yield f"{prefix}_", _by_ancestor(case, family)
    if find_spec("imitation") is not None:  # of requirements-bench.txt
        for method in PEERS:
            yield f"{method}_", _by_peer(case, method)


def _by_reward(case: Case, reward: Reward) -> Planner:
    def paths(tests: Tests) -> list[np.ndarray]:
        problems = (PathProblem(case.known, reward, t.q0, t.goal, np.eye(3)) for t, _ in tests)
        # A path does not depend on the number of steps it is planned in, if these are fine: so does tip_controller.
        return [plan(problem, max(steps, FINE)).q for problem, (_, steps) in zip(problems, tests, strict=True)]

    return paths


def _by_ancestor(case: Case, family: str) -> Planner:
    chain = TorchChain.from_chain(case.known.chain, case.known.position_ee)
    examples = [Example(s.source, s.q0, s.keypoints) for s in case.shown(case.demonstrations)]
    cost = learn_ancestor(examples, chain, AncestorConfig(family=family, inner_steps=ANCESTOR_INNER_STEPS)).cost
    return lambda tests: [execute_ancestor(cost, chain, t.q0, t.goal, steps + 1).q for t, steps in tests]


def _by_peer(case: Case, method: PeerMethod) -> Planner:
    from benchmarks.rewards.peers import PeerDemonstration, PeerTest, peer_rollouts

    known = case.known
    shown = [PeerDemonstration(q, known.at(q), known.at(q[-1:])[0]) for q in case.demonstrations]

    def paths(tests: Tests) -> list[np.ndarray]:
        return peer_rollouts(method, known, shown, [PeerTest(t.q0, t.goal, steps) for t, steps in tests], case.seed)

    return paths


def _at_all_speeds(case: Case, prefix: str, planner: Planner, result: dict[str, Cases]) -> None:
    tests = [(test, case.task.steps_at(speed)) for speed in case.task.speeds for test in case.tests]
    speeds = [speed for speed in case.task.speeds for _ in case.tests]
    for (test, steps), speed, q in zip(tests, speeds, planner(tests), strict=True):
        final, path = _errors(case, test, steps, q)
        result.setdefault(f"{prefix}final_error_mm@{speed:g}", []).append((case.seed, final))
        result.setdefault(f"{prefix}path_error_mm@{speed:g}", []).append((case.seed, path))


def _errors(case: Case, test: Test, steps: int, q: np.ndarray) -> tuple[float, float]:
    """Execute a path; return final and path error [mm]."""
    done = execute(case.world, case.known.chain, q, steps * STEP)
    path = np.nan if test.shown is None else path_error(done.keypoints, test.shown)
    return 1e3 * done.final_error(test.goal), 1e3 * path


def _out_of_distribution(case: Case, prefix: str, planner: Planner, result: dict[str, Cases]) -> None:
    tests = [(test, case.task.mean_steps) for test in case.out_of_distribution]
    for (test, steps), q in zip(tests, planner(tests), strict=True):
        final, _ = _errors(case, test, steps, q)
        result.setdefault(f"{prefix}ood_final_error_mm", []).append((case.seed, final))


def _misaligned(case: Case, prefix: str, family: str, planner: Planner, result: dict[str, Cases]) -> None:
    """Add the path error after learning from demonstrations of 0.5 to 2 times the mean length, over the aligned ones'.

    Both see the same paths; beside it, the same with the step-wise loss, which compares states by the clock.
    """
    mean, rng = case.task.mean_steps, np.random.default_rng([case.seed, 3])
    uneven = case.at_pace([round(mean * share) for share in np.geomspace(0.5, 2.0, len(case.paths))], rng)
    tests = [(test, mean) for test in case.tests]
    for suffix, loss in (("", "path"), ("_step_l2", "step_l2")):
        error = {
            name: float(np.mean([_errors(case, t, mean, q)[1] for (t, _), q in zip(tests, paths, strict=True)]))
            for name, paths in (
                ("misaligned", _by_reward(case, learned(case.shown(uneven), family, case.seed, loss))(tests)),
                ("aligned", _by_reward(case, learned(case.shown(case.aligned), family, case.seed, loss))(tests)),
            )
        }
        ratio = error["misaligned"] / error["aligned"]
        result.setdefault(f"{prefix}misaligned_over_aligned{suffix}", []).append((case.seed, ratio))
