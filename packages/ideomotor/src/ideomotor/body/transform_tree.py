"""The newest transform between any two frames, from a stream of parent-child transforms."""

import numpy as np

from ideomotor.errors import IdeomotorError


class TransformError(IdeomotorError):
    """Two frames are not connected, or a transform cannot be used."""


class TransformTree:
    """Tree of frames; keeps the newest transform of each frame to its parent."""

    def __init__(self) -> None:
        self._parent: dict[str, tuple[str, np.ndarray]] = {}  # child -> (parent, T_parent_child)

    @property
    def frames(self) -> tuple[str, ...]:
        """All frames heard of, sorted."""
        return tuple(sorted({*self._parent, *(parent for parent, _ in self._parent.values())}))

    def set(self, parent: str, child: str, T_parent_child: np.ndarray) -> None:
        """Set the transform of ``child``; a new parent replaces the old one.

        Where the body changed (a joint now sits elsewhere in the chain), old transforms of other frames can close a
        loop with the new one. The new one wins, as in tf2: the loop is opened at ``parent``, whose own transform to
        what is above it must come anew.

        Raises:
            TransformError: not a rigid transform, an empty name, or a frame that is its own parent; the tree stays as
                it was.
        """
        T = np.array(T_parent_child, dtype=float)
        if not parent or not child:
            raise TransformError(f"frames {parent!r} -> {child!r}: a name is empty")
        if T.shape != (4, 4) or not np.isfinite(T).all():
            raise TransformError(f"{parent!r} -> {child!r}: expected a finite 4x4 matrix, got {T.tolist()}")
        if not np.allclose(T[:3, :3].T @ T[:3, :3], np.eye(3), atol=1e-5):
            raise TransformError(f"{parent!r} -> {child!r}: {T[:3, :3].tolist()} is not a rotation")
        if parent == child:
            raise TransformError(f"{parent!r} -> {child!r}: a frame cannot be its own parent")
        if child in self._chain(parent):
            del self._parent[parent]
        T.setflags(write=False)
        self._parent[child] = (parent, T)

    def lookup(self, target: str, source: str) -> np.ndarray:
        """Return ``T_target_source``, shape (4, 4) [m].

        Raises:
            TransformError: a frame is unknown, or they are not connected; the message has both chains.
        """
        for frame in (target, source):
            if frame not in self.frames:
                raise TransformError(f"no frame {frame!r}; heard of {list(self.frames)}")
        above_target, above_source = self._chain(target), self._chain(source)
        common = next((frame for frame in above_source if frame in above_target), None)
        if common is None:
            raise TransformError(
                f"{target!r} and {source!r} are not connected: {' -> '.join(above_target)} and "
                f"{' -> '.join(above_source)} have no frame in common"
            )
        T_common_target, T_common_source = self._up(target, common), self._up(source, common)
        R, p = T_common_target[:3, :3], T_common_target[:3, 3]
        T_target_common = np.eye(4)
        T_target_common[:3, :3], T_target_common[:3, 3] = R.T, -R.T @ p
        T_target_source: np.ndarray = T_target_common @ T_common_source
        return T_target_source

    def _chain(self, frame: str) -> list[str]:
        """Return the frame and all above it."""
        chain = [frame]
        while chain[-1] in self._parent:
            chain.append(self._parent[chain[-1]][0])
        return chain

    def _up(self, frame: str, ancestor: str) -> np.ndarray:
        """Return ``T_ancestor_frame``."""
        T = np.eye(4)
        while frame != ancestor:
            frame, T_parent_child = self._parent[frame]
            T = T_parent_child @ T
        return T
