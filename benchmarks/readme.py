"""Write the measured numbers into the README: `python -m benchmarks.readme` after a benchmark."""

import json
from pathlib import Path

from benchmarks.body_schema.__main__ import TARGETS

README = Path("README.md")
RESULTS = Path("docs/results/body_schema.json")
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"

# What the table says, in its order: key of the benchmark -> words.
ROWS = {
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


def table(results: dict[str, dict[str, object]]) -> str:
    """Return the Markdown table of the metrics that were measured."""
    lines = ["| | measured | 95 % interval | asked for |", "| --- | ---: | ---: | ---: |"]
    for key, words in ROWS.items():
        if key not in results:
            continue
        metric = results[key]
        unit = "x" if metric["unit"] == "1" else metric["unit"]
        interval = metric["ci95"]
        span = "" if not isinstance(interval, list) else f"{interval[0]:.3g} to {interval[1]:.3g}"
        lines.append(f"| {words} | {metric['value']:.3g} {unit} | {span} | {TARGETS.get(key, '')} |")
    return "\n".join(lines) + "\n"


def updated(readme: str, results: dict[str, dict[str, object]]) -> str:
    """Return the README with the table between its marks renewed."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + table(results) + END + after


def main() -> None:
    """Renew the README."""
    results = json.loads(RESULTS.read_text())["metrics"]
    README.write_text(updated(README.read_text(), results))


if __name__ == "__main__":
    main()
