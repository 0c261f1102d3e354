"""How fast experience is collected: `collect_2_over_1`, `collect_over_raw_mujoco`.

A learned controller, ONNX inference included, drives the robots; raw MuJoCo steps the same model through the efforts
that it gave, from the same starts.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import mujoco
import numpy as np

from benchmarks.forward_model_error.cases import RATE, ROBOTS, Case, Options, open_case
from benchmarks.forward_model_error.ours import WALK, learn
from benchmarks.runner import Cases
from ideomotor.policies.learned import LearnedController
from ideomotor_learn.policies.collect import Collector
from ideomotor_sim.effort_tasks import task_rollouts
from ideomotor_sim.rollouts import Policy, RolloutBatch

ITERATIONS = 5  # of learning: a robot that lies on the ground steps more slowly
STARTS, BATCH, REPETITIONS = 64, 16, 5


def measure(options: Options, seeds: tuple[int, ...]) -> dict[str, Cases]:
    """Return ratios of throughput (wall clock), a case each repetition."""
    case = open_case(options, WALK if WALK in options.tasks else options.tasks[0])
    seed = seeds[0]
    q, v = case.starts(STARTS, np.random.default_rng([seed, 3]))
    make_rollouts = partial(task_rollouts, case.task, ROBOTS.resolve(), rate=RATE)
    with tempfile.TemporaryDirectory() as folder:
        artefact = learn(case, seed, ITERATIONS).training.export(Path(folder, "controller")).folder
        make_policy = partial(load_policy, artefact, case.urdf)
        seconds: dict[int, list[float]] = {}
        for workers in (1, 2):
            with Collector(make_rollouts, workers=workers, batch=BATCH) as collector:
                collector.collect(make_policy, q, v, case.steps)  # simulators are made by the first call
                seconds[workers] = [
                    _seconds(lambda c=collector: c.collect(make_policy, q, v, case.steps))  # type: ignore[misc]
                    for _ in range(REPETITIONS)
                ]
        batch = case.rollouts.collect(make_policy(), q, v, case.steps)
    raw = [_seconds(lambda: replay(case, batch)) for _ in range(REPETITIONS)]
    one, two = seconds[1], seconds[2]
    return {
        "collect_2_over_1": [(seed, a / b) for a, b in zip(one, two, strict=True)],
        "collect_over_raw_mujoco": [(seed, a / b) for a, b in zip(raw, one, strict=True)],
        "collect_transitions_per_s": [(seed, STARTS * case.steps / s) for s in one],
    }


def load_policy(artefact: Path, urdf: str) -> Policy:
    """Return a controller's law; where it is called."""
    return LearnedController.load(artefact, urdf).effort


def replay(case: Case, batch: RolloutBatch) -> np.ndarray:
    """Step MuJoCo through the efforts of rollouts and nothing else; return each robot's last qpos, shape (K, N)."""
    rollouts = case.rollouts
    model, data, actuators = rollouts.model, mujoco.MjData(rollouts.model), rollouts.layout.actuators
    ends = []
    for q, v, efforts in zip(batch.q[:, 0], batch.v[:, 0], batch.effort, strict=True):
        mujoco.mj_resetData(model, data)
        rollouts.layout.write(data, q, v)
        mujoco.mj_forward(model, data)
        for effort in efforts:
            data.ctrl[actuators] = effort
            mujoco.mj_step(model, data, rollouts.substeps)
        ends.append(data.qpos.copy())
    return np.array(ends)


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
