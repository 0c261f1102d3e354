"""The robot's side of a training: put back to the start, run, recorded. Everything gives way while it waits."""

import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rclpy.action import ActionClient
from std_srvs.srv import SetBool, Trigger

from ideomotor.data.experience import Episode, ExperienceError, read_episodes
from ideomotor.data.recording import RecordingError
from ideomotor.errors import IdeomotorError
from ideomotor.policies.motion import Motion
from ideomotor_interfaces.action import RunPolicy
from ideomotor_interfaces.srv import ResetSimulation

if TYPE_CHECKING:
    from ideomotor_nodes.controller_trainer import ControllerTrainerNode

_ANSWER = 10.0  # [s] until a service answers
_SERVER = 30.0  # [s] until somebody offers it
_RELEASE = 5.0  # [s] until the gate lets go after a reset
_DRAIN = 0.3  # [s] until the recorder has taken what was sent before
_SLACK = 60.0  # [s] a run may take beyond its duration: the way to the start, a slow simulation

Result = RunPolicy.Result
LEARNABLE = (Result.NONE, Result.GATE_FAULT, Result.PREDICTION_ERROR)  # a fall is experience, too
Wait = Generator[None, None, Any]


class RobotError(IdeomotorError):
    """The robot, or what stands between it and here, did not do what was wanted."""


class TrainedRobot:
    """Clients of the simulator, the gate, the recorder and the policy controller; create it in `configure`."""

    def __init__(self, node: "ControllerTrainerNode") -> None:
        self._node, self._simulated = node, node.config.reset == "simulation"
        create: Callable[..., Any] = node.create_client
        self._reset = create(ResetSimulation, "sim/reset") if self._simulated else None
        self._pause = create(SetBool, "sim/pause") if self._simulated else None
        self._release = create(Trigger, "safety_gate/release")
        self._start, self._stop = (create(Trigger, f"experience_recorder/{name}") for name in ("start", "stop"))
        self._run = ActionClient(node, RunPolicy, "policy_controller/run")
        self._handle: Any = None  # of the running goal
        self._recording = self._paused = False
        self._folder = Path()

    def abandon(self) -> None:
        """Stop whatever goes on, without waiting for it."""
        if self._handle is not None:
            self._handle.cancel_goal_async()
            self._handle = None
        if self._recording:
            self._stop.call_async(Trigger.Request())
            self._recording = False
        if self._paused and self._pause is not None:
            self._pause.call_async(SetBool.Request(data=False))
            self._paused = False

    def record(self) -> Wait:
        """Stop simulated time and start a recording; one that a trainer who was killed has left open is completed.

        Raises:
            RobotError: a service is not there, or refused.
        """
        yield from self._set_paused(True)
        try:
            started = yield from self._call(self._start, Trigger.Request())
        except RobotError:
            yield from self._call(self._stop, Trigger.Request())
            started = yield from self._call(self._start, Trigger.Request())
        self._folder = Path(started.message)
        self._recording = True

    def put_back(self) -> Wait:
        """Put a simulated robot back to its start; let the gate go.

        Raises:
            RobotError: a service is not there, or refused.
        """
        yield from self._set_paused(True)
        if self._reset is not None:
            yield from self._call(self._reset, ResetSimulation.Request(seed=-1))
        end = time.monotonic() + _RELEASE
        while True:
            try:
                yield from self._call(self._release, Trigger.Request())
                return
            except RobotError:
                # With a robot, people see to it; the run says whether the gate holds.
                if not self._simulated or time.monotonic() > end:
                    return
            yield from self.sleep(0.1)

    def read(self, name: str, motion: Motion) -> Generator[None, None, Episode]:
        """Complete the recording and return the episode of this name.

        Raises:
            RobotError: the recorder is not there, or refused.
            ExperienceError: what was recorded is no episode.
        """
        yield from self.sleep(_DRAIN)
        yield from self._set_paused(True)  # nothing is lost while one learns
        yield from self._call(self._stop, Trigger.Request())
        self._recording = False
        try:
            episodes = read_episodes(
                self._folder, joints=motion.joints, contact_links=motion.contact_links, rate=motion.rate
            )
        except RecordingError as error:
            raise ExperienceError(str(error)) from error
        found = [episode for episode in episodes if episode.name == name]
        if len(found) != 1:
            names = [episode.name for episode in episodes]
            raise ExperienceError(f"{self._folder} has episodes {names}, expected one {name!r}")
        return found[0]

    def run(self, goal: RunPolicy.Goal, duration: float) -> Wait:
        """Run a policy and return its result; simulated time goes on from its first step.

        Raises:
            RobotError: the policy controller is not there, or does not answer.
        """
        yield from self._wait(self._run.server_is_ready, "policy_controller/run", _SERVER)
        begun: list[Any] = []
        accepted = self._run.send_goal_async(goal, begun.append)
        yield from self._wait(accepted.done, "answer of policy_controller/run", _ANSWER)
        if not accepted.result().accepted:
            raise RobotError("policy_controller/run rejected the goal: is the node active?")
        self._handle = accepted.result()
        answer = self._handle.get_result_async()
        if self._paused and self._pause is not None:
            yield from self._wait(lambda: bool(begun) or answer.done(), "the first step", _ANSWER)
            yield from self._set_paused(False)
        yield from self._wait(answer.done, "the end of the run", _SLACK + 10.0 * duration)
        self._handle = None
        return answer.result().result

    def _call(self, client: Any, request: Any) -> Wait:  # noqa: ANN401
        yield from self._wait(client.service_is_ready, f"service {client.srv_name}", _SERVER)
        future = client.call_async(request)
        yield from self._wait(future.done, f"answer of {client.srv_name}", _ANSWER)
        response = future.result()
        if not response.success:
            raise RobotError(f"{client.srv_name}: {response.message}")
        return response

    def _wait(self, condition: Callable[[], bool], what: str, timeout: float) -> Wait:
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise RobotError(f"no {what} within {timeout:.0f} s")
            yield

    def _set_paused(self, paused: bool) -> Wait:
        if self._pause is not None and self._paused != paused:
            yield from self._call(self._pause, SetBool.Request(data=paused))
            self._paused = paused

    def sleep(self, duration: float) -> Wait:
        """Give way for a while [s]."""
        end = time.monotonic() + duration
        while time.monotonic() < end:
            yield
