"""Transforms between any two frames of a tree; unconnected frames are named with their chains."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ideomotor.body.transform_tree import TransformError, TransformTree


def pose(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3)
    return T


@given(st.lists(st.integers(0, 8), min_size=1, max_size=8), st.integers(0, 10**6), st.data())
def test_lookup_agrees_with_poses_in_the_root(parents: list[int], seed: int, data: st.DataObject) -> None:
    """Any tree: frame i hangs below an earlier frame."""
    tree, in_root = TransformTree(), {"f0": np.eye(4)}
    for i, parent in enumerate(parents, start=1):
        name, T = f"f{min(parent, i - 1)}", pose(seed + i)
        tree.set(name, f"f{i}", T)
        in_root[f"f{i}"] = in_root[name] @ T
    frames = st.sampled_from(sorted(in_root))
    target, source = data.draw(frames), data.draw(frames)
    expected = np.linalg.inv(in_root[target]) @ in_root[source]
    np.testing.assert_allclose(tree.lookup(target, source), expected, atol=1e-9)


def test_the_newest_transform_counts() -> None:
    tree = TransformTree()
    tree.set("a", "b", pose(1))
    tree.set("a", "b", pose(2))
    np.testing.assert_allclose(tree.lookup("a", "b"), pose(2))


def test_unconnected_and_unknown_frames_are_named_with_their_chains() -> None:
    tree = TransformTree()
    tree.set("world", "base", pose(1))
    tree.set("base", "arm", pose(2))
    tree.set("table", "camera", pose(3))
    with pytest.raises(TransformError, match="arm -> base -> world and camera -> table have no frame in common"):
        tree.lookup("arm", "camera")
    with pytest.raises(TransformError, match="no frame 'nowhere'; heard of"):
        tree.lookup("base", "nowhere")


@pytest.mark.parametrize(
    ("parent", "child", "T", "message"),
    [
        ("a", "a", np.eye(4), "its own parent"),
        ("", "c", np.eye(4), "empty"),
        ("a", "c", np.full((4, 4), np.nan), "finite 4x4"),
        ("a", "c", np.eye(3), "finite 4x4"),
        ("a", "c", np.diag([2.0, 1.0, 1.0, 1.0]), "not a rotation"),
    ],
)
def test_bad_transforms_are_refused_and_the_tree_stays(parent: str, child: str, T: np.ndarray, message: str) -> None:
    tree = TransformTree()
    tree.set("a", "b", pose(1))
    with pytest.raises(TransformError, match=message):
        tree.set(parent, child, T)
    assert tree.frames == ("a", "b")
    np.testing.assert_allclose(tree.lookup("a", "b"), pose(1))


def test_a_joint_that_moved_up_the_chain_leaves_no_loop() -> None:
    """ee -> k0 -> k1 -> joint -> k2 becomes ee -> k0 -> joint -> k1 -> k2, in any order of arrival."""
    old = [("ee", "k0"), ("k0", "k1"), ("k1", "joint"), ("joint", "k2")]
    new = [("ee", "k0"), ("joint", "k1"), ("k1", "k2"), ("k0", "joint")]
    tree = TransformTree()
    for parent, child in (*old, *new):
        tree.set(parent, child, pose(1))
    expected = pose(1) @ pose(1) @ pose(1) @ pose(1)
    np.testing.assert_allclose(tree.lookup("ee", "k2"), expected)
