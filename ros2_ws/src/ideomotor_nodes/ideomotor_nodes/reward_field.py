"""RViz markers of the reward field around a goal."""

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Quaternion, Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from ideomotor.rewards.field import FieldSlice

# From what costs nothing to what costs most: five colours of viridis, which grey and colour-blind eyes order as well.
_COLOURS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]) / 255.0
_FILLED = 0.5  # diameter of a point by the distance of two
_ALPHA = 0.8


def field_markers(
    slices: Sequence[FieldSlice], goal_base: np.ndarray, R_base_task: np.ndarray, base_link: str
) -> MarkerArray:
    """Return one marker for each plane: a point where the object may be displaced to, coloured by the cost.

    Args:
        slices: of the field.
        goal_base: where no displacement is drawn, shape (3,) [m].
        R_base_task: axes of the task, shape (3, 3).
        base_link: frame of the goal.
    """
    header = Header(frame_id=base_link, stamp=Time())  # time 0: where the frame is now
    highest = max(float(field.cost.max()) for field in slices)
    markers = []
    for field in slices:
        p = field.displacement.reshape(-1, 3)
        size = _FILLED * float(np.linalg.norm(field.displacement[0, 1] - field.displacement[0, 0]))
        marker = Marker(header=header, ns=f"reward_field_{''.join(field.axes)}", id=0, type=Marker.SPHERE_LIST)
        marker.pose.orientation = Quaternion(w=1.0)
        marker.scale = Vector3(x=size, y=size, z=size)
        marker.points = [Point(x=x, y=y, z=z) for x, y, z in (goal_base + p @ R_base_task.T).tolist()]
        marker.colors = [_colour(share) for share in (field.cost.ravel() / highest).tolist()]
        markers.append(marker)
    return MarkerArray(markers=markers)


def _colour(share: float) -> ColorRGBA:
    at = np.linspace(0.0, 1.0, len(_COLOURS))
    r, g, b = (float(np.interp(share, at, channel)) for channel in _COLOURS.T)
    return ColorRGBA(r=r, g=g, b=b, a=_ALPHA)
