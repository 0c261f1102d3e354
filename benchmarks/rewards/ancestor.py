"""The ancestor in its published setting: `ancestor_weighted_test`, `ancestor_timedep_test`, `ancestor_rbf_test` [cm^2].

KUKA iiwa 7, two keypoints beyond a force sensor, six demonstrations of ten states: sideways, then down. They are
straight lines of the keypoints, not of any arm, as its code makes them; the first three teach, the next two test.
Nothing in it is random but how far they go: its script draws that once, and so is what the three keys are measured on.
Two demonstrations are a small test: other draws, one a seed, are `ancestor_FAMILY_other_draws_test`.

Adam steps after all demonstrations, as where 320, 150 and 100 cm^2 come from. The published code steps after every one;
ours, told to, ends at its losses (`tests/unit/test_ancestors.py`).
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
PUBLISHED_SEED = 0  # of torch
FAMILIES = ("weighted", "timedep", "rbf")


def published_chain() -> TorchChain:
    """Return the published arm's kinematics; those of its URDF are ours up to link 7."""
    chain = KinematicChain.from_urdf(load_urdf(URDF), ee_link=EE_LINK)
    return TorchChain.from_chain(chain, np.array([[0, 0, FORCE_SENSOR + d] for d in KEYPOINT_DISTANCES]))


def published_demonstrations(chain: TorchChain, rng: np.random.Generator | None = None) -> list[Example]:
    """Return six demonstrations: the keypoints move by about -20 cm along x, then -30 cm along z.

    Args:
        chain: from `published_chain`.
        rng: source of how far; if None, that of the published script.
    """
    draws = _published_draws() if rng is None else rng.normal(size=(DEMONSTRATIONS, 2))
    q0 = np.array(START)
    start = chain.keypoints(torch.from_numpy(q0)).numpy()  # (K, 3)
    examples = []
    for i, (shift, drop) in enumerate(np.array([SHIFT, DROP]) + SPREAD * draws):
        keypoints = np.repeat(start[None], 2 * STEPS, axis=0)  # (T, K, 3)
        keypoints[:STEPS, :, 0] += shift * np.linspace(0, 1, STEPS)[:, None]
        keypoints[STEPS:, :, 0] += shift
        keypoints[STEPS:, :, 2] += drop * np.linspace(0, 1, STEPS)[:, None]
        examples.append(Example(f"placing {i}", q0, keypoints))
    return examples


def _published_draws() -> np.ndarray:
    """Return the script's standard normal numbers, drawn one by one, shape (6, 2)."""
    generator = torch.Generator().manual_seed(PUBLISHED_SEED)
    return np.array([[torch.randn(1, generator=generator).item() for _ in range(2)] for _ in range(DEMONSTRATIONS)])


def measure_ancestor(seeds: Sequence[int]) -> dict[str, list[tuple[int, float]]]:
    """Return the test loss of the published costs after 100 outer steps [cm^2]: published draws, and one a seed."""
    chain = published_chain()
    cases: dict[str, list[tuple[int, float]]] = {}
    for family in FAMILIES:
        published = _test_loss(family, chain, published_demonstrations(chain))
        cases[f"ancestor_{family}_test"] = [(PUBLISHED_SEED, published)]
        cases[f"ancestor_{family}_other_draws_test"] = [
            (seed, _test_loss(family, chain, published_demonstrations(chain, np.random.default_rng(seed))))
            for seed in seeds
        ]
    return cases


def _test_loss(family: str, chain: TorchChain, demonstrations: Sequence[Example]) -> float:
    cost = learn_ancestor(demonstrations[:TRAIN], chain, AncestorConfig(family=family)).cost
    return float(outer_losses(cost, chain, demonstrations[TRAIN : TRAIN + TEST]).mean())
