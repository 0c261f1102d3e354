"""From a trained network to an artefact: ONNX graph, manifest, metrics measured through the graph itself."""

import copy
import importlib.metadata
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ideomotor.artefacts import ArtefactError, Manifest, Model, load_artefact, save_artefact
from ideomotor.artefacts import Tensor as TensorSpec
from ideomotor.body.detector import INPUTS, MODALITY, OUTPUTS, KeypointDetector
from ideomotor_learn.body.dataset import DataSet
from ideomotor_learn.body.evaluate import detect_samples, measure, summarise
from ideomotor_learn.body.network import Inference, KeypointNet
from ideomotor_learn.body.stages import NetworkConfig

OPSET = 18
UNITS = {
    "rgb": "1",
    "depth": "m",
    "uv": "px",
    "uv_covariance": "px^2",
    "keypoint_depth": "m",
    "keypoint_depth_variance": "m^2",
    "confidence": "1",
}


def fold_batch_norms(net: KeypointNet) -> KeypointNet:
    """Return a copy whose convolutions do the work of the batch norms that follow them (evaluation mode)."""
    folded = copy.deepcopy(net)
    for module in folded.modules():
        if isinstance(module, torch.nn.Sequential):
            for i in range(len(module) - 1):
                first, second = module[i], module[i + 1]
                if isinstance(first, torch.nn.Conv2d) and isinstance(second, torch.nn.BatchNorm2d):
                    module[i], module[i + 1] = fuse_conv_bn_eval(first, second), torch.nn.Identity()
    return folded


def to_onnx(net: KeypointNet) -> bytes:
    """Return the inference graph of a network, for one image of its size, float32."""
    config = net.config
    graph = Inference(fold_batch_norms(net.float().eval()))
    images = (
        torch.zeros(1, config.height, config.width, 3, dtype=torch.uint8),
        torch.ones(1, config.height, config.width),
    )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            graph,
            images,
            path,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()


def describe(config: NetworkConfig) -> Model:
    """Return the manifest's entry of the graph."""
    k, h, w = config.keypoints, config.height, config.width
    shapes = {
        "rgb": (1, h, w, 3),
        "uv": (1, k, 2),
        "uv_covariance": (1, k, 2, 2),
        "keypoint_depth": (1, k),
        "keypoint_depth_variance": (1, k),
        "confidence": (1, k),
    }

    def spec(name: str, shape: tuple[int, ...]) -> TensorSpec:
        return TensorSpec(name=name, shape=shape, dtype="uint8" if name == "rgb" else "float32", unit=UNITS[name])

    return Model(
        file="model.onnx",
        inputs=(spec("rgb", shapes["rgb"]), spec("depth", (1, h, w))),
        outputs=tuple(spec(name, shapes[name]) for name in OUTPUTS),
    )


def load_network(artefact: Path) -> KeypointNet:
    """Return the network of an artefact, to train it further; its batch norms are already in its convolutions.

    Raises:
        ArtefactError: if the artefact cannot be used, or its graph is not one of `to_onnx`.
    """
    loaded = load_artefact(artefact, modality=MODALITY)
    config = NetworkConfig(**{k: _tuple(v) for k, v in loaded.manifest.extra["network"].items()})
    graph = onnx.load_from_string(loaded.path().read_bytes()).graph
    weights = {i.name: torch.from_numpy(onnx.numpy_helper.to_array(i).copy()) for i in graph.initializer}
    net = KeypointNet(config).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            given = weights.get(f"net.{name}", parameter)
            if given.shape != parameter.shape:
                raise ArtefactError(
                    f"{artefact}: net.{name} has shape {tuple(given.shape)}, expected {tuple(parameter.shape)}: it was "
                    "exported by another version"
                )
            parameter.copy_(given)
        for name, module in net.named_modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # its convolution is the module before it
                parent, index = name.rsplit(".", 1)
                key = f"net.{parent}.{int(index) - 1}.bias"
                if key not in weights:
                    raise ArtefactError(f"{artefact}: model.onnx has no {key!r}: it was not exported by this version")
                module.bias.copy_(weights[key])
                module.running_var.fill_(1.0 - module.eps)  # type: ignore[union-attr]
    return net


def _tuple(v: Any) -> Any:  # noqa: ANN401 - a JSON value
    return tuple(v) if isinstance(v, list) else v


def without_folders(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with paths cut down to their last name: an artefact names no machine's folders."""
    return {
        key: without_folders(v) if isinstance(v, Mapping) else Path(v).name if isinstance(v, str) and "/" in v else v
        for key, v in training.items()
    }


def code_version() -> str:
    """Return the package's version and, in a git checkout, its commit."""
    version = importlib.metadata.version("ideomotor-learn")
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return version
    return f"{version}+{commit}"


def export_artefact(
    net: KeypointNet,
    out: Path,
    *,
    training: Mapping[str, Any],
    seed: int,
    data: DataSet,
    held_out: DataSet,
    indices: np.ndarray,
) -> Path:
    """Write the artefact and measure it on held-out samples; return its folder.

    Args:
        net: trained network.
        out: folder to write to.
        training: what the manifest says about the training.
        seed: of the training.
        data: the data set it was trained on.
        held_out: a data set with samples it was not trained on.
        indices: those samples.
    """
    model = to_onnx(net)

    def save(metrics: dict[str, float]) -> None:
        manifest = Manifest(
            modality=MODALITY,
            models=(describe(net.config),),
            joint_names=(),
            rate=30.0,
            training=without_folders(training),
            seed=seed,
            data_sha256=data.sha256,
            metrics=metrics,
            code_version=code_version(),
            licence="Apache-2.0",
            extra={"keypoints": list(data.names), "tip": data.names[-1], "network": asdict(net.config)},
        )
        save_artefact(out, manifest, {"model.onnx": model})

    save({})
    found = detect_samples(KeypointDetector.load(out), held_out, indices)
    save(summarise(measure(found, held_out, indices)))
    return out
