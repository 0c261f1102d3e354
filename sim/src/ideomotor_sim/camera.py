r"""The RGB-D camera: pose, intrinsics, rendering, and what a stereo depth sensor does to the depth.

Pose arguments ``x y z roll pitch yaw`` are those of the camera *body* in the robot's base frame (REP-103: x forward
along the view, y left, z up; fixed-axis angles as in URDF). The optical frame has z forward, x right, y down.

The depth sensor (a stereo camera of baseline b and focal length f), with z the rendered depth:

.. math::
    d = f b / (z + a z^2 n), \quad n \sim N(0, 1) \text{ (half of the variance shared by 2x2 blocks)}, \qquad
    z' = f b / (s \,\mathrm{round}(d / s))

and no reading just behind depth edges (with a probability), at random blobs, beyond the range; a few readings are wild.
"""

import atexit
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import cv2
import mujoco
import numpy as np

from ideomotor.body.camera import Intrinsics
from ideomotor.config import Config, value
from ideomotor_sim.transforms import pose_from, rotation_from_rpy

# Columns: the optical frame's x (right), y (down), z (forward) in the camera body frame (forward, left, up).
R_BODY_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
_OPTICAL_TO_MUJOCO = np.diag([1.0, -1.0, -1.0])  # MuJoCo's camera looks along -z with y up
HIDDEN_GROUP = 5  # MuJoCo geom group that no camera renders
_NOISE_BANK = 1 << 21  # normals drawn once per process; each image reads them from a random place


@dataclass(frozen=True, kw_only=True)
class CameraConfig(Config):
    """An RGB-D camera with aligned depth; the default field of view is that of a RealSense D435's colour camera."""

    width: int = value(320, "Image width [px].", ge=16, le=1280)
    height: int = value(240, "Image height [px].", ge=16, le=960)
    fovy: float = value(42.0, "Vertical field of view [deg].", ge=5.0, le=120.0)
    depth_noise: float = value(0.0012, "a: standard deviation of the depth at 1 m [m].", ge=0.0, le=0.1)
    disparity_step: float = value(0.03125, "s: resolution of the disparity [px]; 0 is exact.", ge=0.0, le=1.0)
    baseline: float = value(0.05, "b: baseline of the stereo pair [m].", ge=0.01, le=0.5)
    edge_hole: float = value(0.6, "Probability that a pixel just behind a depth edge has no depth.", ge=0.0, le=1.0)
    dropout: float = value(0.004, "Share of pixels in random holes.", ge=0.0, le=0.5)
    speckle: float = value(0.001, "Share of pixels with a wild depth.", ge=0.0, le=0.5)
    max_depth: float = value(6.0, "Range of the depth sensor [m].", ge=0.1, le=60.0)
    colour_noise: float = value(3.0, "Standard deviation of each colour channel, of 255.", ge=0.0, le=100.0)

    @property
    def intrinsics(self) -> Intrinsics:
        """Pinhole intrinsics of the rendered image; pixel (0, 0) is the centre of the top-left pixel."""
        focal = self.height / 2.0 / np.tan(np.deg2rad(self.fovy) / 2.0)
        return Intrinsics(self.width, self.height, focal, focal, (self.width - 1) / 2.0, (self.height - 1) / 2.0)


def camera_pose(x: float, y: float, z: float, roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Return T_base_optical, shape (4, 4), from the pose of the camera body in the base frame [m, rad]."""
    return pose_from(np.array([x, y, z]), rotation_from_rpy(roll, pitch, yaw) @ R_BODY_OPTICAL)


def look_at(position: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """Return T_base_optical, shape (4, 4), of a camera at ``position`` that looks at ``target``."""
    forward = target - position
    yaw, pitch = np.arctan2(forward[1], forward[0]), -np.arctan2(forward[2], np.hypot(forward[0], forward[1]))
    x, y, z = position
    return camera_pose(x, y, z, roll, float(pitch), float(yaw))


def add_camera(spec: mujoco.MjSpec, config: CameraConfig) -> None:
    """Add the camera ``rgbd`` to the world; its pose is set by `set_camera_pose` after compilation."""
    spec.worldbody.add_camera(name="rgbd", fovy=config.fovy)
    spec.visual.global_.offwidth, spec.visual.global_.offheight = config.width, config.height
    spec.visual.quality.shadowsize, spec.visual.quality.offsamples = 0, 0  # ten times faster on a CPU
    spec.stat.extent = 1.0  # so that the clipping planes below are in metres
    spec.visual.map.znear, spec.visual.map.zfar = 0.05, 30.0


def set_camera_pose(model: mujoco.MjModel, T_base_optical: np.ndarray) -> None:
    """Move the camera of a compiled model; takes effect with the next forward kinematics."""
    camera = model.camera("rgbd")
    camera.pos = T_base_optical[:3, 3]
    mujoco.mju_mat2Quat(camera.quat, (T_base_optical[:3, :3] @ _OPTICAL_TO_MUJOCO).reshape(9))


@cache
def _gl_context(width: int, height: int) -> mujoco.GLContext:
    """One OpenGL context per image size and process: creating one takes 0.2 s."""
    context = mujoco.GLContext(width, height)
    atexit.register(context.free)
    return context


class Renderer:
    """Renders colour, depth and segmentation of one model off-screen."""

    def __init__(self, model: mujoco.MjModel, config: CameraConfig) -> None:
        self._model = model
        self._gl = _gl_context(config.width, config.height)
        self._gl.make_current()
        model.vis.global_.offwidth, model.vis.global_.offheight = config.width, config.height
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model, 500)
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = model.camera("rgbd").id
        self._viewport = mujoco.MjrRect(0, 0, config.width, config.height)
        self._rgb = np.zeros((config.height, config.width, 3), np.uint8)
        self._depth = np.zeros((config.height, config.width), np.float32)

    def rgbd(self, data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
        """Return colour, shape (H, W, 3) uint8, and depth along the optical axis, shape (H, W) float32 [m]."""
        self._render(data, slice(None))
        mujoco.mjr_readPixels(self._rgb, self._depth, self._viewport, self._context)
        return self._rgb[::-1].copy(), self._metric_depth()

    def depth_of_group(self, data: mujoco.MjData, group: int) -> np.ndarray:
        """Return the depth of the geoms of one group as if there were nothing else, shape (H, W) float32 [m]."""
        self._render(data, group)
        mujoco.mjr_readPixels(None, self._depth, self._viewport, self._context)
        return self._metric_depth()

    def with_ghost(
        self, data: mujoco.MjData, ghost: mujoco.MjData, rgba: tuple[float, float, float, float]
    ) -> np.ndarray:
        """Return colour, shape (H, W, 3) uint8, with the moving bodies once more where ``ghost`` has them, in rgba."""
        self._update_scene(data, slice(None))
        first = self._scene.ngeom
        dynamic = mujoco.mjtCatBit.mjCAT_DYNAMIC.value
        mujoco.mjv_addGeoms(self._model, ghost, self._option, mujoco.MjvPerturb(), dynamic, self._scene)
        for geom in self._scene.geoms[first : self._scene.ngeom]:
            geom.matid, geom.rgba, geom.size = -1, rgba, 1.01 * geom.size  # equal surfaces would flicker
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        mujoco.mjr_readPixels(self._rgb, None, self._viewport, self._context)
        return self._rgb[::-1].copy()

    def _render(self, data: mujoco.MjData, groups: int | slice) -> None:
        self._update_scene(data, groups)
        mujoco.mjr_render(self._viewport, self._scene, self._context)

    def _update_scene(self, data: mujoco.MjData, groups: int | slice) -> None:
        self._gl.make_current()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[groups] = 1
        self._option.geomgroup[HIDDEN_GROUP] = 0
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
        )

    def _metric_depth(self) -> np.ndarray:
        near, far = (float(getattr(self._model.vis.map, n)) * self._model.stat.extent for n in ("znear", "zfar"))
        return near * far / (near + self._depth[::-1] * (far - near))  # reversed z: 1 is near, 0 is far

    def close(self) -> None:
        """Free what the graphics driver holds for this model."""
        self._gl.make_current()
        self._context.free()


class RgbdSensor:
    """Turns rendered images into what a camera would give; the noise follows from the generator."""

    def __init__(self, config: CameraConfig, rng: np.random.Generator) -> None:
        self._config, self._rng = config, rng

    def _normals(self, *shape: int) -> np.ndarray:
        count = int(np.prod(shape))
        start = int(self._rng.integers(_NOISE_BANK - count))
        return _noise_bank()[start : start + count].reshape(shape)

    def colour(self, rgb: np.ndarray) -> np.ndarray:
        """Return the image with sensor noise, shape (H, W, 3) uint8."""
        if self._config.colour_noise == 0.0:
            return rgb
        noise = cv2.convertScaleAbs(128.0 + self._config.colour_noise * self._normals(*rgb.shape))
        return cv2.addWeighted(rgb, 1.0, noise, 1.0, -128.0)

    def depth(self, depth: np.ndarray) -> np.ndarray:
        """Return the depth as the sensor measures it, shape (H, W) float32 [m], 0 where there is no reading."""
        c, (h, w) = self._config, depth.shape
        coarse = np.repeat(np.repeat(self._normals((h + 1) // 2, (w + 1) // 2), 2, axis=0), 2, axis=1)[:h, :w]
        normals = np.float32(np.sqrt(0.5)) * (self._normals(h, w) + coarse)  # (H, W)
        z = depth + np.float32(c.depth_noise) * depth * depth * normals
        if c.disparity_step > 0.0:
            fbs = c.intrinsics.fx * c.baseline / c.disparity_step
            z = fbs / np.maximum(np.rint(fbs / z), 1.0)
        hole = (depth > c.max_depth) | self._edges(depth) | self._blobs(h, w)
        wild = self._sparse(h, w, c.speckle)
        z[wild] *= 1.0 + 0.3 * self._normals(len(wild[0]))
        z[hole] = 0.0
        return np.maximum(z, 0.0).astype(np.float32)

    def _edges(self, depth: np.ndarray) -> np.ndarray:
        """Pixels just behind a depth step of more than 4 %, which one eye of the pair does not see, thinned."""
        step = depth - cv2.erode(depth, np.ones((3, 3), np.uint8))
        chance = self._normals(*depth.shape) < _normal_quantile(self._config.edge_hole)
        return (step > 0.04 * depth) & chance

    def _blobs(self, h: int, w: int) -> np.ndarray:
        """Random holes of 3x3 pixels."""
        mask = np.zeros((h, w), np.uint8)
        mask[self._sparse(h, w, self._config.dropout / 9.0)] = 1
        return cv2.dilate(mask, np.ones((3, 3), np.uint8)).astype(bool)

    def _sparse(self, h: int, w: int, share: float) -> tuple[np.ndarray, np.ndarray]:
        count = self._rng.binomial(h * w, share)
        return self._rng.integers(0, h, count), self._rng.integers(0, w, count)


@cache
def _noise_bank() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(_NOISE_BANK, dtype=np.float32)


@cache
def _normal_quantile(p: float) -> float:
    """Quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(min(max(p, 1e-9), 1.0 - 1e-9))
