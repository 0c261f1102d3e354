"""What tip_controller publishes of a motion under a learned reward: weights and progress, and markers."""

from collections.abc import Sequence

import numpy as np
from visualization_msgs.msg import MarkerArray

from ideomotor.planning.reward_path import RewardPath
from ideomotor_interfaces.msg import RewardState
from ideomotor_nodes import convert, convert_body, markers
from ideomotor_nodes.lifecycle import LifecycleNode
from ideomotor_nodes.qos import STREAM

PERIOD = 0.05  # [s]


class RewardOutputs:
    """The publishers; create it in `configure`."""

    def __init__(self, node: LifecycleNode, names: Sequence[str]) -> None:  # type: ignore[type-arg]
        """Create the topics; ``names`` are those of the reward's keypoints."""
        self._node, self._names = node, tuple(names)
        self._published = -np.inf  # [s]
        self._markers = MarkerArray()
        self._state = node.create_lifecycle_publisher(RewardState, "reward", STREAM)
        self._marker_publisher = node.create_lifecycle_publisher(MarkerArray, "reward_markers", STREAM)

    def publish(self, path: RewardPath, q: np.ndarray, time: float) -> None:
        """Publish what the reward says of measured positions, shape (n,), at most every `PERIOD`.

        Args:
            path: that is being followed.
            q: measured positions of the chain.
            time: since the path's start [s].
        """
        now = self._node.now()
        if now - self._published < PERIOD:
            return
        self._published = now
        state, base_link = path.state(q, time), path.task.points.chain.base_link
        self._state.publish(convert_body.reward_state_msg(state, self._names, now, base_link))
        if self._marker_publisher.get_subscription_count():
            self._markers = markers.reward_markers(path, state, convert.header(now, base_link))
            self._marker_publisher.publish(self._markers)

    def clear(self) -> None:
        """Take the markers away: the motion has ended."""
        if self._markers.markers:
            self._marker_publisher.publish(markers.replacing(self._markers, MarkerArray()))
        self._published, self._markers = -np.inf, MarkerArray()
