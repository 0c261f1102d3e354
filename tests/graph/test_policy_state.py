"""States put together from messages of one stamp, and the count of what was answered when."""

from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Vector3
from hypothesis import given
from hypothesis import strategies as st
from nav_msgs.msg import Odometry

from ideomotor.body.joint_state import JointStateError
from ideomotor_interfaces.msg import ContactForces
from ideomotor_nodes import convert
from ideomotor_nodes.diagnostics import OK, WARN
from ideomotor_nodes.policy_controller_state import StateAssembler
from ideomotor_nodes.policy_controller_ticks import AnswerMonitor

JOINTS, LINKS = ("a", "b"), ("left", "right")


def joints(time: float, names: tuple[str, ...] = ("b", "c", "a")) -> Any:
    numbers = np.array([float(ord(name)) for name in names])
    return convert.joint_state_msg(names, numbers, time, -numbers)


def odometry(time: float, **pose: float) -> Odometry:
    msg = Odometry(header=convert.header(time, "odom"))
    msg.pose.pose.position.z, msg.pose.pose.orientation.w = pose.get("z", 0.3), pose.get("w", 1.0)
    msg.twist.twist.linear.x, msg.twist.twist.angular.z = 0.5, 0.7
    return msg


def contacts(time: float, links: tuple[str, ...] = ("right", "left")) -> ContactForces:
    forces = [Vector3(x=1.0, z=float(len(link))) for link in links]
    return ContactForces(header=convert.header(time, "odom"), links=list(links), forces=forces)


@given(st.permutations(["odom", "contacts", "joints"]))
def test_whatever_comes_last_completes_the_state(order: list[str]) -> None:
    assembler = StateAssembler(JOINTS, LINKS, floating_base=True)
    take = {
        "odom": lambda: assembler.on_odometry(odometry(1.004)),
        "contacts": lambda: assembler.on_contacts(contacts(1.004)),
        "joints": lambda: assembler.on_joints(joints(1.004)),
    }
    states = [take[name]() for name in order]
    assert states[:2] == [None, None]
    state = states[2]
    assert state is not None
    assert state.time == pytest.approx(1.004)
    np.testing.assert_array_equal(state.q, [0, 0, 0.3, 0, 0, 0, 1, ord("a"), ord("b")])
    np.testing.assert_array_equal(state.v, [0.5, 0, 0, 0, 0, 0.7, -ord("a"), -ord("b")])
    np.testing.assert_array_equal(state.force, [1, 0, 4, 1, 0, 5])
    assert assembler.incomplete == 0


def test_parts_of_different_stamps_are_no_state() -> None:
    assembler = StateAssembler(JOINTS, LINKS, floating_base=True)
    assert assembler.on_odometry(odometry(1.0)) is None
    assert assembler.on_contacts(contacts(1.004)) is None
    assert assembler.on_joints(joints(1.004)) is None
    assert assembler.missing == "odom"
    assert assembler.on_joints(joints(1.008)) is None
    assert assembler.incomplete == 1
    assert assembler.on_odometry(odometry(1.008)) is None
    assert assembler.missing == "contact_forces"
    state = assembler.on_contacts(contacts(1.008))
    assert state is not None
    assert state.stamp == (1, 8_000_000)
    assert assembler.on_contacts(contacts(1.008)) is None  # once


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (joints(1.0, ("a",)), r"lacks \['b'\]"),
        (joints(1.0, ("a", "b", "a")), ""),
        (odometry(1.0, z=float("nan")), "not finite"),
        (odometry(1.0, w=0.5), "no unit norm"),
        (contacts(1.0, ("left",)), r"lack \['right'\]"),
    ],
)
def test_bad_messages_say_why(message: Any, text: str) -> None:
    assembler = StateAssembler(JOINTS, LINKS, floating_base=True)
    take = {"Odometry": assembler.on_odometry, "ContactForces": assembler.on_contacts}
    if not text:
        message.velocity = message.velocity[:2]
        text = "3 names but 3 positions and 2 velocities"
    with pytest.raises(JointStateError, match=text):
        take.get(type(message).__name__, assembler.on_joints)(message)


def test_late_and_missing_answers_are_counted() -> None:
    ticks = AnswerMonitor(0.004)
    assert ticks.report().level == OK
    for _ in range(99):
        ticks.answered(0.001)
    ticks.answered(0.005)
    ticks.unanswered(9)
    assert ticks.missed == 10
    report = ticks.report()
    assert report.level == WARN
    assert report.values["misses of the run [%]"] == pytest.approx(10.0)
    assert report.values["max tick time [s]"] == pytest.approx(0.005)
    assert ticks.report().values["misses"] == 0
    assert 0.001 <= ticks.p99 < 0.005
    ticks.restart()
    assert (ticks.missed, ticks.p99, ticks.total_missed) == (0, 0.0, 10)
