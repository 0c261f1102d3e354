"""A program that uses the nodes as a user's own would: it waits for topics and calls actions, one after the other."""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from action_msgs.msg import GoalStatus
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionClient
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import String
from std_srvs.srv import Trigger

from ideomotor.body.chain import KinematicChain
from ideomotor.body.joint_state import JointStateBuffer
from ideomotor.errors import IdeomotorError
from ideomotor_interfaces.action import EstimateBodySchema, MoveTip
from ideomotor_interfaces.msg import BodySchema, KeypointArray
from ideomotor_nodes import convert
from ideomotor_nodes.executor import StreamExecutor
from ideomotor_nodes.qos import LATCHED, SENSOR

READY_TIMEOUT = 10.0  # [s] until body_schema, too, has heard of the joints
ANSWER_TIMEOUT = 10.0  # [s] until a server accepts or rejects a goal
START_AND_END = 20.0  # [s] for planning and for the last correction
MOTION_TIMEOUT = 60.0  # [s] for one action beyond its own duration; the simulator may be slower than real time
REST, TREMBLING = 0.3, 1e-3  # [s], [rad] or [m] the arm is at rest when it has moved no farther for so long


class ClientError(IdeomotorError):
    """What was waited for did not come, or an action failed."""


class Client(Node):
    """Calls actions, one after the other; everything waits with a timeout."""

    def __init__(self, name: str, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__(name, **node_options)
        self._executor = StreamExecutor()
        self._executor.add_node(self)

    def destroy_node(self) -> None:
        """Stop spinning and destroy the node."""
        self._executor.shutdown()
        super().destroy_node()

    def wait_for(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        """Spin until the condition holds.

        Raises:
            ClientError: it did not within ``timeout`` seconds of real time.
        """
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise ClientError(f"no {what} within {timeout:.0f} s")
            self._executor.spin_once(timeout_sec=0.1)

    def call(
        self,
        client: ActionClient,
        goal: Any,  # noqa: ANN401
        what: str,
        timeout: float,
        feedback: Callable[[Any], None] | None = None,
    ) -> Any:  # noqa: ANN401
        """Send a goal and return its result, whatever its error code.

        Args:
            client: of the action.
            goal: of its type.
            what: is wanted, for messages.
            timeout: from the goal to the result, or, with ``feedback``, from one feedback to the next [s].
            feedback: is called with every feedback.

        Raises:
            ClientError: the goal was rejected, or there is no answer in time.
        """
        news: list[Any] = []
        accepted = client.send_goal_async(goal, news.append if feedback else None)
        self.wait_for(accepted.done, f"answer to {what}", ANSWER_TIMEOUT)
        if not accepted.result().accepted:
            raise ClientError(f"{what} was rejected: is the node active?")
        result = accepted.result().get_result_async()
        while not result.done():
            self.wait_for(lambda: result.done() or bool(news), f"result of {what}", timeout)
            while news and feedback is not None:
                feedback(news.pop(0).feedback)
        if result.result().status == GoalStatus.STATUS_UNKNOWN:
            raise ClientError(f"{what} ended without a result")
        return result.result().result


class BodySchemaClient(Client):
    """Estimates the held object, moves the tip, and knows the newest state."""

    def __init__(self, name: str, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__(name, **node_options)
        self.joint_states = JointStateBuffer()
        self.description: str | None = None
        self.schema: BodySchema | None = None
        self.keypoints: KeypointArray | None = None
        self.true_tip: PoseStamped | None = None  # the simulator's; None on a real robot
        self._estimate = ActionClient(self, EstimateBodySchema, "body_schema/estimate")
        self._move = ActionClient(self, MoveTip, "tip_controller/move_tip")
        self._release = self.create_client(Trigger, "safety_gate/release")
        self.create_subscription(JointStateMsg, "joint_states", self._on_joint_state, SENSOR)
        self.create_subscription(String, "robot_description", self._on_description, LATCHED)
        self.create_subscription(BodySchema, "body_schema", self._on_schema, LATCHED)
        self.create_subscription(KeypointArray, "keypoints", self._on_keypoints, SENSOR)
        self.create_subscription(PoseStamped, "sim/tip", self._on_true_tip, SENSOR)

    def wait_for_robot(self, timeout: float) -> None:
        """Wait until all servers answer and the robot's state is known."""
        self.wait_for(self.estimate_is_ready, "action server body_schema/estimate", timeout)
        self.wait_for(self._move.server_is_ready, "action server tip_controller/move_tip", timeout)
        self.wait_for(lambda: self.description is not None, "robot_description", timeout)
        self.wait_for(lambda: bool(self.joint_states.names), "joint_states", timeout)
        self.wait_for(lambda: self.keypoints is not None, "keypoints", timeout)

    def estimate_is_ready(self) -> bool:
        """Return whether body_schema/estimate answers."""
        return bool(self._estimate.server_is_ready())

    def estimate(self, duration: float, *, wave: bool = True, refine_camera: bool = False) -> BodySchema:
        """Estimate the held object and return the body schema.

        Raises:
            ClientError: the action was rejected or failed.
        """
        goal = EstimateBodySchema.Goal(duration=duration, wave=wave, refine_camera=refine_camera)
        result = self.call(self._estimate, goal, "estimate", duration + MOTION_TIMEOUT)
        end = time.monotonic() + READY_TIMEOUT
        too_early = (result.NO_JOINT_STATES, result.DESCRIPTION_REJECTED)  # it has only just started
        while result.error_code in too_early and time.monotonic() < end:
            result = self.call(self._estimate, goal, "estimate", duration + MOTION_TIMEOUT)
        if result.error_code != result.NONE:
            raise ClientError(f"estimate failed (code {result.error_code}): {result.error_msg}")
        return result.body_schema

    def move_tip(self, position: Any, frame: str, link: str) -> MoveTip.Result:  # noqa: ANN401 - (3,) array
        """Move ``link`` to a position in ``frame`` [m], any orientation; the result says how far it came."""
        target = PoseStamped()
        target.header.frame_id = frame
        target.pose.position.x, target.pose.position.y, target.pose.position.z = (float(x) for x in position)
        target.pose.orientation.w = 1.0
        goal = MoveTip.Goal(target=target, link=link, position_only=True)
        return self.call(self._move, goal, f"move {link}", MOTION_TIMEOUT)

    def move_tip_to_pose(
        self, T_frame_target: np.ndarray, frame: str, link: str, duration: float = 0.0
    ) -> MoveTip.Result:
        """Move ``link`` to a pose in ``frame``, shape (4, 4) [m]; the result says how far it came.

        Args:
            T_frame_target: the pose.
            frame: in which it is given.
            link: is moved there.
            duration: of a motion under a reward [s]; 0: the controller's.
        """
        target = convert.pose_stamped_msg(T_frame_target, 0.0, frame)
        timeout = 2.0 * duration + START_AND_END if duration else 0.0
        goal = MoveTip.Goal(target=target, link=link, duration=duration, timeout=timeout)
        return self.call(self._move, goal, f"move {link}", MOTION_TIMEOUT + duration)

    def known_schema(self, timeout: float) -> BodySchema:
        """Return the body schema that was estimated before.

        Raises:
            ClientError: there is none, or no robot.
        """
        self.wait_for(self._move.server_is_ready, "action server tip_controller/move_tip", timeout)
        self.wait_for(lambda: self.description is not None, "robot_description", timeout)
        self.wait_for(lambda: bool(self.joint_states.names), "joint_states", timeout)
        self.wait_for(lambda: self.schema is not None, "body_schema", timeout)
        assert self.schema is not None
        if self.schema.state != BodySchema.EXTENDED:
            raise ClientError(
                f"body_schema has state {self.schema.state}, expected EXTENDED: estimate the object first"
            )
        return self.schema

    def wait(self, duration: float) -> None:
        """Wait for some time of the node's clock [s]."""
        end = self.get_clock().now().nanoseconds + 1e9 * duration
        self.wait_for(lambda: self.get_clock().now().nanoseconds >= end, "time", MOTION_TIMEOUT + duration)

    def wait_until_at_rest(self, chain: KinematicChain) -> None:
        """Wait until the joints of a chain do not move any more."""
        self.wait(REST)  # so that what is known is of now
        self.wait_for(lambda: self.joint_states.at_rest(chain.joint_names, REST, TREMBLING), "rest", MOTION_TIMEOUT)

    def release_gate(self) -> bool:
        """Ask the safety gate to leave its fault; return whether it did."""
        answer = self._release.call_async(Trigger.Request())
        self.wait_for(answer.done, "answer of safety_gate/release", ANSWER_TIMEOUT)
        return bool(answer.result().success)

    def fresh_true_tip(self, timeout: float = 2.0) -> PoseStamped | None:
        """Return the simulator's working point of now, or None where there is no simulator."""
        self.true_tip = None
        try:
            self.wait_for(lambda: self.true_tip is not None, "sim/tip", timeout)
        except ClientError:
            return None
        return self.true_tip

    def extended_chain(self, schema: BodySchema) -> KinematicChain:
        """Return the chain of the published description that ends at the schema's tip."""
        movable = [joint.name for joint in schema.joints if joint.type != joint.FIXED]
        self.wait_for(lambda: f'"{schema.tip_link}"' in (self.description or ""), "extended robot_description", 10.0)
        self.wait_for(lambda: set(movable) <= set(self.joint_states.names), f"joint_states of {movable}", 10.0)
        assert self.description is not None
        return KinematicChain.from_urdf(self.description, ee_link=schema.tip_link, passive=movable)

    def _on_joint_state(self, msg: JointStateMsg) -> None:
        self.joint_states.update(convert.joint_state(msg))

    def _on_description(self, msg: String) -> None:
        self.description = msg.data

    def _on_schema(self, msg: BodySchema) -> None:
        self.schema = msg

    def _on_keypoints(self, msg: KeypointArray) -> None:
        self.keypoints = msg

    def _on_true_tip(self, msg: PoseStamped) -> None:
        self.true_tip = msg


def run_client(client_type: Callable[[], Any], args: list[str] | None) -> int:
    """Run a client's ``run``; 0 if it returns true, 1 if not or if it was let down, 2 for bad input."""
    rclpy.init(args=args)
    client = None
    try:
        client = client_type()
        return 0 if client.run() else 1
    except (IdeomotorError, ParameterException) as error:
        sys.stderr.write(f"{client_type.__name__}: {error}\n")
        return 1 if isinstance(error, ClientError) else 2
    except KeyboardInterrupt:
        return 1
    finally:
        if client is not None:
            client.destroy_node()
        rclpy.try_shutdown()
