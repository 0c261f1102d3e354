"""The benchmark of outer steps beside a checkout of the published code; the code itself is not here."""

import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.rewards.ancestor import TRAIN, published_chain, published_demonstrations
from benchmarks.rewards.speed import AncestorCheckoutError, measure_speedup, processor_seconds

DEMONSTRATIONS = published_demonstrations(published_chain(), np.random.default_rng(0))[:TRAIN]

STAND_IN = """
import time
import torch

class IRLLoss:
    pass

def DifferentiableRobotModel(urdf_path, name):
    assert open(urdf_path).read() == 'the arm'

def irl_training(cost, robot, loss, train, test, outer, inner, data_type, cost_type):
    assert [t['desired_keypoints'].shape for t in train] == [(10, 2, 3)] * 3
    assert abs(train[0]['desired_keypoints'][0, 0, 0].item() - {x}) < 1e-3, 'not in cm'
    assert tuple(train[0]['start_joint_config'].shape) == (1, 7) and traj_len == 10 and not test and inner == 1
    end = time.process_time() + 0.1 + 0.05 * outer
    while time.process_time() < end:
        pass
    print('irl loss')
"""


def checkout(folder: Path, code: str) -> Path:
    """Something that has the published code's modules and signatures."""
    experiments = folder / "mbirl" / "experiments"
    experiments.mkdir(parents=True)
    for package in (experiments.parent, experiments):
        (package / "__init__.py").touch()
    (experiments / "run_model_based_irl.py").write_text(code)
    (experiments.parent / "learnable_costs.py").write_text("def LearnableRBFWeightedCost(time_horizon, dim): pass")
    urdf = experiments.parent / "env" / "kuka_iiwa" / "urdf" / "iiwa7_ft_with_obj_keypts.urdf"
    urdf.parent.mkdir(parents=True)
    urdf.write_text("the arm")
    return folder


def test_one_outer_step_without_what_happens_once(tmp_path: Path) -> None:
    """A stand-in that takes 0.05 s a step and 0.1 s before; ours takes 0.01 s."""
    x = 100 * DEMONSTRATIONS[0].keypoints[0, 0, 0]

    def ours() -> None:
        start = time.process_time()
        while time.process_time() < start + 0.01:
            pass

    speedup = measure_speedup(checkout(tmp_path, STAND_IN.replace("{x}", str(x))), DEMONSTRATIONS, ours)
    assert speedup == pytest.approx(5.0, rel=0.2)
    assert processor_seconds(ours) == pytest.approx(0.01, rel=0.1)


def test_a_checkout_that_does_not_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(AncestorCheckoutError, match=r"nowhere: the published code did not run: .*mbirl"):
        measure_speedup(tmp_path / "nowhere", DEMONSTRATIONS, lambda: None)
    broken = checkout(tmp_path, "raise RuntimeError('no higher')")
    with pytest.raises(AncestorCheckoutError, match="did not run: RuntimeError: no higher"):
        measure_speedup(broken, DEMONSTRATIONS, lambda: None)
