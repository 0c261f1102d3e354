"""From a learned controller to an artefact: policy, forward model and target motion as ONNX, manifest, checked."""

import hashlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import torch
from torch import Tensor, nn

from ideomotor.artefacts import Artefact, Manifest, Model, save_artefact
from ideomotor.artefacts import Tensor as TensorSpec
from ideomotor.data.experience import Episode
from ideomotor.dynamics.rigid_body import RobotStructure
from ideomotor.policies.learned import FORWARD_MODEL, MODALITY, MOTION, POLICY
from ideomotor.policies.motion import Motion
from ideomotor_learn.body.export import OPSET, code_version
from ideomotor_learn.dynamics.forward_model import ForwardModel, Scales
from ideomotor_learn.policies.losses import Controller


class _Policy(nn.Module):
    """The controller with its normalisation, one input."""

    def __init__(self, controller: Controller, scales: Scales) -> None:
        super().__init__()
        self.controller, self.scales = controller, scales

    def forward(self, observation: Tensor) -> Tensor:
        states, velocities = len(self.scales.mean), len(self.scales.change)
        state, rest = observation[:, :states], observation[:, states:]
        effort: Tensor = self.controller(state, rest[:, :velocities], rest[:, velocities:], self.scales)
        return effort


class _Networks(nn.Module):
    """What the forward model adds to the rigid bodies, with its normalisation."""

    def __init__(self, model: ForwardModel, scales: Scales) -> None:
        super().__init__()
        self.model, self.scales = model, scales

    def forward(self, observation: Tensor, effort: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        change, force = self.model.networks(observation, effort, self.scales)
        return (change, force) if force.shape[-1] else change


def export_controller(
    folder: Path,
    *,
    controller: Controller,
    model: ForwardModel,
    scales: Scales,
    structure: RobotStructure,
    motion: Motion,
    position_gain: float,
    training: Mapping[str, Any],
    metrics: Mapping[str, float],
    episodes: Sequence[Episode],
) -> Artefact:
    """Write the artefact, whole or not at all; what was in ``folder`` stays until then.

    Raises:
        ArtefactError: ``folder`` holds something else.
    """
    arrays = {"q": motion.q, "v": motion.v} | ({"force": motion.force} if structure.contact_links else {})
    models = _models(scales, structure, arrays)
    manifest = Manifest(
        modality=MODALITY,
        models=models,
        joint_names=structure.joints,
        rate=motion.rate,
        training=training,
        seed=int(training["seed"]),
        data_sha256=_data_sha256(episodes),
        metrics=dict(metrics),
        code_version=code_version(),
        licence="Apache-2.0",
        extra={
            "floating_base": structure.floating_base,
            "contact_links": list(structure.contact_links),
            "rotor_inertia": list(structure.rotor_inertia),
            "position_gain": position_gain,
            "semi_parametric": model.semi_parametric,
            "steps": motion.steps,
        },
    )
    files: dict[str, Path | bytes] = {
        POLICY: _to_onnx(_Policy(controller, scales), models[0]),
        FORWARD_MODEL: _to_onnx(_Networks(model, scales), models[1]),
        MOTION: _motion_onnx(arrays),
    }
    return save_artefact(folder, manifest, files)


def _models(scales: Scales, structure: RobotStructure, arrays: Mapping[str, np.ndarray]) -> tuple[Model, Model, Model]:
    """Return what goes in and out of policy, forward model and target motion."""
    states, velocities = len(scales.mean), len(scales.change)
    forces, efforts = 3 * len(structure.contact_links), len(structure.joints)
    observed = _spec("observation", states + velocities + forces)
    force = [_spec("force", forces, "N")] if forces else []
    return (
        Model(file=POLICY, inputs=(observed,), outputs=(_spec("effort", efforts, "N m"),)),
        Model(
            file=FORWARD_MODEL,
            inputs=(_spec("observation", states), _spec("effort", efforts, "N m")),
            outputs=(_spec("velocity_change", velocities, "rad/s"), *force),
        ),
        Model(
            file=MOTION,
            inputs=(TensorSpec(name="step", shape=("N",), dtype="int64", unit="1"),),
            outputs=tuple(_spec(name, array.shape[1], _UNITS[name], "float64") for name, array in arrays.items()),
        ),
    )


_UNITS = {"q": "rad", "v": "rad/s", "force": "N"}


def _spec(name: str, size: int, unit: str = "1", dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, shape=("N", size), dtype=dtype, unit=unit)


def _to_onnx(module: nn.Module, spec: Model) -> bytes:
    """Return the graph of a small network; the classic exporter takes a tenth of a second, the new one some."""
    names = [t.name for t in spec.inputs]
    example = tuple(torch.zeros(2, int(t.shape[1])) for t in spec.inputs)
    outputs = [t.name for t in spec.outputs]
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            module.eval(),
            example,
            buffer,  # type: ignore[arg-type]  # it is written to; the annotation knows the new exporter only
            input_names=names,
            output_names=outputs,
            dynamic_axes={name: {0: "N"} for name in (*names, *outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def _motion_onnx(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return a graph that looks the motion's states up: its inputs are steps."""
    kind = onnx.TensorProto.DOUBLE
    nodes = [onnx.helper.make_node("Gather", [f"{name}_states", "step"], [name]) for name in arrays]
    tables = [onnx.numpy_helper.from_array(np.ascontiguousarray(a), f"{name}_states") for name, a in arrays.items()]
    step = onnx.helper.make_tensor_value_info("step", onnx.TensorProto.INT64, ["N"])
    states = [onnx.helper.make_tensor_value_info(name, kind, ["N", a.shape[1]]) for name, a in arrays.items()]
    graph = onnx.helper.make_graph(nodes, "motion", [step], states, tables)
    opset = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)
    return bytes(model.SerializeToString())


def _data_sha256(episodes: Sequence[Episode]) -> str:
    digest = hashlib.sha256()
    for episode in episodes:
        for array in (episode.q, episode.v, episode.force, episode.effort):
            digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()
