"""Keypoints of the held object: colour, depth and camera_info in, keypoints and an annotated image out."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sensor_msgs.msg import CameraInfo, Image

from ideomotor.body.camera import CameraError, Intrinsics
from ideomotor.body.detector import KeypointDetector
from ideomotor.body.draw import draw_keypoints
from ideomotor.body.pairing import ImagePairing, Pair, PairingError
from ideomotor.config import value
from ideomotor.errors import IdeomotorError
from ideomotor_interfaces.msg import KeypointArray
from ideomotor_nodes import convert, convert_body
from ideomotor_nodes.diagnostics import OK, WARN, Report, StreamMonitor
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.params import NodeConfig
from ideomotor_nodes.qos import SENSOR, STREAM
from ideomotor_nodes.run import run_node

# Pairs of images that may wait, as in the subscriptions: a short stall loses none, a slow machine is that far behind.
_BACKLOG = SENSOR.depth


@dataclass(frozen=True, kw_only=True)
class KeypointDetectorConfig(NodeConfig):
    """Parameters of the node."""

    artefact: str = value("", "Folder of the detector: model.onnx and manifest.json.")
    provider: str = value("auto", "ONNX Runtime execution provider; auto: CUDA where it is there, else CPU.")
    threads: int = value(1, "Threads of one detection; 0: one per core.", ge=0, le=64)
    pair_tolerance: float = value(0.005, "Largest difference of the stamps of colour and depth [s].", ge=0.0, le=0.1)
    max_age: float = value(0.5, "Images older than this are not looked at [s].", ge=0.01, le=60.0)
    min_confidence: float = value(0.5, "Keypoints below are drawn hollow.", ge=0.0, le=1.0)


class KeypointDetectorNode(LifecycleNode[KeypointDetectorConfig]):
    """Looks at the images as they come; what it cannot use is named, counted and skipped."""

    def __init__(self, **node_options: Any) -> None:  # noqa: ANN401
        super().__init__("keypoint_detector", KeypointDetectorConfig, **node_options)

    def configure(self) -> None:
        """Load the detector, subscribe."""
        config = self.config
        if not config.artefact:
            raise CameraError("parameter artefact is empty, expected the folder of a keypoint detector")
        self._detector = KeypointDetector.load(Path(config.artefact), provider=config.provider, threads=config.threads)
        self._pairing: ImagePairing[Image] = ImagePairing(config.pair_tolerance, _BACKLOG)
        self._intrinsics: Intrinsics | None = None
        self._images = StreamMonitor(max_age=1.0)
        self._durations: list[float] = []
        self._rejected = 0
        # Not in the subscriptions: messages that came during a detection are stored before the next one begins.
        self._next = self.create_guard_condition(self._on_next)
        self._publisher = self.create_lifecycle_publisher(KeypointArray, "keypoints", STREAM)
        self._annotated = self.create_lifecycle_publisher(Image, "keypoint_detector/image_annotated", SENSOR)
        self.create_sensor_subscription(Image, "camera/color/image_raw", self._on_colour)
        self.create_sensor_subscription(Image, "camera/depth/image_rect_raw", self._on_depth)
        self.create_sensor_subscription(CameraInfo, "camera/color/camera_info", self._on_camera_info)
        self.add_report("images", lambda: self._images.report(self.now()))
        self.add_report("detection", self._report)

    def _on_colour(self, msg: Image) -> None:
        self._images.received(convert.seconds(msg.header.stamp), self.now())
        self._store(self._pairing.add_colour, msg)

    def _on_depth(self, msg: Image) -> None:
        self._store(self._pairing.add_depth, msg)

    def _on_camera_info(self, msg: CameraInfo) -> None:
        try:
            self._intrinsics = convert.intrinsics(msg)
        except IdeomotorError as error:
            self._intrinsics = None
            self._warn(f"camera/color/camera_info: {error}")

    def _store(self, add: Callable[[float, Image], None], msg: Image) -> None:
        if not self.is_active:
            return
        try:
            add(convert.seconds(msg.header.stamp), msg)
        except PairingError as error:
            self._reject(str(error))
        if self._pairing.waiting:
            self._next.trigger()

    def _on_next(self) -> None:
        pair = self._pairing.take()
        if pair is None or not self.is_active:
            return
        if self._pairing.waiting:
            self._next.trigger()
        try:
            self._detect(pair)
        except IdeomotorError as error:
            self._reject(str(error))

    def _detect(self, pair: Pair[Image]) -> None:
        now = self.now()
        if now == 0.0:  # use_sim_time, and nothing on /clock yet
            return
        age = now - pair.stamp
        if not -self.config.max_age <= age <= self.config.max_age:
            raise CameraError(f"image is {age:.3f} s old, limit {self.config.max_age} s (do the clocks agree?)")
        if self._intrinsics is None:
            raise CameraError("no usable camera/color/camera_info yet: expected intrinsics of a calibrated camera")
        rgb, depth = convert.rgb_image(pair.colour), convert.depth_image(pair.depth)
        start = time.perf_counter()
        keypoints = self._detector.detect(rgb, depth, self._intrinsics, pair.stamp)
        self._durations.append(time.perf_counter() - start)
        origin = pair.colour.header.stamp, pair.colour.header.frame_id
        self._publisher.publish(convert_body.keypoints_msg(keypoints, *origin))
        if self._annotated.get_subscription_count():
            image = draw_keypoints(rgb, keypoints, min_confidence=self.config.min_confidence)
            self._annotated.publish(convert.image_msg(image, "rgb8", *origin))

    def _reject(self, reason: str) -> None:
        self._rejected += 1
        self._warn(reason)

    def _warn(self, reason: str) -> None:
        self.get_logger().warning(reason, throttle_duration_sec=1.0)

    def _report(self) -> Report:
        durations, self._durations = self._durations, []
        rejected, self._rejected = self._rejected, 0
        values: dict[str, object] = {
            "detections": len(durations),
            "rejected": rejected,
            "total dropped": self._pairing.dropped,
            "total unpaired": self._pairing.unpaired,
        }
        if durations:
            values["mean detection time [s]"] = sum(durations) / len(durations)
            values["max detection time [s]"] = max(durations)
        return Report(WARN if rejected else OK, f"{rejected} images rejected" if rejected else "ok", values)


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(KeypointDetectorNode, args)


if __name__ == "__main__":
    sys.exit(main())
