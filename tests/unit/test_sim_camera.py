"""The camera: projection, depth, conventions and the depth sensor's noise."""

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from ideomotor_sim.camera import (
    CameraConfig,
    Renderer,
    RgbdSensor,
    add_camera,
    camera_pose,
    look_at,
    set_camera_pose,
)
from ideomotor_sim.transforms import inverse, transform

CONFIG = CameraConfig()
T_BASE_CAMERA = look_at(np.array([1.2, -0.6, 0.9]), np.array([0.1, 0.0, 0.3]), roll=0.2)
BALLS = 0.01 * np.array([[3, 2, 31], [-14, 9, 36], [21, -16, 22], [9, 20, 45]])  # [m] in the base frame
RADIUS = 0.06  # [m]


class Balls:
    """Small balls at known places; each is a group of its own."""

    def __init__(self, config: CameraConfig = CONFIG) -> None:
        spec = mujoco.MjSpec()
        add_camera(spec, config)
        spec.visual.quality.numslices = spec.visual.quality.numstacks = 100  # round balls
        for group, ball in enumerate(BALLS):
            spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[RADIUS, 0, 0], pos=ball, group=group)
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        set_camera_pose(self.model, T_BASE_CAMERA)
        mujoco.mj_forward(self.model, self.data)
        self.renderer = Renderer(self.model, config)


@pytest.fixture(scope="module")
def balls() -> Iterator[Balls]:
    balls = Balls()
    yield balls
    balls.renderer.close()


def test_projection_agrees_with_the_image_to_a_tenth_of_a_pixel(balls: Balls) -> None:
    """Pixel (0, 0) is the centre of the top-left pixel: the centroids of the balls' pixels are their projections.

    The image of a ball around (x, y, z) is an ellipse around (x, y) z / (z^2 - r^2) of the normalised image plane.
    """
    x, y, z = transform(inverse(T_BASE_CAMERA), BALLS).T
    projected = CONFIG.intrinsics.project(np.stack([x, y, z - RADIUS**2 / z], axis=-1))
    for group, uv in enumerate(projected):
        depth = balls.renderer.depth_of_group(balls.data, group)
        v, u = np.nonzero(depth < 10.0)
        assert len(u) > 300
        assert np.abs(np.array([u.mean(), v.mean()]) - uv).max() < 0.1


def test_depth_is_the_distance_along_the_optical_axis(balls: Balls) -> None:
    """At the centre of a ball the ray meets its surface one radius before its centre."""
    in_camera = transform(inverse(T_BASE_CAMERA), BALLS)
    _, depth = balls.renderer.rgbd(balls.data)
    for p, (u, v) in zip(in_camera, CONFIG.intrinsics.project(in_camera), strict=True):
        column, row = round(u), round(v)
        ray = CONFIG.intrinsics.backproject(np.array([column, row]), np.array(1.0))  # analytic ray-sphere intersection
        a, b, c = ray @ ray, -2.0 * ray @ p, p @ p - RADIUS**2
        expected = (-b - np.sqrt(b * b - 4.0 * a * c)) / (2.0 * a)
        assert depth[row, column] == pytest.approx(expected, abs=3e-4)


def test_pose_arguments_follow_rep_103() -> None:
    """A camera without rotation looks along x; its image's right is -y, its down -z; positive pitch looks down."""
    T = camera_pose(1.0, 2.0, 3.0, 0.0, 0.0, 0.0)
    assert np.allclose(transform(T, np.array([0.0, 0.0, 2.0])), [3.0, 2.0, 3.0])
    assert np.allclose(T[:3, 0], [0.0, -1.0, 0.0])
    assert np.allclose(T[:3, 1], [0.0, 0.0, -1.0])
    assert camera_pose(0.0, 0.0, 0.0, 0.0, 0.3, 0.0)[2, 2] < 0.0


def test_look_at_puts_the_target_in_the_middle() -> None:
    target = np.array([0.1, 0.0, 0.3])
    uv = CONFIG.intrinsics.project(transform(inverse(T_BASE_CAMERA), target))
    assert np.allclose(uv, [(CONFIG.width - 1) / 2, (CONFIG.height - 1) / 2])


def test_field_of_view_is_vertical() -> None:
    i = CONFIG.intrinsics
    assert 2.0 * np.rad2deg(np.arctan(CONFIG.height / 2.0 / i.fy)) == pytest.approx(CONFIG.fovy)
    assert i.fx == i.fy


def sensor(**changes: float) -> RgbdSensor:
    quiet = {"edge_hole": 0.0, "dropout": 0.0, "speckle": 0.0, "disparity_step": 0.0}
    return RgbdSensor(CameraConfig(**(quiet | changes)), np.random.default_rng(0))


@pytest.mark.parametrize("z", [0.5, 1.0, 2.0])
def test_depth_noise_grows_with_the_square_of_the_distance(z: float) -> None:
    noisy = sensor(depth_noise=0.002).depth(np.full((240, 320), z, np.float32))
    assert np.std(noisy) == pytest.approx(0.002 * z * z, rel=0.05)
    assert np.mean(noisy) == pytest.approx(z, abs=1e-3)


def test_disparity_is_quantised() -> None:
    """At 1 m, f b / s = 312.6 * 0.05 / 0.03125 steps: neighbouring depths are 2 mm apart."""
    config = CameraConfig()
    ramp = np.linspace(0.9, 1.1, 320, dtype=np.float32) * np.ones((240, 1), np.float32)
    depths = np.unique(sensor(depth_noise=0.0, disparity_step=config.disparity_step).depth(ramp))
    expected = config.disparity_step / (config.intrinsics.fx * config.baseline)
    assert np.median(np.diff(depths)) == pytest.approx(expected, rel=0.05)


def test_holes_lie_behind_edges() -> None:
    depth = np.full((240, 320), 2.0, np.float32)
    depth[:, 100:120] = 1.0
    holes = sensor(edge_hole=1.0, depth_noise=0.0).depth(depth) == 0.0
    assert sorted(np.unique(np.nonzero(holes)[1])) == [99, 120]


def test_dropouts_and_range() -> None:
    noisy = sensor(dropout=0.02).depth(np.full((240, 320), 1.0, np.float32))
    assert 0.01 < np.mean(noisy == 0.0) < 0.03
    assert (sensor().depth(np.full((24, 32), 9.0, np.float32)) == 0.0).all()


def test_exact_sensor_changes_nothing() -> None:
    depth = np.linspace(0.3, 3.0, 240 * 320, dtype=np.float32).reshape(240, 320)
    exact = sensor(depth_noise=0.0, colour_noise=0.0)
    assert np.array_equal(exact.depth(depth), depth)
    rgb = np.arange(240 * 320 * 3, dtype=np.uint8).reshape(240, 320, 3)
    assert np.array_equal(exact.colour(rgb), rgb)


def test_colour_noise_has_the_given_deviation() -> None:
    grey = np.full((240, 320, 3), 128, np.uint8)
    noisy = sensor(colour_noise=5.0).colour(grey).astype(float)
    assert np.std(noisy) == pytest.approx(5.0, rel=0.05)
    assert np.mean(noisy) == pytest.approx(128.0, abs=0.1)
