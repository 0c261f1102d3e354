"""Have a policy run and say what came of it: a client of `policy_controller`, and of a simulator if there is one."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.action import ActionClient
from std_srvs.srv import SetBool, Trigger

from ideomotor.config import value
from ideomotor.policies.computed_torque import FREQUENCY
from ideomotor_interfaces.action import RunPolicy
from ideomotor_interfaces.srv import ResetSimulation
from ideomotor_nodes.client import Client, ClientError, run_client
from ideomotor_nodes.params import NodeConfig, check_overrides, declare_config
from ideomotor_nodes.train_controller import say

START_TIMEOUT = 60.0  # [s] for the nodes to come up
ANSWER = 10.0  # [s] of a service, and of the gate's release
RUN_TIMEOUT = 120.0  # [s] of a run
_AGAIN = 0.5  # [s] between two tries
_TOO_EARLY = (RunPolicy.Result.NO_STATE,)


@dataclass(frozen=True, kw_only=True)
class RunPolicyConfig(NodeConfig):
    """Parameters of the client: the action's goal."""

    artefact: str = value("", "Folder of the policy.")
    duration: float = value(0.0, "Of the motion to run, from its start [s]; 0: all of it.", ge=0.0, le=3600.0)
    runs: int = value(1, "Number of runs.", ge=1, le=1000)
    simulator: bool = value(True, "Put a simulated robot back to its start before every run.")
    computed_torque: bool = value(False, "Of an arm: run once by computed torque of the nominal model, too.")
    report: str = value("", "JSON file for the results; empty: none.")


class RunPolicyClient(Client):
    """Sends a goal for every run."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("run_policy", **node_options)
        self.config = declare_config(self, RunPolicyConfig)
        check_overrides(self)
        self._client = ActionClient(self, RunPolicy, "policy_controller/run")
        # Only a simulated robot's: whether a real one may move again is for people to say.
        self._release = self.create_client(Trigger, "safety_gate/release")
        self._pause = self.create_client(SetBool, "sim/pause")
        self._reset = self.create_client(ResetSimulation, "sim/reset")

    def run(self) -> bool:
        """Run; return whether every run came to its end.

        Raises:
            ClientError: something is not there, or does not answer.
        """
        self.wait_for(self._client.server_is_ready, "action server policy_controller/run", START_TIMEOUT)
        results = []
        for i in range(self.config.runs):
            results.append(self._run_once())
            say(f"run {i + 1}: {_line(results[-1])}")
        if self.config.computed_torque:
            other, error = self._run_once(computed_torque=True), float(np.mean([r.position_error for r in results]))
            say(f"computed torque of the nominal model, feedback at {FREQUENCY:.0f} rad/s: {_line(other)}")
            if all(result.error_code == result.NONE for result in (other, *results)):
                say(f"its position error over that of the policy: {other.position_error / max(error, 1e-9):.1f}")
        if self.config.report:
            rows = [_numbers(result) for result in results]
            Path(self.config.report).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        return all(result.error_code == result.NONE for result in results)

    def _run_once(self, *, computed_torque: bool = False) -> RunPolicy.Result:
        c = self.config
        goal = RunPolicy.Goal(artefact=c.artefact, duration=c.duration, computed_torque=computed_torque)
        end = time.monotonic() + START_TIMEOUT
        while True:
            self._put_back()
            result = self.call(self._client, goal, "the run", RUN_TIMEOUT, self._on_feedback)
            if result.error_code not in _TOO_EARLY or time.monotonic() > end:
                return result
            time.sleep(_AGAIN)

    def _put_back(self) -> None:
        self._waits = self.config.simulator
        if not self.config.simulator:
            return
        self._answer(self._pause, SetBool.Request(data=True))
        self._answer(self._reset, ResetSimulation.Request(seed=-1))
        end = time.monotonic() + ANSWER
        while not (answer := self._answer(self._release, Trigger.Request())).success:
            if time.monotonic() > end:
                raise ClientError(f"safety_gate/release: {answer.message}")

    def _on_feedback(self, feedback: RunPolicy.Feedback) -> None:
        if self._waits:  # simulated time goes on from the first step
            self._waits = False
            self._pause.call_async(SetBool.Request(data=False))

    def _answer(self, client: Any, request: Any) -> Any:  # noqa: ANN401
        self.wait_for(client.service_is_ready, f"service {client.srv_name}", START_TIMEOUT)
        future = client.call_async(request)
        self.wait_for(future.done, f"answer of {client.srv_name}", ANSWER)
        return future.result()


def _line(result: RunPolicy.Result) -> str:
    done = "success" if result.error_code == result.NONE else f"failed (code {result.error_code}: {result.error_msg})"
    parts = [done, f"{result.steps} steps", f"mean position error {result.position_error:.4f}"]
    low, high = (float(h) for h in result.base_height)
    if high > 0.0:
        parts += [
            f"displacement {result.displacement_ratio:.2f} of the motion's",
            f"contact agreement {100.0 * result.contact_agreement:.0f} %",
            f"base {low:.2f} to {high:.2f} m high",
        ]
    parts.append(f"ticks p99 {1e3 * result.tick_p99:.2f} ms, {result.missed_deadlines} missed")
    return ", ".join(parts)


def _numbers(result: RunPolicy.Result) -> dict[str, Any]:
    names = [name for name in result.get_fields_and_field_types() if name != "base_height"]
    return {name: getattr(result, name) for name in names} | {"base_height": [float(h) for h in result.base_height]}


def main(args: list[str] | None = None) -> int:
    """Run; 0 if every run came to its end, 1 if not, 2 for bad parameters."""
    return run_client(RunPolicyClient, args)
