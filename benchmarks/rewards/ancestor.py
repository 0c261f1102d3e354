"""The ancestor in its published setting: `ancestor_weighted_test`, `ancestor_timedep_test`, `ancestor_rbf_test` [cm^2].

KUKA iiwa 7, two keypoints beyond a force sensor, six demonstrations of ten states: sideways, then down. They are
straight lines of the keypoints, not of any arm, as its code makes them; the first three teach, the next two test.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ideomotor.body.chain import KinematicChain
from ideomotor.body.urdf import load_urdf
from ideomotor_learn.rewards.ancestors import AncestorConfig, Example, learn_ancestor, outer_losses
from ideomotor_learn.rewards.torch_chain import TorchChain

URDF = Path(__file__).parents[2] / "urdf" / "iiwa7.urdf.xacro"
EE_LINK = "iiwa_link_7"
FORCE_SENSOR = 0.036  # [m] from the last link
KEYPOINT_DISTANCES = (0.05, 0.10)  # [m] beyond the sensor, along the last link's z axis
START = (0.0, 0.0, 0.0, 1.57079633, 0.0, 1.03672558, 0.0)  # [rad]
SHIFT, DROP, SPREAD = -0.20, -0.30, 0.01  # [m] along x, then along z; standard deviation of both
STEPS = 5  # states of either line
DEMONSTRATIONS, TRAIN, TEST = 6, 3, 2
FAMILIES = ("weighted", "timedep", "rbf")


def published_chain() -> TorchChain:
    """Return the published arm's kinematics; those of its URDF are ours up to link 7."""
    chain = KinematicChain.from_urdf(load_urdf(URDF), ee_link=EE_LINK)
    return TorchChain.from_chain(chain, np.array([[0, 0, FORCE_SENSOR + d] for d in KEYPOINT_DISTANCES]))


def published_demonstrations(chain: TorchChain, rng: np.random.Generator) -> list[Example]:
    """Return six demonstrations: the keypoints move by about -20 cm along x, then -30 cm along z."""
    q0 = np.array(START)
    start = chain.keypoints(torch.from_numpy(q0)).numpy()  # (K, 3)
    examples = []
    for i in range(DEMONSTRATIONS):
        shift, drop = np.array([SHIFT, DROP]) + SPREAD * rng.normal(size=2)
        keypoints = np.repeat(start[None], 2 * STEPS, axis=0)  # (T, K, 3)
        keypoints[:STEPS, :, 0] += shift * np.linspace(0, 1, STEPS)[:, None]
        keypoints[STEPS:, :, 0] += shift
        keypoints[STEPS:, :, 2] += drop * np.linspace(0, 1, STEPS)[:, None]
        examples.append(Example(f"placing {i}", q0, keypoints))
    return examples


def measure_ancestor(seeds: Sequence[int]) -> dict[str, list[tuple[int, float]]]:
    """Return the test loss of the three published costs after 100 outer steps [cm^2], one a seed."""
    chain = published_chain()
    cases: dict[str, list[tuple[int, float]]] = {f"ancestor_{family}_test": [] for family in FAMILIES}
    for seed in seeds:
        demonstrations = published_demonstrations(chain, np.random.default_rng(seed))
        train, test = demonstrations[:TRAIN], demonstrations[TRAIN : TRAIN + TEST]
        for family in FAMILIES:
            cost = learn_ancestor(train, chain, AncestorConfig(family=family)).cost
            loss = float(outer_losses(cost, chain, test).mean())
            cases[f"ancestor_{family}_test"].append((seed, loss))
    return cases
