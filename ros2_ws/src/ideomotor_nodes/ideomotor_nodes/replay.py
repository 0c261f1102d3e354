"""Estimate the body schema again from a recording, and compare it with the recorded one.

The player waits for this node. When the recorded time comes at which the estimation began, it is begun again; the exit
code says whether the result is the same.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message
from std_msgs.msg import Empty

from ideomotor.config import value
from ideomotor.data.recording import Recording
from ideomotor_interfaces.msg import BodySchema
from ideomotor_nodes import convert
from ideomotor_nodes.client import BodySchemaClient, ClientError, run_client
from ideomotor_nodes.params import NodeConfig, check_overrides, declare_config

START_TIMEOUT = 60.0  # [s]
READY_TOPIC = "replay_ready"  # the player waits until this has a subscription


@dataclass(frozen=True, kw_only=True)
class ReplayConfig(NodeConfig):
    """Parameters of replay."""

    folder: str = value("", "Folder of the recording.")
    duration: float = value(3.2, "How long was looked at the object; waving adds 0.2 s [s].", ge=0.5, le=60.0)
    tolerance: float = value(0.001, "Largest difference of a joint's origin of a same result [m].", ge=0.0, le=1.0)


class Replay(BodySchemaClient):
    """Runs one estimation on recorded data."""

    def __init__(self) -> None:
        super().__init__("replay", parameter_overrides=[Parameter("use_sim_time", value=True)])
        self.config = declare_config(self, ReplayConfig)
        check_overrides(self)

    def run(self) -> bool:
        """Return whether the result is that of the recording.

        Raises:
            ClientError: the recording has no estimation, a node is missing, or the estimation failed.
        """
        begin, recorded = recorded_estimation(Path(self.config.folder))
        self.wait_for(self.estimate_is_ready, "action server body_schema/estimate", START_TIMEOUT)
        self.create_subscription(Empty, READY_TOPIC, lambda msg: None, 1)
        clock = self.get_clock()
        self.wait_for(lambda: clock.now().nanoseconds >= begin, "recorded time of the estimation", START_TIMEOUT)
        late = 1e-9 * (clock.now().nanoseconds - begin)  # [s]: it shall end when the recorded one ended
        replayed = self.estimate(self.config.duration - late, wave=False)
        difference = largest_difference(recorded, replayed)
        sys.stdout.write(
            f"recorded {recorded.frames} frames, tip {recorded.tip_link}; replayed {replayed.frames} frames, tip "
            f"{replayed.tip_link}; joint origins differ by {1e3 * difference:.3f} mm at most\n"
        )
        return difference <= self.config.tolerance


def recorded_estimation(folder: Path) -> tuple[int, BodySchema]:
    """Return the time at which the first estimation of a recording began [ns], and its result.

    Raises:
        RecordingError: the recording cannot be read.
        ClientError: it has no estimation that succeeded.
    """
    begin = None
    recording = Recording(folder)
    try:
        for record in recording.records(["/body_schema"]):
            schema = deserialize_message(record.data, BodySchema)
            if schema.state == BodySchema.ESTIMATING and begin is None:
                begin = round(1e9 * convert.seconds(schema.header.stamp))
            elif schema.state == BodySchema.EXTENDED and begin is not None:
                return begin, schema
    finally:
        recording.close()
    raise ClientError(f"{folder}: /body_schema has no estimation that led to an extension")


def largest_difference(a: BodySchema, b: BodySchema) -> float:
    """Return the largest distance between origins of the same joint [m]; inf if the joints are not the same."""
    if [(j.name, j.type) for j in a.joints] != [(j.name, j.type) for j in b.joints]:
        return float("inf")
    pairs = zip(a.joints, b.joints, strict=True)
    distances = [np.linalg.norm(convert.matrix(x.origin)[:3, 3] - convert.matrix(y.origin)[:3, 3]) for x, y in pairs]
    return float(max(distances, default=0.0))


def main(args: list[str] | None = None) -> int:
    """Replay; 0 if the result is the same, 1 if not, 2 if the recording cannot be used."""
    return run_client(Replay, args)
