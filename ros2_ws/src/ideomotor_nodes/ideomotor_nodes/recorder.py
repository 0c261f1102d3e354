"""Recorder: topics to an MCAP recording that rosbag2 and rosbags read."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from ideomotor.config import value
from ideomotor.data.recording import RecordingError, RecordingWriter, Topic
from ideomotor_nodes.diagnostics import OK, Report
from ideomotor_nodes.interfaces import message_class, message_definition
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.params import NodeConfig, ParameterError
from ideomotor_nodes.run import run_node

_DEPTH = 200  # messages that may wait while the disk is busy


@dataclass(frozen=True, kw_only=True)
class RecorderConfig(NodeConfig):
    """Parameters of recorder."""

    folder: str = value("", "Folder of the recording; must not exist yet.")
    topics: tuple[str, ...] = value(
        (
            "clock",
            "joint_states",
            "tf",
            "tf_static",
            "robot_description",
            "camera/color/image_raw",
            "camera/color/camera_info",
            "camera/depth/image_rect_raw",
            "keypoints",
            "body_schema",
            "joint_command",
            "safety_gate/status",
            "sim/tip",
        ),
        "Topics to record, from when somebody publishes them.",
    )
    flush_period: float = value(1.0, "A crash loses at most what came in this time [s].", ge=0.1, le=60.0)


class RecorderNode(LifecycleNode[RecorderConfig]):
    """Lifecycle shell around `RecordingWriter`; messages are not deserialised."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("recorder", RecorderConfig, **node_options)
        self._writer: RecordingWriter | None = None
        self.add_report("recording", self._report)

    def configure(self) -> None:
        """Check the parameters."""
        if not self.config.folder:
            raise ParameterError("folder is empty; give a folder that does not exist yet")
        if Path(self.config.folder).exists():
            raise RecordingError(f"folder={self.config.folder!r} exists already; a recording is never overwritten")

    def activate(self) -> None:
        """Start recording."""
        self._writer = RecordingWriter(Path(self.config.folder), message_definition)
        self._wanted = {self.resolve_topic_name(topic) for topic in self.config.topics}
        self._subscribed: list[Any] = []
        self._find_topics()
        self.create_steady_timer(0.2, self._find_topics)
        self.create_steady_timer(self.config.flush_period, self._writer.flush)

    def deactivate(self) -> None:
        """Complete the recording."""
        if self._writer is not None:
            for subscription in self._subscribed:
                self.destroy_subscription(subscription)
            self._writer.close()
            self.get_logger().info(f"{sum(self._writer.counts.values())} messages in {self.config.folder}")
            self._writer = None

    def _find_topics(self) -> None:
        """Subscribe to wanted topics that somebody publishes by now, with a QoS that suits all publishers."""
        assert self._writer is not None
        for name in sorted(self._wanted - self._writer.counts.keys()):
            publishers = self.get_publishers_info_by_topic(name)
            if not publishers:
                continue
            profiles = [publisher.qos_profile for publisher in publishers]
            topic = Topic(
                name,
                publishers[0].topic_type,
                latched=all(p.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in profiles),
                reliable=all(p.reliability == ReliabilityPolicy.RELIABLE for p in profiles),
            )
            self._subscribe(topic)

    def _subscribe(self, topic: Topic) -> None:
        assert self._writer is not None
        try:
            message_type = message_class(topic.type)
            self._writer.add_topic(topic)
        except RecordingError as error:
            self._wanted.discard(topic.name)
            self.get_logger().error(f"{topic.name} is not recorded: {error}")
            return
        qos = QoSProfile(
            depth=_DEPTH,
            history=HistoryPolicy.KEEP_LAST,
            reliability=ReliabilityPolicy.RELIABLE if topic.reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE,
        )
        write = partial(self._on_message, topic.name)
        self._subscribed.append(self.create_subscription(message_type, topic.name, write, qos, raw=True))

    def _on_message(self, topic: str, data: bytes) -> None:
        if self._writer is not None:
            self._writer.write(topic, self.get_clock().now().nanoseconds, data)

    def _report(self) -> Report:
        return Report(OK, "recording" if self._writer else "not recording", self._writer.counts if self._writer else {})


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(RecorderNode, args)
