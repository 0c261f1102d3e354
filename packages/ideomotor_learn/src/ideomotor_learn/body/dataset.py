"""Data sets for the keypoint detector on disk (format: docs/architecture.md) and batches of frame pairs."""

import hashlib
import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ideomotor.errors import IdeomotorError
from ideomotor_learn.body.augment import AugmentConfig, augment

FORMAT = "ideomotor-keypoints-1"
_REQUIRED = (
    "rgb",
    "depth",
    "intrinsics",
    "T_camera_ee",
    "episode",
    "keypoint_uv",
    "keypoint_depth",
    "keypoint_visible",
)


class DataSetError(IdeomotorError):
    """A data set is missing, incomplete or not in the expected format."""


@dataclass(frozen=True)
class Sample:
    """One image with what is known about it. Labels are NaN (``mask`` None) in recordings from a real robot."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) uint16 [mm], 0 invalid
    intrinsics: np.ndarray  # (4,) fx, fy, cx, cy [px]; fx < 0 in a mirrored image
    T_camera_ee: np.ndarray  # (4, 4)
    episode: int
    uv: np.ndarray  # (K, 2) [px]
    keypoint_depth: np.ndarray  # (K,) [m]
    visible: np.ndarray  # (K,) bool
    mask: np.ndarray | None  # (H/4, W/4) uint8


@dataclass(frozen=True)
class DataSet:
    """A folder of shards; images stay on disk (memory-mapped), the rest is in memory."""

    names: tuple[str, ...]  # of the keypoints
    sha256: str  # of all shards
    rgb: tuple[np.ndarray, ...]  # per shard
    depth: tuple[np.ndarray, ...]
    mask: tuple[np.ndarray | None, ...]
    where: np.ndarray  # (N, 2) shard and index in it
    intrinsics: np.ndarray  # (N, 4)
    T_camera_ee: np.ndarray  # (N, 4, 4)
    episode: np.ndarray  # (N,)
    uv: np.ndarray  # (N, K, 2)
    keypoint_depth: np.ndarray  # (N, K)
    visible: np.ndarray  # (N, K)

    def __len__(self) -> int:
        return len(self.where)

    def sample(self, i: int) -> Sample:
        """Return sample i; its images are views of the memory map."""
        shard, j = self.where[i]
        mask = self.mask[shard]
        return Sample(
            self.rgb[shard][j],
            self.depth[shard][j],
            self.intrinsics[i],
            self.T_camera_ee[i],
            int(self.episode[i]),
            self.uv[i],
            self.keypoint_depth[i],
            self.visible[i],
            None if mask is None else mask[j],
        )

    @property
    def episodes(self) -> dict[int, np.ndarray]:
        """Indices of the samples of every episode."""
        order = np.argsort(self.episode, kind="stable")
        numbers, start = np.unique(self.episode[order], return_index=True)
        return {int(n): part for n, part in zip(numbers, np.split(order, start[1:]), strict=True)}


def load_dataset(folder: Path | str) -> DataSet:
    """Open a data set. On the first call its images are unpacked to ``folder/unpacked`` for memory mapping.

    Raises:
        DataSetError: naming the file and the array that is missing or of the wrong shape.
    """
    folder = Path(folder)
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataSetError(f"{folder / 'meta.json'}: cannot read it: {error}") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise DataSetError(f"{folder / 'meta.json'}: format is not {FORMAT!r}")
    names = tuple(meta["keypoints"])
    paths = sorted(folder.glob("shard_*.npz"))
    if not paths:
        raise DataSetError(f"{folder}: no shard_*.npz in it")
    rgb, depth, mask, where, digest = [], [], [], [], hashlib.sha256()
    small: dict[str, list[np.ndarray]] = {key: [] for key in _REQUIRED[2:]}
    for number, path in enumerate(paths):
        images, arrays, sha256 = _unpack(path, folder / "unpacked" / path.stem, len(names))
        digest.update(sha256.encode())
        rgb.append(images["rgb"])
        depth.append(images["depth"])
        mask.append(images.get("mask"))
        n = len(arrays["episode"])
        where.append(np.stack([np.full(n, number), np.arange(n)], axis=1))
        for key, values in small.items():
            values.append(arrays[key])
    joined = {key: np.concatenate(values) for key, values in small.items()}
    return DataSet(
        names=names,
        sha256=digest.hexdigest(),
        rgb=tuple(rgb),
        depth=tuple(depth),
        mask=tuple(mask),
        where=np.concatenate(where),
        intrinsics=joined["intrinsics"],
        T_camera_ee=joined["T_camera_ee"],
        episode=joined["episode"],
        uv=joined["keypoint_uv"],
        keypoint_depth=joined["keypoint_depth"],
        visible=joined["keypoint_visible"],
    )


def _unpack(path: Path, folder: Path, k: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], str]:
    """Return memory-mapped images, the small arrays, and the SHA-256 of a shard; unpack it if need be."""
    if not (folder / "sha256").is_file():
        try:
            with np.load(path, allow_pickle=False) as shard:
                arrays = dict(shard)
        except (OSError, ValueError) as error:
            raise DataSetError(f"{path}: cannot read it: {error}") from error
        _check(path, arrays, k)
        folder.mkdir(parents=True, exist_ok=True)
        for key in {"rgb", "depth", "mask"} & set(arrays):
            np.save(folder / f"{key}.npy", arrays.pop(key))
        np.savez(folder / "small.npz", **arrays)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else ""
        (folder / "sha256").write_text(sha256 or hashlib.sha256(path.read_bytes()).hexdigest(), encoding="ascii")
    images = {p.stem: np.load(p, mmap_mode="r", allow_pickle=False) for p in folder.glob("*.npy")}
    with np.load(folder / "small.npz", allow_pickle=False) as small:
        return images, dict(small), (folder / "sha256").read_text(encoding="ascii")


def _check(path: Path, arrays: dict[str, np.ndarray], k: int) -> None:
    missing = [key for key in _REQUIRED if key not in arrays]
    if missing:
        raise DataSetError(f"{path}: arrays {missing} are missing; it has {sorted(arrays)}")
    n, h, w = arrays["rgb"].shape[:3]
    expected = {
        "rgb": ((n, h, w, 3), "uint8"),
        "depth": ((n, h, w), "uint16"),
        "intrinsics": ((n, 4), "float32"),
        "T_camera_ee": ((n, 4, 4), "float32"),
        "episode": ((n,), "int32"),
        "keypoint_uv": ((n, k, 2), "float32"),
        "keypoint_depth": ((n, k), "float32"),
        "keypoint_visible": ((n, k), "bool"),
        "mask": ((n, h // 4, w // 4), "uint8"),
    }
    for key, (shape, dtype) in expected.items():
        if key in arrays and (arrays[key].shape != shape or arrays[key].dtype != dtype):
            raise DataSetError(f"{path}: {key} is {arrays[key].dtype}{arrays[key].shape}, expected {dtype}{shape}")


def write_recording(
    folder: Path,
    names: tuple[str, ...],
    *,
    rgb: np.ndarray,
    depth: np.ndarray,
    intrinsics: np.ndarray,
    T_camera_ee: np.ndarray,
    joint_position: np.ndarray,
) -> None:
    """Write a recording of one grasp, without labels, in the data sets' format: what fine-tuning learns from.

    Args:
        folder: where to; made if need be.
        names: of the detector's keypoints.
        rgb: (N, H, W, 3) uint8.
        depth: (N, H, W) uint16 [mm], 0 invalid.
        intrinsics: (4,) fx, fy, cx, cy [px].
        T_camera_ee: (N, 4, 4) end effector in the optical frame.
        joint_position: (N, nq) [rad].

    Raises:
        DataSetError: if an array has the wrong shape or type.
    """
    n, k = len(rgb), len(names)
    arrays = {
        "rgb": rgb,
        "depth": depth,
        "intrinsics": np.tile(np.asarray(intrinsics, np.float32), (n, 1)),
        "T_camera_ee": np.asarray(T_camera_ee, np.float32),
        "joint_position": np.asarray(joint_position, np.float32),
        "episode": np.zeros(n, np.int32),
        "keypoint_uv": np.full((n, k, 2), np.nan, np.float32),
        "keypoint_depth": np.full((n, k), np.nan, np.float32),
        "keypoint_visible": np.zeros((n, k), bool),
    }
    path = folder / "shard_00000.npz"
    _check(path, arrays, k)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)  # type: ignore[arg-type]
    meta = {"format": FORMAT, "keypoints": list(names), "seed": 0, "generator": "recording", "samples": n}
    (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Batch:
    """B images; image i and image i + B/2 are two frames of one episode."""

    rgb: Tensor  # (B, H, W, 3) uint8
    depth: Tensor  # (B, H, W) [m], 0 invalid
    intrinsics: Tensor  # (B, 4) fx, fy, cx, cy [px]; fx < 0 in a mirrored image
    T_camera_ee: Tensor  # (B, 4, 4)
    uv: Tensor  # (B, K, 2) [px], 0 where not labelled
    keypoint_depth: Tensor  # (B, K) [m], 0 where not labelled
    visible: Tensor  # (B, K) bool
    labelled: Tensor  # (B, K) bool: uv and depth are known
    mask: Tensor  # (B, H/4, W/4) in 0..1
    has_mask: Tensor  # (B,) bool


def collate(samples: list[Sample]) -> Batch:
    """Stack samples into one batch."""
    uv = np.stack([s.uv for s in samples])
    keypoint_depth = np.stack([s.keypoint_depth for s in samples])
    labelled = np.isfinite(uv).all(-1) & np.isfinite(keypoint_depth)
    h, w = samples[0].depth.shape
    blank = np.zeros((h // 4, w // 4), np.uint8)
    mask = np.stack([blank if s.mask is None else s.mask for s in samples])
    return Batch(
        rgb=torch.from_numpy(np.stack([s.rgb for s in samples])),
        depth=torch.from_numpy(np.stack([s.depth for s in samples]).astype(np.float32) * np.float32(1e-3)),
        intrinsics=torch.from_numpy(np.stack([s.intrinsics for s in samples]).astype(np.float32)),
        T_camera_ee=torch.from_numpy(np.stack([s.T_camera_ee for s in samples]).astype(np.float32)),
        uv=torch.from_numpy(np.where(labelled[..., None], uv, 0.0).astype(np.float32)),
        keypoint_depth=torch.from_numpy(np.where(labelled, keypoint_depth, 0.0).astype(np.float32)),
        visible=torch.from_numpy(np.stack([s.visible for s in samples])),
        labelled=torch.from_numpy(labelled),
        mask=torch.from_numpy(mask.astype(np.float32) / 255.0),
        has_mask=torch.tensor([s.mask is not None for s in samples]),
    )


def pair_batches(
    data: DataSet, indices: np.ndarray, batch_size: int, config: AugmentConfig, rng: np.random.Generator
) -> Iterator[Batch]:
    """Yield the batches of one epoch: every index once, each beside another frame of its episode."""
    members = data.episodes
    order = rng.permutation(indices)
    half = batch_size // 2
    for start in range(0, len(order) - half + 1, half):
        first = np.sort(order[start : start + half])  # disk order
        second = [_partner(int(i), members[int(data.episode[i])], rng) for i in first]
        yield collate([augment(data.sample(int(i)), config, rng) for i in (*first, *second)])


def _partner(i: int, members: np.ndarray, rng: np.random.Generator) -> int:
    """Return another member than i, or i where it is alone."""
    others = members[members != i]
    return int(rng.choice(others)) if len(others) else i


def prefetch(batches: Iterator[Batch], ahead: int = 3) -> Iterator[Batch]:
    """Compute batches in a thread, `ahead` of their use; what the thread raises is raised here."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(ahead)
    stop = threading.Event()

    def put(item: Batch | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.2)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                put(batch)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
