"""Time outer steps of the ancestor's published code, as it is: run by `benchmarks.rewards.speed` in its own process.

``python ancestor_driver.py CHECKOUT DEMONSTRATIONS.npz`` imports ``mbirl`` of a checkout of
facebookresearch/LearningToLearn, hands it demonstrations, and prints the processor time of one outer step [s]. Its
evaluation on test demonstrations and its plots are left out: they do not learn.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

STEPS = 5  # timed; a run of one step before takes away what happens once: plots, first calls


def main(checkout: Path, demonstrations: Path) -> float:
    """Return the processor time of one outer step [s]."""
    import matplotlib as mpl

    mpl.use("Agg")  # the published code plots at its first and last step
    sys.path.insert(0, str(checkout))
    from mbirl.experiments import run_model_based_irl as published
    from mbirl.learnable_costs import LearnableRBFWeightedCost

    torch.set_num_threads(1)
    data = np.load(demonstrations)
    trajectories = [
        {"start_joint_config": torch.Tensor(q0)[None], "desired_keypoints": torch.Tensor(100 * keypoints)}  # [cm]
        for q0, keypoints in zip(data["q0"], data["keypoints"], strict=True)
    ]
    states, coordinates = data["keypoints"].shape[1], 3 * data["keypoints"].shape[2]
    published.traj_len = states  # its script's global
    published.evaluate_action_optimization = lambda *_: torch.zeros(1)
    urdf = checkout / "mbirl/env/kuka_iiwa/urdf/iiwa7_ft_with_obj_keypts.urdf"
    robot = published.DifferentiableRobotModel(urdf_path=str(urdf), name="kuka_w_obj_keypts")

    def seconds(steps: int) -> float:
        cost = LearnableRBFWeightedCost(time_horizon=states, dim=coordinates)
        start = time.process_time()
        published.irl_training(
            cost, robot, published.IRLLoss(), trajectories, [], steps, 1, data_type="placing", cost_type="RBF"
        )
        return time.process_time() - start

    with tempfile.TemporaryDirectory() as folder:
        published.model_data_dir = folder  # its plots stay out of the checkout
        seconds(1)
        return (seconds(1 + STEPS) - seconds(1)) / STEPS


if __name__ == "__main__":
    elapsed = main(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"outer_step_s={elapsed}")
