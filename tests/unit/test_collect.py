"""Parallel collection: the same rollouts with any number of workers; a worker that dies is replaced."""

import os
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ideomotor_learn.policies import collect as collection
from ideomotor_learn.policies.collect import ATTEMPTS, CollectionError, Collector, Policy
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.rollouts import RolloutConfig, Rollouts
from tests.unit.test_effort_world import ARM, IIWA, effort_config

N, STEPS = 10, 20
MAKE = partial(Rollouts, IIWA, effort_config(joints=ARM), RolloutConfig(effort_noise=1.0))


def network() -> Policy:
    """A network whose last bits depend on the number of rows."""
    rng = np.random.default_rng(0)
    hidden, out = rng.normal(size=(14, 64)), rng.normal(size=(64, 7))
    return lambda step, q, v, force: np.tanh(np.concatenate([q, v], axis=1) @ hidden) @ out


def network_that_dies(folder: Path, times: int) -> Policy:
    """End the process in the middle of a rollout, ``times`` times in all."""
    policy = network()

    def run(step: int, q: np.ndarray, v: np.ndarray, force: np.ndarray) -> np.ndarray:
        if step == STEPS // 2:
            for i in range(times):
                try:
                    (folder / str(i)).touch(exist_ok=False)
                except FileExistsError:
                    continue
                os._exit(1)
        return policy(step, q, v, force)

    return run


def not_a_number() -> Policy:
    return lambda step, q, v, force: np.full(q.shape, np.nan)


def collect(
    make_rollouts: Any, make_policy: Any, *states_and_steps: Any, workers: int = 1, batch: int = 16, **others: Any
) -> Any:
    """Collect once."""
    with Collector(make_rollouts, workers=workers, batch=batch) as collector:
        return collector.collect(make_policy, *states_and_steps, **others)


def starts() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.uniform(-0.5, 0.5, (N, 7)), rng.normal(size=(N, 7))


def equal(a: Any, b: Any) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


@pytest.fixture(scope="module")
def two() -> Iterator[Collector]:
    with Collector(MAKE, workers=2, batch=4) as collector:
        yield collector


def test_workers_change_nothing(two: Collector) -> None:
    """Two processes, one, and this one without Ray: bit for bit; and again."""
    q, v = starts()
    seeds = range(100, 100 + N)
    here = collect(MAKE, network, q, v, STEPS, seeds, workers=0, batch=4)
    assert here.q.shape == (N, STEPS + 1, 7)
    assert np.array_equal(here.q[:, 0], q)
    assert equal(two.collect(network, q, v, STEPS, seeds), here)
    assert equal(two.collect(network, q, v, STEPS, seeds), here)
    assert not equal(two.collect(network, q, v, STEPS), here)  # other seeds


def test_one_worker_in_a_ray_that_runs(two: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves that Ray running; when all processors are taken it says so instead of waiting for ever."""
    import ray

    q, v = starts()
    monkeypatch.setattr(collection, "START_TIMEOUT", 3.0)
    with pytest.raises(CollectionError, match="1 of 1 workers did not start in"):
        collect(MAKE, network, q, v, STEPS, workers=1, batch=4)
    monkeypatch.undo()
    ray.kill(two._workers[1])
    here = collect(MAKE, network, q, v, STEPS, workers=0, batch=4)
    assert equal(collect(MAKE, network, q, v, STEPS, workers=1, batch=4), here)
    assert equal(two.collect(network, q, v, STEPS), here)


def test_simulators_that_cannot_be_made(two: Collector) -> None:
    import ray

    ray.kill(two._workers[1])
    with pytest.raises(CollectionError, match=r"a worker does not start: (.|\n)*rate=300.0 Hz"):
        collect(partial(Rollouts, IIWA, effort_config(), RolloutConfig(rate=300.0)), network, *starts(), STEPS)


def test_a_worker_that_dies_is_replaced(two: Collector, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    q, v = starts()
    whole = collect(MAKE, network, q, v, STEPS, workers=0, batch=4)
    assert equal(two.collect(partial(network_that_dies, tmp_path, 2), q, v, STEPS), whole)
    assert len(list(tmp_path.iterdir())) == 2  # it did die
    assert "another one repeats it" in caplog.text


def test_a_killed_worker_is_replaced(two: Collector) -> None:
    """Also one that died between two collections."""
    import ray

    q, v = starts()
    ray.kill(two._workers[0])
    assert equal(two.collect(network, q, v, STEPS), collect(MAKE, network, q, v, STEPS, workers=0, batch=4))


def test_a_batch_that_always_kills_is_given_up(two: Collector, tmp_path: Path) -> None:
    q, v = starts()
    with pytest.raises(CollectionError, match=rf"{ATTEMPTS} times a worker died with batch \d \(seeds"):
        two.collect(partial(network_that_dies, tmp_path, 1000), q, v, STEPS)


def test_errors_of_simulator_and_policy_arrive(two: Collector) -> None:
    q, v = starts()
    with pytest.raises(SimulationError, match="effort of joint 'iiwa_joint_1': nan"):
        two.collect(not_a_number, q, v, STEPS)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"workers": -1}, "workers=-1, batch=16"), ({"batch": 0}, "workers=1, batch=0")],
)
def test_bad_arguments_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(CollectionError, match=message):
        Collector(MAKE, **options)  # type: ignore[arg-type]


def test_starts_must_match() -> None:
    q, v = starts()
    with pytest.raises(CollectionError, match="10 q, 9 v and 10 seeds"):
        collect(MAKE, network, q, v[:-1], STEPS, workers=0)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CollectionError, match=r"pip install 'ideomotor-learn\[parallel\]'"):
        collection.Collector(MAKE, workers=1)
