"""A camera for the tests of the keypoint_detector: colour, depth and camera_info with stamps as asked."""

from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image

from ideomotor.body.camera import Intrinsics
from ideomotor_interfaces.msg import KeypointArray
from ideomotor_nodes import convert
from ideomotor_nodes.keypoint_detector import KeypointDetectorNode
from ideomotor_nodes.qos import SENSOR, STREAM
from tests.graph.conftest import Graph
from tests.graph.small_detector import HEIGHT, WIDTH, write_small_detector

OPTICAL = "camera_color_optical_frame"
CAMERA = Intrinsics(WIDTH, HEIGHT, 60.0, 60.0, 31.5, 23.5)


class CameraRig:
    """Plays the camera driver around a real keypoint_detector."""

    def __init__(self, graph: Graph, folder: Path, **parameters: object) -> None:
        self.graph = graph
        artefact = str(write_small_detector(folder / "artefact"))
        overrides = [Parameter(name, value=value) for name, value in {"artefact": artefact, **parameters}.items()]
        self.node: KeypointDetectorNode = graph.start(KeypointDetectorNode(parameter_overrides=overrides))
        self.keypoints: list[KeypointArray] = graph.collect(KeypointArray, "keypoints", STREAM)
        self.diagnostics: list[DiagnosticArray] = graph.collect(DiagnosticArray, "/diagnostics", STREAM)
        self.colour = graph.publisher(Image, "camera/color/image_raw", SENSOR)
        self.depth = graph.publisher(Image, "camera/depth/image_rect_raw", SENSOR)
        self.info = graph.publisher(CameraInfo, "camera/color/camera_info", SENSOR)
        graph.spin_until(lambda: self.node.count_subscribers("keypoints") > 0)
        self.warnings: list[str] = []
        self.node._warn = self.warnings.append  # type: ignore[method-assign]

    def now(self) -> float:
        return self.graph.helper.get_clock().now().nanoseconds * 1e-9

    def colour_image(self, stamp: float, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Image:
        rgb = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        return convert.image_msg(rgb, "rgb8", stamp, OPTICAL)

    def depth_image(self, stamp: float, size: tuple[int, int] = (HEIGHT, WIDTH), metres: float = 0.8) -> Image:
        return convert.depth_image_msg(np.full(size, metres), stamp, OPTICAL)

    def send_info(self, info: CameraInfo | None = None) -> None:
        self.info.publish(info or convert.camera_info_msg(CAMERA, self.now(), OPTICAL))
        self.graph.spin(0.1)

    def look(self, metres: float = 0.8) -> KeypointArray:
        """Send a good pair until keypoints come (best effort may lose images)."""
        count = len(self.keypoints)

        def seen() -> bool:
            stamp = self.now()
            self.colour.publish(self.colour_image(stamp))
            self.depth.publish(self.depth_image(stamp, metres=metres))
            return len(self.keypoints) > count

        self.graph.spin_until(seen, what=f"keypoints; warnings: {self.warnings}")
        return self.keypoints[-1]

    def report(self) -> dict[str, str]:
        """Return the next values of the node's line "detection"."""
        self.diagnostics.clear()

        def line() -> dict[str, str]:
            for status in (s for message in self.diagnostics for s in message.status):
                if status.name.endswith("keypoint_detector: detection"):
                    return {v.key: v.value for v in status.values} | {"message": status.message}
            return {}

        return dict(self.graph.spin_until(line, what="diagnostics"))
