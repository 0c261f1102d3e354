"""How fast the fit and the extension are: `fit_speedup` and `extend_ms`.

The baseline is the public operation closest to the paper: learnable link translations of `differentiable-robot-model`,
Adam through its forward kinematics, on the same robust-free Gaussian problem (no outliers here) and until it is as near
to the truth as our fit. Several learning rates are tried and the fastest counts.
"""

import io
import tempfile
import time
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ideomotor.body.camera import Intrinsics
from ideomotor.body.chain import KinematicChain
from ideomotor.body.extension import BodyExtension, JointType, VirtualJoint
from ideomotor.body.fit import Observations, fit_keypoints
from ideomotor_sim.robots import Robot

INTRINSICS = Intrinsics(320, 240, 300.0, 300.0, 159.5, 119.5)
T_BASE_CAMERA = np.array([[0, 0, -1, 1.8], [1, 0, 0, 0], [0, -1, 0, 0.6], [0, 0, 0, 1]], dtype=float)
PIXEL_NOISE, DEPTH_NOISE = 1.0, 0.005  # [px], [m]
FRAMES = 90
LARGEST_AMPLITUDE = 0.4  # [rad] of a joint's motion
LEARNING_RATES = (3e-3, 1e-2, 3e-2)
MOST_STEPS = 3000
SAME_ERROR = 1.05  # the baseline stops at this multiple of our error
REPETITIONS = 50


@dataclass(frozen=True)
class _Data:
    q: np.ndarray  # (T, n)
    position_ee: np.ndarray  # (K, 3) truth
    observations: Observations


def _data(chain: KinematicChain, rng: np.random.Generator) -> _Data:
    start = np.zeros(chain.n)
    start[1::2] = 0.6
    start = np.clip(start, chain.lower + LARGEST_AMPLITUDE, chain.upper - LARGEST_AMPLITUDE)  # every joint moves
    phase, amplitude = rng.uniform(0, 2 * np.pi, chain.n), rng.uniform(0.15, LARGEST_AMPLITUDE, chain.n)
    t = np.arange(FRAMES) / 30.0
    q = np.clip(start + amplitude * np.sin(2 * np.pi * 0.5 * t[:, None] + phase), chain.lower, chain.upper)
    rho = np.array([0.0, 0.0, 1.0]) * np.array([0.05, 0.1, 0.15, 0.2])[:, None] + rng.normal(0, 0.02, (4, 3))
    T_camera_ee = np.linalg.inv(T_BASE_CAMERA) @ chain.forward_batch(q)
    points = rho @ T_camera_ee[:, :3, :3].transpose(0, 2, 1) + T_camera_ee[:, None, :3, 3]  # (T, K, 3)
    shape = points.shape[:2]
    observations = Observations(
        stamp=t,
        T_camera_ee=T_camera_ee,
        uv=INTRINSICS.project(points) + rng.normal(0, PIXEL_NOISE, (*shape, 2)),
        uv_covariance=np.broadcast_to(np.eye(2) * PIXEL_NOISE**2, (*shape, 2, 2)),
        depth=points[..., 2] + rng.normal(0, DEPTH_NOISE, shape),
        depth_variance=np.full(shape, DEPTH_NOISE**2),
        confidence=np.full(shape, 0.95),
    )
    return _Data(q, rho, observations)


def _mean_error(estimate: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(estimate - truth, axis=1).mean())


def _median_time(function: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return the median time [s] of many calls, by a clock."""
    function()
    times = []
    for _ in range(REPETITIONS):
        start = clock()
        function()
        times.append(clock() - start)
    return float(np.median(times))


def measure(robot: Robot, seeds: Sequence[int]) -> dict[str, list[tuple[int, float]]]:
    """Return `fit_speedup` and `extend_ms`."""
    return {
        "fit_speedup": fit_speedup(robot.urdf, robot.ee_link, seeds),
        "extend_ms": extend_ms(robot.urdf, robot.ee_link, seeds),
    }


def fit_speedup(urdf: str, ee_link: str, seeds: Sequence[int]) -> list[tuple[int, float]]:
    """Return time of the baseline over time of our fit, one a seed.

    Both by the processor's time, all threads of ours counted: one long run meets every other job of the machine, the
    median of short ones none.
    """
    chain = KinematicChain.from_urdf(urdf, ee_link=ee_link)
    ratios = []
    for seed in seeds:
        data = _data(chain, np.random.default_rng(seed))
        error = _mean_error(fit_keypoints(data.observations, INTRINSICS).position_ee, data.position_ee)
        ours = _median_time(partial(fit_keypoints, data.observations, INTRINSICS), time.process_time)
        baseline = [_adam_time(urdf, chain, data, rate, SAME_ERROR * error) for rate in LEARNING_RATES]
        reached = [t for t in baseline if t is not None]
        if reached:
            ratios.append((seed, min(reached) / ours))
    return ratios


def _adam_time(urdf: str, chain: KinematicChain, data: _Data, rate: float, target: float) -> float | None:
    """Return the time [s] until the mean error is at most ``target`` [m]; None if that is not reached."""
    import torch
    from differentiable_robot_model.rigid_body_params import UnconstrainedTensor
    from differentiable_robot_model.robot_model import DifferentiableRobotModel

    torch.set_num_threads(1)
    torch.manual_seed(0)
    links = [f"learned_{k}" for k in range(len(data.position_ee))]
    talk = io.StringIO()  # the library prints a line for every link without inertia, its parser for every odd attribute
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        redirect_stdout(talk),
        redirect_stderr(talk),
    ):
        warnings.simplefilter("ignore")
        path = Path(folder, "learned.urdf")
        path.write_text(_with_learnable_links(urdf, chain.ee_link, links))
        model = DifferentiableRobotModel(str(path), device="cpu")
    for link in links:
        model.make_link_param_learnable(link, "trans", UnconstrainedTensor(dim1=1, dim2=3))
    controlled = [model._bodies[i] for i in model._controlled_joints]
    q = torch.zeros(FRAMES, len(controlled))
    joint_of = {j.find("child").get("link"): j.get("name") for j in ET.fromstring(urdf).findall("joint")}  # type: ignore[union-attr]
    for column, body in enumerate(controlled):
        if (name := joint_of.get(body.name)) in chain.joint_names:
            q[:, column] = torch.from_numpy(data.q[:, chain.joint_names.index(name)]).float()
    T_camera_base = torch.from_numpy(np.linalg.inv(T_BASE_CAMERA)).float()
    uv = torch.from_numpy(data.observations.uv).float()
    depth = torch.from_numpy(data.observations.depth).float()
    focal = torch.tensor([INTRINSICS.fx, INTRINSICS.fy])
    centre = torch.tensor([INTRINSICS.cx, INTRINSICS.cy])
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    learned = [model._bodies[model._name_to_idx_map[link]] for link in links]
    start = time.process_time()
    for _ in range(MOST_STEPS):
        loss = torch.zeros(())
        model.update_kinematic_state(q, torch.zeros_like(q))  # once for all links: what the library can do best
        for k, body in enumerate(learned):
            position = body.pose.translation()  # (T, 3)
            p = position @ T_camera_base[:3, :3].T + T_camera_base[:3, 3]
            pixels = p[:, :2] / p[:, 2:] * focal + centre
            loss = loss + ((pixels - uv[:, k]) ** 2).sum() / PIXEL_NOISE**2
            loss = loss + ((p[:, 2] - depth[:, k]) ** 2).sum() / DEPTH_NOISE**2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        estimate = np.array([body.trans().detach().numpy()[0] for body in learned])
        if _mean_error(estimate, data.position_ee) <= target:
            return time.process_time() - start
    return None


def _with_learnable_links(urdf: str, ee_link: str, links: list[str]) -> str:
    """Return the URDF with links hung on the end effector; by revolute joints, as fixed ones get no gradient."""
    robot = ET.fromstring(urdf)
    for control in robot.findall("ros2_control"):
        robot.remove(control)
    for joint in robot.findall("joint"):  # the library needs every origin written out
        if joint.find("origin") is None:
            ET.SubElement(joint, "origin", xyz="0 0 0", rpy="0 0 0")
    for link in links:
        ET.SubElement(robot, "link", name=link)
        joint = ET.SubElement(robot, "joint", name=f"{link}_joint", type="revolute")
        ET.SubElement(joint, "parent", link=ee_link)
        ET.SubElement(joint, "child", link=link)
        ET.SubElement(joint, "origin", xyz="0 0 0", rpy="0 0 0")
        ET.SubElement(joint, "axis", xyz="0 0 1")
        ET.SubElement(joint, "limit", lower="-1", upper="1", velocity="1", effort="1")
    return ET.tostring(robot, encoding="unicode")


def extend_ms(urdf: str, ee_link: str, seeds: Sequence[int]) -> list[tuple[int, float]]:
    """Return the time from a fitted extension to a new chain in pinocchio, in process [ms], one a seed."""
    chain = KinematicChain.from_urdf(urdf, ee_link=ee_link)
    times = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        parents = [ee_link, "virtual_kp_0", "virtual_kp_1", "virtual_kp_2"]
        joints = tuple(
            VirtualJoint(
                name=f"virtual_joint_{k}",
                parent_link=parents[k],
                child_link=f"virtual_kp_{k}",
                type=JointType.FIXED,
                xyz=rng.normal(0, 0.05, 3),
                rpy=rng.uniform(-1, 1, 3),
                covariance=np.eye(6) * 1e-6,
            )
            for k in range(4)
        )
        extension = BodyExtension(ee_link, joints, "virtual_kp_3", tuple(f"virtual_kp_{k}" for k in range(4)))
        times.append((seed, 1e3 * _median_time(partial(chain.extended, extension), time.perf_counter)))
    return times
