"""The data set: format, determinism, and labels that agree with each other."""

import json
from pathlib import Path

import numpy as np
import pytest

from ideomotor.body.urdf import load_urdf
from ideomotor_sim.camera import CameraConfig
from ideomotor_sim.dataset import EPISODE, load_sources, sample_episode, write_dataset
from ideomotor_sim.robots import Robot

CAMERA = CameraConfig(width=160, height=120)


@pytest.fixture(scope="module")
def robots() -> list[tuple[Robot, float]]:
    return [(Robot("iiwa7", load_urdf("urdf/iiwa7.urdf.xacro"), "gripper_tcp"), 1.0)]


def read(folder: Path) -> dict[str, np.ndarray]:
    shards = [np.load(path, allow_pickle=False) for path in sorted(folder.glob("shard_*.npz"))]
    return {key: np.concatenate([shard[key] for shard in shards]) for key in shards[0]}


def test_format_and_labels(tmp_path: Path, robots: list[tuple[Robot, float]]) -> None:
    """Shapes and types are those of docs/architecture.md; keypoints lie on the object and move with the gripper."""
    write_dataset(tmp_path, robots, CAMERA, seed=3, count=20)
    meta = json.loads((tmp_path / "meta.json").read_text())
    assert meta["format"] == "ideomotor-keypoints-1"
    assert meta["keypoints"] == ["kp_0", "kp_1", "kp_2", "kp_3"]
    n = 3 * EPISODE  # whole episodes
    assert (meta["seed"], meta["samples"], meta["complete"]) == (3, n, True)
    data = read(tmp_path)
    expected = {
        "rgb": ((n, 120, 160, 3), "uint8"),
        "depth": ((n, 120, 160), "uint16"),
        "intrinsics": ((n, 4), "float32"),
        "T_camera_ee": ((n, 4, 4), "float32"),
        "joint_position": ((n, 7), "float32"),
        "episode": ((n,), "int32"),
        "keypoint_uv": ((n, 4, 2), "float32"),
        "keypoint_depth": ((n, 4), "float32"),
        "keypoint_visible": ((n, 4), "bool"),
        "mask": ((n, 30, 40), "uint8"),
    }
    assert {key: (value.shape, str(value.dtype)) for key, value in data.items()} == expected
    assert data["episode"].tolist() == sorted([0, 1, 2] * EPISODE)
    assert data["keypoint_visible"].mean() > 0.5
    _check_keypoints_lie_on_the_mask(data)
    _check_keypoints_project_from_one_distance(data)


def _check_keypoints_lie_on_the_mask(data: dict[str, np.ndarray]) -> None:
    """A visible keypoint's 4x4 block, or one beside it, shows the object."""
    for sample, k in zip(*np.nonzero(data["keypoint_visible"]), strict=True):
        u, v = np.clip(np.rint(data["keypoint_uv"][sample, k]).astype(int) // 4, 0, [39, 29])
        window = data["mask"][sample, max(v - 1, 0) : v + 2, max(u - 1, 0) : u + 2]
        assert window.any(), (sample, k)


def _check_keypoints_project_from_one_distance(data: dict[str, np.ndarray]) -> None:
    """Read out in 3-D, the first keypoint of an episode is always the same point of the end-effector frame."""
    fx, fy, cx, cy = data["intrinsics"].T
    u, v, z = data["keypoint_uv"][:, 0, 0], data["keypoint_uv"][:, 0, 1], data["keypoint_depth"][:, 0]
    in_camera = np.stack([(u - cx) / fx * z, (v - cy) / fy * z, z, np.ones_like(z)], axis=-1)
    in_ee = np.linalg.solve(data["T_camera_ee"].astype(float), in_camera[..., None])[..., 0]
    for episode in np.unique(data["episode"]):
        assert np.ptp(in_ee[data["episode"] == episode], axis=0).max() < 1e-4


def test_an_episode_depends_on_seed_and_number_alone(robots: list[tuple[Robot, float]]) -> None:
    sources = load_sources(robots)
    first = sample_episode(sources, CAMERA, seed=1, episode=5)
    sample_episode(sources, CAMERA, seed=2, episode=0)
    again = sample_episode(sources, CAMERA, seed=1, episode=5)
    other = sample_episode(sources, CAMERA, seed=2, episode=5)
    for key, value in first.items():
        assert np.array_equal(value, again[key]), key
    assert not np.array_equal(first["T_camera_ee"], other["T_camera_ee"])
