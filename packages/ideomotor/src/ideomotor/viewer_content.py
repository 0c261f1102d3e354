"""What the viewer shows, as plain data: the body schema in words, poses and shapes in viser's terms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

ERRORS = {  # series of `Viewer.add_error`: title, colour
    "reprojection": ("Re-projection error [px]", "#0072b2"),
    "tip_std": ("Tip standard deviation [mm]", "#e66100"),
    "tip_error": ("Tip error against ground truth [mm]", "#009e73"),
}


@dataclass(frozen=True)
class BodyView:
    """What the viewer says about the body schema."""

    state: str
    ee_link: str
    tip_link: str
    tip_covariance: np.ndarray  # (3, 3) of the tip's position in ee_link [m^2]
    frames: int
    inlier_ratio: float  # [0, 1]
    tip_std: float  # [m]
    joints: tuple[str, ...]  # one line each, ready to read
    keypoint_links: tuple[str, ...] = ()  # link of each keypoint, in the detector's order
    unobserved: tuple[str, ...] = ()
    suggestion: str = ""


def quaternion(R: np.ndarray) -> np.ndarray:
    """Return the quaternion of a rotation, in viser's order wxyz."""
    return np.roll(Rotation.from_matrix(R).as_quat(), 1)


def in_frame(T_frame_base: np.ndarray, poses: Sequence[np.ndarray]) -> np.ndarray:
    """Return the origins of poses in the base, shape (N, 3), in another frame."""
    origin = np.array([T[:3, 3] for T in poses])
    return np.asarray(origin @ T_frame_base[:3, :3].T + T_frame_base[:3, 3])


def pose(T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return quaternion (wxyz) and position of a pose, shape (4, 4)."""
    return quaternion(T[:3, :3]), T[:3, 3]


def scale(radii: np.ndarray) -> tuple[float, float, float]:
    """Return the semi-axes [m], not below what can be seen."""
    a, b, c = np.maximum(radii, 1e-3)
    return float(a), float(b), float(c)


def segments(points: list[np.ndarray]) -> np.ndarray:
    """Return the segments between consecutive points, shape (N - 1, 2, 3)."""
    if len(points) < 2:
        return np.zeros((0, 2, 3), dtype=np.float32)
    return np.stack([points[:-1], points[1:]], axis=1).astype(np.float32)


def body_markdown(body: BodyView | None) -> str:
    """Return the panel's text."""
    if body is None:
        return "No body schema yet"
    lines = [
        f"**{body.state}** · tip `{body.tip_link}`",
        "",
        "| frames | inliers | tip std |",
        "| --- | --- | --- |",
        f"| {body.frames} | {100 * body.inlier_ratio:.0f} % | {1e3 * body.tip_std:.1f} mm |",
        "",
        *(f"- {line}" for line in body.joints),
    ]
    if body.unobserved:
        lines += ["", f"Not observed: {', '.join(body.unobserved)}. {body.suggestion}"]
    return "\n".join(lines)
