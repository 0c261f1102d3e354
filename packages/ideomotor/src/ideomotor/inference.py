"""ONNX Runtime sessions: which provider runs a model, and its first, slow run before the first deadline."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from ideomotor.errors import IdeomotorError

logger = logging.getLogger(__name__)

CUDA = "CUDAExecutionProvider"
PREFERENCE = (CUDA, "CPUExecutionProvider")

# ONNX Runtime's errors have no common base of their own, and its message is all that tells them apart.
SESSION_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)

_NUMPY_TYPE = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class InferenceError(IdeomotorError):
    """A model cannot be loaded or run here."""


def choose_provider(provider: str = "auto") -> str:
    """Return the ONNX Runtime execution provider to use.

    Args:
        provider: ``auto`` (CUDA where it is there, else CPU) or the name ONNX Runtime has for one.

    Raises:
        InferenceError: if the named provider is not in the installed onnxruntime.
    """
    available = onnxruntime.get_available_providers()
    if provider == "auto":
        return next(name for name in PREFERENCE if name in available)
    if provider not in available:
        raise InferenceError(f"provider={provider!r} is not available here; expected auto or one of {available}")
    return provider


def create_session(
    model: Path | str | bytes, provider: str = "auto", *, threads: int = 0
) -> onnxruntime.InferenceSession:
    """Load an ONNX model and log the provider that runs it.

    A named provider that cannot start is an error; with ``auto`` the CPU takes over, with a warning.

    Args:
        model: path of the model, or its content.
        provider: see `choose_provider`.
        threads: threads of one run; 0 leaves it to ONNX Runtime (one per core).

    Raises:
        InferenceError: if the provider is not there or the model cannot be loaded.
    """
    if threads < 0:
        raise InferenceError(f"threads={threads} is negative; expected 0 (one per core) or more")
    wanted = choose_provider(provider)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only: what matters comes back as an exception
    source = model if isinstance(model, bytes) else str(model)
    shown = f"model of {len(model)} bytes" if isinstance(model, bytes) else str(model)
    # ONNX Runtime runs on the CPU what its first provider cannot.
    providers: list[str | tuple[str, dict[str, str]]] = list(dict.fromkeys((wanted, "CPUExecutionProvider")))
    if wanted == CUDA:
        onnxruntime.preload_dlls()  # CUDA and cuDNN installed as wheels are on no path that the linker knows
        providers[0] = (CUDA, {"use_tf32": "0"})  # with ten bits of mantissa keypoints move by half a pixel
    try:
        session = onnxruntime.InferenceSession(source, options, providers=providers)
    except SESSION_ERRORS as error:
        raise InferenceError(f"{shown}: ONNX Runtime cannot load it: {error}") from error
    active = session.get_providers()[0]  # a provider that is compiled in may still fail to start (no GPU, no CUDA)
    if active != wanted:
        if provider != "auto":
            raise InferenceError(f"{shown}: provider={provider!r} did not start; {active} would run it")
        logger.warning("%s: %s did not start, running on %s", shown, wanted, active)
    logger.info("%s runs on %s, threads=%s", shown, active, threads or "auto")
    return session


def warm_up(session: onnxruntime.InferenceSession, *, axes: Mapping[str, int] | None = None, runs: int = 3) -> float:
    """Run ``session`` on zeros, so that its lazy allocations are done before the first deadline.

    Args:
        session: what to warm up.
        axes: size of each dynamic axis by name; one that is not named gets 1.
        runs: how often, at least once.

    Returns:
        Duration of the last run [s].

    Raises:
        InferenceError: if the model does not run on inputs of these sizes.
    """
    if runs < 1:
        raise InferenceError(f"runs={runs}; expected at least 1")
    sizes = axes or {}
    feed = {}
    for tensor in session.get_inputs():
        shape = [size if isinstance(size, int) else sizes.get(size, 1) for size in tensor.shape]
        feed[tensor.name] = np.zeros(shape, numpy_type(tensor.type))
    for _ in range(runs):
        start = time.perf_counter()
        try:
            session.run(None, feed)
        except SESSION_ERRORS as error:
            shapes = {name: array.shape for name, array in feed.items()}
            raise InferenceError(f"warm-up with inputs {shapes} failed: {error}") from error
        duration = time.perf_counter() - start
    return duration


def numpy_type(onnx_type: str) -> str:
    """Return numpy's name of an ONNX Runtime tensor type, such as ``float32`` for ``tensor(float)``.

    Raises:
        InferenceError: if it is not a tensor of numbers or booleans.
    """
    if onnx_type not in _NUMPY_TYPE:
        raise InferenceError(f"type {onnx_type!r} is not supported; expected one of {sorted(_NUMPY_TYPE)}")
    return _NUMPY_TYPE[onnx_type]
