"""Parallel collection: rollouts of a policy in many processes, on one machine or a Ray cluster.

Starts are divided into batches of a fixed size, which workers take in turn: the same starts and seeds give the same
rollouts, bit for bit and in the same order, whatever the number of workers. A worker that dies is replaced and its
batch repeated. Ray moves pickled objects between processes, and nothing of ours to disk; its dashboard and its usage
statistics are off.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from types import ModuleType, TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np

from ideomotor.errors import IdeomotorError

logger = logging.getLogger(__name__)

ATTEMPTS = 3  # a batch that ends its worker this often is at fault itself
START_TIMEOUT = 120.0  # [s] until a new worker has its simulators
_STORE = 128 * 2**20  # [bytes] of shared memory: rollouts of a batch are a few MB
_DASHBOARD = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}

Policy = Callable[[int, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(step, q (K, nq), v (K, nv), force (K, 3 nc)) -> effort (K, n)."""
Batch = TypeVar("Batch", covariant=True)


class CollectionError(IdeomotorError):
    """Rollouts that cannot be collected."""


class Rollouts(Protocol[Batch]):
    """What runs a batch: `ideomotor_sim.rollouts.Rollouts`, or anything like it."""

    def collect(
        self, policy: Policy, q: np.ndarray, v: np.ndarray, steps: int, seeds: Sequence[int] | None = None
    ) -> Batch:
        """Return a dataclass of arrays whose first axis counts the starts."""
        ...


@dataclass(frozen=True)
class _Job:
    """One batch of starts."""

    index: int
    q: np.ndarray  # (K, nq)
    v: np.ndarray  # (K, nv)
    seeds: tuple[int, ...]


class Collector:
    """Workers that stay for one collection after the other; close it, or use it as a context.

    Args:
        make_rollouts: makes the simulators of one process; picklable, as ``partial(Rollouts, robot, config)``.
        workers: processes; 0 runs in this one, without Ray.
        address: of a Ray cluster, as `ray.init` takes it; None starts one on this machine, unless Ray runs already.
        batch: starts a batch; part of what the result is, as a network's last bits depend on it.

    Raises:
        CollectionError: if Ray is needed and not installed, the cluster does not answer, or the workers do not start,
            for want of processors or because ``make_rollouts`` fails.
    """

    def __init__(
        self,
        make_rollouts: Callable[[], Rollouts[Any]],
        *,
        workers: int = 1,
        address: str | None = None,
        batch: int = 16,
    ) -> None:
        if workers < 0 or batch < 1:
            raise CollectionError(f"workers={workers}, batch={batch}, expected at least 0 and 1")
        self._make_rollouts, self._batch = make_rollouts, batch
        self._here: Rollouts[Any] | None = None
        self._ray: ModuleType | None = None
        self._started = False
        self._workers: list[Any] = []
        if workers:
            self._ray = _import_ray()
            self._connect(self._ray, workers, address)
            try:
                self._workers = self._new_workers(self._ray, workers)
            except CollectionError:
                self.close()
                raise

    def __enter__(self) -> "Collector":
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers."""
        self.close()

    def collect(
        self,
        make_policy: Callable[[], Policy],
        q: np.ndarray,
        v: np.ndarray,
        steps: int,
        seeds: Sequence[int] | None = None,
    ) -> Any:  # noqa: ANN401 - what the rollouts return
        """Run a policy from N starts.

        Args:
            make_policy: makes the policy, anew for every batch; picklable, as ``partial(load, onnx_bytes)``.
            q: first states, shape (N, nq).
            v: their velocities, shape (N, nv).
            steps: control steps of each rollout.
            seeds: of each start, N of them; None: 0 to N-1.

        Returns:
            The rollouts in the order of the starts, in one dataclass.

        Raises:
            CollectionError: if a batch ends its worker `ATTEMPTS` times, or for starts that do not match.
            Exception: what simulator or policy raise.
        """
        jobs = self._jobs(np.asarray(q), np.asarray(v), seeds)
        if self._ray is None:
            self._here = self._here or self._make_rollouts()
            done = {j.index: self._here.collect(make_policy(), j.q, j.v, steps, j.seeds) for j in jobs}
        else:
            done = self._distribute(self._ray, jobs, self._ray.put((make_policy, steps)))
        return _joined([done[i] for i in range(len(jobs))])

    def close(self) -> None:
        """End the workers, and Ray if it was started here."""
        if self._ray is not None:
            self._end(self._ray, self._workers)
            if self._started:
                self._ray.shutdown()
        self._ray, self._workers = None, []

    def _jobs(self, q: np.ndarray, v: np.ndarray, seeds: Sequence[int] | None) -> list[_Job]:
        seeds = range(len(q)) if seeds is None else seeds
        if not len(q) == len(v) == len(seeds) or len(q) == 0:
            raise CollectionError(
                f"{len(q)} q, {len(v)} v and {len(seeds)} seeds, expected equally many and at least 1"
            )
        slices = [slice(i, i + self._batch) for i in range(0, len(q), self._batch)]
        return [_Job(i, q[s], v[s], tuple(seeds[s])) for i, s in enumerate(slices)]

    # --- Ray --------------------------------------------------------------------------------------------------

    def _connect(self, ray: ModuleType, workers: int, address: str | None) -> None:
        if not ray.is_initialized():
            local = {"num_cpus": workers, "object_store_memory": _STORE} if address is None else {"address": address}
            try:
                ray.init(**local, **_DASHBOARD)
            except (ConnectionError, ray.exceptions.RayError) as error:
                raise CollectionError(f"address={address!r}: no Ray cluster answers: {error}") from error
            self._started = True

    def _new_workers(self, ray: ModuleType, count: int) -> list[Any]:
        """Return workers that have their simulators."""
        actor = ray.remote(num_cpus=1, max_restarts=0)(_Worker)
        new = [actor.remote(self._make_rollouts) for _ in range(count)]
        starting = [worker.ready.remote() for worker in new]
        ready, late = ray.wait(starting, num_returns=count, timeout=START_TIMEOUT)
        try:
            ray.get(ready)
        except ray.exceptions.RayError as error:
            self._end(ray, new)
            raise CollectionError(f"a worker does not start: {error}") from error
        if late:
            total, free = (kind.get("CPU", 0.0) for kind in (ray.cluster_resources(), ray.available_resources()))
            self._end(ray, new)
            raise CollectionError(
                f"{len(late)} of {count} workers did not start in {START_TIMEOUT} s: each takes one processor, "
                f"and of the cluster's {total:g} are {free:g} free"
            )
        return new

    @staticmethod
    def _end(ray: ModuleType, workers: list[Any]) -> None:
        for worker in workers:
            ray.kill(worker)

    def _distribute(self, ray: ModuleType, jobs: list[_Job], task: Any) -> dict[int, Any]:  # noqa: ANN401
        """Return each job's batch; a job whose worker died goes to a new one."""
        waiting, idle = jobs[::-1], list(range(len(self._workers)))
        running: dict[Any, tuple[_Job, int]] = {}
        deaths = dict.fromkeys(range(len(jobs)), 0)
        done: dict[int, Any] = {}
        while len(done) < len(jobs):
            while waiting and idle:
                job, slot = waiting.pop(), idle.pop()
                running[self._workers[slot].run.remote(task, job)] = (job, slot)
            ready, _ = ray.wait(list(running), num_returns=1)
            job, slot = running.pop(ready[0])
            try:
                done[job.index] = ray.get(ready[0])
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                deaths[job.index] += 1
                self._replace(ray, slot, job, deaths[job.index], error)
                waiting.append(job)
            idle.append(slot)
        return done

    def _replace(self, ray: ModuleType, slot: int, job: _Job, deaths: int, error: Exception) -> None:
        text = f"a worker died with batch {job.index} (seeds {job.seeds[0]} to {job.seeds[-1]}): {error}"
        if deaths >= ATTEMPTS:
            raise CollectionError(f"{deaths} times {text}") from error
        logger.warning("%s; another one repeats it", text)
        self._workers[slot] = self._new_workers(ray, 1)[0]


class _Worker:
    """Simulators in a process of their own."""

    def __init__(self, make_rollouts: Callable[[], Rollouts[Any]]) -> None:
        self._rollouts = make_rollouts()

    def ready(self) -> None:
        """Return once there are simulators."""

    def run(self, task: tuple[Callable[[], Policy], int], job: _Job) -> Any:  # noqa: ANN401
        """Return what the rollouts return for a batch."""
        make_policy, steps = task
        return self._rollouts.collect(make_policy(), job.q, job.v, steps, job.seeds)


def _import_ray() -> ModuleType:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before Ray is imported: it would report to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # workers see the accelerators, as without Ray
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise CollectionError("workers need Ray: pip install 'ideomotor-learn[parallel]', or workers=0") from error
    return ray


def _joined(batches: list[Any]) -> Any:  # noqa: ANN401
    """Return dataclasses of arrays as one, along the first axis."""
    first = batches[0]
    return type(first)(**{f.name: np.concatenate([getattr(b, f.name) for b in batches]) for f in fields(first)})
