"""An artefact that loads keeps its contract; one that does not says what is wrong, and nothing was changed."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from ideomotor.artefacts import (
    ArtefactError,
    Manifest,
    Model,
    Normalisation,
    Tensor,
    check_target,
    load_artefact,
    save_artefact,
)

RGB = Tensor(
    name="rgb",
    shape=("batch", 4, 6, 3),
    dtype="float32",
    unit="1",
    normalisation=Normalisation(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)),
)
OUT = Tensor(name="out", shape=("batch", 4, 6, 3), dtype="float32", unit="px")
MANIFEST = Manifest(
    modality="keypoints",
    models=(Model(file="model.onnx", inputs=(RGB,), outputs=(OUT,)),),
    joint_names=("a", "b"),
    rate=30.0,
    training={"lr": 1e-3, "layers": [1, 2]},
    seed=3,
    data_sha256="0" * 64,
    metrics={"on_object_pct": 98.5},
    code_version="0.1.0",
    licence="Apache-2.0",
    extra={"keypoints": ["kp_0"], "tip": "kp_0", "image_size": [4, 6]},
)


def model_bytes(gain: float = 2.0) -> bytes:
    """Return a model that multiplies its image by ``gain``."""
    image = ["batch", 4, 6, 3]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["rgb", "gain"], ["out"])],
        "g",
        [helper.make_tensor_value_info("rgb", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, image)],
        [helper.make_tensor("gain", TensorProto.FLOAT, [1], [gain])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_artefact(tmp_path / "artefact", MANIFEST, {"model.onnx": model_bytes()})
    return tmp_path / "artefact"


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_what_is_saved_is_loaded(folder: Path) -> None:
    artefact = load_artefact(folder, modality="keypoints")
    saved = replace(MANIFEST, models=(replace(MANIFEST.models[0], sha256=artefact.manifest.models[0].sha256),))
    assert artefact.manifest == saved
    assert artefact.path() == folder / "model.onnx"
    assert sorted(p.name for p in folder.parent.iterdir()) == ["artefact"], "no temporary folder is left"
    with pytest.raises(ArtefactError, match=r"no model 'other\.onnx'.*model\.onnx"):
        artefact.path("other.onnx")


def test_manifest_of_a_loaded_artefact_can_be_saved_again(folder: Path, tmp_path: Path) -> None:
    loaded = load_artefact(folder, modality="keypoints")
    again = save_artefact(tmp_path / "again", loaded.manifest, {"model.onnx": loaded.path()})
    assert again.manifest == loaded.manifest


def test_wrong_modality(folder: Path) -> None:
    with pytest.raises(ArtefactError, match=r"modality is 'keypoints', expected 'reward'"):
        load_artefact(folder, modality="reward")


def set_in(*path: Any) -> Callable[[dict[str, Any]], object]:
    *keys, last, new = path

    def change(data: Any) -> None:
        for key in keys:
            data = data[key]
        data[last] = new

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("rate"), r"missing fields \['rate'\]"),
        (lambda d: d.pop("format"), r"format is None, expected 'ideomotor-artefact-1'"),
        (set_in("format", "other-2"), r"format is 'other-2'"),
        (set_in("sead", 1), r"unknown fields \['sead'\]"),
        (set_in("rate", -1), r"rate is -1\.0, expected a positive rate"),
        (set_in("rate", "30"), r"rate is '30', expected a finite number"),
        (set_in("rate", float("nan")), r"rate is nan"),
        (set_in("seed", 1.5), r"seed is 1\.5, expected an integer"),
        (set_in("seed", True), r"seed is True, expected an integer"),
        (set_in("data_sha256", "12"), r"data_sha256 is '12', expected 64"),
        (set_in("licence", ""), r"licence is '', expected a non-empty string"),
        (set_in("joint_names", ["a", "a"]), r"joint_names repeats \['a'\]"),
        (set_in("joint_names", "a"), r"joint_names is 'a', expected a list"),
        (set_in("metrics", "x", "good"), r"metrics\.x is 'good'"),
        (set_in("training", []), r"training is \[\], expected an object"),
        (set_in("models", []), r"models is empty"),
        (set_in("models", 0, "file", "../model.onnx"), r"models\[0\]\.file is '\.\./model\.onnx'"),
        (set_in("models", 0, "file", "gone.onnx"), r"gone\.onnx: cannot read it"),
        (set_in("models", 0, "sha256", "f" * 64), r"sha256 is .* the manifest says f{64}"),
        (set_in("models", 0, "inputs", 0, "name", "bgr"), r"inputs are \['rgb'\], the manifest says \['bgr'\]"),
        (set_in("models", 0, "inputs", 0, "dtype", "uint8"), r"rgb is float32, the manifest says uint8"),
        (set_in("models", 0, "inputs", 0, "dtype", "float"), r"dtype is 'float', expected one of"),
        (set_in("models", 0, "outputs", 0, "shape", ["n", 4, 7, 3]), r"out has shape .* says \['n', 4, 7, 3\]"),
        (set_in("models", 0, "outputs", 0, "shape", ["n", 4, 6]), r"out has shape"),
        (set_in("models", 0, "outputs", 0, "shape", ["n", 4, "w", 3]), r"out has shape"),
        (set_in("models", 0, "outputs", 0, "shape", [0, 4, 6, 3]), r"shape\[0\] is 0, expected a positive size"),
        (set_in("models", 0, "inputs", 0, "normalisation", "std", [1, 0, 1]), r"std is .* expected positive"),
        (set_in("models", 0, "inputs", 0, "normalisation", "std", [1, 1]), r"3 mean, 2 std, expected 1 or 3"),
        (set_in("models", 0, "inputs", 0, "normalisation", "axis", 4), r"axis is 4"),
    ],
)
def test_manifest_that_does_not_fit(folder: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit(folder, change)
    with pytest.raises(ArtefactError, match=message):
        load_artefact(folder, modality="keypoints")


def test_manifest_may_fix_an_axis_the_model_leaves_open(folder: Path) -> None:
    edit(folder, set_in("models", 0, "inputs", 0, "shape", 0, 1))
    assert load_artefact(folder, modality="keypoints").manifest.models[0].inputs[0].shape == (1, 4, 6, 3)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b"null", b'{"format": "ideomotor-artefact-1"}'])
def test_corrupt_manifest(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"manifest\.json.*(is not JSON|format is|missing fields)"):
        load_artefact(folder, modality="keypoints")


def test_foreign_or_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"is no artefact: cannot read manifest\.json"):
        load_artefact(tmp_path, modality="keypoints")
    with pytest.raises(ArtefactError, match="is no artefact"):
        load_artefact(tmp_path / "none", modality="keypoints")


def test_truncated_model_is_found_by_its_hash(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(model_bytes()[:-20])
    with pytest.raises(ArtefactError, match=r"model\.onnx: sha256 is .*damaged or swapped"):
        load_artefact(folder, modality="keypoints")


@pytest.mark.parametrize("content", [b"", b"no model", model_bytes()[:-40]], ids=["empty", "text", "truncated"])
def test_broken_model_is_not_saved_and_the_old_artefact_stays(folder: Path, content: bytes) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(ArtefactError, match=r"model\.onnx: not a model"):
        save_artefact(folder, MANIFEST, {"model.onnx": content})
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir()] == ["artefact"]


def test_failing_rename_puts_the_old_artefact_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "manifest.json").read_bytes()
    rename = os.rename

    def fail_on_new(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            raise OSError("disk full")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_on_new)
    with pytest.raises(OSError, match="disk full"):
        save_artefact(folder, replace(MANIFEST, seed=4), {"model.onnx": model_bytes()})
    assert (folder / "manifest.json").read_bytes() == before
    assert [p.name for p in folder.parent.iterdir()] == ["artefact"]


def test_save_replaces_an_artefact(folder: Path) -> None:
    save_artefact(folder, replace(MANIFEST, seed=4), {"model.onnx": model_bytes(3.0)})
    assert load_artefact(folder, modality="keypoints").manifest.seed == 4


def test_save_refuses_what_is_no_artefact(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtefactError, match="is no artefact"):
        save_artefact(tmp_path, MANIFEST, {"model.onnx": model_bytes()})
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_target_is_checked_before_the_work(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New folders and artefacts will do; what is something else, and where nobody can write, will not."""
    monkeypatch.chdir(tmp_path)
    for target in (folder, tmp_path / "new" / "one", Path("new")):
        check_target(target)
    (tmp_path / "file").touch()
    for target, message in (
        (tmp_path, "is no artefact; expected a new or empty folder, or an artefact"),
        (tmp_path / "file", "is no artefact"),
        (tmp_path / "file" / "new", "cannot write to .*/file; expected a folder"),
    ):
        with pytest.raises(ArtefactError, match=message):
            check_target(target)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # tests may run as root, who can write anywhere
    with pytest.raises(ArtefactError, match=f"cannot write to {tmp_path}; expected"):
        check_target(tmp_path / "new")


def test_save_refuses_models_the_manifest_does_not_list(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"given are \['other\.onnx'\], the manifest lists \['model\.onnx'\]"):
        save_artefact(tmp_path / "a", MANIFEST, {"other.onnx": model_bytes()})


def test_save_refuses_values_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="cannot be written as JSON"):
        save_artefact(tmp_path / "a", replace(MANIFEST, metrics={"x": float("nan")}), {"model.onnx": model_bytes()})
    assert not (tmp_path / "a").exists()


def test_artefact_can_be_moved(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder, tmp_path / "moved")
    assert load_artefact(tmp_path / "moved", modality="keypoints").folder == tmp_path / "moved"
