"""Cases of the benchmark: a robot that waves a tool it has never seen in front of an RGB-D camera.

Everything random in a case follows from (seed, tool); seeds start at ideomotor_sim's first evaluation seed, so that no
tool, grasp, scene or camera pose was used in training.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ideomotor.body.chain import KinematicChain
from ideomotor.body.detector import KeypointDetector
from ideomotor.body.estimator import BodySchemaEstimator, Estimate, EstimatorConfig, EstimatorConfigs
from ideomotor.body.excitation import ExcitationConfig
from ideomotor.body.keypoints import Keypoints
from ideomotor.body.urdf import load_urdf
from ideomotor.errors import IdeomotorError
from ideomotor_sim.camera import CameraConfig, camera_pose
from ideomotor_sim.configurations import nearby_configurations, sample_view, working_configuration
from ideomotor_sim.dataset import EVALUATION_SEED
from ideomotor_sim.motion import Frame, record_episode, waving
from ideomotor_sim.robots import Robot
from ideomotor_sim.scene import sample_scene
from ideomotor_sim.tools import TOOL_KINDS, sample_tool
from ideomotor_sim.world import World

logger = logging.getLogger(__name__)

RATE = 30.0  # [Hz]
MOVABLE = {"hinged_stick": "revolute", "sliding_rod": "prismatic"}
VIEW_PROBES = 12  # configurations in which the object must be in view
VIEW_ATTEMPTS = 100
NOT_VISIBLE_SHARE = 0.3  # a view is drawn again if more keypoints than that are hidden
LEAST_VISIBLE_SHARE = 0.3  # of the best view that was found, or there is no case
LEAST_FRAMES = EstimatorConfig().min_frames  # the estimator gives no extension from fewer


class CaseError(IdeomotorError):
    """Case options that make no case."""


@dataclass(frozen=True)
class Options:
    """Case options of the benchmark.

    Raises:
        CaseError: if one of them makes no case.
    """

    seeds: tuple[int, ...]
    tools: tuple[str, ...] = TOOL_KINDS
    frames: tuple[int, ...] = (30, 90)
    urdf: Path = Path("urdf/iiwa7.urdf.xacro")
    ee_link: str = "gripper_tcp"
    camera_pose: tuple[float, ...] | None = None  # x y z [m] roll pitch yaw [rad] of the camera body in the base frame
    artefact: Path = Path("artefacts/keypoints")

    def __post_init__(self) -> None:
        if not self.seeds or min(self.seeds) < 0:
            raise CaseError(f"--seeds {list(self.seeds)}: expected integers of 0 or more")
        if not self.tools or not set(self.tools) <= set(TOOL_KINDS):
            raise CaseError(f"--tools {list(self.tools)}: expected some of {list(TOOL_KINDS)}")
        if not self.frames or min(self.frames) < LEAST_FRAMES:
            raise CaseError(f"--frames {list(self.frames)}: expected at least {LEAST_FRAMES}, fewer give no extension")
        if self.camera_pose is not None and not np.isfinite(self.camera_pose).all():
            raise CaseError(f"--camera-pose {list(self.camera_pose)}: expected finite numbers")

    @property
    def rigid_tools(self) -> tuple[str, ...]:
        """Tools without an internal joint."""
        return tuple(tool for tool in self.tools if tool not in MOVABLE)

    def rigid_tool(self, seed: int) -> str:
        """Return the rigid tool of a seed, for the parts that use one a seed: they take turns.

        Raises:
            CaseError: if there is none.
        """
        if not self.rigid_tools:
            raise CaseError(f"--tools {list(self.tools)}: expected a rigid one too, these are {list(MOVABLE)}")
        return self.rigid_tools[seed % len(self.rigid_tools)]

    def described(self) -> dict[str, object]:
        """Return what all results of these options have in common, but for the seeds, for the result file."""
        return {
            "tools": self.tools, "frames": self.frames, "urdf": str(self.urdf), "ee_link": self.ee_link,
            "camera_pose": self.camera_pose, "artefact": str(self.artefact),
        }  # fmt: skip

    def robot(self) -> Robot:
        """Return the robot of all cases.

        Raises:
            UrdfError: if there is no such file or it is not a robot's description.
        """
        return Robot(self.urdf.name.split(".")[0], load_urdf(self.urdf), self.ee_link, self.urdf.parent)


@dataclass(frozen=True)
class Case:
    """One tool in one grasp, seen by one camera."""

    seed: int
    tool: str
    world: World
    chain: KinematicChain
    rng: np.random.Generator
    home: np.ndarray  # (n,) start of the waving motion, in the order of world.joint_names

    def random_configurations(self, count: int) -> np.ndarray:
        """Return arm configurations over the whole range of the joints, shape (count, n)."""
        return np.array([self.chain.random(self.rng) for _ in range(count)])

    def place(self, q: np.ndarray, tool_joint: float | None = None) -> None:
        """Put the arm into a configuration of the chain, without physics."""
        self.world.set_configuration(dict(zip(self.chain.joint_names, q.tolist(), strict=True)), tool_joint)


@dataclass(frozen=True)
class Recording:
    """Frames of a waving arm, and what the detector saw in them."""

    q: np.ndarray  # (T, n)
    keypoints: tuple[Keypoints, ...]  # (T,)
    frames: tuple[Frame, ...]  # (T,)


def case_seed(seed: int, tool: str) -> int:
    """Return the seed that mujoco_sim and `open_case` build the same tool, grasp and scene from."""
    return EVALUATION_SEED + 100 * seed + (TOOL_KINDS.index(tool) if tool in TOOL_KINDS else 99)


@contextmanager
def open_case(options: Options, seed: int, tool: str) -> Iterator[Case]:
    """Build the world of a case; the arm stands in a configuration in which the camera sees the object.

    Raises:
        CaseError: if none was found; SimulationError if the robot cannot be simulated.
    """
    logger.info("seed %d, %s", seed, tool)
    number = case_seed(seed, tool)
    sim_rng, rng = np.random.default_rng(number), np.random.default_rng([number, 1])
    robot = options.robot()
    held, scene = sample_tool(tool, sim_rng), sample_scene(sim_rng)  # in mujoco_sim's order
    world = World(robot, held, scene, CameraConfig(), np.eye(4), seed=number)
    chain = KinematicChain.from_urdf(robot.urdf, ee_link=robot.ee_link)
    try:
        start = _look(world, options, rng)
        world.set_configuration(start)
        world.set_command({name: start[name] for name in world.command_names})
        yield Case(seed, tool, world, chain, rng, np.array(list(start.values())))
    finally:
        world.close()


def _look(world: World, options: Options, rng: np.random.Generator) -> dict[str, float]:
    """Choose camera and arm configuration such that the object is mostly in view; return the configuration."""
    best, best_share = None, -1.0
    for _ in range(VIEW_ATTEMPTS):
        if options.camera_pose is None:
            view = sample_view(world, VIEW_PROBES, rng)
            centre, T_base_camera = view.configurations.mean(axis=0), view.T_base_camera
        else:
            centre, T_base_camera = working_configuration(world, rng), camera_pose(*options.camera_pose)
        world.set_camera_pose(T_base_camera)
        share = 0.0
        for q in nearby_configurations(world, centre, VIEW_PROBES, rng, spread=0.2):
            world.set_configuration(dict(zip(world.joint_names, q.tolist(), strict=True)))
            share += world.keypoint_truth().visible.mean() / VIEW_PROBES
        if share > best_share:
            best, best_share = (centre, T_base_camera), share
        if share >= 1 - NOT_VISIBLE_SHARE:
            break
    if best is None or best_share < LEAST_VISIBLE_SHARE:
        where = "of cameras drawn" if options.camera_pose is None else f"of --camera-pose {list(options.camera_pose)}"
        raise CaseError(
            f"the best {where} sees {100 * max(best_share, 0.0):.0f} % of the object's keypoints in {VIEW_ATTEMPTS} "
            f"working configurations, expected {100 * LEAST_VISIBLE_SHARE:.0f} % (camera: x forward, z up)"
        )
    world.set_camera_pose(best[1])
    return dict(zip(world.joint_names, best[0].tolist(), strict=True))


def record(case: Case, detector: KeypointDetector, frames: int) -> Recording:
    """Wave, and detect the keypoints in every image."""
    duration = frames / RATE
    reference = waving(case.world, case.rng, ExcitationConfig(duration=max(duration, 0.5)))
    recorded = tuple(record_episode(case.world, reference, duration, RATE))
    return Recording(
        q=np.array([positions(case.chain, frame) for frame in recorded]),
        keypoints=tuple(detect(case.world, detector, frame) for frame in recorded),
        frames=recorded,
    )


def positions(chain: KinematicChain, frame: Frame) -> np.ndarray:
    """Return the chain's joint positions in a frame, bound by name."""
    return chain.from_names(dict(zip(frame.joint_state.names, frame.joint_state.position.tolist(), strict=True)))


def detect(world: World, detector: KeypointDetector, frame: Frame) -> Keypoints:
    """Return what the detector sees in a frame, with the sensor's noise."""
    return detector.detect(frame.image.rgb, frame.image.depth, world.camera.intrinsics, frame.stamp)


def estimate(
    case: Case,
    detector: KeypointDetector,
    recording: Recording,
    *,
    frames: int,
    T_base_camera: np.ndarray | None = None,
    keypoints: Sequence[Keypoints] | None = None,
    configs: EstimatorConfigs | None = None,
) -> Estimate:
    """Run the estimator over the first frames of a recording.

    Args:
        case: of the recording.
        detector: its names.
        recording: what was seen.
        frames: how many frames to use.
        T_base_camera: the camera pose the estimator believes in; the true one if None.
        keypoints: other keypoints than the recorded ones.
        configs: of the estimator.
    """
    pose = case.world.T_base_camera if T_base_camera is None else T_base_camera
    estimator = BodySchemaEstimator(
        case.chain, case.world.camera.intrinsics, pose, detector.names, detector.tip, configs
    )
    for q, seen in list(zip(recording.q, keypoints or recording.keypoints, strict=True))[:frames]:
        estimator.update(seen.stamp, q, seen)
    return estimator.refine()
