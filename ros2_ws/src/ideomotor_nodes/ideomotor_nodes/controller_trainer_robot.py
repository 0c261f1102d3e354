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
        # Only a simulated robot's: whether a real one may move again is for people to say.
        self._release = create(Trigger, "safety_gate/release") if self._simulated else None
        self._start, self._stop = (create(Trigger, f"experience_recorder/{name}") for name in ("start", "stop"))
        self._run = ActionClient(node, RunPolicy, "policy_controller/run")
        self._handle: Any = None  # future of the running goal's handle
        self._recording = self._paused = False
        self.begun = False  # whether the last run had a first step
        self._folder = Path()

    def abandon(self) -> None:
        """Stop whatever goes on, without waiting for it."""
        if self._handle is not None:  # its answer may still be on the way
            self._handle.add_done_callback(lambda future: future.result().cancel_goal_async())
            self._handle = None
        if self._recording:
            self._stop.call_async(Trigger.Request())
            self._recording = False
        if self._paused and self._pause is not None:
            self._pause.call_async(SetBool.Request(data=False))
            self._paused = False

    def record(self) -> Wait:
        """Start a recording, unless one is open; one that a trainer who was killed has left open is completed.

        Raises:
            RobotError: a service is not there, or refused.
        """
        if self._recording:
            return
        try:
            started = yield from self._call(self._start, Trigger.Request())
        except RobotError:
            yield from self._call(self._stop, Trigger.Request())
            started = yield from self._call(self._start, Trigger.Request())
        self._folder = Path(started.message)
        self._recording = True

    def put_back(self) -> Wait:
        """Put a simulated robot back to its start, and let its gate go; others get there by themselves or by people.

        Raises:
            RobotError: a service is not there, or refused.
        """
        yield from self._set_paused(True)
        if self._reset is not None:
            yield from self._call(self._reset, ResetSimulation.Request(seed=-1))
        if self._release is None:
            return
        end = time.monotonic() + _RELEASE
        while True:
            try:
                yield from self._call(self._release, Trigger.Request())
                return
            except RobotError:
                if time.monotonic() > end:  # the run says why the gate holds
                    return
            yield from self.sleep(0.1)

    def stop_recording(self) -> Wait:
        """Stop simulated time and complete the recording, so that nothing is lost while one learns.

        Raises:
            RobotError: the recorder is not there, or refused.
        """
        yield from self.sleep(_DRAIN)
        yield from self._set_paused(True)
        yield from self._call(self._stop, Trigger.Request())
        self._recording = False

    def read(self, name: str, motion: Motion) -> Generator[None, None, Episode]:
        """Complete the recording and return the episode of this name.

        Raises:
            RobotError: the recorder is not there, or refused.
            ExperienceError: what was recorded is no episode.
        """
        yield from self.stop_recording()
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
        self.begun = False
        accepted = self._handle = self._run.send_goal_async(goal, self._on_feedback)
        yield from self._wait(accepted.done, "answer of policy_controller/run", _ANSWER)
        if not accepted.result().accepted:
            self._handle = None
            raise RobotError("policy_controller/run rejected the goal: is the node active?")
        answer = accepted.result().get_result_async()
        if self._paused and self._pause is not None:
            yield from self._wait(lambda: self.begun or answer.done(), "the first step", _ANSWER)
            yield from self._set_paused(False)
        yield from self._wait(answer.done, "the end of the run", _SLACK + 10.0 * duration)
        self._handle = None
        return answer.result().result

    def _on_feedback(self, _: Any) -> None:  # noqa: ANN401
        self.begun = True

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
