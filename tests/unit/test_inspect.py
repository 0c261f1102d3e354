"""What `ideomotor inspect` says of artefacts, recordings and robots."""

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from ideomotor.artefacts import ArtefactError, Manifest, Model, Tensor, save_artefact
from ideomotor.inspect import InspectError, describe, table

URDF = """<robot name="arm"><link name="base"/><link name="upper"/><link name="hand"/>
<joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 0 1"/>
<limit lower="-1.5707963" upper="1.5707963" velocity="2" effort="50"/></joint>
<joint name="wrist" type="fixed"><parent link="upper"/><child link="hand"/></joint></robot>"""


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Write 11 messages at 10 Hz, with one lost."""
    store = get_typestore(Stores.ROS2_JAZZY)
    message = store.types["std_msgs/msg/Float64"](data=1.0)
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/speed", "std_msgs/msg/Float64", typestore=store)
        writer.add_connection("/silent", "std_msgs/msg/Float64", typestore=store)
        raw = store.serialize_cdr(message, "std_msgs/msg/Float64")
        for i in np.delete(np.arange(12), 5):
            writer.write(connection, int(1e9 + i * 1e8), raw)
    return tmp_path / "bag"


def test_bag(bag: Path) -> None:
    for path in (bag, next(bag.glob("*.mcap"))):
        lines = describe(path).splitlines()
        assert lines[0] == f"bag {path}: 1.100 s, 11 messages, 2 topics"
        assert [line.split() for line in lines[2:]] == [
            ["/silent", "std_msgs/msg/Float64", "0", "-", "-"],
            ["/speed", "std_msgs/msg/Float64", "11", "10.0", "0.200"],
        ]


@pytest.mark.parametrize("keep", [0, 4, 100, 300, -30, -1])
def test_truncated_bag(bag: Path, keep: int) -> None:
    path = next(bag.glob("*.mcap"))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InspectError, match=r"cannot be read as a bag"):
        describe(path)


def test_urdf(tmp_path: Path) -> None:
    (tmp_path / "arm.urdf").write_text(URDF)
    lines = describe(tmp_path / "arm.urdf").splitlines()
    assert lines[0] == "robot arm: 3 links, 1 moving joints; limits in SI units"
    assert [line.split() for line in lines[2:]] == [
        ["base"],
        ["upper", "shoulder", "revolute", "-1.571", "1.571", "2", "50"],
        ["hand", "wrist", "fixed", "-", "-", "-", "-"],
    ]
    assert lines[4].startswith("      hand")


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    info = helper.make_tensor_value_info
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph(
        [node], "g", [info("x", TensorProto.FLOAT, [1, 3])], [info("y", TensorProto.FLOAT, [1, 3])]
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = Tensor(name="x", shape=(1, 3), dtype="float32", unit="m")
    y = Tensor(name="y", shape=(1, 3), dtype="float32", unit="px")
    manifest = Manifest(
        modality="keypoints",
        models=(Model(file="model.onnx", inputs=(x,), outputs=(y,)),),
        joint_names=(),
        rate=30.0,
        training={"steps": 5},
        seed=1,
        data_sha256="a" * 64,
        metrics={"on_object_pct": 97.25},
        code_version="0.1.0",
        licence="Apache-2.0",
        extra={"tip": "kp_3"},
    )
    save_artefact(tmp_path / "artefact", manifest, {"model.onnx": made.SerializeToString()})
    return tmp_path / "artefact"


def test_artefact(artefact: Path) -> None:
    text = describe(artefact)
    for expected in ("keypoints, checked", "float32[1, 3]  [px]", "30 Hz", "metric on_object_pct  97.25", "kp_3"):
        assert expected in text


def test_damaged_artefact(artefact: Path) -> None:
    data = json.loads((artefact / "manifest.json").read_text())
    del data["seed"]
    (artefact / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(ArtefactError, match="missing fields"):
        describe(artefact)


def test_what_cannot_be_inspected(tmp_path: Path) -> None:
    with pytest.raises(InspectError, match=r"cannot be inspected; expected a folder with manifest\.json"):
        describe(tmp_path)


def test_table_aligns_columns() -> None:
    assert table([("a", "bb", "c"), ("aaa", "b", "")]) == ["  a    bb  c", "  aaa  b"]
