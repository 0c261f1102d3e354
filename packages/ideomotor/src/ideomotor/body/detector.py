"""Finds the keypoints of a held object in one RGB-D image. Vision only: no joint position enters."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from ideomotor.artefacts import Artefact, ArtefactError, load_artefact
from ideomotor.body.camera import Intrinsics
from ideomotor.body.keypoints import Keypoints
from ideomotor.errors import IdeomotorError
from ideomotor.inference import create_session, warm_up

MODALITY = "keypoints"
INPUTS = ("rgb", "depth")
OUTPUTS = ("uv", "uv_covariance", "keypoint_depth", "keypoint_depth_variance", "confidence")


class DetectorError(IdeomotorError):
    """An image that the keypoint detector cannot use."""


@dataclass(frozen=True)
class Fit:
    """Where an image lies in the network's: scaled alike in both directions, centred, the rest black."""

    scale: float  # network pixels per image pixel
    width: int  # of the scaled image [px]
    height: int
    left: int  # its place in the network's image [px]
    top: int

    @classmethod
    def of(cls, width: int, height: int, to_width: int, to_height: int) -> "Fit":
        """Return the largest fit of width x height in to_width x to_height."""
        scale = min(to_width / width, to_height / height)
        w, h = min(to_width, round(width * scale)), min(to_height, round(height * scale))
        return cls(scale, w, h, (to_width - w) // 2, (to_height - h) // 2)

    def to_image(self, uv: np.ndarray) -> np.ndarray:
        """Return pixels of the image, shape (..., 2), from the network's."""
        return (uv - [self.left, self.top] + 0.5) / self.scale - 0.5


class KeypointDetector:
    """A loaded keypoint artefact. Owning one means that its contract was checked."""

    def __init__(self, artefact: Artefact, session: onnxruntime.InferenceSession) -> None:
        """Use `load`."""
        self.artefact = artefact
        extra = artefact.manifest.extra
        self.names: tuple[str, ...] = tuple(extra["keypoints"])
        self.tip: str = extra["tip"]
        self._session = session
        _, height, width, _ = artefact.manifest.models[0].inputs[0].shape
        self._height, self._width = int(height), int(width)
        self._rgb = np.zeros((1, self._height, self._width, 3), np.uint8)
        self._depth = np.zeros((1, self._height, self._width), np.float32)
        self._fit: Fit | None = None

    @classmethod
    def load(cls, folder: Path | str, *, provider: str = "auto", threads: int = 1) -> "KeypointDetector":
        """Load an artefact of modality ``keypoints`` and warm it up.

        Args:
            folder: of the artefact.
            provider: ONNX Runtime's execution provider, or ``auto``.
            threads: threads of one detection; 0 is one per core.

        Raises:
            ArtefactError: if it is no keypoint artefact, or damaged.
            InferenceError: if it cannot run here.
        """
        artefact = load_artefact(folder, modality=MODALITY)
        _check_contract(artefact)
        session = create_session(artefact.path(), provider, threads=threads)
        warm_up(session)
        return cls(artefact, session)

    def detect(self, rgb: np.ndarray, depth: np.ndarray, intrinsics: Intrinsics, stamp: float) -> Keypoints:
        """Return the keypoints of one image.

        Args:
            rgb: colour, shape (H, W, 3) uint8.
            depth: registered to the colour image, shape (H, W) float32 [m]; NaN or 0 where there is none.
            intrinsics: of both images; only checked to be theirs, the network needs none.
            stamp: time the image was taken [s].

        Raises:
            DetectorError: if an image has the wrong type or shape.
        """
        _check_images(rgb, depth, intrinsics)
        fit = self._fill(rgb, depth)
        uv, covariance, z, variance, confidence = (
            out[0] for out in self._session.run(list(OUTPUTS), {"rgb": self._rgb, "depth": self._depth})
        )
        return Keypoints(
            stamp=stamp,
            names=self.names,
            uv=fit.to_image(uv),
            uv_covariance=covariance / fit.scale**2,
            depth=z,
            depth_variance=variance,
            confidence=confidence,
        )

    def _fill(self, rgb: np.ndarray, depth: np.ndarray) -> Fit:
        """Write the images into the input buffers, resized where need be."""
        height, width = depth.shape
        fit = Fit.of(width, height, self._width, self._height)
        if fit != self._fit:  # another size than before: what the new one leaves free must be black
            self._rgb.fill(0)
            self._depth.fill(0.0)
            self._fit = fit
        inner = np.s_[0, fit.top : fit.top + fit.height, fit.left : fit.left + fit.width]
        if fit.scale == 1.0:
            self._rgb[inner], self._depth[inner] = rgb, depth
        else:
            how = cv2.INTER_AREA if fit.scale < 1 else cv2.INTER_LINEAR
            self._rgb[inner] = cv2.resize(rgb, (fit.width, fit.height), interpolation=how)
            # Nearest: an average of object and background is the depth of neither.
            self._depth[inner] = cv2.resize(depth, (fit.width, fit.height), interpolation=cv2.INTER_NEAREST_EXACT)
        return fit


def _check_images(rgb: np.ndarray, depth: np.ndarray, intrinsics: Intrinsics) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise DetectorError(f"rgb is {rgb.dtype}{rgb.shape}, expected uint8 (H, W, 3)")
    if depth.ndim != 2 or depth.dtype != np.float32:
        raise DetectorError(f"depth is {depth.dtype}{depth.shape}, expected float32 (H, W) in metres")
    if rgb.shape[:2] != depth.shape:
        raise DetectorError(f"rgb is {rgb.shape[:2]}, depth {depth.shape}: expected the same size, registered")
    if (intrinsics.height, intrinsics.width) != depth.shape:
        raise DetectorError(
            f"intrinsics are of a {intrinsics.width}x{intrinsics.height} image, the image is "
            f"{depth.shape[1]}x{depth.shape[0]}"
        )


def _check_contract(artefact: Artefact) -> None:
    """Raise ArtefactError where the manifest is not that of a keypoint detector."""
    manifest, where = artefact.manifest, artefact.folder / "manifest.json"
    names = manifest.extra.get("keypoints")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ArtefactError(f"{where}: extra.keypoints is {names!r}, expected the keypoints' names")
    if manifest.extra.get("tip") not in names:
        raise ArtefactError(f"{where}: extra.tip is {manifest.extra.get('tip')!r}, expected one of {names}")
    if len(manifest.models) != 1:
        raise ArtefactError(f"{where}: {len(manifest.models)} models, expected 1")
    expected = _expected(len(names))
    for kind, wanted in expected.items():
        found = {t.name: (t.shape, t.dtype) for t in getattr(manifest.models[0], kind)}
        if list(found) != list(wanted) or not all(_fits(found[n], wanted[n]) for n in wanted):
            raise ArtefactError(f"{where}: {kind} are {found}, expected {wanted}")


_Shapes = dict[str, tuple[tuple[int | str, ...], str]]


def _expected(k: int) -> dict[str, _Shapes]:
    shapes = ((1, k, 2), (1, k, 2, 2), (1, k), (1, k), (1, k))
    return {
        "inputs": {"rgb": ((1, "height", "width", 3), "uint8"), "depth": ((1, "height", "width"), "float32")},
        "outputs": {name: (shape, "float32") for name, shape in zip(OUTPUTS, shapes, strict=True)},
    }


def _fits(found: tuple[tuple[int | str, ...], str], wanted: tuple[tuple[int | str, ...], str]) -> bool:
    """Whether a tensor has the wanted dtype and shape; a name in the wanted shape stands for any fixed size."""
    return (
        found[1] == wanted[1]
        and len(found[0]) == len(wanted[0])
        and all(isinstance(f, int) and (isinstance(w, str) or f == w) for f, w in zip(found[0], wanted[0], strict=True))
    )
