"""The tip controller over DDS, with robot_state_publisher, safety gate and a servo that sags."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from ideomotor.body.chain import KinematicChain
from ideomotor.body.urdf import description_sha256, load_urdf
from ideomotor_interfaces.action import MoveTip
from ideomotor_interfaces.msg import BodySchema, DescriptionStatus
from ideomotor_nodes import convert
from ideomotor_nodes.qos import LATCHED, TF_STATIC
from ideomotor_nodes.safety_gate import SafetyGateNode
from ideomotor_nodes.tip_controller import TipControllerNode
from tests.graph.conftest import Graph
from tests.graph.sim_clock import SIM_TIME, SimClock

URDF = load_urdf(Path(__file__).parents[2] / "urdf" / "iiwa7.urdf.xacro")
JOINTS = [f"iiwa_joint_{i}" for i in range(1, 8)]
START = np.array([0.0, 0.4, 0.0, -1.4, 0.0, 0.9, 0.0])
CHAIN = KinematicChain.from_urdf(URDF, ee_link="gripper_tcp")
Result = MoveTip.Result


class Bench:
    """Gate and tip controller, and a robot behind them whose servo sags by 5 mrad."""

    def __init__(self, graph: Graph, *, description: bool = True) -> None:
        self.graph, helper = graph, graph.helper
        self.q, self.sag = START.copy(), 0.005
        self.clock = SimClock(graph)
        parameters = [SIM_TIME, Parameter("joints", value=JOINTS)]
        ee = [Parameter("ee_link", value="gripper_tcp"), Parameter("speed", value=0.8)]
        self.description = helper.create_publisher(String, "robot_description", LATCHED)
        self.statuses = graph.collect(DescriptionStatus, "description_status", LATCHED)
        self.joint_states = helper.create_publisher(JointState, "joint_states", 10)
        helper.create_subscription(Float64MultiArray, "forward_position_controller/commands", self.servo, 10)
        self.timer = helper.create_timer(0.02, self.publish_state)
        self.gate = graph.start(SafetyGateNode(parameter_overrides=parameters))
        self.node = graph.start(TipControllerNode(parameter_overrides=[*parameters, *ee]))
        self.client = ActionClient(helper, MoveTip, "tip_controller/move_tip")
        self.feedback: list[float] = []
        graph.spin_until(self.client.server_is_ready)
        if description:
            self.describe(URDF)
            graph.spin_until(lambda: self.gate._gate is not None and self.gate._gate.state.name == "HOLDING")

    def describe(self, urdf: str) -> DescriptionStatus:
        self.statuses.clear()
        self.description.publish(String(data=urdf))
        self.graph.spin_until(lambda: self.statuses)
        return self.statuses[-1]

    def servo(self, msg: Float64MultiArray) -> None:
        self.q += 0.3 * (np.array(msg.data) - self.sag - self.q)

    def publish_state(self) -> None:
        self.joint_states.publish(convert.joint_state_msg(JOINTS, self.q, self.clock.now))

    def goal(self, q: np.ndarray, frame: str = "base_link", **fields: Any) -> MoveTip.Goal:
        target = convert.pose_stamped_msg(CHAIN.forward(q), 0.0, frame)
        return MoveTip.Goal(target=target, **({"position_only": True} | fields))

    def send(self, goal: MoveTip.Goal) -> Any:
        handle = self.graph.send_goal(self.client, goal, lambda m: self.feedback.append(m.feedback.position_error))
        assert handle.accepted
        return handle

    def result(self, handle: Any) -> Any:
        future = handle.get_result_async()
        self.graph.spin_until(future.done, timeout=30.0)
        return future.result()

    def move(self, goal: MoveTip.Goal) -> Any:
        return self.result(self.send(goal))


def test_goals_are_reached_within_a_millimetre_although_the_servo_sags(graph: Graph) -> None:
    bench = Bench(graph)
    for offset, position_only in ((0.2, True), (-0.1, False)):
        q = START + offset
        response = bench.move(bench.goal(q, position_only=position_only))
        assert (response.status, response.result.error_msg) == (GoalStatus.STATUS_SUCCEEDED, "")
        T, goal = CHAIN.forward(bench.q), CHAIN.forward(q)
        assert np.linalg.norm(T[:3, 3] - goal[:3, 3]) < 1e-3
        assert response.result.position_error < 1e-3
        final = response.result.final
        assert final.header.frame_id == "base_link"
        np.testing.assert_allclose(convert.matrix(final.pose)[:3, 3], goal[:3, 3], atol=1e-3)
    assert len(bench.feedback) > 3
    assert bench.feedback[0] > bench.feedback[-1]
    graph.spin_until(lambda: bench.gate._gate.state.name != "FOLLOWING")
    assert bench.gate._gate.state.name == "HOLDING"  # the end of the commands was no fault


def test_target_in_another_frame(graph: Graph) -> None:
    bench = Bench(graph)
    table = np.eye(4)
    table[:3, 3] = 0.1, 0.2, 0.3
    static = graph.publisher(TFMessage, "/tf_static", TF_STATIC)
    static.publish(TFMessage(transforms=[convert.transform_stamped_msg(table, 0.0, "base_link", "table")]))
    graph.spin_until(lambda: "table" in bench.node._transforms.tree.frames)
    T = CHAIN.forward(START + 0.1)
    target = convert.pose_stamped_msg(np.linalg.inv(table) @ T, 0.0, "table")
    assert bench.move(MoveTip.Goal(target=target, position_only=True)).result.error_code == Result.NONE
    assert np.linalg.norm(CHAIN.forward(bench.q)[:3, 3] - T[:3, 3]) < 1e-3


def test_cancel_brakes_and_is_no_fault_of_the_gate(graph: Graph) -> None:
    bench = Bench(graph)
    handle = bench.send(bench.goal(START + 0.6))
    graph.spin_until(lambda: np.abs(bench.q - START).max() > 0.1)
    handle.cancel_goal_async()
    response = bench.result(handle)
    assert (response.status, response.result.error_code) == (GoalStatus.STATUS_CANCELED, Result.CANCELLED)
    graph.spin_until(lambda: bench.gate._gate.state.name != "FOLLOWING")
    assert bench.gate._gate.state.name == "HOLDING"
    assert bench.move(bench.goal(START)).result.error_code == Result.NONE


def test_second_goal_is_busy(graph: Graph) -> None:
    bench = Bench(graph)
    first, second = bench.send(bench.goal(START + 0.2)), bench.send(bench.goal(START))
    assert bench.result(second).result.error_code == Result.BUSY
    assert bench.result(first).result.error_code == Result.NONE


def test_fault_of_the_gate_ends_the_goal_until_it_is_released(graph: Graph) -> None:
    bench = Bench(graph)
    handle = bench.send(bench.goal(START + 0.6))
    graph.spin_until(lambda: np.abs(bench.q - START).max() > 0.1)
    bench.gate._gate.refuse("a test", bench.gate.now())
    response = bench.result(handle)
    assert response.result.error_code == Result.HELD_BY_GATE
    assert "a test" in response.result.error_msg
    assert bench.move(bench.goal(START)).result.error_code == Result.HELD_BY_GATE
    bench.clock.wait(0.25)  # the cause is not forgotten sooner
    assert graph.call(Trigger, "safety_gate/release", Trigger.Request()).success
    graph.spin_until(lambda: not bench.node._gate_fault)
    assert bench.move(bench.goal(START)).result.error_code == Result.NONE


def bad_goal(bench: Bench, case: str) -> MoveTip.Goal:
    goal = bench.goal(START + 0.1)
    if case == "link":
        goal.link = "nowhere"
    elif case == "frame":
        goal.target.header.frame_id = "nowhere"
        bench.node._transforms.tree.set("base_link", "camera", np.eye(4))
    elif case == "quaternion":
        goal.target.pose.orientation.w = 7.0
    elif case == "nan":
        goal.target.pose.position.x = math.nan
    elif case == "tolerance":
        goal.position_tolerance = -1.0
    elif case == "far":
        goal.target.pose.position.x = 5.0
    return goal


@pytest.mark.parametrize(
    ("case", "code", "what"),
    [
        ("link", Result.UNKNOWN_LINK, "'nowhere'"),
        ("frame", Result.UNKNOWN_FRAME, "'nowhere'"),
        ("quaternion", Result.INVALID_GOAL, "quaternion"),
        ("nan", Result.INVALID_GOAL, "not finite"),
        ("tolerance", Result.INVALID_GOAL, "position_tolerance=-1.0"),
        ("far", Result.NOT_REACHED, "no configuration reaches"),
    ],
)
def test_bad_goals_say_what_is_wrong_and_nothing_moves(graph: Graph, case: str, code: int, what: str) -> None:
    bench = Bench(graph)
    held = bench.q.copy()
    response = bench.move(bad_goal(bench, case))
    assert response.status == GoalStatus.STATUS_ABORTED
    assert response.result.error_code == code
    assert what in response.result.error_msg
    np.testing.assert_allclose(bench.q, held, atol=0.01)


def test_without_description_or_joint_states_goals_end_as_stale(graph: Graph) -> None:
    bench = Bench(graph, description=False)
    assert bench.move(bench.goal(START)).result.error_msg == "no robot_description yet"
    bench.describe(URDF)
    bench.timer.cancel()
    graph.spin_until(lambda: bench.gate._gate.state.name == "FAULT")
    response = bench.move(bench.goal(START))
    assert response.result.error_code in (Result.STALE_STATE, Result.HELD_BY_GATE)
    assert "joint state" in response.result.error_msg


def test_description_is_confirmed_or_refused_and_the_last_good_one_stays(graph: Graph) -> None:
    bench = Bench(graph)
    longer = URDF.replace('name="gripper_tcp_joint"', 'name="renamed"')
    status = bench.describe(longer)
    assert (status.consumer, status.accepted) == ("tip_controller", True)
    assert status.description_sha256 == description_sha256(longer)
    for bad in ("<robot", URDF.replace("gripper_tcp", "elsewhere")):
        status = bench.describe(bad)
        assert not status.accepted
        assert status.reason
        assert status.description_sha256 == description_sha256(bad)
    assert bench.move(bench.goal(START + 0.1)).result.error_code == Result.NONE


def test_an_empty_link_means_the_tip_of_the_body_schema(graph: Graph) -> None:
    bench = Bench(graph)
    stick = '<link name="tip"/><joint name="tip_joint" type="fixed"><parent link="gripper_tcp"/><child link="tip"/>'
    extended = URDF.replace("</robot>", stick + '<origin xyz="0.02 0 0.15"/></joint></robot>')
    assert bench.describe(extended).accepted
    schema = graph.publisher(BodySchema, "body_schema", LATCHED)
    schema.publish(BodySchema(state=BodySchema.EXTENDED, tip_link="tip"))
    graph.spin_until(lambda: bench.node._tip_link == "tip")
    chain = KinematicChain.from_urdf(extended, ee_link="tip")
    T = chain.forward(START + 0.1)
    target = convert.pose_stamped_msg(T, 0.0, "base_link")
    assert bench.move(MoveTip.Goal(target=target, position_only=True)).result.error_code == Result.NONE
    assert np.linalg.norm(chain.forward(bench.q)[:3, 3] - T[:3, 3]) < 1e-3


def test_pose_stamped_default_is_refused(graph: Graph) -> None:
    """A goal that nobody filled in has no frame."""
    bench = Bench(graph)
    response = bench.move(MoveTip.Goal(target=PoseStamped()))
    assert response.result.error_code == Result.UNKNOWN_FRAME
