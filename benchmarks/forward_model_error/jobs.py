"""Trainings side by side, each in a process of its own with one thread."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

from benchmarks.forward_model_error.cases import Options
from benchmarks.runner import Cases

Job = Callable[[], dict[str, Cases]]  # picklable
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def run_jobs(jobs: Sequence[Job], processes: int) -> dict[str, Cases]:
    """Return the cases of all, in the order of the jobs.

    Args:
        jobs: independent of each other.
        processes: at most so many at a time; 1: in this process.
    """
    found: dict[str, Cases] = {}
    for cases in _results(jobs, processes):
        for key, values in cases.items():
            found.setdefault(key, []).extend(values)
    return found


def sac_job(options: Options, task: str, factor: int, seed: int) -> dict[str, Cases]:
    """Measure SAC. Here, not in the command line's module, whose functions another process does not find."""
    from benchmarks.forward_model_error import sac  # here: all other parts run without its packages

    return sac.measure(options, task, factor, seed)


def _results(jobs: Sequence[Job], processes: int) -> list[dict[str, Cases]]:
    if processes == 1 or len(jobs) <= 1:
        return [job() for job in jobs]
    os.environ.update(_ONE_THREAD)  # before the processes begin: threads that outnumber cores slow each other down
    with ProcessPoolExecutor(min(processes, len(jobs)), multiprocessing.get_context("spawn")) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]
