"""The tip controller over DDS, with robot_state_publisher, safety gate and a servo that sags."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionClient
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import Marker, MarkerArray

from ideomotor.body.chain import KinematicChain
from ideomotor.body.urdf import description_sha256, load_urdf
from ideomotor_interfaces.action import MoveTip
from ideomotor_interfaces.msg import BodySchema, DescriptionStatus, RewardState
from ideomotor_nodes import convert
from ideomotor_nodes.qos import LATCHED, TF_STATIC
from ideomotor_nodes.safety_gate import SafetyGateNode
from ideomotor_nodes.tip_controller import TipControllerNode
from tests.graph.conftest import Graph
from tests.graph.sim_clock import SIM_TIME, SimClock
from tests.graph.small_detector import write_small_detector
from tests.graph.small_reward import DURATION, NAMES, write_small_reward

URDF = load_urdf(Path(__file__).parents[2] / "urdf" / "iiwa7.urdf.xacro")
JOINTS = [f"iiwa_joint_{i}" for i in range(1, 8)]
START = np.array([0.0, 0.4, 0.0, -1.4, 0.0, 0.9, 0.0])
CHAIN = KinematicChain.from_urdf(URDF, ee_link="gripper_tcp")
Result = MoveTip.Result


class Bench:
    """Gate and tip controller, and a robot behind them whose servo sags by 5 mrad."""

    def __init__(self, graph: Graph, *, description: bool = True, **controller: Any) -> None:
        self.graph, helper = graph, graph.helper
        self.q, self.sag = START.copy(), 0.005
        self.clock = SimClock(graph)
        parameters = [SIM_TIME, Parameter("joints", value=JOINTS)]
        given = {"ee_link": "gripper_tcp", "speed": 0.8, **controller}
        self.description = helper.create_publisher(String, "robot_description", LATCHED)
        self.statuses = graph.collect(DescriptionStatus, "description_status", LATCHED)
        self.joint_states = helper.create_publisher(JointState, "joint_states", 10)
        helper.create_subscription(Float64MultiArray, "forward_position_controller/commands", self.servo, 10)
        self.timer = helper.create_timer(0.02, self.publish_state)
        self.gate = graph.start(SafetyGateNode(parameter_overrides=parameters))
        parameters = [*parameters, *(Parameter(name, value=value) for name, value in given.items())]
        self.node = graph.start(TipControllerNode(parameter_overrides=parameters))
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
        return self.graph.result(handle, 30.0)

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
    elif case == "duration":
        goal.duration = -1.0
    elif case == "straight":
        goal.duration = 2.0
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
        ("duration", Result.INVALID_GOAL, "duration=-1.0"),
        ("straight", Result.INVALID_GOAL, "duration=2.0 without a reward"),
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


# --- under a learned reward


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_reward(tmp_path_factory.mktemp("tip_controller") / "reward", URDF, START)


def holding(urdf: str, joint: str = 'type="fixed"') -> str:
    """Return the robot with the reward's keypoints on what it holds; they hang on ``joint``."""
    parts = []
    for name, parent, z in (("virtual_kp_0", "gripper_tcp", 0.08), ("virtual_kp_1", "virtual_kp_0", 0.07)):
        ends = f'<parent link="{parent}"/><child link="{name}"/><origin xyz="0.01 0 {z}"/><axis xyz="1 0 0"/>'
        limit = '<limit lower="-1" upper="1" velocity="1" effort="1"/>'
        parts.append(f'<link name="{name}"/><joint name="{name}_joint" {joint}>{ends}{limit}</joint>')
    return urdf.replace("</robot>", "".join(parts) + "</robot>")


def rewarded(graph: Graph, reward: Path, urdf: str, **parameters: Any) -> Bench:
    bench = Bench(graph, reward=str(reward), **parameters)
    assert bench.describe(urdf).accepted
    return bench


@pytest.mark.parametrize(
    ("parameters", "asked", "duration"),
    [({}, 0.0, DURATION), ({"duration": 4.5}, 0.0, 4.5), ({"duration": 4.5}, 2.5, 2.5)],
)
def test_under_a_reward_the_goal_is_reached_in_the_duration_and_weights_are_told(
    graph: Graph, reward: Path, parameters: dict[str, float], asked: float, duration: float
) -> None:
    urdf = holding(URDF)
    bench = rewarded(graph, reward, urdf, **parameters)
    states = graph.collect(RewardState, "reward")
    shown = graph.collect(MarkerArray, "reward_markers")
    chain = KinematicChain.from_urdf(urdf, ee_link="virtual_kp_1")
    q = START + 0.2
    target = convert.pose_stamped_msg(chain.forward(q), 0.0, "base_link")
    goal = MoveTip.Goal(target=target, link="virtual_kp_1", duration=asked)
    begin = bench.clock.now
    response = bench.move(goal)
    taken = bench.clock.now - begin
    assert (response.status, response.result.error_msg) == (GoalStatus.STATUS_SUCCEEDED, "")
    assert np.linalg.norm(chain.forward(bench.q)[:3, 3] - chain.forward(q)[:3, 3]) < 1e-3
    assert duration < taken < duration + 2.0
    graph.spin_until(lambda: shown and shown[-1].markers[0].action == Marker.DELETE)
    assert len(states) > 10
    for state in states:
        assert (list(state.keypoints), state.header.frame_id) == (list(NAMES), "base_link")
        assert len(state.weights) == 6
        assert np.isfinite(state.weights).all()
        assert min(state.weights) > 0.0
    progress, cost = [s.progress for s in states], [s.cost for s in states]
    assert progress == sorted(progress)
    assert progress[0] < 0.1
    assert progress[-1] == 1.0
    assert cost == sorted(cost)
    first, last = np.reshape(states[0].weights, (2, 3)), np.reshape(states[-1].weights, (2, 3))
    assert (first[:, 2] > first[:, 0]).all()
    assert (last[:, 2] < last[:, 0]).all()
    kinds = {m.ns: sum(n.ns == m.ns for n in shown[0].markers) for m in shown[0].markers}
    assert kinds == {"reward_path": 2, "reward_weights": 6}


@pytest.mark.parametrize(
    ("joint", "parameters", "code", "what"),
    [
        ("", {}, Result.UNKNOWN_LINK, "'virtual_kp_0' is not among"),
        ('type="revolute"', {}, Result.UNKNOWN_LINK, "'virtual_kp_0' is not rigid to 'gripper_tcp'"),
        ('type="fixed"', {"duration": 0.2}, Result.NOT_REACHED, "too short for the"),
        ('type="fixed"', {"duration": 25.0}, Result.INVALID_GOAL, "timeout=20.0 s, a motion takes 25.00 s"),
    ],
)
def test_goals_that_a_reward_cannot_move_to_are_refused(
    graph: Graph, reward: Path, joint: str, parameters: dict[str, float], code: int, what: str
) -> None:
    bench = rewarded(graph, reward, holding(URDF, joint) if joint else URDF, **parameters)
    held = bench.q.copy()
    response = bench.move(bench.goal(START + 0.2))
    assert response.result.error_code == code
    assert what in response.result.error_msg
    np.testing.assert_allclose(bench.q, held, atol=0.01)


@pytest.mark.parametrize(
    ("parameters", "what"),
    [
        ({"reward": "/nowhere"}, "/nowhere"),
        ({"reward": "detector"}, "modality"),
        ({"duration": 2.0}, "duration=2.0 without a reward"),
    ],
)
def test_a_bad_reward_fails_configure_with_the_reason(
    graph: Graph, tmp_path: Path, capfd: pytest.CaptureFixture[str], parameters: dict[str, Any], what: str
) -> None:
    if parameters.get("reward") == "detector":
        parameters = {"reward": str(write_small_detector(tmp_path / "artefact"))}
    given = {"joints": JOINTS, "ee_link": "gripper_tcp"} | parameters
    node = graph.add(TipControllerNode(parameter_overrides=[Parameter(k, value=v) for k, v in given.items()]))
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert what in capfd.readouterr().err
