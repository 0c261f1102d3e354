"""A robot in the viewer's scene: its links are frames, and their shapes hang on them."""

from collections.abc import Iterable, Mapping

import numpy as np
import viser

from ideomotor.robot_visual import Shape
from ideomotor.viewer_content import pose


class DrawnRobot:
    """Frames and meshes of one robot; not to be seen before the first `show`.

    Args:
        scene: to draw in.
        root: name of the robot's node in the scene; the node above it moves it.
        links: names.
        shapes: of the links.
        colour: RGBA of all shapes, 0 to 255 and opacity in [0, 1]; None: their own.
    """

    def __init__(
        self,
        scene: viser.SceneApi,
        root: str,
        links: Iterable[str],
        shapes: Iterable[Shape],
        colour: tuple[int, int, int, float] | None = None,
    ) -> None:
        self._links = {name: scene.add_frame(f"{root}/{name}", show_axes=False, visible=False) for name in links}
        for i, shape in enumerate(shapes):
            wxyz, position = pose(shape.T_link_shape)
            r, g, b, a = colour or (*(round(255 * c) for c in shape.colour[:3]), shape.colour[3])
            scene.add_mesh_simple(
                f"{root}/{shape.link}/shape_{i}",
                np.asarray(shape.mesh.vertices, dtype=np.float32),
                np.asarray(shape.mesh.faces, dtype=np.uint32),
                color=(r, g, b),
                opacity=None if a >= 1.0 else a,
                flat_shading=True,
                wxyz=wxyz,
                position=position,
            )

    def show(self, poses: Mapping[str, np.ndarray]) -> None:
        """Place the links: poses in the root link, shape (4, 4)."""
        for name, handle in self._links.items():
            handle.wxyz, handle.position = pose(poses[name])
            handle.visible = True

    def remove(self) -> None:
        """Take the robot out of the scene."""
        for handle in self._links.values():
            handle.remove()
