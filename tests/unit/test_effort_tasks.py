"""Tasks at effort level: what each is, and that the nominal model does not know all of it."""

from pathlib import Path

import numpy as np
import pytest

from ideomotor.dynamics.rigid_body import RigidBody
from ideomotor.policies.motion import MotionError, reach
from ideomotor_sim.effort_tasks import (
    IIWA7,
    TASKS,
    effort_task,
    starts,
    task_motion,
    task_robot,
    task_rollouts,
    task_video,
    task_world,
)
from ideomotor_sim.errors import SimulationError

URDF, MOTIONS = Path("urdf"), Path("artefacts/motions")


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_a_robot_with_a_motion_that_it_can_begin(name: str) -> None:
    task = effort_task(name)
    motion, robot = task_motion(task, MOTIONS), task_robot(task, URDF)
    body = RigidBody(robot.urdf, task.structure)
    assert (motion.joints, motion.contact_links, motion.floating_base) == (
        task.structure.joints,
        task.structure.contact_links,
        task.structure.floating_base,
    )
    upper, lower = body.model.upperPositionLimit[-body.n :], body.model.lowerPositionLimit[-body.n :]
    assert ((motion.q[:, -body.n :] < upper) & (motion.q[:, -body.n :] > lower)).all()
    assert (np.abs(motion.v[:, -body.n :]) < body.model.velocityLimit[-body.n :]).all()
    batch = task_rollouts(task, URDF).collect(
        lambda k, q, v, force: np.zeros((len(q), body.n)), *starts(task, motion, 2, np.random.default_rng(0)), 3
    )
    assert batch.q.shape == (2, 4, body.nq)
    assert batch.force.shape == (2, 4, 3 * len(task.structure.contact_links))


def test_the_motions_of_the_arm_can_be_done() -> None:
    """With the payload, within the effort limits: by computed torque of a model that knows it all."""
    for name in ("arm_reach", "arm_track"):
        task = effort_task(name)
        motion, body = task_motion(task, MOTIONS), RigidBody(task_robot(task, URDF).urdf, IIWA7)
        acceleration = np.gradient(motion.v, 1.0 / motion.rate, axis=0)
        needed = [
            body.mass_matrix(q) @ a + body.bias(q, v) for q, v, a in zip(motion.q, motion.v, acceleration, strict=True)
        ]
        assert (np.abs(needed).max(0) < 0.8 * body.effort_limit).all()


def test_the_payload_is_what_the_nominal_model_does_not_know() -> None:
    """Held at the first posture by nominal gravity compensation the arm sags, more the more it carries."""
    sagged = []
    for payload in (0.0, 2.0, 4.0):
        task = effort_task("arm_track", payload=payload, joint_friction=0.0)
        motion, body = task_motion(task, MOTIONS), RigidBody(task_robot(task, URDF).urdf, IIWA7)
        hold = np.array([body.bias(motion.q[0], np.zeros(7))])
        batch = task_rollouts(task, URDF).collect(lambda k, q, v, f, h=hold: h, motion.q[:1], np.zeros((1, 7)), 50)
        sagged.append(float(np.abs(batch.q[0, -1] - motion.q[0]).max()))
    assert sagged[0] < 2e-3 < sagged[1] < sagged[2]


def test_starts_are_near_the_first_state_and_follow_from_the_generator() -> None:
    task = effort_task("solo12_walk")
    motion = task_motion(task, MOTIONS)
    q, v = starts(task, motion, 200, np.random.default_rng(3))
    assert (q[:, :7] == motion.q[0, :7]).all()
    assert (v == motion.v[0]).all()
    assert (q[:, 7:] - motion.q[0, 7:]).std() == pytest.approx(task.start_spread, rel=0.1)
    np.testing.assert_array_equal(q, starts(task, motion, 200, np.random.default_rng(3))[0])


def test_changes_and_targets(tmp_path: Path) -> None:
    joints = IIWA7.joints
    mine = reach(joints, np.zeros(7), np.full(7, 0.1), duration=0.2)
    mine.save(tmp_path / "mine.npz")
    task = effort_task("arm_reach", motion=str(tmp_path / "mine.npz"), payload=1.0)
    np.testing.assert_array_equal(task_motion(task, MOTIONS).q, mine.q)
    assert (task.payload, task_world(task).payload) == (1.0, 1.0)
    with pytest.raises(MotionError, match=r"nowhere.npz is no target motion"):
        task_motion(effort_task("arm_reach", motion="nowhere.npz"), MOTIONS)
    with pytest.raises(
        SimulationError, match=r"task='fly', expected one of \['arm_reach', 'arm_track', 'solo12_stand'"
    ):
        effort_task("fly")


def test_a_task_is_filmed(tmp_path: Path) -> None:
    task = effort_task("arm_track")
    motion = task_motion(task, MOTIONS)
    task_video(task, URDF, tmp_path / "v.mp4", motion.q[:20], motion)
    assert (tmp_path / "v.mp4").stat().st_size > 1000
    with pytest.raises(SimulationError, match="cannot be written as a video"):
        task_video(task, URDF, tmp_path / "no" / "v.mp4", motion.q[:20], motion)
