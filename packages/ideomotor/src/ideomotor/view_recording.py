"""A recording in the browser viewer: robot, chain, keypoints and camera as they were. Needs no ROS."""

import logging
import time
from collections.abc import Iterator
from typing import Any

from ideomotor.data.recording import Record, Recording
from ideomotor.errors import IdeomotorError
from ideomotor.viewer import Viewer
from ideomotor.viewer_feed import ViewerFeed

logger = logging.getLogger(__name__)

_LEAD = 0.2  # [s] shown before the time that was sought, so that there is an image, and joint states
_PERIOD = 1 / 15  # [s] between updates of the browser


class Playback:
    """Shows what happened up to a time. It begins at the start of the recording.

    Args:
        viewer: shows it.
        recording: open; topics are known by the end of their names.
    """

    def __init__(self, viewer: Viewer, recording: Recording) -> None:
        self._recording = recording
        self._feed = feed = ViewerFeed(viewer)
        state = {
            "/robot_description": lambda msg: feed.description(msg.data),
            "/tf_static": feed.transforms,
            "/body_schema": feed.body_schema,
        }
        streams = {
            "/joint_states": feed.joint_states,
            "/odom": feed.odometry,
            "/camera/color/camera_info": feed.camera_info,
            "/camera/color/image_raw": feed.image,
            "/keypoints": feed.keypoints,
            "/sim/tip": feed.true_tip,
        }
        names = [topic.name for topic in recording.topics]
        self._handlers = {
            name: handler for end, handler in (state | streams).items() for name in names if name.endswith(end)
        }
        # What holds until it changes is known at any time; the rest is read when its time has come.
        self._state = list(recording.records([name for name in self._handlers if name.endswith(tuple(state))]))
        self.seek(0.0)

    def seek(self, seconds: float) -> None:
        """Go to a time after the start of the recording [s], forwards or backwards."""
        stamp = self._recording.start + round(1e9 * max(seconds - _LEAD, 0.0))  # [ns]
        latest: dict[str, list[Record]] = {}
        for record in self._state:
            if record.stamp < stamp:
                several = record.topic.endswith("/tf_static")  # each node has its own part
                latest[record.topic] = [*(latest.get(record.topic, []) if several else []), record]
        for name in self._handlers:  # the description first: the body schema is drawn on it
            for record in latest.get(name, []):
                self._show(record)
        self._records: Iterator[Record] = self._recording.records(self._handlers, start=stamp)
        self._next = next(self._records, None)

    def advance(self, seconds: float) -> None:
        """Show everything up to a time after the start of the recording [s].

        Raises:
            RecordingError: where the recording is corrupt.
        """
        stamp = self._recording.start + round(1e9 * seconds)  # [ns]
        while self._next is not None and self._next.stamp <= stamp:
            self._show(self._next)
            self._next = next(self._records, None)
        try:
            self._feed.update()
        except IdeomotorError as error:
            logger.warning("%.3f s: camera: %s", seconds, error)

    def _show(self, record: Record) -> None:
        message = self._recording.message(record)
        try:
            self._handlers[record.topic](message)
        except IdeomotorError as error:
            after = 1e-9 * (record.stamp - self._recording.start)
            logger.warning("%.3f s: %s: %s", after, record.topic, error)


def play(viewer: Viewer, recording: Recording) -> None:
    """Play a recording again and again, until it is interrupted; the browser has a slider and a pause.

    Raises:
        RecordingError: where the recording is corrupt.
    """
    playback, duration = Playback(viewer, recording), max(recording.duration, 1e-3)
    sought: list[float] = []  # written by the browser's thread
    with viewer.server.gui.add_folder("Recording", order=-1.0):  # above the others
        playing = viewer.server.gui.add_checkbox("Play", True)
        slider = viewer.server.gui.add_slider("Time [s]", 0.0, duration, step=0.01, initial_value=0.0)

    def on_slider(event: Any) -> None:  # noqa: ANN401
        if event.client is not None:  # a person, not `slider.value = ...` below
            sought.append(float(event.target.value))

    slider.on_update(on_slider)
    position, last = 0.0, time.monotonic()  # [s]
    while True:
        time.sleep(_PERIOD)
        now = time.monotonic()
        if sought or position >= duration:
            position = sought.pop() if sought else 0.0
            sought.clear()
            playback.seek(position)
        elif playing.value:
            position = min(position + now - last, duration)
        last = now
        playback.advance(position)
        slider.value = round(position, 2)  # type: ignore[misc]  # viser's handles are properties by another way
