"""Target motions of Solo12: the committed ones, and that the scripted gait makes them again."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pinocchio as pin
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ideomotor.dynamics.rigid_body import RigidBody
from ideomotor.policies.motion import Motion, load_motion
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.gait import GAITS, SOLO12, Gait, joint_path, main, record_gait, start_of
from tests.unit.test_effort_world import SOLO

MOTIONS = Path("artefacts/motions")
BODY = RigidBody(SOLO.urdf, SOLO12)


@pytest.fixture(params=GAITS)
def motion(request: pytest.FixtureRequest) -> Motion:
    return load_motion(MOTIONS / f"solo12_{request.param}.npz")


def test_motions_are_of_the_robot(motion: Motion) -> None:
    assert (motion.joints, motion.contact_links) == (SOLO12.joints, SOLO12.contact_links)
    assert (motion.rate, motion.steps, motion.duration) == (250.0, 200, 0.8)
    assert ((motion.q[:, 2] > 0.2) & (motion.q[:, 2] < 0.3)).all()
    assert np.abs(motion.q[:, 3:5]).max() < 0.1  # upright


def test_motions_can_be_moved(motion: Motion) -> None:
    """States follow from one another, and the ground pulls at nothing."""
    moved = np.array([pin.difference(BODY.model, a, b) for a, b in pairwise(motion.q)]) * motion.rate
    between = 0.5 * (motion.v[1:] + motion.v[:-1])
    assert np.median(np.abs(moved - between)) < 0.1
    vertical = motion.force[:, 2::3]
    assert vertical.min() > -1e-6
    weight = BODY.mass_matrix(motion.q[0])[0, 0] * 9.81
    assert vertical.sum(1).mean() == pytest.approx(weight, rel=0.25)


@pytest.mark.parametrize(
    ("name", "displacement", "switches", "airborne"),
    [("stand", 0.0, range(4, 30), range(1, 30)), ("step", 0.0, range(12, 80), range(1, 60)),
     ("walk", 0.13, range(12, 80), range(1, 60))],
)  # fmt: skip
def test_contacts_switch(name: str, displacement: float, switches: range, airborne: range) -> None:
    """Standing lands; the others step, with phases of flight. Walking gets 0.13 m far."""
    motion = load_motion(MOTIONS / f"solo12_{name}.npz")
    down = motion.force[:, 2::3] > 0.5
    assert motion.q[-1, 0] - motion.q[0, 0] == pytest.approx(displacement, abs=0.03)
    assert abs(motion.q[-1, 1]) < 0.02
    assert int((np.diff(down.astype(int), axis=0) != 0).sum()) in switches
    assert int((~down.any(1)).sum()) in airborne
    assert not down[0].any()  # it begins in the air


@given(st.sampled_from(list(GAITS)), st.floats(0.0, 2.0))
def test_feet_are_where_the_gait_says(name: str, t: float) -> None:
    """Stance feet at the ground, swing feet above it by at most the lift; legs do not straighten."""
    gait = GAITS[name]
    joints, down = joint_path(gait, t)
    q = np.concatenate([[0.0, 0.0, gait.height, 0.0, 0.0, 0.0, 1.0], joints])
    height = BODY.contact_positions(q)[:, 2]
    np.testing.assert_allclose(height[down], height[down].mean() if down.any() else 0.0, atol=2e-3)
    lowest = BODY.contact_positions(start_of(GAITS["stand"]))[:, 2].min() - gait.start_above
    assert (height > lowest - 2e-3).all()
    assert (height < lowest + gait.lift + 2e-3).all()
    assert np.isfinite(joints).all()
    if gait.lift == 0.0:
        assert down.all()
    else:
        assert down[[0, 3]].all() or down[[1, 2]].all()  # diagonal legs move together


def test_recording_again_gives_what_is_committed() -> None:
    again, committed = record_gait(SOLO.urdf, GAITS["stand"]), load_motion(MOTIONS / "solo12_stand.npz")
    np.testing.assert_allclose(again.q, committed.q, atol=1e-3)
    assert again.steps == committed.steps


def test_a_gait_that_falls_is_no_target() -> None:
    with pytest.raises(SimulationError, match=r"Gait\(.* fell at step \d+"):
        record_gait(SOLO.urdf, Gait(height=0.24, lift=0.1, duty=0.2, period=0.8, speed=1.0))


def test_the_command_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--urdf", "urdf/solo12.urdf.xacro", "--out", str(tmp_path / "new")])
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [f"solo12_{n}.npz" for n in sorted(GAITS)]
    assert "walk: 0.1" in capsys.readouterr().out
