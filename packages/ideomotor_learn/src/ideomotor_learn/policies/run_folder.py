"""The folder of a run: all that going on with it needs, without pickle.

``weights.safetensors`` holds the networks, their optimisers and, as metadata, the record of the run: one file, so that
weights and record are never of two iterations. It is replaced last; what it does not name is not part of the run.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ideomotor.data.experience import Episode, load_episode
from ideomotor.dynamics.rigid_body import RobotStructure
from ideomotor.policies.motion import Motion, load_motion

WEIGHTS, MOTION, ROBOT = "weights.safetensors", "motion.npz", "robot.urdf"
_RUN, _SHA256 = "run.json", "sha256"  # keys of the metadata
UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, SafetensorError)


@dataclass(frozen=True)
class Run:
    """What is in the folder."""

    config: Mapping[str, Any]  # of the learning
    urdf: str
    structure: RobotStructure
    motion: Motion
    episodes: Sequence[Episode]
    learned: int  # how many of the episodes the networks have learned from
    history: Sequence[Mapping[str, Any]]
    tensors: Mapping[str, torch.Tensor]


def write_run(folder: Path, run: Run, *, kept: int) -> None:
    """Write a run; what was there stays until the new is complete.

    Args:
        folder: where.
        run: what.
        kept: how many of the episodes are in the folder already, of this very run.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if kept == 0:
        run.motion.save(folder / MOTION)
        (folder / ROBOT).write_text(run.urdf, encoding="utf-8")
    for i, episode in enumerate(run.episodes[kept:], start=kept):
        episode.save(_episode(folder, i))
    record = {
        "config": dict(run.config),
        "structure": asdict(run.structure),
        "episodes": len(run.episodes),
        "learned": run.learned,
        "history": [dict(m) for m in run.history],
    }
    temporary = folder / f".{WEIGHTS}"
    text = json.dumps(record)
    save_file(dict(run.tensors), temporary, metadata={_RUN: text, _SHA256: _sha256(text, run.tensors)})
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(folder / WEIGHTS)


def read_run(folder: Path) -> Run:
    """Return the run that was last written.

    Raises:
        IdeomotorError: an episode or the motion cannot be read.
        Exception: one of `UNREADABLE`, if the rest cannot.
    """
    with safe_open(folder / WEIGHTS, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    if metadata[_SHA256] != _sha256(metadata[_RUN], tensors):
        raise ValueError(f"{WEIGHTS} is damaged: it is not what was written")
    record = json.loads(metadata[_RUN])
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{WEIGHTS}: {name} is not finite")
    structure: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record["structure"].items()}
    return Run(
        config=record["config"],
        urdf=(folder / ROBOT).read_text(encoding="utf-8"),
        structure=RobotStructure(**structure),
        motion=load_motion(folder / MOTION),
        episodes=[load_episode(_episode(folder, i)) for i in range(record["episodes"])],
        learned=int(record["learned"]),
        history=record["history"],
        tensors=tensors,
    )


def holds_run(folder: Path) -> bool:
    """Whether a run was written to it."""
    return (folder / WEIGHTS).exists()


def _sha256(record: str, tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(record.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _episode(folder: Path, number: int) -> Path:
    return folder / f"episode_{number:03d}.npz"
