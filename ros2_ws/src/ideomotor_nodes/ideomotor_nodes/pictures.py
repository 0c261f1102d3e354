"""Pictures of a run: the camera image with keypoints, and the simulator's overview with the chain drawn into it."""

from pathlib import Path

import cv2
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from ideomotor.body.draw import draw_chain
from ideomotor.body.transform_tree import TransformError
from ideomotor_nodes import convert
from ideomotor_nodes.qos import SENSOR
from ideomotor_nodes.transforms import TransformListener

_ANNOTATED, _OVERVIEW = "keypoint_detector/image_annotated", "sim/overview/image_raw"


class Pictures:
    """Keeps the newest images of a node's topics, and writes them as one PNG."""

    def __init__(self, node: Node, folder: str) -> None:
        self.wanted = bool(folder)
        self._folder, self._logger = Path(folder), node.get_logger()
        self._transforms = TransformListener(node)
        self._annotated: Image | None = None
        self._overview: Image | None = None
        self._overview_info: CameraInfo | None = None
        if self.wanted:
            node.create_subscription(Image, _ANNOTATED, self._on_annotated, SENSOR)
            node.create_subscription(Image, _OVERVIEW, self._on_overview, SENSOR)
            node.create_subscription(CameraInfo, "sim/overview/camera_info", self._on_overview_info, SENSOR)

    @property
    def complete(self) -> bool:
        """Whether both images are there."""
        return self._annotated is not None and self._overview is not None and self._overview_info is not None

    def forget(self) -> None:
        """Wait for new images."""
        self._annotated = self._overview = None

    def save(self, name: str, base_link: str, positions_base: np.ndarray, parents: list[int]) -> None:
        """Write what is there, side by side.

        Args:
            name: of the file, without suffix.
            base_link: frame of the positions.
            positions_base: of the links to draw, shape (N, 3) [m].
            parents: index of each link's parent, -1 for the first.
        """
        panels = []
        if self._overview is not None and self._overview_info is not None:
            panels.append(self._with_chain(self._overview, self._overview_info, base_link, positions_base, parents))
        if self._annotated is not None:
            panels.append(convert.rgb_image(self._annotated))
        if panels:
            height = max(panel.shape[0] for panel in panels)
            scaled = [_to_height(panel, height) for panel in panels]
            self._folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(self._folder / f"{name}.png"), cv2.cvtColor(np.hstack(scaled), cv2.COLOR_RGB2BGR))

    def _with_chain(
        self, image: Image, info: CameraInfo, base_link: str, positions_base: np.ndarray, parents: list[int]
    ) -> np.ndarray:
        rgb = convert.rgb_image(image)
        try:
            T_camera_base = self._transforms.lookup(info.header.frame_id, base_link)
        except TransformError as error:
            self._logger.warning(f"the chain is not drawn: {error}")
            return rgb
        positions = positions_base @ T_camera_base[:3, :3].T + T_camera_base[:3, 3]
        return draw_chain(rgb, convert.intrinsics(info), positions, parents)

    def _on_annotated(self, msg: Image) -> None:
        self._annotated = msg

    def _on_overview(self, msg: Image) -> None:
        self._overview = msg

    def _on_overview_info(self, msg: CameraInfo) -> None:
        self._overview_info = msg


def _to_height(rgb: np.ndarray, height: int) -> np.ndarray:
    width = round(rgb.shape[1] * height / rgb.shape[0])
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_CUBIC)
