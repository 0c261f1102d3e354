"""From a learned reward to an artefact: ONNX graph of its weights and their derivatives, manifest, checked."""

import hashlib
import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ideomotor.artefacts import Artefact, Manifest, Model, save_artefact
from ideomotor.artefacts import Tensor as TensorSpec
from ideomotor.rewards.artefact import INPUTS, MODALITY, OUTPUTS
from ideomotor_learn.body.export import OPSET, code_version, without_folders
from ideomotor_learn.rewards.families import WeightFamily
from ideomotor_learn.rewards.learn import LearnConfig, Shown

# The exporter's: torchvision is not there, nor is it needed; what was simplified.
_TALKATIVE = {"torch.onnx._internal.exporter._registration": logging.ERROR, "onnx_ir": logging.WARNING}


class _Float(nn.Module):
    """A family that takes and gives float32, and computes in double precision."""

    def __init__(self, model: WeightFamily) -> None:
        super().__init__()
        self.model = model

    def forward(self, relative: Tensor, progress: Tensor) -> tuple[Tensor, ...]:
        return tuple(output.float() for output in self.model(relative.double(), progress.double()))


def to_onnx(model: WeightFamily, coordinates: int) -> bytes:
    """Return the graph of a family for N states of D coordinates, N dynamic."""
    rows = torch.export.Dim("N", min=1)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        for name, level in _TALKATIVE.items():
            logging.getLogger(name).setLevel(level)
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            _Float(model),
            (torch.zeros(3, coordinates), torch.zeros(3)),
            path,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes={"relative": {0: rows}, "progress": {0: rows}},
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()


def export_reward(
    model: WeightFamily,
    out: Path,
    *,
    config: LearnConfig,
    keypoint_names: Sequence[str],
    shown: Sequence[Shown],
    duration: float,
    metrics: Mapping[str, float],
) -> Artefact:
    """Write the artefact, whole or not at all; what was in ``out`` stays until then.

    Args:
        model: the learned family.
        out: folder to write to.
        config: of the learning.
        keypoint_names: K names of the keypoints, in the order of the weights.
        shown: what was learned from.
        duration: mean duration of the demonstrations [s].
        metrics: what was measured.

    Raises:
        ArtefactError: ``out`` holds something else.
    """
    d = 3 * len(keypoint_names)
    units = {"relative": "m", "progress": "1", "weight": "1", "gradient": "1/m", "pull": "1", "waypoint": "m"}
    shapes = {name: ("N", d) for name in (*INPUTS, *OUTPUTS)} | {"progress": ("N",), "gradient": ("N", d, d)}

    def spec(name: str) -> TensorSpec:
        return TensorSpec(name=name, shape=shapes[name], dtype="float32", unit=units[name])

    manifest = Manifest(
        modality=MODALITY,
        models=(Model(file="model.onnx", inputs=tuple(map(spec, INPUTS)), outputs=tuple(map(spec, OUTPUTS))),),
        joint_names=(),  # a reward speaks of keypoints: any arm that holds them can use it
        rate=float(np.mean([len(s.keypoints) - 1 for s in shown])) / duration,
        training=without_folders(asdict(config)),
        seed=config.seed,
        data_sha256=_data_sha256(shown),
        metrics=dict(metrics),
        code_version=code_version(),
        licence="Apache-2.0",
        extra={"keypoints": list(keypoint_names), "family": config.family, "duration": duration},
    )
    return save_artefact(out, manifest, {"model.onnx": to_onnx(model, d)})


def _data_sha256(shown: Sequence[Shown]) -> str:
    digest = hashlib.sha256()
    for s in shown:
        digest.update(np.ascontiguousarray(s.q0, dtype="<f8").tobytes())
        digest.update(np.ascontiguousarray(s.keypoints, dtype="<f8").tobytes())
    return digest.hexdigest()
