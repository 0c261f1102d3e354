"""Drawing keypoints into images, and covariances as ellipsoids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ideomotor.body.camera import CameraError, Intrinsics
from ideomotor.body.draw import draw_chain, draw_keypoints, keypoint_colour
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.uncertainty import CovarianceError, ellipsoid

H, W = 120, 160


def keypoints(uv: np.ndarray, sigma_px: float = 3.0, confidence: float = 0.9) -> Keypoints:
    k = len(uv)
    return Keypoints(
        stamp=0.0,
        names=tuple(f"kp_{i}" for i in range(k)),
        uv=uv,
        uv_covariance=np.tile(sigma_px**2 * np.eye(2), (k, 1, 1)),
        depth=np.ones(k),
        depth_variance=np.full(k, 1e-4),
        confidence=np.full(k, confidence),
    )


def test_drawing_leaves_the_input_alone() -> None:
    rgb = np.zeros((H, W, 3), dtype=np.uint8)
    assert draw_keypoints(rgb, keypoints(np.array([[40.0, 60.0]]))).any()
    assert not rgb.any()


def test_a_keypoint_is_drawn_where_it_is() -> None:
    """The filled disc has its centre of mass at the keypoint, in its own colour."""
    uv = np.array([[40.0, 60.0], [120.0, 30.0]])
    image = draw_keypoints(np.zeros((H, W, 3), dtype=np.uint8), keypoints(uv, sigma_px=0.0))
    for i in range(2):
        u, v = uv[i].astype(int)
        patch = (image[v - 3 : v + 4, u - 3 : u + 4] == keypoint_colour(i)).all(axis=-1)
        rows, columns = np.nonzero(patch)
        assert abs(rows.mean() - 3) < 0.6
        assert abs(columns.mean() - 3) < 0.6


def test_the_ellipse_has_the_radius_of_sigma() -> None:
    """With a standard deviation of 8 px, the 2-sigma ellipse crosses the row of the keypoint 16 px away."""
    image = draw_keypoints(np.zeros((H, W, 3), dtype=np.uint8), keypoints(np.array([[80.0, 60.0]]), sigma_px=8.0))
    below = image[60:, 80].any(axis=-1)  # no text below
    assert 16 in np.flatnonzero(below)
    assert not below[5:14].any()


def test_a_doubtful_keypoint_is_hollow() -> None:
    doubtful = keypoints(np.array([[80.0, 60.0]]), sigma_px=20.0, confidence=0.1)
    image = draw_keypoints(np.zeros((H, W, 3), dtype=np.uint8), doubtful)
    assert not image[60, 80].any()


@given(uv=arrays(float, (3, 2), elements=st.floats(-1e6, 1e6)))
def test_keypoints_outside_the_image_do_no_harm(uv: np.ndarray) -> None:
    assert draw_keypoints(np.zeros((24, 32, 3), dtype=np.uint8), keypoints(uv)).shape == (24, 32, 3)


def test_the_chain_is_drawn_between_projections_and_not_from_behind_the_camera() -> None:
    K = Intrinsics(W, H, 100.0, 100.0, 79.5, 59.5)
    points = np.array([[-0.3, 0.0, 1.0], [0.3, 0.0, 1.0], [0.0, 0.1, -1.0]])
    image = draw_chain(np.zeros((H, W, 3), dtype=np.uint8), K, points, parents=(-1, 0, 1))
    assert image[58:62, 60:100].any(axis=(0, 2)).all()
    assert not image[65:].any()


@pytest.mark.parametrize("image", [np.zeros((H, W), np.uint8), np.zeros((H, W, 3), np.float32)])
def test_other_images_are_refused(image: np.ndarray) -> None:
    with pytest.raises(CameraError, match="expected"):
        draw_keypoints(image, keypoints(np.zeros((1, 2))))


@given(arrays(float, (3, 3), elements=st.floats(-2.0, 2.0)))
def test_ellipsoid_rebuilds_the_covariance(A: np.ndarray) -> None:
    S = A @ A.T
    shape = ellipsoid(S, sigma=3.0)
    R, radii = shape.rotation, shape.radii
    assert np.allclose(R @ np.diag((radii / 3.0) ** 2) @ R.T, S, atol=1e-9)
    assert np.isclose(np.linalg.det(R), 1.0)
    assert radii[0] >= radii[1] >= radii[2] >= 0.0


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.diag([1.0, -1.0]), "negative"),
        (np.array([[1.0, 1.0], [0.0, 1.0]]), "symmetric"),
        (np.full((3, 3), np.nan), "finite"),
        (np.ones((2, 3)), "square"),
    ],
)
def test_what_is_no_covariance_is_refused(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(CovarianceError, match=message):
        ellipsoid(matrix)
