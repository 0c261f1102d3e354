"""A learned thing on disk: a folder with one or more ONNX models and the contract they keep, ``manifest.json``.

The manifest says everything a robot has to know to run the models and a person to judge them. Loading checks
all of it, so that holding an `Artefact` means that its contract was checked against its models.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnxruntime

from ideomotor.errors import IdeomotorError
from ideomotor.inference import InferenceError, create_session, numpy_type

FORMAT = "ideomotor-artefact-1"
MANIFEST = "manifest.json"

_DTYPES = ("float16", "float32", "float64", "bool", *(f"{s}int{b}" for s in ("", "u") for b in (8, 16, 32, 64)))


class ArtefactError(IdeomotorError):
    """An artefact is missing, damaged, foreign, or does not fit what it is loaded for."""


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """What is done to a tensor before the model gets it: ``(x - mean) / std`` along ``axis``."""

    mean: tuple[float, ...]  # one value, or one per element of the axis; in the tensor's unit
    std: tuple[float, ...]  # as many, positive
    axis: int = -1


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One named input or output of a model."""

    name: str
    shape: tuple[int | str, ...]  # a string names a dynamic axis
    dtype: str  # numpy's name
    unit: str  # "m", "rad", "px", "1" where it has none
    normalisation: Normalisation | None = None  # None: the model takes (gives) the values in their unit


@dataclass(frozen=True, kw_only=True)
class Model:
    """One ONNX file of an artefact."""

    file: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    sha256: str = ""  # of the file; `save_artefact` fills it in


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contract of an artefact. All mappings hold JSON values only."""

    modality: str  # "keypoints", "reward", ...
    models: tuple[Model, ...]
    joint_names: tuple[str, ...]  # order of every joint-valued tensor; empty where there is none
    rate: float  # the rate the models were trained for [Hz]
    training: Mapping[str, Any]  # the training configuration, complete
    seed: int
    data_sha256: str  # of the data set trained on
    metrics: Mapping[str, float]  # measured on held-out data
    code_version: str
    licence: str  # SPDX identifier
    extra: Mapping[str, Any] = field(default_factory=dict)  # what only this modality has
    format: str = FORMAT


@dataclass(frozen=True)
class Artefact:
    """A checked artefact."""

    folder: Path
    manifest: Manifest

    def path(self, file: str = "model.onnx") -> Path:
        """Return the path of one of its models.

        Raises:
            ArtefactError: if the manifest lists no such file.
        """
        known = [model.file for model in self.manifest.models]
        if file not in known:
            raise ArtefactError(f"{self.folder}: no model {file!r}; the manifest lists {known}")
        return self.folder / file


def load_artefact(folder: Path | str, *, modality: str) -> Artefact:
    """Read the artefact in ``folder`` and check all of it: manifest, hashes, the models' inputs and outputs.

    Raises:
        ArtefactError: naming the file, the field, its value and what was expected.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest.modality != modality:
        raise ArtefactError(f"{folder / MANIFEST}: modality is {manifest.modality!r}, expected {modality!r}")
    for model in manifest.models:
        _check_model(folder / model.file, model)
    return Artefact(folder, manifest)


def read_manifest(folder: Path | str) -> Manifest:
    """Read and check ``manifest.json`` of ``folder``, without its models.

    Raises:
        ArtefactError: if it is not there, is not JSON, or a field is missing, unknown or of the wrong type.
    """
    path = Path(folder) / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtefactError(f"{folder} is no artefact: cannot read {MANIFEST}: {error.strerror}") from error
    except ValueError as error:  # not JSON, or not UTF-8
        raise ArtefactError(f"{path} is not JSON: {error}") from error
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise ArtefactError(f"{path}: format is {found!r}, expected {FORMAT!r}: not an Ideomotor artefact")
    return _manifest_from(data, str(path))


def check_target(folder: Path | str) -> None:
    """Check that an artefact can be written to ``folder``, before the work that it is the result of.

    Raises:
        ArtefactError: if something else is there, or the folder cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArtefactError(f"{folder} is there and is no artefact; expected a new or empty folder, or an artefact")
    there = next(parent for parent in folder.absolute().parents if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ArtefactError(f"{folder}: cannot write to {there}; expected a folder to write to")


def save_artefact(folder: Path | str, manifest: Manifest, models: Mapping[str, Path | bytes]) -> Artefact:
    """Write an artefact, whole or not at all: on a failure what was in ``folder`` is still there.

    Args:
        folder: where; an artefact that is there is replaced, anything else is refused.
        manifest: its models' ``sha256`` are filled in here.
        models: content or path of each file that ``manifest.models`` lists.

    Raises:
        ArtefactError: if the manifest and the models do not fit, or ``folder`` holds something else.
    """
    folder = Path(folder)
    check_target(folder)
    listed = [model.file for model in manifest.models]
    if sorted(listed) != sorted(models):
        raise ArtefactError(f"models given are {sorted(models)}, the manifest lists {sorted(listed)}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # On the same file system as `folder`, so that the renames below are atomic.
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        new = temporary / "new"
        new.mkdir()
        _write(new, manifest, models)
        load_artefact(new, modality=manifest.modality)
        _swap_in(new, folder, temporary / "old")
    finally:
        if folder.exists() or not (temporary / "old").exists():  # never remove the only copy there is
            shutil.rmtree(temporary)
    return load_artefact(folder, modality=manifest.modality)


def _write(folder: Path, manifest: Manifest, models: Mapping[str, Path | bytes]) -> None:
    hashed = []
    for model in manifest.models:
        _check_file_name(model.file, "manifest.models.file")
        source = models[model.file]
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        (folder / model.file).write_bytes(content)
        hashed.append(replace(model, sha256=hashlib.sha256(content).hexdigest()))
    m = manifest  # `asdict` cannot copy the read-only views of a loaded manifest
    plain = replace(m, models=tuple(hashed), training=dict(m.training), metrics=dict(m.metrics), extra=dict(m.extra))
    try:
        text = json.dumps(asdict(plain), indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArtefactError(f"manifest cannot be written as JSON: {error}") from error
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _swap_in(new: Path, folder: Path, old: Path) -> None:
    """Put ``new`` in the place of ``folder``; if that fails, put ``folder`` back."""
    replaced = folder.exists()
    if replaced:
        os.rename(folder, old)
    try:
        os.rename(new, folder)
    except OSError:
        if replaced:
            os.rename(old, folder)
        raise


def _check_model(path: Path, model: Model) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtefactError(f"{path}: cannot read it: {error.strerror}; the manifest lists it") from error
    found = hashlib.sha256(content).hexdigest()
    if found != model.sha256:
        raise ArtefactError(
            f"{path}: sha256 is {found}, the manifest says {model.sha256}: the file is damaged or swapped"
        )
    try:
        session = create_session(content, "CPUExecutionProvider", threads=1)
    except InferenceError as error:
        raise ArtefactError(f"{path}: not a model: {error}") from error
    _check_tensors(f"{path}: inputs", model.inputs, session.get_inputs())
    _check_tensors(f"{path}: outputs", model.outputs, session.get_outputs())


def _check_tensors(where: str, listed: tuple[Tensor, ...], actual: list[onnxruntime.NodeArg]) -> None:
    names, actual_names = [t.name for t in listed], [t.name for t in actual]
    if names != actual_names:
        raise ArtefactError(f"{where} are {actual_names}, the manifest says {names}")
    for tensor, real in zip(listed, actual, strict=True):
        dtype = numpy_type(real.type)
        if dtype != tensor.dtype:
            raise ArtefactError(f"{where}: {tensor.name} is {dtype}, the manifest says {tensor.dtype}")
        # The manifest may fix an axis that the model leaves open, not the other way round.
        fits = len(real.shape) == len(tensor.shape) and all(
            not isinstance(have, int) or have == said for said, have in zip(tensor.shape, real.shape, strict=True)
        )
        if not fits:
            raise ArtefactError(
                f"{where}: {tensor.name} has shape {real.shape}, the manifest says {list(tensor.shape)}"
            )


# Reading the manifest: every function takes a JSON value and the place it is at, for the message.


def _manifest_from(data: Any, where: str) -> Manifest:  # noqa: ANN401
    d = _object(data, where, Manifest)
    manifest = Manifest(
        modality=_text(d["modality"], f"{where}: modality"),
        models=tuple(_model_from(v, w) for v, w in _items(d["models"], f"{where}: models")),
        joint_names=tuple(_text(v, w) for v, w in _items(d["joint_names"], f"{where}: joint_names")),
        rate=_number(d["rate"], f"{where}: rate"),
        training=_mapping(d["training"], f"{where}: training"),
        seed=_integer(d["seed"], f"{where}: seed"),
        data_sha256=_sha256(d["data_sha256"], f"{where}: data_sha256"),
        metrics=_mapping(d["metrics"], f"{where}: metrics"),
        code_version=_text(d["code_version"], f"{where}: code_version"),
        licence=_text(d["licence"], f"{where}: licence"),
        extra=_mapping(d["extra"], f"{where}: extra"),
    )
    for name, number in manifest.metrics.items():
        _number(number, f"{where}: metrics.{name}")
    if not manifest.rate > 0:
        raise ArtefactError(f"{where}: rate is {manifest.rate}, expected a positive rate [Hz]")
    if not manifest.models:
        raise ArtefactError(f"{where}: models is empty, expected at least one")
    _check_unique([model.file for model in manifest.models], f"{where}: models.file")
    _check_unique(list(manifest.joint_names), f"{where}: joint_names")
    return manifest


def _model_from(data: Any, where: str) -> Model:  # noqa: ANN401
    d = _object(data, where, Model)
    _check_file_name(d["file"], f"{where}.file")
    return Model(
        file=d["file"],
        inputs=tuple(_tensor_from(v, w) for v, w in _items(d["inputs"], f"{where}.inputs")),
        outputs=tuple(_tensor_from(v, w) for v, w in _items(d["outputs"], f"{where}.outputs")),
        sha256=_sha256(d["sha256"], f"{where}.sha256"),
    )


def _tensor_from(data: Any, where: str) -> Tensor:  # noqa: ANN401
    d = _object(data, where, Tensor)
    shape = tuple(_axis(v, w) for v, w in _items(d["shape"], f"{where}.shape"))
    if d["dtype"] not in _DTYPES:
        raise ArtefactError(f"{where}.dtype is {d['dtype']!r}, expected one of {list(_DTYPES)}")
    normalisation = None
    if d["normalisation"] is not None:
        normalisation = _normalisation_from(d["normalisation"], f"{where}.normalisation", shape)
    return Tensor(
        name=_text(d["name"], f"{where}.name"),
        shape=shape,
        dtype=d["dtype"],
        unit=_text(d["unit"], f"{where}.unit"),
        normalisation=normalisation,
    )


def _normalisation_from(data: Any, where: str, shape: tuple[int | str, ...]) -> Normalisation:  # noqa: ANN401
    d = _object(data, where, Normalisation)
    mean = tuple(_number(v, w) for v, w in _items(d["mean"], f"{where}.mean"))
    std = tuple(_number(v, w) for v, w in _items(d["std"], f"{where}.std"))
    axis = _integer(d["axis"], f"{where}.axis")
    if not -len(shape) <= axis < len(shape):
        raise ArtefactError(f"{where}.axis is {axis}, expected an axis of shape {list(shape)}")
    if len(mean) != len(std) or len(mean) not in {1, shape[axis]}:
        raise ArtefactError(f"{where} has {len(mean)} mean, {len(std)} std, expected 1 or {shape[axis]} of each")
    if not all(value > 0 for value in std):
        raise ArtefactError(f"{where}.std is {list(std)}, expected positive values")
    return Normalisation(mean=mean, std=std, axis=axis)


def _object(data: Any, where: str, kind: type) -> dict[str, Any]:  # noqa: ANN401
    """Return ``data`` if it is an object with exactly the fields of the dataclass ``kind``."""
    if not isinstance(data, dict):
        raise ArtefactError(f"{where} is {data!r}, expected an object")
    expected = [f.name for f in fields(kind)]
    missing, unknown = [n for n in expected if n not in data], [n for n in data if n not in expected]
    if missing or unknown:
        raise ArtefactError(f"{where}: missing fields {missing}, unknown fields {unknown}; expected {expected}")
    return data


def _items(data: Any, where: str) -> list[tuple[Any, str]]:  # noqa: ANN401
    if not isinstance(data, list):
        raise ArtefactError(f"{where} is {data!r}, expected a list")
    return [(value, f"{where}[{i}]") for i, value in enumerate(data)]


def _mapping(data: Any, where: str) -> Mapping[str, Any]:  # noqa: ANN401
    if not isinstance(data, dict):
        raise ArtefactError(f"{where} is {data!r}, expected an object")
    return MappingProxyType(data)


def _text(data: Any, where: str) -> str:  # noqa: ANN401
    if not isinstance(data, str) or not data:
        raise ArtefactError(f"{where} is {data!r}, expected a non-empty string")
    return data


def _number(data: Any, where: str) -> float:  # noqa: ANN401
    if isinstance(data, bool) or not isinstance(data, (int, float)) or not math.isfinite(data):
        raise ArtefactError(f"{where} is {data!r}, expected a finite number")
    return float(data)


def _integer(data: Any, where: str) -> int:  # noqa: ANN401
    if isinstance(data, bool) or not isinstance(data, int):
        raise ArtefactError(f"{where} is {data!r}, expected an integer")
    return data


def _axis(data: Any, where: str) -> int | str:  # noqa: ANN401
    if isinstance(data, str) and data:
        return data
    if _integer(data, where) < 1:
        raise ArtefactError(f"{where} is {data}, expected a positive size or the name of a dynamic axis")
    return int(data)


def _sha256(data: Any, where: str) -> str:  # noqa: ANN401
    if not isinstance(data, str) or len(data) != 64 or not set(data) <= set("0123456789abcdef"):
        raise ArtefactError(f"{where} is {data!r}, expected 64 hexadecimal digits")
    return data


def _check_file_name(name: Any, where: str) -> None:  # noqa: ANN401
    """Refuse a name that leads out of the folder."""
    if not isinstance(name, str) or Path(name).name != name or not name.endswith(".onnx"):
        raise ArtefactError(f"{where} is {name!r}, expected the name of an .onnx file in the same folder")


def _check_unique(names: list[str], where: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ArtefactError(f"{where} repeats {repeated}")
