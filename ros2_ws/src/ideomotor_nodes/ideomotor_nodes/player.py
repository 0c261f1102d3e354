"""Player: a recording to topics, in its order and at its pace."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from ideomotor.config import value
from ideomotor.data.recording import Record, Recording, RecordingError
from ideomotor_nodes.diagnostics import OK, Report
from ideomotor_nodes.interfaces import message_class
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.params import NodeConfig, ParameterError
from ideomotor_nodes.run import BAD_INPUT, run_node

_PERIOD = 0.002  # [s]


@dataclass(frozen=True, kw_only=True)
class PlayerConfig(NodeConfig):
    """Parameters of player."""

    folder: str = value("", "Folder of the recording.")
    topics: tuple[str, ...] = value((), "Topics to play; empty: all of the recording.")
    rate: float = value(1.0, "Recorded by real time.", ge=0.01, le=100.0)
    wait_for: tuple[str, ...] = value((), "Topics that must have a subscription before the first message.")


class PlayerNode(LifecycleNode[PlayerConfig]):
    """Lifecycle shell around `Recording`; ends with exit code 0 after the last message, 2 if the file is broken.

    Publishers are reliable, so that a reliable subscription loses nothing, and latched where they were. Where the
    recording has no /clock, the times of receipt are published there.
    """

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("player", PlayerConfig, **node_options)
        self.played = 0
        self.add_report("recording", lambda: Report(OK, self.config.folder, {"messages": self.played}))

    def configure(self) -> None:
        """Open the recording, create its publishers."""
        if not self.config.folder:
            raise ParameterError("folder is empty; give the folder of a recording")
        self._recording = Recording(Path(self.config.folder))
        try:
            self._create_publishers()
        except RecordingError:
            self._recording.close()
            raise

    def _create_publishers(self) -> None:
        wanted = {self.resolve_topic_name(topic) for topic in self.config.topics}
        known = {topic.name for topic in self._recording.topics}
        if not wanted <= known:
            raise RecordingError(f"topics {sorted(wanted - known)} are not in the recording; it has {sorted(known)}")
        self._publishers_by_topic = {}
        for topic in self._recording.topics:
            if wanted and topic.name not in wanted:
                continue
            qos = QoSProfile(
                depth=100 if topic.latched else 1000,  # several nodes may have latched, as to /tf_static
                history=HistoryPolicy.KEEP_LAST,
                reliability=ReliabilityPolicy.RELIABLE,
                durability=DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE,
            )
            self._publishers_by_topic[topic.name] = self.create_publisher(message_class(topic.type), topic.name, qos)
        self._clock_publisher = None if "/clock" in known else self.create_publisher(Clock, "/clock", 10)

    def activate(self) -> None:
        """Play from the start."""
        self._records: Iterator[Record] = self._recording.records(self._publishers_by_topic)
        self._next = next(self._records, None)
        self._start: int | None = None  # [ns] steady time of the first message
        self.create_steady_timer(_PERIOD, self._on_timer)

    def cleanup(self) -> None:
        """Close the recording."""
        self._recording.close()

    def _on_timer(self) -> None:
        if self.exit_code is not None:
            return
        now = self.steady_clock.now().nanoseconds
        if self._start is None:
            missing = [t for t in map(self.resolve_topic_name, self.config.wait_for) if not self.count_subscribers(t)]
            if missing:
                self.get_logger().info(f"waiting for subscriptions to {missing}", throttle_duration_sec=2.0)
                return
            self._start = now
        due = self._recording.start + int(self.config.rate * (now - self._start))  # [ns]
        try:
            while self._next is not None and self._next.stamp <= due:
                self._publish(self._next)
                self._next = next(self._records, None)
        except RecordingError as error:
            self.get_logger().error(str(error))
            self._end(BAD_INPUT)
            return
        if self._next is None:
            self._end(0)

    def _publish(self, record: Record) -> None:
        if self._clock_publisher is not None:
            sec, nanosec = divmod(record.stamp, 10**9)
            self._clock_publisher.publish(Clock(clock=Time(sec=sec, nanosec=nanosec)))
        self._publishers_by_topic[record.topic].publish(record.data)
        self.played += 1

    def _end(self, exit_code: int) -> None:
        """Wait until all subscriptions have what was sent, then end."""
        for publisher in self._publishers_by_topic.values():
            publisher.wait_for_all_acked(Duration(seconds=5.0))
        self.get_logger().info(f"{self.played} messages played")
        self.end(exit_code)


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(PlayerNode, args)
