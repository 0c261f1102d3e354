"""Recorder: topics to an MCAP recording that rosbag2 and rosbags read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ideomotor.config import value
from ideomotor.data.recording import RecordingError, RecordingWriter
from ideomotor_nodes.diagnostics import OK, Report
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.params import NodeConfig, ParameterError
from ideomotor_nodes.run import run_node
from ideomotor_nodes.topic_recorder import TopicRecorder


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
    """Lifecycle shell around `TopicRecorder`."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("recorder", RecorderConfig, **node_options)
        self._recorder: TopicRecorder | None = None
        self.add_report("recording", self._report)

    def configure(self) -> None:
        """Check the parameters."""
        if not self.config.folder:
            raise ParameterError("folder is empty; give a folder that does not exist yet")
        if Path(self.config.folder).exists():
            raise RecordingError(f"folder={self.config.folder!r} exists already; a recording is never overwritten")

    def activate(self) -> None:
        """Start recording."""
        recorder = self._recorder = TopicRecorder(self, self.config.topics)
        recorder.open(Path(self.config.folder))
        recorder.start(self.config.flush_period)

    def deactivate(self) -> None:
        """Complete the recording."""
        if self._recorder is not None:
            self._recorder.stop()
            self._recorder = None

    @property
    def _writer(self) -> RecordingWriter | None:
        return None if self._recorder is None else self._recorder.writer

    def _report(self) -> Report:
        return Report(OK, "recording" if self._writer else "not recording", self._writer.counts if self._writer else {})


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(RecorderNode, args)
