"""Experience recorder: states, efforts and commands of a robot to MCAP recordings, one after another, by services."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from std_srvs.srv import Trigger

from ideomotor.config import value
from ideomotor.errors import IdeomotorError
from ideomotor_nodes.diagnostics import OK, Report
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.params import NodeConfig, ParameterError
from ideomotor_nodes.run import run_node
from ideomotor_nodes.topic_recorder import TopicRecorder

# The marks and the description come before what they are about.
TOPICS = ("experience", "robot_description", "odom", "contact_forces", "joint_states", "joint_command")


@dataclass(frozen=True, kw_only=True)
class ExperienceRecorderConfig(NodeConfig):
    """Parameters of experience_recorder."""

    folder: str = value("", "Folder in which every recording gets a folder of its own, 0000, 0001, ...")
    flush_period: float = value(0.2, "A crash loses at most what came in this time [s].", ge=0.05, le=60.0)


class ExperienceRecorderNode(LifecycleNode[ExperienceRecorderConfig]):
    """Lifecycle shell around `TopicRecorder`; `ideomotor.data.experience` reads what it writes."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("experience_recorder", ExperienceRecorderConfig, **node_options)
        self._recorder: TopicRecorder | None = None
        self.add_report("recording", self._report)

    def configure(self) -> None:
        """Make the folder, create the services."""
        if not self.config.folder:
            raise ParameterError("folder is empty; give the folder of the recordings")
        Path(self.config.folder).mkdir(parents=True, exist_ok=True)
        self.create_service(Trigger, "experience_recorder/start", self._on_start)
        self.create_service(Trigger, "experience_recorder/stop", self._on_stop)

    def activate(self) -> None:
        """Subscribe, so that a recording that is started misses nothing."""
        recorder = self._recorder = TopicRecorder(self, TOPICS, sent=True, once=("experience",))
        recorder.start(self.config.flush_period)

    def deactivate(self) -> None:
        """Complete the recording."""
        if self._recorder is not None:
            self._recorder.stop()
            self._recorder = None

    def _on_start(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Start a recording; the answer's message is its folder."""
        try:
            folder = self._next_folder()
            self._active_recorder().open(folder)
            response.success, response.message = True, str(folder)
        except (IdeomotorError, OSError) as error:
            response.message = str(error)
        return response

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Complete the recording; the answer's message is its folder."""
        try:
            recorder = self._active_recorder()
            if recorder.writer is None:
                raise ParameterError("nothing is recorded: call experience_recorder/start first")
            folder = recorder.writer.folder
            recorder.close()
            response.success, response.message = True, str(folder)
        except (IdeomotorError, OSError) as error:
            response.message = str(error)
        return response

    def _active_recorder(self) -> TopicRecorder:
        if self._recorder is None:
            raise ParameterError("experience_recorder is not active")
        return self._recorder

    def _next_folder(self) -> Path:
        folder = Path(self.config.folder)
        numbers = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]
        return folder / f"{max(numbers, default=-1) + 1:04d}"

    def _report(self) -> Report:
        writer = None if self._recorder is None else self._recorder.writer
        return Report(
            OK,
            "not recording" if writer is None else f"recording {writer.folder}",
            {} if writer is None else writer.counts,
        )


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(ExperienceRecorderNode, args)
