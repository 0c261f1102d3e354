"""What a demonstration checks of itself; how it is read from recordings is in test_demonstrations.py."""

import numpy as np
import pytest

from ideomotor.body.chain import KinematicChain
from ideomotor.data.demonstrations import Demonstration, DemonstrationError
from tests.unit.demonstration_recording import URDF

GOOD = {
    "source": "here",
    "stamp": 0.1 * np.arange(5),
    "chain": KinematicChain.from_urdf(URDF, ee_link="hand"),
    "q": np.zeros((5, 2)),
    "keypoint_names": ("k",),
    "keypoints_base": np.arange(15.0).reshape(5, 1, 3),
}


def test_a_demonstration_is_read_only() -> None:
    demonstration = Demonstration(**GOOD)
    assert demonstration.steps == 4
    np.testing.assert_array_equal(demonstration.goal, [[12.0, 13.0, 14.0]])
    np.testing.assert_array_equal(demonstration.relative[0], [[-12.0, -12.0, -12.0]])
    for array in (demonstration.q, demonstration.stamp, demonstration.keypoints_base):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": np.zeros((5, 3))}, r"here: q has shape \(5, 3\), expected \(5, 2\)"),
        ({"keypoints_base": np.zeros((5, 3))}, r"here: keypoints_base has shape \(5, 3\), expected \(5, 1, 3\)"),
        ({"keypoints_base": np.full((5, 1, 3), np.nan)}, r"here: keypoints_base is not finite at state 0"),
        ({"q": np.diag([0.0, 0.0, np.inf, 0.0, 0.0])[:, 1:3]}, r"here: q is not finite at state 2"),
        ({"stamp": np.array([0.0, 0.1, 0.1, 0.2, 0.3])}, "here: stamps .* expected increasing from 0"),
        ({"stamp": 1.0 + np.arange(5)}, "here: stamps .* expected increasing from 0"),
        ({"chain": KinematicChain.from_urdf(URDF, ee_link="column")}, r"q has shape \(5, 2\), expected \(5, 1\)"),
        (
            {"keypoint_names": ("a", "a"), "keypoints_base": np.zeros((5, 2, 3))},
            r"here: keypoint_names=\['a', 'a'\], expected at least one, each once",
        ),
        ({"keypoint_names": (), "keypoints_base": np.zeros((5, 0, 3))}, r"here: keypoint_names=\[\]"),
        (
            {"stamp": np.arange(4), "q": np.zeros((4, 2)), "keypoints_base": np.zeros((4, 1, 3))},
            "here: too short: 4 states, expected at least 5",
        ),
    ],
)
def test_a_demonstration_checks_itself(change: dict[str, object], message: str) -> None:
    with pytest.raises(DemonstrationError, match=message):
        Demonstration(**{**GOOD, **change})  # type: ignore[arg-type]
