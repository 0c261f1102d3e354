"""Write the measured numbers into the README: `python -m benchmarks.readme` after a benchmark."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.body_schema.__main__ import TARGETS as BODY_SCHEMA_TARGETS
from benchmarks.forward_model_error.__main__ import TARGETS as FORWARD_MODEL_ERROR_TARGETS
from benchmarks.rewards.__main__ import TARGETS as REWARDS_TARGETS

README = Path("README.md")

# What a table says, in its order: key of the benchmark -> words.
BODY_SCHEMA = {
    "on_object_pct": "keypoints on the held object",
    "on_object_vision_only_pct": "ablation without proprioception and labels (converged: 2,500 steps)",
    "tip_error_30_median_mm": "tip of the extended chain, 30 frames (1 s)",
    "tip_error_90_median_mm": "tip of the extended chain, 90 frames (3 s)",
    "tip_error_90_p95_mm": "the same, 95th percentile over cases",
    "tip_error_outliers_median_mm": "tip, 90 frames, a fifth of the keypoints replaced by outliers",
    "tip_error_extrinsics_median_mm": "tip, 90 frames, camera pose wrong by 2 cm and 2 deg, refined",
    "joint_type_correct_pct": "joint of hinged and sliding objects recognised",
    "slip_detect_median_s": "slip noticed after",
    "slip_missed_pct": "slips missed",
    "slip_false_alarms_per_min": "false alarms of a slip a minute",
    "place_error_median_mm": "tip placed at goals through ROS, with the extension",
    "place_success_pct": "of these goals reached",
    "place_error_without_median_mm": "the same, without",
    "open_loop_neural_over_chain_min": "50-step prediction error: best neural dynamics over the extended chain",
    "fit_speedup": "fit of 90 frames: Adam through differentiable-robot-model over ours",
    "frame_to_tf_p95_ms": "camera image in to TF out, 95th percentile",
}
REWARDS = {
    "final_error_mm@1": "placed at other goals from other starts, as fast as shown: error at the goal",
    "path_error_mm@1": "and distance from the path as it would have been shown",
    "final_error_mm@0.25": "four times as slowly: at the goal",
    "path_error_mm@0.25": "and from the path",
    "final_error_mm@4": "four times as fast: at the goal",
    "path_error_mm@4": "and from the path",
    "timedep_final_error_mm@4": "the same, the ancestor's time-dependent cost, by step: at the goal",
    "stretched_timedep_final_error_mm@4": "the same, its index stretched: at the goal",
    "stretched_timedep_path_error_mm@4": "and from the path",
    "bc_final_error_mm@4": "the same, behaviour cloning (`imitation`): at the goal",
    "airl_final_error_mm@4": "the same, adversarial IRL (`imitation`): at the goal",
    "ood_final_error_mm": "goals half and one and a half times as far, starts turned by 30 deg: at the goal",
    "misaligned_over_aligned": "learned from demonstrations of 0.5 to 2 times the length, over aligned ones",
    "peg_success_1mm_pct": "peg-in-hole, clearance 1 mm, tilted holes elsewhere, three speeds",
    "peg_success_0.3mm_pct": "clearance 0.3 mm",
    "learn_s": "learning from five demonstrations, one core",
    "outer_step_speedup": "one outer step: the ancestor's published code over ours",
    "plan_hz": "planning on the arm, horizon 20",
}
FORWARD_MODEL_ERROR = {
    "arm_track_perf_error": "arm tracks a motion with 2 kg it does not know of: mean error of the joints",
    "arm_track_perf_error_task_only": "the same, learned with the task term alone",
    "arm_track_perf_error_published_task_only": "the same, task term alone as in the published code",
    "arm_reach_perf_error": "arm reaches",
    "arm_reach_perf_error_task_only": "the same, task term alone",
    "arm_perf_first_over_last": "arm: error after the first iteration over the last",
    "arm_computed_torque_over_perf": "best computed torque with the nominal model over ours",
    "solo12_stand_perf_error": "Solo12 stands: mean error of base and joints",
    "solo12_stand_perf_error_task_only": "the same, task term alone",
    "solo12_step_perf_error": "Solo12 steps in place",
    "solo12_step_perf_error_task_only": "the same, task term alone",
    "solo12_walk_perf_error": "Solo12 walks: mean error of base and joints",
    "solo12_walk_perf_error_task_only": "the same, task term alone",
    "solo12_walk_perf_error_published": "the same, both terms as in the published code",
    "solo12_walk_perf_error_published_task_only": "and its task term alone",
    "solo12_success_pct": "walks with its base 0.20 to 0.30 m high all along",
    "solo12_contact_agreement_pct": "feet on the ground as in the target",
    "solo12_displacement_ratio": "way walked over the target's",
    "transitions": "steps of experience at 250 Hz",
    "solo12_walk_perf_error_neural_model": "walks, forward model a network alone",
    "solo12_walk_perf_error_inverse_dynamics": "walks, inverse-dynamics regression",
    "solo12_walk_perf_error_pets": "walks, ensemble MPC (PETS) on as much data",
    "solo12_walk_perf_error_sac": "walks, SAC on as much data",
    "solo12_walk_perf_error_sac_100x": "walks, SAC on 100 times the data",
    "policy_tick_p99_ms": "policy over ROS at 250 Hz: answer to a state, 99th percentile",
    "policy_deadline_miss_pct": "states answered late",
    "collect_2_over_1": "collection: two workers over one",
    "collect_over_raw_mujoco": "one worker over raw MuJoCo",
}


@dataclass(frozen=True)
class Table:
    """A table of the README, between its marks, from the results of one benchmark."""

    name: str
    rows: Mapping[str, str]
    targets: Mapping[str, str]

    @property
    def results(self) -> Path:
        """The committed results."""
        return Path(f"docs/results/{self.name}.json")

    def markdown(self, results: dict[str, dict[str, object]]) -> str:
        """Return the metrics that were measured."""
        lines = ["| | measured | 95 % interval | asked for |", "| --- | ---: | ---: | ---: |"]
        for key, words in self.rows.items():
            if key not in results:
                continue
            metric = results[key]
            unit = "x" if metric["unit"] == "1" else metric["unit"]
            interval = metric["ci95"]
            span = "" if not isinstance(interval, list) else f"{interval[0]:.3g} to {interval[1]:.3g}"
            lines.append(f"| {words} | {metric['value']:.3g} {unit} | {span} | {self.targets.get(key, '')} |")
        return "\n".join(lines) + "\n"


TABLES = (
    Table("body_schema", BODY_SCHEMA, BODY_SCHEMA_TARGETS),
    Table("rewards", REWARDS, REWARDS_TARGETS),
    Table("forward_model_error", FORWARD_MODEL_ERROR, FORWARD_MODEL_ERROR_TARGETS),
)


def updated(readme: str) -> str:
    """Return the README with the tables between their marks renewed."""
    for table in TABLES:
        begin, end = f"<!-- results: {table.name}: begin -->\n", f"<!-- results: {table.name}: end -->\n"
        if not table.results.exists():
            continue
        before, rest = readme.split(begin)
        _, after = rest.split(end)
        readme = before + begin + table.markdown(json.loads(table.results.read_text())["metrics"]) + end + after
    return readme


def main() -> None:
    """Renew the README."""
    README.write_text(updated(README.read_text()))


if __name__ == "__main__":
    main()
