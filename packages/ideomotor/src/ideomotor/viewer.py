"""The browser viewer: robot, chain, keypoints, camera and error plots, on viser.

Plain data go in through the ``set_*`` methods, which only store; `Viewer.update` sends what changed to the browser.
Whoever drives it calls `update` at the rate the browser shall see (10 to 30 Hz). The server listens on loopback only.
"""

import socket
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import viser
from viser import uplot

from ideomotor.body.camera import Intrinsics
from ideomotor.body.draw import draw_chain, draw_keypoints, keypoint_colour
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.uncertainty import ellipsoid
from ideomotor.config import Config, value
from ideomotor.errors import IdeomotorError
from ideomotor.robot_visual import LinkTree, mesh_resolver, shapes_of
from ideomotor.viewer_content import (
    ERRORS,
    BodyView,
    body_markdown,
    in_frame,
    pose,
    quaternion,
    scale,
    segments,
)
from ideomotor.viewer_robot import DrawnRobot

HOST = "127.0.0.1"
BASE, TARGET = "/base", "/target"  # frames of the scene: root links of the robot, and of the target motion's
EXTENSION_COLOUR = (230, 97, 0)
CHAIN_COLOUR = (94, 104, 122)
TARGET_COLOUR = (0, 158, 115, 0.45)  # of the robot that does the target motion, RGBA


class PortInUseError(IdeomotorError):
    """Another program listens on the viewer's port."""


@dataclass(frozen=True, kw_only=True)
class ViewerConfig(Config):
    """The browser viewer."""

    port: int = value(8080, "TCP port on the loopback interface.", ge=1, le=65535)
    rate: float = value(15.0, "Updates of the browser [Hz].", ge=1.0, le=60.0)
    sigma: float = value(2.0, "Mahalanobis distance of the ellipsoids.", ge=0.5, le=5.0)
    min_confidence: float = value(0.5, "Keypoints below this confidence are not shown in 3-D.", ge=0.0, le=1.0)
    history: float = value(30.0, "Span of the error plots [s].", ge=1.0, le=600.0)


class Viewer:
    """A viser server that shows one robot.

    Args:
        config: port, rates, sizes.
        package_dirs: ``share`` folders where ``package://`` meshes are looked for.
        title: shown in the browser.

    Raises:
        PortInUseError: if the port is taken.
    """

    def __init__(self, config: ViewerConfig, package_dirs: tuple[Path, ...] = (), title: str = "Ideomotor") -> None:
        _require_free(config.port)
        self._config = config
        self._resolve = mesh_resolver(package_dirs)
        self._server = viser.ViserServer(HOST, config.port, label=title, verbose=False)
        if self._server.get_port() != config.port:  # lost a race for it: viser took the next one
            self._server.stop()
            raise PortInUseError(f"port {config.port} on {HOST} is in use; free it or choose another port")
        self._chain: LinkTree | None = None
        self._camera: tuple[Intrinsics, np.ndarray] | None = None
        self._keypoints: Keypoints | None = None
        self._body: BodyView | None = None
        self._errors: dict[str, deque[tuple[float, float]]] = {name: deque(maxlen=4096) for name in ERRORS}
        self._image: np.ndarray | None = None
        self._changed: set[str] = set()
        self._chain_positions: list[np.ndarray] = []  # poses of the extension's links in the base
        self._build_scene()
        self._build_panels()

    @property
    def url(self) -> str:
        """Where to look."""
        return f"http://{HOST}:{self._config.port}"

    @property
    def server(self) -> viser.ViserServer:
        """The viser server, for panels of one's own."""
        return self._server

    def close(self) -> None:
        """Stop the server."""
        self._server.stop()

    # ---- data in -------------------------------------------------------------------------------------------

    def set_description(self, urdf: str) -> None:
        """Show another robot; the one shown stays when this raises.

        Raises:
            IdeomotorError: if the description cannot be loaded.
        """
        chain, shapes = LinkTree(urdf), shapes_of(urdf, self._resolve)
        self._chain = chain
        with self._server.atomic():
            for drawn in (self._robot, self._target):
                drawn.describe(chain, shapes)
        self._changed.update(("joints", "target"))

    def set_joint_positions(self, positions: Mapping[str, float]) -> None:
        """Merge joint positions by name [rad] or [m]."""
        self._robot.joints.update(positions)
        self._changed.add("joints")

    def set_base_pose(self, T_world_base: np.ndarray) -> None:
        """Move the robot and all that is given in its base: pose of its root link, shape (4, 4)."""
        self._robot.T_world_base = T_world_base
        self._changed.add("joints")

    def set_target_joint_positions(self, positions: Mapping[str, float]) -> None:
        """Merge joint positions of the target motion by name [rad] or [m]: a second robot, translucent, shows them."""
        self._target.joints.update(positions)
        self._changed.add("target")

    def set_target_pose(self, T_world_target: np.ndarray) -> None:
        """Move the robot of the target motion: pose of its root link, shape (4, 4)."""
        self._target.T_world_base = T_world_target
        self._changed.add("target")

    def set_camera(self, intrinsics: Intrinsics, T_base_camera: np.ndarray) -> None:
        """Place the camera: pose of its optical frame in the robot's base, shape (4, 4)."""
        self._camera = (intrinsics, np.asarray(T_base_camera, dtype=float))
        self._changed.update(("camera", "keypoints"))

    def set_image(self, rgb: np.ndarray) -> None:
        """Show a camera image, shape (H, W, 3) uint8: in the frustum, and in the panel with keypoints and chain."""
        self._image = rgb
        self._changed.update(("camera", "image"))

    def set_keypoints(self, keypoints: Keypoints) -> None:
        """Show keypoints with their ellipsoids; needs `set_camera` and depth."""
        self._keypoints = keypoints
        self._changed.add("keypoints")

    def set_body(self, body: BodyView) -> None:
        """Show the state of the body schema and the chain's extension."""
        self._body = body
        self._changed.update(("body", "joints"))

    def add_error(self, name: str, stamp: float, error: float) -> None:
        """Append a sample to the plot ``name`` of `ERRORS`, in the plot's unit; NaN leaves a gap."""
        series = self._errors[name]
        if series and stamp < series[-1][0]:  # time went back: a simulator was reset, a recording begins anew
            series.clear()
        series.append((stamp, error))
        self._changed.add("errors")

    def compare_keypoints(self, keypoints: Keypoints, positions: Mapping[str, float]) -> None:
        """Append the median re-projection error of confident keypoints, at joint positions of the same time."""
        body = self._body
        if self._chain is None or self._camera is None or body is None or not self._chain.has(body.keypoint_links):
            return
        if len(body.keypoint_links) != len(keypoints.names) or not set(self._chain.joint_names) <= positions.keys():
            return
        seen = keypoints.confidence >= self._config.min_confidence
        if seen.any():
            intrinsics, T_base_camera = self._camera
            poses = self._chain.link_poses(positions)
            expected = in_frame(np.linalg.inv(T_base_camera), [poses[link] for link in body.keypoint_links])
            error = np.linalg.norm(intrinsics.project(expected) - keypoints.uv, axis=1)  # (K,)
            self.add_error("reprojection", keypoints.stamp, float(np.median(error[seen])))

    def compare_tip(self, stamp: float, tip_base: np.ndarray, positions: Mapping[str, float]) -> None:
        """Append the distance of the chain's tip from the true one, shape (3,) [m], at the same time."""
        body = self._body
        if self._chain is None or body is None or body.tip_link in ("", body.ee_link):
            return
        if self._chain.has((body.tip_link,)) and set(self._chain.joint_names) <= positions.keys():
            tip = self._chain.link_poses(positions)[body.tip_link][:3, 3]
            self.add_error("tip_error", stamp, 1e3 * float(np.linalg.norm(tip - tip_base)))

    def add_joint_sliders(self) -> None:
        """Let the user move the joints of the robot shown, for a description without a robot."""
        if self._chain is None:
            return
        with self._server.gui.add_folder("Joints"):
            for name in self._chain.joint_names:
                lower, upper = self._chain.limits(name)
                start = float(np.clip(0.0, lower, upper))
                slider = self._server.gui.add_slider(
                    name, lower, upper, step=(upper - lower) / 500, initial_value=start
                )
                slider.on_update(partial(self._on_slider, name))
                self.set_joint_positions({name: start})
        self.update()

    def _on_slider(self, joint: str, event: "viser.GuiEvent[viser.GuiSliderHandle[float]]") -> None:
        self.set_joint_positions({joint: float(event.target.value)})
        self.update()

    # ---- to the browser ------------------------------------------------------------------------------------

    def update(self) -> None:
        """Send what changed since the last call."""
        changed, self._changed = self._changed, set()
        with self._server.atomic():
            if "joints" in changed:
                self._show_robot()
            if "target" in changed:
                self._target.show()
            if "camera" in changed:
                self._show_camera()
            if "keypoints" in changed:
                self._show_keypoints()
            if "image" in changed:
                self._show_image()
            if "body" in changed:
                self._status.content = body_markdown(self._body)
            if "errors" in changed:
                self._show_errors()

    def _show_robot(self) -> None:
        if self._chain is None:
            return
        missing = self._robot.missing
        self._waiting.visible = bool(missing)
        if missing:
            self._waiting.content = f"Waiting for the positions of the joints {', '.join(missing)}"
        poses = self._robot.show()
        if poses is not None:
            self._show_chain(poses)

    def _show_chain(self, poses: Mapping[str, np.ndarray]) -> None:
        assert self._chain is not None
        body = self._body
        path = () if body is None or body.tip_link not in poses else self._chain.path_to(body.tip_link)
        split = path.index(body.ee_link) + 1 if body is not None and body.ee_link in path else len(path)
        self._nominal_lines.points = segments([poses[link][:3, 3] for link in path[:split]])
        self._extension_lines.points = segments([poses[link][:3, 3] for link in path[max(split - 1, 0) :]])
        extended = body is not None and 0 < split < len(path)
        self._chain_positions = [poses[link] for link in path[max(split - 1, 0) :]] if extended else []
        self._tip.visible = self._tip_axes.visible = self._tip_label.visible = extended
        if body is not None and extended:
            R, T_base_tip = poses[body.ee_link][:3, :3], poses[body.tip_link]
            shape = ellipsoid(R @ body.tip_covariance @ R.T, self._config.sigma)
            self._tip.scale = scale(shape.radii)
            self._tip.wxyz, self._tip.position = quaternion(shape.rotation), T_base_tip[:3, 3]
            self._tip_axes.wxyz, self._tip_axes.position = pose(T_base_tip)
            self._tip_label.position = T_base_tip[:3, 3] + np.array([0.0, 0.0, 0.05])

    def _show_camera(self) -> None:
        if self._camera is None:
            return
        intrinsics, T_base_camera = self._camera
        self._frustum.fov = 2 * float(np.arctan2(intrinsics.height / 2, intrinsics.fy))
        self._frustum.aspect = intrinsics.width / intrinsics.height
        self._frustum.wxyz, self._frustum.position = pose(T_base_camera)
        if self._image is not None:
            self._frustum.image = self._image
        self._frustum.visible = True

    def _show_image(self) -> None:
        if self._image is None:
            return
        image = self._image
        if self._camera is not None and len(self._chain_positions) and image.shape[1] == self._camera[0].width:
            in_camera = in_frame(np.linalg.inv(self._camera[1]), self._chain_positions)
            image = draw_chain(image, self._camera[0], in_camera, range(-1, len(in_camera) - 1))
        if self._keypoints is not None:
            image = draw_keypoints(image, self._keypoints, min_confidence=self._config.min_confidence)
        self._panel_image.image = image
        self._panel_image.visible = True

    def _show_keypoints(self) -> None:
        if self._camera is None or self._keypoints is None:
            return
        intrinsics, T_base_camera = self._camera
        R, t = T_base_camera[:3, :3], T_base_camera[:3, 3]
        position = self._keypoints.position_camera(intrinsics) @ R.T + t  # (K, 3)
        covariance = R @ self._keypoints.covariance_camera(intrinsics) @ R.T  # (K, 3, 3)
        for i, name in enumerate(self._keypoints.names):
            finite = bool(np.isfinite(position[i]).all() and np.isfinite(covariance[i]).all())
            ball, cloud = self._keypoint_handles(i, name)
            ball.visible = cloud.visible = finite and self._keypoints.confidence[i] >= self._config.min_confidence
            if ball.visible:
                shape = ellipsoid(covariance[i], self._config.sigma)
                ball.position = cloud.position = position[i]
                cloud.scale, cloud.wxyz = scale(shape.radii), quaternion(shape.rotation)

    def _keypoint_handles(self, index: int, name: str) -> tuple[viser.IcosphereHandle, viser.IcosphereHandle]:
        if name not in self._keypoint_shapes:
            scene, colour = self._server.scene, keypoint_colour(index)
            self._keypoint_shapes[name] = (
                scene.add_icosphere(f"{BASE}/keypoints/{name}/mean", 0.008, colour, subdivisions=2),
                scene.add_icosphere(f"{BASE}/keypoints/{name}/ellipsoid", 1.0, colour, subdivisions=3, opacity=0.3),
            )
        return self._keypoint_shapes[name]

    def _show_errors(self) -> None:
        for name, series in self._errors.items():
            if series:
                samples = np.array(series)  # (N, 2)
                samples = samples[samples[:, 0] >= samples[-1, 0] - self._config.history]
                self._plots[name].data = (samples[:, 0] - samples[-1, 0], samples[:, 1])
                self._plots[name].visible = True

    # ---- what is there from the start ----------------------------------------------------------------------

    def _build_scene(self) -> None:
        server, scene = self._server, self._server.scene
        server.gui.configure_theme(show_logo=False, show_share_button=False)
        server.gui.main_panel.dock_right()
        server.gui.main_panel.set_width(390)
        scene.set_up_direction("+z")
        scene.configure_default_lights(cast_shadow=True)
        scene.add_grid("/floor", 4.0, 4.0, cell_size=0.1, section_size=0.5, shadow_opacity=0.25)
        server.initial_camera.position = (1.35, -1.35, 1.0)
        server.initial_camera.look_at = (0.4, 0.05, 0.45)
        self._robot, self._target = DrawnRobot(scene, BASE), DrawnRobot(scene, TARGET, TARGET_COLOUR)
        nothing = np.zeros((0, 2, 3), dtype=np.float32)
        self._nominal_lines = scene.add_line_segments(
            f"{BASE}/chain/nominal", nothing, CHAIN_COLOUR, thickness=3.0, thickness_units="screen"
        )
        self._extension_lines = scene.add_line_segments(
            f"{BASE}/chain/extension", nothing, EXTENSION_COLOUR, thickness=6.0, thickness_units="screen"
        )
        self._tip = scene.add_icosphere(f"{BASE}/chain/tip", 1.0, EXTENSION_COLOUR, opacity=0.45, visible=False)
        self._tip_axes = scene.add_frame(f"{BASE}/chain/tip_frame", axes_length=0.08, axes_radius=0.003, visible=False)
        self._tip_label = scene.add_label(f"{BASE}/chain/tip_label", "tip", anchor="bottom-center", visible=False)
        self._frustum = scene.add_camera_frustum(
            f"{BASE}/camera",
            fov=1.0,
            aspect=4 / 3,
            scale=0.1,
            thickness=1.5,
            thickness_units="screen",
            color=CHAIN_COLOUR,
            format="jpeg",
            visible=False,
        )
        self._keypoint_shapes: dict[str, tuple[viser.IcosphereHandle, viser.IcosphereHandle]] = {}

    def _build_panels(self) -> None:
        gui = self._server.gui
        self._waiting = gui.add_markdown("Waiting for a robot description")
        with gui.add_folder("Body schema"):
            self._status = gui.add_markdown(body_markdown(None))
        with gui.add_folder("Camera and keypoints"):
            self._panel_image = gui.add_image(np.zeros((3, 4, 3), dtype=np.uint8), format="jpeg", visible=False)
        with gui.add_folder("Errors"):
            self._plots = {name: self._add_plot(title, colour) for name, (title, colour) in ERRORS.items()}

    def _add_plot(self, title: str, colour: str) -> viser.GuiUplotHandle:
        return self._server.gui.add_uplot(
            data=(np.zeros(1), np.zeros(1)),
            series=(uplot.Series(label="t [s]"), uplot.Series(label="", stroke=colour, width=2)),
            scales={"x": uplot.Scale(time=False, auto=True), "y": uplot.Scale(auto=True)},
            legend=uplot.Legend(show=False),
            title=title,
            height=120,
            visible=False,
        )


def _require_free(port: int) -> None:
    """Raise PortInUseError if ``port`` is taken; viser would silently take another one."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise PortInUseError(
                f"port {port} on {HOST} is in use ({error.strerror}); free it or choose another port"
            ) from error
