"""Scripted demonstrations over DDS: shown through the gate, recorded, and read as episodes of different length."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ideomotor.body.extension import BodyExtension, JointType, VirtualJoint
from ideomotor.data.demonstrations import read_demonstrations
from ideomotor_interfaces.msg import BodySchema
from tests.graph.conftest import Graph
from tests.graph.demonstration_rig import LINKS, DemonstrationRig, stick
from tests.graph.test_tip_controller import JOINTS

RATE = 10.0  # [Hz]


def test_what_is_shown_is_recorded_and_read(
    graph: Graph, node_command: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Two demonstrations, from different starts and of different length, to the same goal, straight down at the end."""
    rig = DemonstrationRig(graph, node_command, tmp_path / "log")
    recorder = rig.record(tmp_path / "rec")
    assert rig.wait(rig.show(count=2, min_duration=2.5, max_duration=5.0, seed=2)) == 0, rig.log.read_text()
    recorder.trigger_deactivate()
    assert rig.gate._gate.state.name == "HOLDING"
    assert [m.data for m in rig.names] == ["", "placing_00", "", "placing_01", ""]
    said = [float(line.split()[1]) for line in rig.log.read_text().splitlines() if line.startswith("placing_")]  # [s]
    first, second = read_demonstrations(tmp_path, rate=RATE)
    assert abs(said[0] - said[1]) > 0.3
    assert abs(first.steps - second.steps) > 2
    assert np.linalg.norm(first.keypoints_base[0] - second.keypoints_base[0], axis=1).min() > 0.02
    np.testing.assert_allclose(first.goal, second.goal, atol=2e-3)
    for demonstration, duration in zip((first, second), said, strict=True):
        assert demonstration.joint_names == tuple(JOINTS)
        assert demonstration.keypoint_names == LINKS
        assert 0.6 * duration * RATE < demonstration.steps < 1.5 * duration * RATE + 5  # a busy machine is slower
        descent = np.linalg.norm(demonstration.relative[:, -1, :2], axis=1) < 3e-3  # states above the goal
        height = demonstration.relative[descent, -1, 2]
        assert height.max() > 0.03
        assert (np.diff(height) < 1e-3).all()


def test_an_object_that_is_not_known_or_not_rigid_is_refused(
    graph: Graph, node_command: Callable[..., list[str]], tmp_path: Path
) -> None:
    rig = DemonstrationRig(graph, node_command, tmp_path / "log")
    rig.publish_schema(BodySchema.NOMINAL)
    assert rig.wait(rig.show()) == 1
    assert f"body_schema has state {BodySchema.NOMINAL}, expected EXTENDED" in rig.log.read_text()
    rigid = stick()
    hinge = VirtualJoint(
        "virtual_kp_1_joint", LINKS[0], LINKS[1], JointType.REVOLUTE, *np.zeros((2, 3)), np.zeros((6, 6)), np.eye(3)[0]
    )
    rig.publish_schema(BodySchema.EXTENDED, BodyExtension("gripper_tcp", (rigid.joints[0], hinge), LINKS[1], LINKS))
    assert rig.wait(rig.show()) == 1
    assert "the held object has a joint of its own" in rig.log.read_text()
    assert {m.data for m in rig.names} <= {""}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"min_duration": 5.0, "max_duration": 4.0}, "min_duration=5.0 is above max_duration=4.0"),
        ({"joints": JOINTS[:-1]}, "lacks ['iiwa_joint_7'] of the chain to 'virtual_kp_1'"),
        ({"count": 0}, "count"),
    ],
)
def test_bad_parameters_end_it_with_code_2(
    graph: Graph,
    node_command: Callable[..., list[str]],
    tmp_path: Path,
    parameters: dict[str, object],
    message: str,
) -> None:
    rig = DemonstrationRig(graph, node_command, tmp_path / "log")
    code = rig.wait(rig.show(**parameters))
    assert message in rig.log.read_text()
    assert code == 2
