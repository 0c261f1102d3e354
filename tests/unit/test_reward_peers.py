"""The peers of the reward benchmark: what they are given, and that behaviour cloning imitates what it can."""

from pathlib import Path

import numpy as np
import pytest

from ideomotor.body.chain import KinematicChain
from ideomotor.body.urdf import load_urdf
from ideomotor.planning.held_points import HeldPoints

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # those of the package
pytest.importorskip("imitation", reason="a package of `tools/setup.py bench`")

from benchmarks.rewards import peers  # noqa: E402 - needs what may be missing
from benchmarks.rewards.peers import PeerDemonstration, PeerTest, PlacingEnv, Scales, peer_rollouts  # noqa: E402

URDF = Path(__file__).parents[2] / "urdf" / "iiwa7.urdf.xacro"
CHAIN = KinematicChain.from_urdf(load_urdf(URDF), ee_link="gripper_tcp")
POINTS = HeldPoints(CHAIN, np.array([[0, 0, 0.05], [0, 0.03, 0.15]]))
HOME = np.array([0, 0.6, 0, -1.2, 0, 1.3, 0])


def reaching(rng: np.random.Generator, steps: int) -> PeerDemonstration:
    """Straight in joint space, from about home to about one place."""
    q0, q1 = HOME + rng.uniform(-0.1, 0.1, (2, 7)) + [np.zeros(7), np.r_[0.5, 0.3, np.zeros(5)]]
    q = q0 + (q1 - q0) * np.linspace(0, 1, steps + 1)[:, None]
    z = POINTS.at(q)
    return PeerDemonstration(q, z, z[-1])


DEMONSTRATIONS = [reaching(np.random.default_rng(seed), steps) for seed, steps in enumerate((10, 14, 20, 26, 30))]
SCALES = Scales(POINTS, tuple(DEMONSTRATIONS))


def test_demonstrations_are_cut_or_padded() -> None:
    shown = DEMONSTRATIONS[1]
    cut, padded = shown.of_steps(6), shown.of_steps(20)
    np.testing.assert_array_equal(cut.q, shown.q[:7])
    assert (padded.steps, padded.keypoints.shape) == (20, (21, 2, 3))
    np.testing.assert_array_equal(padded.q[:15], shown.q)
    np.testing.assert_array_equal(padded.q[14:], np.broadcast_to(shown.q[-1], (7, 7)))
    np.testing.assert_array_equal(cut.goal, shown.goal)


def test_the_environment_follows_the_demonstrations_actions() -> None:
    """Their increments, as actions, give their keypoints and observations; the episode ends after the mean length."""
    env = PlacingEnv(SCALES)
    assert SCALES.steps == 20
    starts = [SCALES.observations(d.keypoints[:1], d.goal, np.zeros(1))[0] for d in DEMONSTRATIONS]
    seen = set()
    for seed in range(40):
        obs, _ = env.reset(seed=seed)
        (i,) = np.flatnonzero([np.allclose(obs, start) for start in starts])
        seen.add(int(i))
        shown = DEMONSTRATIONS[i].of_steps(20)
        expected = SCALES.observations(shown.keypoints, shown.goal, np.linspace(0, 1, 21))
        for t, increment in enumerate(np.diff(shown.q, axis=0)):
            obs, reward, terminated, truncated, _ = env.step(increment / SCALES.increment)
            np.testing.assert_allclose(obs, expected[t + 1], atol=1e-9)
            assert (reward, terminated, truncated) == (0.0, False, t == 19)
    assert seen == set(range(5))


def test_observations_and_actions_are_of_the_order_of_one() -> None:
    rows = [SCALES.observations(d.keypoints, d.goal, np.linspace(0, 1, d.steps + 1)) for d in DEMONSTRATIONS]
    assert 0.5 < np.concatenate(rows).std() < 2.0
    assert max(np.abs(np.diff(d.q, axis=0) / SCALES.increment).max() for d in DEMONSTRATIONS) == pytest.approx(1 / 1.5)


def test_behaviour_cloning_reaches_at_any_speed() -> None:
    """Of a 0.4 m way to an unseen goal, less than a tenth is left; the seed decides what is done."""
    unseen = [reaching(np.random.default_rng(seed), 20) for seed in (10, 11, 12)]
    tests = [PeerTest(d.q[0], d.goal, steps) for d in unseen for steps in (10, 20, 80)]
    rollouts = peer_rollouts("bc", POINTS, DEMONSTRATIONS, tests, seed=0)
    left = []
    for test, q in zip(tests, rollouts, strict=True):
        assert q.shape == (test.steps + 1, 7)
        np.testing.assert_array_equal(q[0], test.q0)
        z = POINTS.at(q)
        left.append(
            np.linalg.norm(z[-1] - test.goal, axis=-1).mean() / np.linalg.norm(z[0] - test.goal, axis=-1).mean()
        )
    assert np.median(left) < 0.1
    again = peer_rollouts("bc", POINTS, DEMONSTRATIONS, tests[:1], seed=0)
    np.testing.assert_array_equal(again[0], rollouts[0])


def test_airl_runs_on_demonstrations_of_different_length(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """A short training: within the limits, repeatable, and quiet."""
    monkeypatch.setattr(peers, "AIRL_STEPS", 4096)
    tests = [PeerTest(DEMONSTRATIONS[0].q[0], DEMONSTRATIONS[0].goal, steps) for steps in (10, 40)]
    first, again = (peer_rollouts("airl", POINTS, DEMONSTRATIONS, tests, seed=1) for _ in range(2))
    for a, b, test in zip(first, again, tests, strict=True):
        assert a.shape == (test.steps + 1, 7)
        assert (a >= CHAIN.lower).all()
        assert (a <= CHAIN.upper).all()
        np.testing.assert_array_equal(a, b)
    out, err = capfd.readouterr()
    assert out + err == ""
