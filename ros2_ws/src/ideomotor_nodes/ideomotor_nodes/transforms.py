"""Listen to /tf and /tf_static (tf2_ros is not on PyPI)."""

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from ideomotor.body.transform_tree import TransformError, TransformTree
from ideomotor_nodes.convert import matrix_from_transform
from ideomotor_nodes.qos import TF, TF_STATIC


class TransformListener:
    """Newest transforms between frames; create it in `configure`.

    Args:
        node: listens.
        moving: whether /tf is read too.
    """

    def __init__(self, node: Node, *, moving: bool = True) -> None:
        self._tree = TransformTree()
        self._newest: dict[str, TransformStamped] = {}  # by child frame: taken into the tree when somebody asks
        self._logger = node.get_logger()
        if moving:
            node.create_subscription(TFMessage, "/tf", self._on_transforms, TF)
        node.create_subscription(TFMessage, "/tf_static", self._on_transforms, TF_STATIC)

    @property
    def tree(self) -> TransformTree:
        """The frames as they are now."""
        while self._newest:
            self._take_in(self._newest.pop(next(iter(self._newest))))
        return self._tree

    def lookup(self, target: str, source: str) -> np.ndarray:
        """Return the newest ``T_target_source``, shape (4, 4) [m].

        Raises:
            TransformError: a frame is unknown, or they are not connected.
        """
        return self.tree.lookup(target, source)

    def _on_transforms(self, msg: TFMessage) -> None:
        for transform in msg.transforms:
            self._newest.pop(transform.child_frame_id, None)  # the order is that of arrival
            self._newest[transform.child_frame_id] = transform

    def _take_in(self, transform: TransformStamped) -> None:
        try:
            parent, child = transform.header.frame_id.lstrip("/"), transform.child_frame_id.lstrip("/")
            self._tree.set(parent, child, matrix_from_transform(transform.transform))
        except TransformError as error:
            self._logger.warning(f"transform ignored: {error}", throttle_duration_sec=1.0)
