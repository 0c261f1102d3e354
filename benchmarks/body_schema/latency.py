"""From the camera's image to the tip's frame on /tf, over ROS: `frame_to_tf_p95_ms`, `frames_dropped`.

The camera's camera_info is published just before its images; the time of its arrival here stands for that of the image,
so that the measurement does not receive images itself.
"""

import time

from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage

from benchmarks.body_schema.cases import Options
from benchmarks.body_schema.slip import TIP_FRAME
from benchmarks.body_schema.stack import running_stack
from benchmarks.runner import Cases
from ideomotor_nodes.client import BodySchemaClient
from ideomotor_nodes.qos import STREAM, TF

DURATION = 60.0  # [s]
SETTLE = 1.0  # [s] before it counts


class LatencyClient(BodySchemaClient):
    """Notes when images and tips arrive, by their stamp."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.images: dict[tuple[int, int], float] = {}  # stamp -> arrival [s]
        self.tips: dict[tuple[int, int], float] = {}
        self.create_subscription(CameraInfo, "camera/color/camera_info", self._on_camera_info, STREAM)
        self.create_subscription(TFMessage, "/tf", self._on_tf, TF)

    def _on_camera_info(self, msg: CameraInfo) -> None:
        self.images[msg.header.stamp.sec, msg.header.stamp.nanosec] = time.monotonic()

    def _on_tf(self, msg: TFMessage) -> None:
        for transform in msg.transforms:
            if transform.child_frame_id == TIP_FRAME:
                self.tips[transform.header.stamp.sec, transform.header.stamp.nanosec] = time.monotonic()


def measure(options: Options) -> dict[str, Cases]:
    """Return latencies [ms], one case an image, and dropped images, one case a run of 60 s."""
    result: dict[str, Cases] = {"frame_to_tf": [], "frames_dropped": []}
    seed = options.seeds[0]
    with running_stack(options, seed, options.tools[0], LatencyClient) as client:
        client.estimate(3.0)
        start = time.monotonic() + SETTLE
        client.wait_for(lambda: time.monotonic() > start + DURATION, "end of the measurement", 2 * DURATION)
        end = time.monotonic()
        counted = {stamp: t for stamp, t in client.images.items() if start < t < end - SETTLE}
        latency = [1e3 * (client.tips[stamp] - t) for stamp, t in counted.items() if stamp in client.tips]
        result["frame_to_tf"] = [(seed, value) for value in latency]
        result["frames_dropped"] = [(seed, float(len(counted) - len(latency)))]
    return result
