"""The tools: centre lines, working points and keypoints agree with their geometry."""

from itertools import pairwise

import mujoco
import numpy as np
import pytest

from ideomotor_sim.errors import SimulationError
from ideomotor_sim.tools import KEYPOINT_NAMES, MAX_TILT, TOOL_KINDS, TRAINING_KINDS, Tool, add_tool, sample_tool
from ideomotor_sim.transforms import inverse, pose_from, transform

SEEDS = range(20)


def distance_to_surface(tool: Tool, point: np.ndarray) -> float:
    """Signed distance of a point of the tool frame from the nearest primitive at rest; negative inside."""
    distances = []
    for geom in tool.geoms:
        p = transform(inverse(geom.T_tool_geom), point)
        if geom.shape == "box":
            q = np.abs(p) - np.array(geom.size)
            distances.append(np.linalg.norm(np.maximum(q, 0.0)) + min(q.max(), 0.0))
        elif geom.shape == "sphere":
            distances.append(np.linalg.norm(p) - geom.size[0])
        elif geom.shape == "capsule":
            along = np.clip(p[2], -geom.size[1], geom.size[1])
            distances.append(np.linalg.norm(p - [0.0, 0.0, along]) - geom.size[0])
        else:
            q = np.array([np.hypot(p[0], p[1]) - geom.size[0], abs(p[2]) - geom.size[1]])
            distances.append(np.linalg.norm(np.maximum(q, 0.0)) + min(q.max(), 0.0))
    return min(distances)


@pytest.mark.parametrize("kind", TRAINING_KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_centre_line_runs_through_the_tool_to_its_surface(kind: str, seed: int) -> None:
    """Every point of the centre line is inside; the working point is on the surface."""
    tool = sample_tool(kind, np.random.default_rng(seed))
    for a, b in pairwise(tool.centre_line):
        for t in np.linspace(0.0, 0.999, 12):
            assert distance_to_surface(tool, a + t * (b - a)) < 1e-6
    assert abs(distance_to_surface(tool, tool.centre_line[-1])) < 1e-6


@pytest.mark.parametrize("kind", TOOL_KINDS)
def test_the_same_seed_gives_the_same_tool(kind: str) -> None:
    one, two, other = (sample_tool(kind, np.random.default_rng(s)) for s in (3, 3, 4))
    assert np.array_equal(one.centre_line, two.centre_line)
    assert np.array_equal(one.T_ee_tool, two.T_ee_tool)
    assert one.surfaces == two.surfaces
    assert not np.array_equal(one.T_ee_tool, other.T_ee_tool)


@pytest.mark.parametrize("seed", SEEDS)
def test_grasps_point_away_from_the_gripper(seed: int) -> None:
    tool = sample_tool("stick", np.random.default_rng(seed))
    assert np.arccos(tool.T_ee_tool[2, 2]) <= MAX_TILT + 1e-9
    assert np.linalg.norm(tool.T_ee_tool[:3, 3]) < 0.02
    assert 0.12 <= tool.centre_line[-1, 2] <= 0.30


@pytest.mark.parametrize("kind", TOOL_KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_keypoints_divide_the_centre_line_outside_the_gripper_evenly(kind: str, seed: int) -> None:
    """Arc lengths measured independently by walking along the polyline in small steps."""
    tool = sample_tool(kind, np.random.default_rng(seed))
    line = transform(tool.T_ee_tool, tool.centre_line)
    walk = np.concatenate([np.linspace(a, b, 4000) for a, b in pairwise(line)])
    leaves = np.argmax(walk[:, 2] >= 0.0)
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(walk[leaves:], axis=0), axis=1))])
    keypoints = tool.keypoints_ee(tool.T_ee_tool)
    for k, keypoint in enumerate(keypoints, start=1):
        nearest = walk[leaves:][np.argmin(np.abs(arc - arc[-1] * k / len(KEYPOINT_NAMES)))]
        assert np.linalg.norm(nearest - keypoint) < 3e-4
    assert np.allclose(keypoints[-1], transform(tool.T_ee_tool, tool.tip_tool()))


@pytest.mark.parametrize("kind", ["hinged_stick", "sliding_rod"])
def test_the_internal_joint_moves_keypoints_as_mujoco_moves_the_body(kind: str) -> None:
    tool = sample_tool(kind, np.random.default_rng(1))
    assert tool.joint is not None
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    add_tool(spec, spec.worldbody, tool)
    model = spec.compile()
    data = mujoco.MjData(model)
    position = 0.7 * tool.joint.upper
    data.qpos[0] = position
    mujoco.mj_kinematics(model, data)
    moving = data.body("tool_moving")
    T_base_moving = pose_from(moving.xpos, moving.xmat.reshape(3, 3))
    expected = transform(T_base_moving, tool.centre_line[-1])
    assert np.allclose(tool.keypoints_ee(tool.T_ee_tool, position)[-1], expected, atol=1e-12)
    rest = tool.keypoints_ee(tool.T_ee_tool, 0.0)
    assert np.allclose(tool.keypoints_ee(tool.T_ee_tool, position)[0], rest[0])  # the held part stays


def test_after_a_slip_the_keypoints_still_start_at_the_gripper() -> None:
    tool = sample_tool("stick", np.random.default_rng(2))
    pulled = pose_from(np.array([0.0, 0.0, 0.03]), np.eye(3)) @ tool.T_ee_tool
    before, after = tool.keypoints_ee(tool.T_ee_tool), tool.keypoints_ee(pulled)
    assert np.allclose(after[-1] - before[-1], [0.0, 0.0, 0.03])
    assert 0.0 < after[0, 2] - before[0, 2] < 0.03


def test_unknown_tool_is_refused() -> None:
    with pytest.raises(SimulationError, match=r"tool='spoon' is not one of \['stick'"):
        sample_tool("spoon", np.random.default_rng(0))
