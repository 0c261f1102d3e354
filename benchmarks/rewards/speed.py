"""How fast a step of learning is beside the ancestor's published code: `outer_step_speedup`.

That code is not part of this repository: it runs from a checkout of facebookresearch/LearningToLearn, in a process of
its own (`ancestor_driver`), on the setting it was published with (`ancestor`). Both sides count the processor's time.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ideomotor_learn.rewards.ancestors import Example

DRIVER = Path(__file__).with_name("ancestor_driver.py")
REPETITIONS = 20


class AncestorCheckoutError(RuntimeError):
    """The published code did not run."""


def measure_speedup(checkout: Path, demonstrations: Sequence[Example], ours: Callable[[], object]) -> float:
    """Return the time of an outer step of the published code over that of ours.

    Args:
        checkout: folder of facebookresearch/LearningToLearn.
        demonstrations: that both learn from, of equal length.
        ours: one outer step on them; called many times.

    Raises:
        AncestorCheckoutError: the published code did not run.
    """
    return published_step_seconds(checkout, demonstrations) / processor_seconds(ours)


def published_step_seconds(checkout: Path, demonstrations: Sequence[Example]) -> float:
    """Return the processor time of one outer step of the published code [s].

    Raises:
        AncestorCheckoutError: it did not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "demonstrations.npz")
        np.savez(data, q0=[e.q0 for e in demonstrations], keypoints=[e.keypoints for e in demonstrations])
        command = [sys.executable, str(DRIVER), str(checkout), str(data)]
        one_thread = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | one_thread, check=False)
    name, _, seconds = (done.stdout.splitlines() or [""])[-1].partition("=")
    if done.returncode or name != "outer_step_s":
        reason = (done.stderr.splitlines() or ["no output"])[-1]
        raise AncestorCheckoutError(f"{checkout}: the published code did not run: {reason}")
    return float(seconds)


def processor_seconds(function: Callable[[], object]) -> float:
    """Return the median processor time of a call, all threads counted [s]."""
    function()
    times = []
    for _ in range(REPETITIONS):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return float(np.median(times))
