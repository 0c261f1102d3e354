"""Command line: `python -m benchmarks.body_schema [--seeds ...] [--quick] [--json FILE] [case options]`."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.body_schema import accuracy, open_loop, speed
from benchmarks.body_schema.cases import Options
from benchmarks.report import Metric, metric, percentile
from benchmarks.runner import Benchmark, Cases, Part, run_benchmark
from ideomotor.body.chain import KinematicChain
from ideomotor.body.detector import KeypointDetector
from ideomotor.errors import IdeomotorError
from ideomotor_sim.tools import TOOL_KINDS

logger = logging.getLogger("benchmarks.body_schema")

VISION_ONLY = Path("artefacts/keypoints_vision_only")
ROS_PARTS = ("placing", "slip", "latency")
PARTS = ("accuracy", "open_loop", "speed", *ROS_PARTS)
ONCE = ("latency",)  # one run, not one a seed
Measure = Callable[[Options], dict[str, Cases]]
QUICK_SEEDS = 1
SETUP = Path("ros2_ws/install/setup.bash")

# What each key must reach, as in the project's requirements.
TARGETS = {
    "on_object_pct": ">= 95, above vision only",
    "tip_error_30_median_mm": "<= 8",
    "tip_error_90_median_mm": "<= 5",
    "tip_error_90_p95_mm": "<= 12",
    "joint_error_90_median_mm": "<= 6",
    "tip_error_outliers_median_mm": "<= 6",
    "tip_error_extrinsics_median_mm": "<= 10",
    "joint_type_correct_pct": ">= 90",
    "axis_error_median_deg": "<= 3",
    "slip_detect_median_s": "<= 0.5",
    "slip_recovered_tip_error_median_mm": "<= 8",
    "slip_false_alarms_per_min": "<= 0.1",
    "open_loop_50_over_1": "<= 2",
    "open_loop_neural_over_chain_min": ">= 10",
    "place_error_median_mm": "<= 8",
    "fit_speedup": ">= 500",
    "extend_ms": "<= 1",
    "frame_to_tf_p95_ms": "<= 33",
    "frames_dropped": "0",
}


def enter_workspace() -> None:
    """Start again with the built workspace sourced, if it is not."""
    if find_spec("ideomotor_interfaces") is None:
        if not SETUP.is_file():
            sys.exit(f"no {SETUP}: build the workspace first (make setup), and run from the repository's root")
        script = f'. {SETUP} && exec python -m benchmarks.body_schema "$@"'
        os.execvp("bash", ["bash", "-c", script, "bash", *sys.argv[1:]])


def mean(values: np.ndarray) -> float:
    """Return the mean."""
    return float(np.mean(values))


def measurements(options: Options) -> dict[str, Measure]:
    """Return how each part is measured.

    Raises:
        IdeomotorError: if the robot or the detector of the options cannot be used.
    """
    robot = options.robot()
    KinematicChain.from_urdf(robot.urdf, ee_link=robot.ee_link)  # a wrong link ends here, before hours of work
    detector = KeypointDetector.load(options.artefact)
    vision_only = KeypointDetector.load(VISION_ONLY) if VISION_ONLY.is_dir() else None

    def over_ros(part: str) -> Measure:  # needs the built workspace, imported when its turn has come
        return lambda o: import_module(f"benchmarks.body_schema.{part}").measure(o)

    return {
        "accuracy": lambda o: accuracy.measure(o, detector, vision_only).values,
        "open_loop": lambda o: open_loop.measure(o, detector, vision_only),
        "speed": lambda o: speed.measure(robot, o.seeds),
        **{part: over_ros(part) for part in ROS_PARTS},
    }


def of_seeds(measure: Measure, options: Options) -> Part:
    """Return the part as a function of seeds."""
    return lambda seeds: measure(replace(options, seeds=seeds))


def summarise(cases: dict[str, Cases]) -> dict[str, Metric]:
    """Return the metrics of the table in the requirements, and the ones beside them."""
    median: Callable[[np.ndarray], float] = lambda x: float(np.median(x))  # noqa: E731
    rows: list[tuple[str, str, str, Callable[[np.ndarray], float]]] = [
        ("on_object_pct", "on_object", "%", mean),
        ("on_object_vision_only_pct", "on_object_vision_only", "%", mean),
        ("tip_error_outliers_median_mm", "tip_error_outliers", "mm", median),
        ("tip_error_extrinsics_median_mm", "tip_error_extrinsics", "mm", median),
        ("tip_error_extrinsics_unrefined_median_mm", "tip_error_extrinsics_unrefined", "mm", median),
        ("joint_type_correct_pct", "joint_type_correct", "%", mean),
        ("axis_error_median_deg", "axis_error", "deg", median),
        ("false_joint_pct", "false_joint", "%", mean),
        ("slip_detect_median_s", "slip_detect", "s", median),
        ("slip_missed_pct", "slip_missed", "%", mean),
        ("slip_recovered_tip_error_median_mm", "slip_recovered_tip_error", "mm", median),
        ("slip_false_alarms_per_min", "slip_false_alarms_per_min", "1/min", mean),
        ("open_loop_50_over_1", "open_loop_50_over_1", "1", median),
        ("open_loop_neural_over_chain_min", "open_loop_neural_over_chain_min", "1", median),
        ("place_error_median_mm", "place_error", "mm", median),
        ("place_error_without_median_mm", "place_error_without", "mm", median),
        ("place_success_pct", "place_success", "%", mean),
        ("fit_speedup", "fit_speedup", "1", median),
        ("extend_ms", "extend_ms", "ms", median),
        ("frame_to_tf_median_ms", "frame_to_tf", "ms", median),
        ("frame_to_tf_p95_ms", "frame_to_tf", "ms", percentile(95)),
        ("frames_dropped", "frames_dropped", "1", mean),
    ]
    for key in sorted(cases):
        if key.startswith("tip_error_") and key.removeprefix("tip_error_").isdigit():
            rows += [(f"{key}_median_mm", key, "mm", median), (f"{key}_p95_mm", key, "mm", percentile(95))]
        if key.startswith("joint_error_"):
            rows.append((f"{key}_median_mm", key, "mm", median))
        if key.startswith("open_loop_") and key.endswith("_px"):
            rows.append((key, key, "px", median))
    metrics = {name: metric(cases.get(key, []), unit, statistic) for name, key, unit, statistic in rows}
    return {name: m for name, m in metrics.items() if m is not None}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.body_schema", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--urdf", type=Path, default=Options.urdf, help="robot, URDF or xacro")
    parser.add_argument("--ee-link", default=Options.ee_link, help="link that holds the tool")
    parser.add_argument("--tools", nargs="+", choices=TOOL_KINDS, default=list(TOOL_KINDS))
    parser.add_argument("--frames", type=int, nargs="+", default=list(Options.frames), help="frames used by the fit")
    parser.add_argument(
        "--camera-pose", type=float, nargs=6, metavar=("X", "Y", "Z", "ROLL", "PITCH", "YAW"),
        help="camera body in the base frame [m, rad], x forward, z up; default: drawn per case",
    )  # fmt: skip
    parser.add_argument("--artefact", type=Path, default=Options.artefact, help="keypoint detector")
    a = parser.parse_args()
    if set(a.parts) & set(ROS_PARTS):
        enter_workspace()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("benchmarks").setLevel(logging.INFO)
    pose = None if a.camera_pose is None else tuple(a.camera_pose)
    seeds = tuple(dict.fromkeys(a.seeds[:QUICK_SEEDS] if a.quick else a.seeds))
    try:
        options = Options(seeds, tuple(a.tools), tuple(sorted(set(a.frames))), a.urdf, a.ee_link, pose, a.artefact)
        functions = measurements(options)
    except IdeomotorError as error:
        parser.error(str(error))
    parts = {part: of_seeds(functions[part], options) for part in PARTS if part in a.parts}
    sys.exit(
        run_benchmark(Benchmark("body_schema", options.described(), parts, ONCE, summarise, TARGETS), seeds, a.json)
    )


if __name__ == "__main__":
    main()
