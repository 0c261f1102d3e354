"""The body_schema node: it extends the description for everybody or for nobody, follows a slip and a drop."""

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from ideomotor.body.urdf import description_sha256
from ideomotor_interfaces.action import EstimateBodySchema
from ideomotor_interfaces.msg import BodySchema, KeypointArray
from ideomotor_nodes import convert
from ideomotor_nodes.body_schema_outputs import TIP_FRAME
from tests.graph.body_rig import CONSUMER, EE_LINK, OPTICAL, URDF, BodyRig
from tests.graph.conftest import Graph

Result = EstimateBodySchema.Result


def test_the_action_extends_description_and_frames(graph: Graph) -> None:
    rig = BodyRig(graph)
    result = rig.extend()
    schema = result.body_schema
    assert (result.error_code, schema.state, schema.revision) == (Result.NONE, BodySchema.EXTENDED, 1)
    assert (schema.ee_link, schema.tip_link) == (EE_LINK, "virtual_kp_3")
    graph.spin_until(lambda: "virtual_kp_3" in rig.descriptions[-1].data, what="the extended description")
    assert schema.description_sha256 == description_sha256(rig.descriptions[-1].data)
    assert rig.tip_error() < 0.008
    assert schema.tip_std < 0.01
    graph.spin_until(
        lambda: "virtual_kp_3" in {t.child_frame_id for m in rig.statics for t in m.transforms},
        what="the virtual frames",
    )
    assert rig.feedback
    assert 0.0 <= rig.feedback[0].progress <= rig.feedback[-1].progress <= 1.0
    tips = lambda: [t for m in rig.frames for t in m.transforms if t.child_frame_id == TIP_FRAME]  # noqa: E731
    graph.spin_until(lambda: len(tips()) > 5, what="the tip's frame")
    translation = tips()[-1].transform.translation
    assert np.linalg.norm([translation.x, translation.y, translation.z] - rig.rest[3]) < 0.008


def test_waving_moves_the_arm_and_comes_back(graph: Graph) -> None:
    rig = BodyRig(graph)
    rig.moves_itself = False
    start = rig.q.copy()
    status, result = rig.result(rig.begin(duration=2.0, wave=True))
    assert status == GoalStatus.STATUS_SUCCEEDED, result.error_msg
    assert all(tuple(c.joint_names) == rig.chain.joint_names and len(c.points) == 1 for c in rig.commands)
    positions = np.array([c.points[0].positions for c in rig.commands])
    assert len(positions) > 60
    assert np.ptp(positions, axis=0).max() > 0.2
    np.testing.assert_allclose(positions[-1], start, atol=0.02)


def test_cancel_leaves_what_was_there(graph: Graph) -> None:
    rig = BodyRig(graph)
    handle = rig.begin(duration=30.0)
    graph.spin_until(lambda: rig.state == BodySchema.ESTIMATING)
    handle.cancel_goal_async()
    status, result = rig.result(handle)
    assert (status, result.error_code) == (GoalStatus.STATUS_CANCELED, Result.CANCELLED)
    graph.spin_until(lambda: rig.state == BodySchema.NOMINAL)
    assert rig.descriptions[-1].data == URDF
    rig.extend()  # and it works afterwards
    handle = rig.begin(duration=30.0)
    handle.cancel_goal_async()
    rig.result(handle)
    graph.spin_until(lambda: rig.state == BodySchema.EXTENDED, what="the extension of before")


def test_retract_gives_the_very_description_of_before(graph: Graph) -> None:
    rig = BodyRig(graph)
    rig.extend()
    assert graph.call(Trigger, "body_schema/retract", Trigger.Request()).success
    graph.spin_until(lambda: rig.descriptions[-1].data == URDF and rig.state == BodySchema.NOMINAL)
    assert rig.schemas[-1].tip_link == EE_LINK
    assert not rig.schemas[-1].joints


@pytest.mark.parametrize("answer", [False, None], ids=["refused", "silent"])
def test_what_a_consumer_does_not_take_is_rolled_back(graph: Graph, answer: bool | None) -> None:
    rig = BodyRig(graph, consumer=True, confirm_timeout=0.5)
    rig.consumer_accepts = answer
    status, result = rig.result(rig.begin(duration=1.0))
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, Result.DESCRIPTION_REJECTED)
    assert CONSUMER in result.error_msg
    graph.spin_until(lambda: rig.descriptions[-1].data == URDF, what="the description of before")
    assert rig.state == BodySchema.NOMINAL
    assert rig.schemas[-1].revision == 0
    rig.consumer_accepts = True
    rig.extend()


def test_refused_by_the_robot_state_publisher(graph: Graph) -> None:
    rig = BodyRig(graph)
    graph.executor.remove_node(rig.publisher)
    rig.publisher.destroy_node()
    graph.nodes.remove(rig.publisher)
    graph.spin_until(lambda: not rig.node._set_parameters.service_is_ready())
    status, result = rig.result(rig.begin(duration=1.0))
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, Result.DESCRIPTION_REJECTED)
    assert "robot_state_publisher/set_parameters" in result.error_msg


def test_a_slip_is_an_event_and_is_followed(graph: Graph) -> None:
    rig = BodyRig(graph)
    rig.extend()
    graph.spin(1.0)
    assert rig.state == BodySchema.EXTENDED
    rig.rest = rig.rest + np.array([0.03, -0.02, 0.02])
    graph.spin_until(lambda: any(s.state == BodySchema.SLIPPED for s in rig.schemas), 3.0, "the slip")
    assert rig.schemas[-1].joints  # still those of before
    graph.spin_until(
        lambda: rig.state == BodySchema.EXTENDED and rig.schemas[-1].revision == 2, 8.0, "the new extension"
    )
    graph.spin_until(lambda: rig.tip_error() < 0.01, 4.0, "the right tip")


def test_a_dropped_object_is_taken_back(graph: Graph) -> None:
    rig = BodyRig(graph)
    rig.extend()
    rig.confidence = 0.0
    graph.spin_until(lambda: rig.state == BodySchema.DROPPED, 5.0, "the drop")
    graph.spin_until(lambda: rig.descriptions[-1].data == URDF)
    assert rig.schemas[-1].tip_link == EE_LINK


def test_small_corrections_do_not_move_the_tool_frame(graph: Graph) -> None:
    rig = BodyRig(graph, update_threshold_m=0.05)
    rig.extend(duration=0.8)
    graph.spin(2.0)
    assert rig.schemas[-1].revision == 1


@pytest.mark.parametrize(
    ("missing", "code"), [("keypoints", Result.NO_KEYPOINTS), ("joint_states", Result.NO_JOINT_STATES)]
)
def test_what_is_missing_is_named(graph: Graph, missing: str, code: int) -> None:
    rig = BodyRig(graph)
    rig.confidence = 0.0 if missing == "keypoints" else 0.95
    rig.publish_joints = missing != "joint_states"
    graph.spin(0.5)
    if missing == "joint_states":
        rig.node.joint_states.clear()
    status, result = rig.result(rig.begin(duration=0.5))
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, code), result.error_msg


def test_a_frame_ahead_of_the_clock_waits_for_its_joint_states(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated time stands still while the node is busy: keypoints can come before the clock that belongs to them."""
    rig = BodyRig(graph)
    stamp = rig.node.now() + 0.2
    monkeypatch.setattr(rig.node, "now", lambda: stamp - 0.1)
    message = KeypointArray(header=convert.header(stamp, OPTICAL))
    rig.node._on_keypoints(message)
    assert list(rig.node._waiting) == [message]
    rig.node._on_joint_states(convert.joint_state_msg(rig.chain.joint_names, rig.q, stamp + 0.005))
    assert not rig.node._waiting


def test_a_second_goal_is_busy(graph: Graph) -> None:
    rig = BodyRig(graph)
    first = rig.begin(duration=1.0)
    status, result = rig.result(rig.begin(duration=1.0))
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, Result.BUSY)
    assert rig.result(first)[0] == GoalStatus.STATUS_SUCCEEDED


def test_a_successor_takes_back_what_a_crashed_node_left(graph: Graph) -> None:
    rig = BodyRig(graph)
    rig.extend()
    graph.spin_until(lambda: "virtual_" in rig.descriptions[-1].data)
    graph.executor.remove_node(rig.node)
    graph.nodes.remove(rig.node)
    rig.node.destroy_node()
    graph.start(type(rig.node)(parameter_overrides=[Parameter("seed", value=1)]))
    graph.spin_until(lambda: rig.descriptions[-1].data == URDF, what="the nominal description")
