"""The provider that runs a model is the one that was asked for, or there is an error."""

import logging
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from ideomotor.inference import InferenceError, choose_provider, create_session, numpy_type, warm_up


@pytest.fixture(scope="module")
def model() -> bytes:
    """y = reshape(x, (2, 3)) + x, so that only sizes of six elements run."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "size"], ["r"]), helper.make_node("Add", ["x", "r"], ["y"])],
        "g",
        [info("x", TensorProto.FLOAT, ["rows", 3])],
        [info("y", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor("size", TensorProto.INT64, [2], [2, 3])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def test_session_runs_and_logs_its_provider(model: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model)
    with caplog.at_level(logging.INFO):
        session = create_session(path, "CPUExecutionProvider", threads=1)
    assert "runs on CPUExecutionProvider, threads=1" in caplog.text
    (y,) = session.run(None, {"x": np.ones((2, 3), np.float32)})
    assert y.tolist() == [[2.0] * 3] * 2


def test_auto_prefers_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        onnxruntime,
        "get_available_providers",
        lambda: ["AzureExecutionProvider", "CPUExecutionProvider", "CUDAExecutionProvider"],
    )
    assert choose_provider("auto") == "CUDAExecutionProvider"
    assert choose_provider("CPUExecutionProvider") == "CPUExecutionProvider"


def test_unknown_provider_names_those_that_are_there() -> None:
    with pytest.raises(InferenceError, match=r"provider='TPU' is not available here.*CPUExecutionProvider"):
        choose_provider("TPU")


class _CpuSession:
    """What ONNX Runtime gives when CUDA is compiled in and there is no GPU: a session on the CPU."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


def test_cuda_that_does_not_start(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(onnxruntime, "InferenceSession", _CpuSession)
    create_session(b"", "auto")
    assert "CUDAExecutionProvider did not start, running on CPUExecutionProvider" in caplog.text
    with pytest.raises(InferenceError, match="provider='CUDAExecutionProvider' did not start"):
        create_session(b"", "CUDAExecutionProvider")


@pytest.mark.parametrize("content", [b"", b"text", "cut"], ids=["empty", "text", "truncated"])
def test_broken_model(content: bytes | str, model: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model[:-30] if isinstance(content, str) else content)
    with pytest.raises(InferenceError, match=r"model\.onnx: ONNX Runtime cannot load it"):
        create_session(path)


def test_missing_model(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match=r"gone\.onnx: ONNX Runtime cannot load it"):
        create_session(tmp_path / "gone.onnx")


def test_negative_threads(model: bytes) -> None:
    with pytest.raises(InferenceError, match="threads=-1"):
        create_session(model, threads=-1)


def test_warm_up(model: bytes) -> None:
    session = create_session(model, threads=1)
    assert 0.0 < warm_up(session, axes={"rows": 2}) < 1.0
    with pytest.raises(InferenceError, match=r"warm-up with inputs \{'x': \(1, 3\)\} failed"):
        warm_up(session)
    with pytest.raises(InferenceError, match="runs=0"):
        warm_up(session, runs=0)


def test_numpy_type() -> None:
    assert numpy_type("tensor(float)") == "float32"
    assert numpy_type("tensor(uint8)") == "uint8"
    with pytest.raises(InferenceError, match=r"'tensor\(string\)' is not supported"):
        numpy_type("tensor(string)")


CUDA = "CUDAExecutionProvider"
MODELS = sorted((Path(__file__).parents[2] / "artefacts").rglob("*.onnx"))


@pytest.mark.skipif(CUDA not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu")
@pytest.mark.parametrize("path", MODELS, ids=[f"{p.parent.name}/{p.stem}" for p in MODELS])
def test_cuda_gives_what_the_cpu_gives(path: Path) -> None:
    """Up to single precision: not in ten bits of mantissa (TF32), in which CUDA multiplies by default."""
    rng = np.random.default_rng(0)
    sessions = [create_session(path, provider) for provider in ("CPUExecutionProvider", CUDA)]
    feed = {}
    for tensor in sessions[0].get_inputs():
        shape, kind = [size if isinstance(size, int) else 4 for size in tensor.shape], numpy_type(tensor.type)
        integer = np.issubdtype(kind, np.integer)
        feed[tensor.name] = (rng.integers(200, size=shape) if integer else rng.uniform(0.2, 2.0, shape)).astype(kind)
    cpu, cuda = (session.run(None, feed) for session in sessions)
    for output, a, b in zip(sessions[0].get_outputs(), cpu, cuda, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-4 * max(1.0, float(np.abs(a).max())), err_msg=output.name)
