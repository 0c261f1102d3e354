"""Topics to recordings, for the recorders: messages are not deserialised."""

import time
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from ideomotor.data.recording import RecordingError, RecordingWriter, Topic
from ideomotor_nodes.interfaces import message_class, message_definition
from ideomotor_nodes.lifecycle import LifecycleNode

_DEPTH = 200  # messages that may wait while the disk is busy


class TopicRecorder:
    """Subscribes to topics from when somebody publishes them, and writes them while a recording is open.

    Args:
        node: that subscribes.
        topics: names, in the order in which waiting messages are taken.
        sent: stamp messages with when they were published instead of with when they came: the order of what one
            publisher says on several topics is kept, however busy the machine is.
        once: latched topics whose last message is not written again at the start of a later recording.
    """

    def __init__(
        self,
        node: LifecycleNode,  # type: ignore[type-arg]
        topics: Collection[str],
        *,
        sent: bool = False,
        once: Collection[str] = (),
    ) -> None:
        self._node, self._sent = node, sent
        self._wanted = [node.resolve_topic_name(topic) for topic in topics]
        self._once = {node.resolve_topic_name(topic) for topic in once}
        self._topics: dict[str, Topic] = {}
        self._latched: dict[str, bytes] = {}
        self._subscriptions: list[Any] = []
        self.writer: RecordingWriter | None = None

    def start(self, flush_period: float) -> None:
        """Subscribe from now on, and flush after every ``flush_period`` [s]; call it in the node's `activate`."""
        self.find_topics()
        self._node.create_steady_timer(0.2, self.find_topics)
        self._node.create_steady_timer(flush_period, self.flush)

    def open(self, folder: Path) -> None:
        """Start a recording.

        Raises:
            RecordingError: one is open, or the folder exists or cannot be made.
        """
        if self.writer is not None:
            raise RecordingError(f"recording {self.writer.folder} is not closed yet")
        writer = RecordingWriter(folder, message_definition)
        for topic in self._topics.values():
            writer.add_topic(topic)
        self.writer = writer
        for name, data in self._latched.items():
            if name not in self._once:
                writer.write(name, time.time_ns() if self._sent else self._now(), data)

    def flush(self) -> None:
        """Hand what was recorded to the operating system."""
        if self.writer is not None:
            self.writer.flush()

    def close(self) -> None:
        """Complete the recording, if one is open."""
        if self.writer is not None:
            writer, self.writer = self.writer, None
            writer.close()
            self._node.get_logger().info(f"{sum(writer.counts.values())} messages in {writer.folder}")

    def stop(self) -> None:
        """Complete the recording and subscribe to nothing any more."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self.close()

    def find_topics(self) -> None:
        """Subscribe to wanted topics that somebody publishes by now, with a QoS that suits all publishers."""
        for name in [name for name in self._wanted if name not in self._topics]:
            publishers = self._node.get_publishers_info_by_topic(name)
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
        try:
            message_type = message_class(topic.type)
            message_definition(topic.type)
            if self.writer is not None:
                self.writer.add_topic(topic)
        except RecordingError as error:
            self._wanted.remove(topic.name)
            self._node.get_logger().error(f"{topic.name} is not recorded: {error}")
            return
        self._topics[topic.name] = topic
        qos = QoSProfile(
            depth=_DEPTH,
            history=HistoryPolicy.KEEP_LAST,
            reliability=ReliabilityPolicy.RELIABLE if topic.reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE,
        )
        write = partial(self._on_sent if self._sent else self._on_message, topic)
        self._subscriptions.append(self._node.create_subscription(message_type, topic.name, write, qos, raw=True))

    def _on_message(self, topic: Topic, data: bytes) -> None:
        self._write(topic, self._now(), data)

    def _on_sent(self, topic: Topic, data: bytes, info: dict[str, Any]) -> None:
        self._write(topic, info["source_timestamp"], data)

    def _write(self, topic: Topic, stamp: int, data: bytes) -> None:
        if topic.latched:
            self._latched[topic.name] = data
        if self.writer is not None:
            self.writer.write(topic.name, stamp, data)

    def _now(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)
