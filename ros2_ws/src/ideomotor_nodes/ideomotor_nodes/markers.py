"""RViz markers of keypoints with their covariances, of the extended chain, and of a motion under a reward."""

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from scipy.spatial.transform import Rotation
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from ideomotor.body.camera import Intrinsics
from ideomotor.body.draw import keypoint_colour
from ideomotor.body.extension import BodyExtension, JointType
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.uncertainty import ellipsoid
from ideomotor.planning.reward_path import RewardPath, RewardState

KEYPOINT_RADIUS = 0.006  # [m]
SMALLEST_RADIUS = 0.001  # [m] of an ellipsoid, so that it can be seen
CHAIN_COLOUR = (230, 97, 0)
AXIS_COLOURS = ((204, 51, 51), (51, 153, 51), (51, 102, 204))  # x, y, z
AXIS_LENGTH = 0.08  # [m]
SIGMA = 2.0


def keypoint_markers(
    keypoints: Keypoints, intrinsics: Intrinsics, header: Header, min_confidence: float = 0.5
) -> MarkerArray:
    """Return spheres and 2-sigma ellipsoids of confident keypoints with depth; the others are taken away.

    Args:
        keypoints: of one image.
        intrinsics: of its camera.
        header: of the image: its stamp, the camera's optical frame.
        min_confidence: below, a keypoint is not shown.
    """
    position, covariance = keypoints.position_camera(intrinsics), keypoints.covariance_camera(intrinsics)
    markers = []
    for i, name in enumerate(keypoints.names):
        mean = Marker(header=header, ns="keypoints", id=i, type=Marker.SPHERE)
        cloud = Marker(header=header, ns="keypoint_covariances", id=i, type=Marker.SPHERE)
        label = Marker(header=header, ns="keypoint_names", id=i, type=Marker.TEXT_VIEW_FACING, text=name)
        markers += [mean, cloud, label]
        seen = np.isfinite(position[i]).all() and np.isfinite(covariance[i]).all()
        if not seen or keypoints.confidence[i] < min_confidence:
            for marker in (mean, cloud, label):
                marker.action = Marker.DELETE
            continue
        shape, colour = ellipsoid(covariance[i], SIGMA), keypoint_colour(i)
        radii = np.maximum(shape.radii, SMALLEST_RADIUS)
        _place(mean, position[i], np.eye(3), np.full(3, 2 * KEYPOINT_RADIUS), colour, 1.0)
        _place(cloud, position[i], shape.rotation, 2 * radii, colour, 0.35)
        _place(label, position[i] - np.array([0.0, 0.025, 0.0]), np.eye(3), np.full(3, 0.018), colour, 1.0)
    return MarkerArray(markers=markers)


def extension_markers(extension: BodyExtension, tip_covariance: np.ndarray) -> MarkerArray:
    """Return the extended chain: lines, joint axes, the tip with its 2-sigma ellipsoid and its standard deviation.

    Args:
        extension: what is attached to the end effector; drawn in its frame.
        tip_covariance: of the tip's position in ``ee_link``, shape (3, 3) [m^2].
    """
    header = Header(frame_id=extension.ee_link, stamp=Time())  # time 0: where the frame is now
    poses = extension.link_poses()
    lines = Marker(header=header, ns="chain", id=0, type=Marker.LINE_LIST, frame_locked=True)
    _place(lines, np.zeros(3), np.eye(3), np.array([0.006, 0.0, 0.0]), CHAIN_COLOUR, 1.0)
    markers = [lines]
    for i, joint in enumerate(extension.joints):
        start, end = poses[joint.parent_link][:3, 3], poses[joint.child_link][:3, 3]
        lines.points += [_point(start), _point(end)]
        if joint.axis is not None:
            axis = poses[joint.child_link][:3, :3] @ joint.axis
            arrow = Marker(header=header, ns="chain_axes", id=i, type=Marker.ARROW, frame_locked=True)
            arrow.points = [_point(end - AXIS_LENGTH / 2 * axis), _point(end + AXIS_LENGTH / 2 * axis)]
            colour = (0, 114, 178) if joint.type is JointType.REVOLUTE else (0, 158, 115)
            _place(arrow, np.zeros(3), np.eye(3), np.array([0.006, 0.012, 0.02]), colour, 1.0)
            markers.append(arrow)
    tip, shape = poses[extension.tip_link][:3, 3], ellipsoid(tip_covariance, SIGMA)
    cloud = Marker(header=header, ns="tip_covariance", id=0, type=Marker.SPHERE, frame_locked=True)
    _place(cloud, tip, shape.rotation, 2 * np.maximum(shape.radii, SMALLEST_RADIUS), CHAIN_COLOUR, 0.45)
    text = f"{extension.tip_link} ±{1e3 * shape.radii[0] / SIGMA:.1f} mm"
    label = Marker(header=header, ns="tip_label", id=0, type=Marker.TEXT_VIEW_FACING, text=text, frame_locked=True)
    _place(label, tip + np.array([0.0, 0.0, 0.03]), np.eye(3), np.full(3, 0.02), (40, 40, 40), 1.0)
    return MarkerArray(markers=[*markers, cloud, label])


def reward_markers(path: RewardPath, state: RewardState, header: Header) -> MarkerArray:
    """Return the planned paths of the keypoints, and at each of them three arrows as long as its weights are large.

    Args:
        path: that is being followed. The largest weight on it is `AXIS_LENGTH` long.
        state: what the reward says now.
        header: time, and the base frame.
    """
    largest = float(path.weight.max())
    markers = []
    for k, position in enumerate(state.keypoints):
        line = Marker(header=header, ns="reward_path", id=k, type=Marker.LINE_STRIP)
        line.points = [_point(p) for p in path.keypoints[:, k]]
        _place(line, np.zeros(3), np.eye(3), np.array([0.003, 0.0, 0.0]), keypoint_colour(k), 0.8)
        markers.append(line)
        for axis, (colour, weight) in enumerate(zip(AXIS_COLOURS, state.weight[k], strict=True)):
            arrow = Marker(header=header, ns="reward_weights", id=3 * k + axis, type=Marker.ARROW)
            arrow.points = [_point(position), _point(position + AXIS_LENGTH * weight / largest * np.eye(3)[axis])]
            _place(arrow, np.zeros(3), np.eye(3), np.array([0.004, 0.008, 0.01]), colour, 1.0)
            markers.append(arrow)
    return MarkerArray(markers=markers)


def replacing(old: MarkerArray, new: MarkerArray) -> MarkerArray:
    """Return ``new``, preceded by what takes away the markers of ``old`` that are not in it."""
    kept = {(marker.ns, marker.id) for marker in new.markers}
    gone = [
        Marker(header=marker.header, ns=marker.ns, id=marker.id, action=Marker.DELETE)
        for marker in old.markers
        if (marker.ns, marker.id) not in kept and marker.action != Marker.DELETE
    ]
    return MarkerArray(markers=[*gone, *new.markers])


def _place(
    marker: Marker,
    position: np.ndarray,
    rotation: np.ndarray,
    scale: np.ndarray,
    colour: tuple[int, int, int],
    alpha: float,
) -> None:
    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    marker.pose = Pose(position=_point(position), orientation=Quaternion(x=x, y=y, z=z, w=w))
    marker.scale = Vector3(x=float(scale[0]), y=float(scale[1]), z=float(scale[2]))
    marker.color = ColorRGBA(r=colour[0] / 255, g=colour[1] / 255, b=colour[2] / 255, a=alpha)


def _point(p: np.ndarray) -> Point:
    return Point(x=float(p[0]), y=float(p[1]), z=float(p[2]))
