"""A reward artefact of a few kilobytes: z is dear on the first half of the way, x and y on the second."""

from pathlib import Path

import numpy as np
import torch

from ideomotor.body.chain import KinematicChain
from ideomotor.planning.held_points import HeldPoints
from ideomotor_learn.rewards.export import export_reward
from ideomotor_learn.rewards.families import ProgressWeights
from ideomotor_learn.rewards.learn import LearnConfig, Shown

NAMES = ("virtual_kp_0", "virtual_kp_1")
DURATION = 3.0  # [s]


def write_small_reward(folder: Path, urdf: str, q: np.ndarray) -> Path:
    """Write the artefact for an arm that ends at gripper_tcp into ``folder`` and return it."""
    model = ProgressWeights(3 * len(NAMES), 4)
    amplitude = torch.tensor([[-1.0, -1.0, 1.0], [-1.0, -1.0, 1.0], [1.0, 1.0, -1.0], [1.0, 1.0, -1.0]])
    model.amplitude.data = amplitude.double().repeat(1, len(NAMES))
    points = HeldPoints(KinematicChain.from_urdf(urdf, ee_link="gripper_tcp"), np.zeros((len(NAMES), 3)))
    shown = Shown("a test", points, q, points.at(np.linspace(q, q + 0.1, 30)))
    config = LearnConfig()
    export_reward(
        model, folder, config=config, keypoint_names=NAMES, shown=[shown], duration=DURATION, metrics={"loss": 0.0}
    )
    return folder
