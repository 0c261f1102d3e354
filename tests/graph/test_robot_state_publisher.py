"""Our robot_state_publisher: the description is published, changed by parameter, or refused; frames follow."""

import numpy as np
import pytest
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.exceptions import InvalidParameterValueException
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from ideomotor_nodes.qos import LATCHED, TF, TF_STATIC
from ideomotor_nodes.robot_state_publisher import RobotStatePublisherNode
from ideomotor_nodes.transforms import TransformListener
from tests.graph.conftest import Graph

URDF = """<robot name="r"><link name="base"/><link name="arm"/><link name="hand"/>
<joint name="a" type="revolute"><parent link="base"/><child link="arm"/><origin xyz="0 0 1"/><axis xyz="0 0 1"/>
  <limit lower="-3" upper="3" velocity="2" effort="1"/></joint>
<joint name="f" type="fixed"><parent link="arm"/><child link="hand"/><origin xyz="0.5 0 0"/></joint></robot>"""
LONGER = URDF.replace('xyz="0.5 0 0"', 'xyz="0.7 0 0"')


def start(graph: Graph, urdf: str = URDF) -> RobotStatePublisherNode:
    return graph.start(RobotStatePublisherNode(parameter_overrides=[Parameter("robot_description", value=urdf)]))


def set_description(graph: Graph, urdf: str) -> tuple[bool, str]:
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=urdf)
    request = SetParameters.Request(parameters=[ParameterMsg(name="robot_description", value=value)])
    result = graph.call(SetParameters, "robot_state_publisher/set_parameters", request).results[0]
    return result.successful, result.reason


def test_description_and_frames(graph: Graph) -> None:
    start(graph)
    listener = TransformListener(graph.helper)
    descriptions = graph.collect(String, "robot_description", LATCHED)
    moving = graph.collect(TFMessage, "/tf", TF)
    states = graph.publisher(JointState, "joint_states")
    msg = JointState(name=["nobody", "a"], position=[9.0, np.pi / 2])
    msg.header.stamp.sec = 1234
    states.publish(msg)
    graph.spin_until(lambda: {"base", "arm", "hand"} <= set(listener.tree.frames) and descriptions and moving)
    np.testing.assert_allclose(listener.lookup("base", "hand")[:3, 3], [0.0, 0.5, 1.0], atol=1e-9)
    assert descriptions[-1].data == URDF
    assert moving[-1].transforms[0].header.stamp.sec == 1234
    assert [t.child_frame_id for t in moving[-1].transforms] == ["arm"]


def test_description_changes_live_and_a_malformed_one_is_refused(graph: Graph) -> None:
    node = start(graph)
    descriptions = graph.collect(String, "robot_description", LATCHED)
    statics = graph.collect(TFMessage, "/tf_static", TF_STATIC)
    assert set_description(graph, LONGER) == (True, "")
    graph.spin_until(lambda: descriptions and descriptions[-1].data == LONGER)
    graph.spin_until(lambda: statics and statics[-1].transforms[0].transform.translation.x == 0.7)
    accepted, reason = set_description(graph, LONGER.replace('<child link="hand"/>', '<child link="nowhere"/>'))
    assert not accepted
    assert "nowhere" in reason
    graph.spin(0.3)
    assert descriptions[-1].data == LONGER
    assert node.get_parameter("robot_description").value == LONGER


def test_malformed_description_at_start_is_refused(graph: Graph) -> None:
    with pytest.raises(InvalidParameterValueException, match="robot_description"):
        RobotStatePublisherNode(parameter_overrides=[Parameter("robot_description", value="<robot")])


def test_bad_joint_states_are_ignored(graph: Graph) -> None:
    start(graph)
    moving = graph.collect(TFMessage, "/tf", TF)
    states = graph.publisher(JointState, "joint_states")
    for msg in (
        JointState(name=["a"]),
        JointState(name=["a"], position=[float("nan")]),
        JointState(name=["a", "a"], position=[0.0, 1.0]),
    ):
        states.publish(msg)
    graph.spin(0.3)
    assert not moving
    states.publish(JointState(name=["a"], position=[0.1]))
    graph.spin_until(lambda: moving)


def test_transforms_are_limited_to_the_publish_frequency(graph: Graph) -> None:
    """Of joint states at 100 Hz every fifth is published; one of another joint is not held back by them."""
    start(graph)
    moving = graph.collect(TFMessage, "/tf", TF)
    states = graph.publisher(JointState, "joint_states")
    for tick in range(21):
        msg = JointState(name=["a"], position=[0.01 * tick])
        msg.header.stamp.sec, msg.header.stamp.nanosec = 5, 10_000_000 * tick
        states.publish(msg)
        graph.spin(0.01)
    graph.spin_until(lambda: len(moving) >= 5)
    assert [m.transforms[0].header.stamp.nanosec // 10_000_000 for m in moving] == [0, 5, 10, 15, 20]
