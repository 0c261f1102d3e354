"""A robot in the viewer's scene: its links are frames, and their shapes hang on them."""

from collections.abc import Iterable

import numpy as np
import viser

from ideomotor.robot_visual import LinkTree, Shape
from ideomotor.viewer_content import pose


class DrawnRobot:
    """Frames and meshes of one robot; not to be seen before it is described and the positions of all joints are known.

    Args:
        scene: to draw in.
        root: name of the root link's frame in the scene; what is given in the robot's base hangs on it, too.
        colour: RGBA of all shapes, 0 to 255 and opacity in [0, 1]; None: their own.
    """

    def __init__(self, scene: viser.SceneApi, root: str, colour: tuple[int, int, int, float] | None = None) -> None:
        self.joints: dict[str, float] = {}  # positions by name [rad] or [m]
        self.T_world_base = np.eye(4)  # pose of the root link
        self._scene, self._root, self._colour = scene, root, colour
        self._base = scene.add_frame(root, show_axes=False)
        self._tree: LinkTree | None = None
        self._links: dict[str, viser.FrameHandle] = {}

    def describe(self, tree: LinkTree, shapes: Iterable[Shape]) -> None:
        """Draw another robot in the place of the one that was drawn."""
        for handle in self._links.values():
            handle.remove()
        scene, links = self._scene, f"{self._root}/robot"
        self._tree = tree
        self._links = {name: scene.add_frame(f"{links}/{name}", show_axes=False, visible=False) for name in tree.links}
        for i, shape in enumerate(shapes):
            wxyz, position = pose(shape.T_link_shape)
            r, g, b, a = self._colour or (*(round(255 * c) for c in shape.colour[:3]), shape.colour[3])
            scene.add_mesh_simple(
                f"{links}/{shape.link}/shape_{i}",
                np.asarray(shape.mesh.vertices, dtype=np.float32),
                np.asarray(shape.mesh.faces, dtype=np.uint32),
                color=(r, g, b),
                opacity=None if a >= 1.0 else a,
                flat_shading=True,
                wxyz=wxyz,
                position=position,
            )

    @property
    def missing(self) -> list[str]:
        """Joints whose positions are not known."""
        return [name for name in self._tree.joint_names if name not in self.joints] if self._tree else []

    def show(self) -> dict[str, np.ndarray] | None:
        """Place the links; return their poses in the root link, shape (4, 4), or None while they are not known."""
        if self._tree is None or self.missing:
            return None
        poses = self._tree.link_poses(self.joints)
        self._base.wxyz, self._base.position = pose(self.T_world_base)
        for name, handle in self._links.items():
            handle.wxyz, handle.position = pose(poses[name])
            handle.visible = True
        return poses
