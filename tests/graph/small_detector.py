"""A keypoint artefact of a few hundred bytes: fixed pixels, and the mean of the depth image as depth."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ideomotor.artefacts import Manifest, Model, Tensor, save_artefact

NAMES = ("kp_0", "kp_1", "kp_2", "kp_3")
WIDTH, HEIGHT = 64, 48
UV = np.array([[10, 20], [20, 22], [30, 24], [40, 26]], dtype=np.float32)
SHAPES = {
    "uv": (1, 4, 2), "uv_covariance": (1, 4, 2, 2), "keypoint_depth": (1, 4), "keypoint_depth_variance": (1, 4),
    "confidence": (1, 4),
}  # fmt: skip


def write_small_detector(folder: Path, modality: str = "keypoints") -> Path:
    """Write the artefact into ``folder`` and return it."""
    constants = {
        "uv_value": UV[None],
        "covariance_value": np.tile(4 * np.eye(2, dtype=np.float32), (1, 4, 1, 1)),
        "variance_value": np.full((1, 4), 1e-4, np.float32),
        "confidence_value": np.array([[0.9, 0.8, 0.7, 0.2]], np.float32),
        "ones": np.ones((1, 4), np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["rgb"], ["rgb_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["rgb_float"], ["brightness"], keepdims=0),
        helper.make_node("Sub", ["brightness", "brightness"], ["zero"]),  # so that rgb is really an input
        helper.make_node("Add", ["uv_value", "zero"], ["uv"]),
        helper.make_node("ReduceMean", ["depth"], ["mean_depth"], keepdims=0),
        helper.make_node("Mul", ["ones", "mean_depth"], ["keypoint_depth"]),
        helper.make_node("Identity", ["covariance_value"], ["uv_covariance"]),
        helper.make_node("Identity", ["variance_value"], ["keypoint_depth_variance"]),
        helper.make_node("Identity", ["confidence_value"], ["confidence"]),
    ]
    inputs = [
        helper.make_tensor_value_info("rgb", TensorProto.UINT8, (1, HEIGHT, WIDTH, 3)),
        helper.make_tensor_value_info("depth", TensorProto.FLOAT, (1, HEIGHT, WIDTH)),
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in SHAPES.items()]
    initialisers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "small", inputs, outputs, initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    manifest = Manifest(
        modality=modality,
        models=(
            Model(
                file="model.onnx",
                inputs=(
                    Tensor(name="rgb", shape=(1, HEIGHT, WIDTH, 3), dtype="uint8", unit="1"),
                    Tensor(name="depth", shape=(1, HEIGHT, WIDTH), dtype="float32", unit="m"),
                ),
                outputs=tuple(
                    Tensor(name=name, shape=shape, dtype="float32", unit="1") for name, shape in SHAPES.items()
                ),
            ),
        ),
        joint_names=(),
        rate=30.0,
        training={},
        seed=0,
        data_sha256="0" * 64,
        metrics={},
        code_version="test",
        licence="Apache-2.0",
        extra={"keypoints": list(NAMES), "tip": "kp_3"},
    )
    save_artefact(folder, manifest, {"model.onnx": model.SerializeToString()})
    return folder
