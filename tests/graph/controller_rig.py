"""An arm of two joints that answers efforts on the topics of a robot: its hand is heavier than described."""

from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from ideomotor.dynamics.rigid_body import RigidBody
from ideomotor.policies.motion import reach
from ideomotor_interfaces.action import RunPolicy
from ideomotor_learn.policies.training import ControllerConfig, ControllerTraining
from ideomotor_nodes import convert
from ideomotor_nodes.policy_controller import PolicyControllerNode
from ideomotor_nodes.qos import COMMAND, LATCHED, STREAM
from tests.graph.conftest import Graph
from tests.unit.small_robots import FAST, arm_training, hold_of, rollout
from tests.unit.test_rigid_body import ARM, arm_urdf

RATE, SUBSTEPS, DAMPING = 250.0, 4, 0.3
MOTION = reach(ARM.joints, np.array([0.3, 0.5]), np.array([0.6, 0.2]), duration=0.4)
Result = RunPolicy.Result


def trained(config: ControllerConfig = FAST, iterations: int = 4) -> ControllerTraining:
    """Return a run for the arm along `MOTION`."""
    training, rng = arm_training(config, MOTION), np.random.default_rng(config.seed)
    training.add_episode(rollout(hold_of(training), 50, rng, 0.05))
    for _ in range(iterations):
        training.fit()
        effort = policy_of(training)
        training.add_episode(rollout(effort, MOTION.steps, rng))
    training.fit()
    return training


def policy_of(training: ControllerTraining) -> Any:
    """Return the policy as it runs from its artefact."""
    import tempfile

    from ideomotor.policies.learned import LearnedController

    with tempfile.TemporaryDirectory() as folder:
        training.export(Path(folder) / "policy")
        return LearnedController.load(Path(folder) / "policy", arm_urdf()).effort


class Arm:
    """The arm, its driver and its gate. Time goes on with every command, and a little without."""

    def __init__(self, graph: Graph, q: Any = (0.3, 0.5), *, described: bool = True, stuck: bool = False) -> None:
        self.graph, self.stuck = graph, stuck
        self._body = RigidBody(arm_urdf(hand=0.8), ARM)
        self.q, self.v, self.step = np.array(q, dtype=float), np.zeros(2), 0
        self.lost: list[str] = []  # episodes, once for each time, in which the state after the 50th command is lost
        self.effort = np.zeros(2)
        self.commands: list[JointTrajectory] = []
        self.marks: list[str] = []
        self.states: list[np.ndarray] = []
        helper = graph.helper
        self._joints = helper.create_publisher(JointState, "joint_states", STREAM)
        self.gate = helper.create_publisher(DiagnosticStatus, "safety_gate/status", LATCHED)
        self._description = helper.create_publisher(String, "robot_description", LATCHED)
        if described:
            self._description.publish(String(data=arm_urdf()))
        helper.create_subscription(JointTrajectory, "joint_command", self._on_command, COMMAND)
        helper.create_subscription(String, "experience", self._on_mark, LATCHED)
        self.releases = self._answered = 0
        helper.create_service(Trigger, "safety_gate/release", self._on_release)
        helper.create_timer(0.02, self._on_timer)
        self._commanded = 0.0

    def publish(self) -> None:
        """Publish the state, its joints in another order than commands have them."""
        stamp = convert.stamp(1.0 + self.step / RATE)
        names = list(reversed(ARM.joints))
        self.states.append(self.q.copy())
        self._joints.publish(convert.joint_state_msg(names, self.q[::-1], stamp, self.v[::-1], self.effort[::-1]))

    def _on_timer(self) -> None:
        """Publish where it is, at rest, while nobody commands."""
        if not self.commands or not self.commands[-1].points:
            self.step, self.v = self.step + 1, np.zeros(2)
            self.publish()

    def _on_command(self, msg: JointTrajectory) -> None:
        self.commands.append(msg)
        if not msg.points:
            return
        assert list(msg.joint_names) == list(ARM.joints)
        self.effort = np.array(msg.points[0].effort)
        if not self.stuck:
            h = 1.0 / (RATE * SUBSTEPS)
            for _ in range(SUBSTEPS):
                damped = self.effort - DAMPING * self.v
                self.v = self.v + h * self._body.acceleration(self.q[None], self.v[None], damped[None])[0]
                self.q = self.q + h * self.v
        self.step += 1
        self._answered += 1
        if self._answered == 50 and self.lost and self.marks[-1] in self.lost:
            self.lost.remove(self.marks[-1])
            self.step += 1
        self.publish()

    def _on_mark(self, msg: String) -> None:
        self.marks.append(msg.data)
        self._answered = 0

    def _on_release(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.releases += 1
        response.success = True
        return response


class Running:
    """policy_controller, and a client of its action."""

    def __init__(self, graph: Graph, **parameters: Any) -> None:
        self.graph = graph
        given = {"joints": list(ARM.joints), "state_timeout": 2.0} | parameters
        overrides = [Parameter(name, value=v) for name, v in given.items()]
        self.node = graph.start(PolicyControllerNode(parameter_overrides=overrides))
        self.client = ActionClient(graph.helper, RunPolicy, "policy_controller/run")
        self.feedback: list[RunPolicy.Feedback] = []

    def ready(self) -> None:
        """Spin until it knows the robot."""
        self.graph.spin_until(lambda: self.node.body is not None and self.node.state is not None)

    def send(self, **fields: Any) -> Any:
        goal = RunPolicy.Goal(**fields)
        handle = self.graph.send_goal(self.client, goal, lambda m: self.feedback.append(m.feedback))
        assert handle.accepted
        return handle

    def result(self, handle: Any) -> Any:
        return self.graph.result(handle, 60.0)

    def run(self, **fields: Any) -> Result:
        return self.result(self.send(**fields)).result
