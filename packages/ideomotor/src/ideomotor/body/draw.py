"""Draw keypoints and the chain into the camera image.

Pixel (0, 0) is the centre of the top-left pixel, in the drawing as everywhere else.
"""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

from ideomotor.body.camera import CameraError, Intrinsics
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.uncertainty import ellipsoid

# RGB. Okabe and Ito's palette: distinguishable with any colour vision.
PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
CHAIN_COLOUR = (255, 255, 255)
_SUBPIXEL_BITS = 4


def keypoint_colour(index: int) -> tuple[int, int, int]:
    """Return the RGB colour of keypoint ``index``, the same in image, markers and viewer."""
    return PALETTE[index % len(PALETTE)]


def draw_keypoints(
    rgb: np.ndarray, keypoints: Keypoints, *, min_confidence: float = 0.5, sigma: float = 2.0
) -> np.ndarray:
    """Return a copy of the image with keypoints, their numbers and ``sigma`` ellipses.

    Keypoints at or above ``min_confidence`` are filled and joined in order by the object's centre line;
    the others are hollow.

    Args:
        rgb: colour image, shape (H, W, 3) uint8.
        keypoints: what to draw.
        min_confidence: confidence from which a keypoint counts as seen.
        sigma: Mahalanobis distance of the ellipses.

    Raises:
        CameraError: if the image is not (H, W, 3) uint8.
    """
    image = _canvas(rgb)
    unit = _unit(image)
    seen = keypoints.confidence >= min_confidence
    _polyline(image, keypoints.uv[seen], CHAIN_COLOUR, unit)
    for i in range(len(keypoints.names)):
        colour, uv = keypoint_colour(i), keypoints.uv[i]
        _ellipse(image, uv, keypoints.uv_covariance[i], sigma, colour, unit)
        radius = int(2 * unit * 2**_SUBPIXEL_BITS)
        thickness = cv2.FILLED if seen[i] else unit
        cv2.circle(image, _fixed(uv), radius, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
        _text(image, str(i), uv + np.array([4.0, -3.0]) * unit, colour, unit)
    return image


def draw_chain(
    rgb: np.ndarray, intrinsics: Intrinsics, positions_camera: np.ndarray, parents: Sequence[int]
) -> np.ndarray:
    """Return a copy of the image with the kinematic chain drawn over it.

    Args:
        rgb: colour image, shape (H, W, 3) uint8.
        intrinsics: of that image.
        positions_camera: joint origins in the optical frame, shape (N, 3) [m].
        parents: index of each joint's parent, -1 for the root.

    Raises:
        CameraError: if the image is not (H, W, 3) uint8.
    """
    image = _canvas(rgb)
    unit = _unit(image)
    points = np.asarray(positions_camera, dtype=float)
    in_front = np.isfinite(points).all(axis=1) & (points[:, 2] > 0.01)
    uv = np.full((len(points), 2), np.nan)
    uv[in_front] = intrinsics.project(points[in_front])
    for child, parent in enumerate(parents):
        if parent >= 0 and in_front[child] and in_front[parent]:
            _polyline(image, uv[[parent, child]], CHAIN_COLOUR, unit)
    for i in np.flatnonzero(in_front):
        cv2.circle(
            image, _fixed(uv[i]), int(1.5 * unit * 2**_SUBPIXEL_BITS), CHAIN_COLOUR, unit, cv2.LINE_AA, _SUBPIXEL_BITS
        )
    return image


def _canvas(rgb: np.ndarray) -> np.ndarray:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise CameraError(f"image of shape {rgb.shape} and type {rgb.dtype}, expected (H, W, 3) uint8")
    return np.ascontiguousarray(rgb).copy()


def _unit(image: np.ndarray) -> int:
    """Return the line width for this image size: 1 px up to 320 x 240."""
    return max(1, round(int(image.shape[0]) / 320))


def _fixed(uv: np.ndarray) -> tuple[int, int]:
    """Return fixed-point pixel coordinates, held to what OpenCV can draw."""
    u, v = np.clip(np.round(np.asarray(uv) * 2**_SUBPIXEL_BITS), -(2**20), 2**20).astype(int)
    return int(u), int(v)


def _polyline(image: np.ndarray, uv: np.ndarray, colour: tuple[int, int, int], unit: int) -> None:
    for a, b in pairwise(uv):
        cv2.line(image, _fixed(a), _fixed(b), colour, unit, cv2.LINE_AA, _SUBPIXEL_BITS)


def _ellipse(
    image: np.ndarray, uv: np.ndarray, covariance: np.ndarray, sigma: float, colour: tuple[int, int, int], unit: int
) -> None:
    shape = ellipsoid(covariance, sigma)
    angle = np.arctan2(shape.rotation[1, 0], shape.rotation[0, 0])
    t = np.linspace(0.0, 2 * np.pi, 33)
    circle = np.stack([shape.radii[0] * np.cos(t), shape.radii[1] * np.sin(t)])
    c, s = np.cos(angle), np.sin(angle)
    outline = uv + (np.array([[c, -s], [s, c]]) @ circle).T  # (33, 2)
    _polyline(image, outline, colour, unit)


def _text(image: np.ndarray, text: str, uv: np.ndarray, colour: tuple[int, int, int], unit: int) -> None:
    size = 0.3 * unit
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    u = int(np.clip(uv[0], 0, max(0, image.shape[1] - width)))
    v = int(np.clip(uv[1], height, image.shape[0] - 1))
    for shade, thickness in (((0, 0, 0), 2 * unit), (colour, max(1, unit // 2))):
        cv2.putText(image, text, (u, v), cv2.FONT_HERSHEY_SIMPLEX, size, shade, thickness, cv2.LINE_AA)
