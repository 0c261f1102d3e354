"""A learned reward on disk: an artefact of modality ``reward``, run by ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnxruntime

from ideomotor.artefacts import Artefact, ArtefactError, load_artefact
from ideomotor.inference import create_session, warm_up
from ideomotor.rewards.weights import Weights

MODALITY = "reward"
INPUTS = ("relative", "progress")
OUTPUTS = ("weight", "gradient", "pull", "waypoint")


class LearnedReward:
    """A loaded reward artefact. Owning one means that its contract was checked."""

    def __init__(self, artefact: Artefact, session: onnxruntime.InferenceSession) -> None:
        """Use `load`."""
        self.artefact = artefact
        extra = artefact.manifest.extra
        self.keypoint_names: tuple[str, ...] = tuple(extra["keypoints"])
        self.family: str = extra["family"]
        self.duration: float = extra["duration"]
        self._session = session

    @classmethod
    def load(cls, folder: Path | str, *, provider: str = "auto") -> "LearnedReward":
        """Load an artefact of modality ``reward``.

        Args:
            folder: of the artefact.
            provider: ONNX Runtime's execution provider, or ``auto``.

        Raises:
            ArtefactError: if it is no reward artefact, or damaged.
            InferenceError: if it cannot run here.
        """
        artefact = load_artefact(folder, modality=MODALITY)
        _check_contract(artefact)
        session = create_session(artefact.path(), provider, threads=1)
        warm_up(session)
        return cls(artefact, session)

    def weights(self, relative: np.ndarray, progress: np.ndarray) -> Weights:
        """Return the weights of N states; see `ideomotor.rewards.weights.Reward`."""
        inputs = {"relative": relative.astype(np.float32), "progress": progress.astype(np.float32)}
        return Weights(*(output.astype(float) for output in self._session.run(list(OUTPUTS), inputs)))


def _check_contract(artefact: Artefact) -> None:
    """Raise ArtefactError where the manifest is not that of a reward."""
    manifest, where = artefact.manifest, artefact.folder / "manifest.json"
    names, family, duration = (manifest.extra.get(k) for k in ("keypoints", "family", "duration"))
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and n for n in names):
        raise ArtefactError(f"{where}: extra.keypoints is {names!r}, expected the keypoints' names")
    if not isinstance(family, str) or not family:
        raise ArtefactError(f"{where}: extra.family is {family!r}, expected the cost family's name")
    if isinstance(duration, bool) or not isinstance(duration, (int, float)) or not duration > 0:
        raise ArtefactError(f"{where}: extra.duration is {duration!r}, expected the demonstrations' mean duration [s]")
    if len(manifest.models) != 1:
        raise ArtefactError(f"{where}: {len(manifest.models)} models, expected 1")
    d = 3 * len(names)
    wanted = {
        "inputs": {"relative": ("N", d), "progress": ("N",)},
        "outputs": {"weight": ("N", d), "gradient": ("N", d, d), "pull": ("N", d), "waypoint": ("N", d)},
    }
    for kind, expected in wanted.items():
        found = {t.name: t for t in getattr(manifest.models[0], kind)}
        shapes = {name: tensor.shape for name, tensor in found.items()}
        if shapes != expected or any(tensor.dtype != "float32" for tensor in found.values()):
            raise ArtefactError(f"{where}: {kind} are {shapes}, expected {expected}, float32")
