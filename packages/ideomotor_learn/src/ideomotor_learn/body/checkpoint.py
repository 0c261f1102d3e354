"""Checkpoints of a training run as safetensors (no pickle): weights, optimiser moments, step."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ideomotor.errors import IdeomotorError

if TYPE_CHECKING:
    from ideomotor_learn.body.train_keypoints import Trainer


class CheckpointError(IdeomotorError):
    """A checkpoint cannot be read or is of another network."""


def save_checkpoint(path: Path, trainer: "Trainer", step: int) -> None:
    """Write the state of a run, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in (("net", trainer.net), ("decoder", trainer.decoder)):
        tensors.update({f"{prefix}.{k}": v.detach().contiguous() for k, v in module.state_dict().items()})
    for i, state in trainer.optimiser.state_dict()["state"].items():
        tensors.update({f"optimiser.{i}.{k}": v.detach().contiguous() for k, v in state.items()})
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={"step": str(step)})
    temporary.replace(path)


def load_weights(path: Path, net: torch.nn.Module, prefix: str = "net") -> None:
    """Load a network's weights from a checkpoint.

    Raises:
        CheckpointError: if the file cannot be read or does not fit the network.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot read it: {error}") from error
    state = {k.removeprefix(f"{prefix}."): v for k, v in tensors.items() if k.startswith(f"{prefix}.")}
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its {prefix!r} does not fit this network: {error}") from error


def load_matching(path: Path, net: torch.nn.Module, prefix: str = "net") -> list[str]:
    """Load those weights of a checkpoint that fit a network by name and shape; return the names that got none.

    Raises:
        CheckpointError: if the file cannot be read, or nothing fits.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot read it: {error}") from error
    own = net.state_dict()
    fitting = {
        k: tensors[f"{prefix}.{k}"] for k, v in own.items() if tensors.get(f"{prefix}.{k}", v[None]).shape == v.shape
    }
    if not fitting:
        raise CheckpointError(f"{path}: none of its weights fits {prefix!r}")
    net.load_state_dict(fitting, strict=False)
    return sorted(set(own) - set(fitting))


def load_checkpoint(path: Path, trainer: "Trainer") -> int:
    """Load the state of a run into a trainer of the same configuration; return the step to go on with.

    Raises:
        CheckpointError: if the file cannot be read or does not fit the trainer.
    """
    load_weights(path, trainer.net, "net")
    load_weights(path, trainer.decoder, "decoder")
    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key in file.keys():  # noqa: SIM118 - not a dict
            if key.startswith("optimiser."):
                _, i, name = key.split(".", 2)
                moments.setdefault(int(i), {})[name] = file.get_tensor(key)
    groups = trainer.optimiser.state_dict()["param_groups"]
    trainer.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the schedule goes on without optimiser steps: those were taken before
        for _ in range(step):
            trainer.schedule.step()
    return step
