"""The statistics that every claimed number goes through."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report import Metric, Run, metric, percentile, revision, start_run, write_json


def test_median_and_per_seed() -> None:
    result = metric([(0, 1.0), (0, 3.0), (1, 10.0)], "mm")
    assert result is not None
    assert (result.value, result.n, result.per_seed) == (3.0, 3, {"0": 2.0, "1": 10.0})
    assert result.ci95 is not None
    assert result.ci95[0] <= 3.0 <= result.ci95[1]


def test_absent_is_none_not_zero() -> None:
    assert metric([], "mm") is None


def test_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2 values are not finite"):
        metric([(0, 1.0), (0, float("nan"))], "mm")


def test_percentile() -> None:
    result = metric([(0, float(v)) for v in range(101)], "ms", percentile(95))
    assert result is not None
    assert result.value == pytest.approx(95.0)


def test_interval_covers_the_mean() -> None:
    """The bootstrap interval holds the true mean in most repetitions."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(40):
        result = metric([(0, v) for v in rng.normal(5.0, 1.0, 40)], "", lambda x: float(np.mean(x)))
        assert result is not None
        assert result.ci95 is not None
        hits += result.ci95[0] <= 5.0 <= result.ci95[1]
    assert hits >= 33


COMMON: dict[str, object] = {"benchmark": "name", "seeds": (0, 1), "options": {"tools": ("stick",)}}


def run(number: int, failed: tuple[str, ...] = ()) -> Run:
    return Run(f"2026-01-0{number}T00:00:00+00:00", f"0.1.0+{number}", f"command {number}", {"cores": 2}, list(failed))


def measured(value: float) -> Metric:
    result = metric([(0, value), (1, value + 1.0)], "mm")
    assert result is not None
    return result


def test_json_says_of_every_metric_when_and_on_which_code(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, run(1, failed=("part: reason",)), COMMON, {"key": measured(1.0)})
    content = json.loads(path.read_text())
    assert set(content) == {"benchmark", "seeds", "options", "runs", "metrics"}
    assert set(content["metrics"]["key"]) == {"value", "unit", "ci95", "n", "per_seed", "version", "date"}
    assert content["runs"] == [
        {"date": "2026-01-01T00:00:00+00:00", "version": "0.1.0+1", "command": "command 1", "machine": {"cores": 2},
         "failed": ["part: reason"]}
    ]  # fmt: skip


def test_json_keeps_what_was_not_measured_again_with_its_version(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, run(1), COMMON, {"a": measured(1.0), "b": measured(1.0)})
    for metrics in ({}, {"b": measured(2.0)}):  # as after every part of one run
        write_json(path, run(2), COMMON, metrics)
    content = json.loads(path.read_text())
    assert {k: (m["value"], m["version"]) for k, m in content["metrics"].items()} == {
        "a": (1.5, "0.1.0+1"),
        "b": (2.5, "0.1.0+2"),
    }
    assert [r["version"] for r in content["runs"]] == ["0.1.0+1", "0.1.0+2"]
    write_json(path, run(3), COMMON, {"a": measured(3.0), "b": measured(3.0)})
    assert [r["version"] for r in json.loads(path.read_text())["runs"]] == ["0.1.0+3"]  # nothing of the others is left


@pytest.mark.parametrize(
    "other",
    [{"seeds": (0, 2)}, {"options": {"tools": ("l",)}}, {"benchmark": "other"}],
    ids=["seeds", "options", "name"],
)
def test_json_of_other_cases_is_another_measurement(tmp_path: Path, other: dict[str, object]) -> None:
    path = tmp_path / "x.json"
    write_json(path, run(1), COMMON, {"a": measured(1.0)})
    write_json(path, run(2), COMMON | other, {"b": measured(1.0)})
    content = json.loads(path.read_text())
    assert list(content["metrics"]) == ["b"]
    assert len(content["runs"]) == 1


def test_json_without_versions_is_not_merged(tmp_path: Path) -> None:
    """Files of the first release had one version for all: whose it is of the old metrics is not known."""
    path = tmp_path / "x.json"
    path.write_text(json.dumps(COMMON | {"version": "0.1.0+0", "metrics": {"a": {"value": 1.0}}}))
    write_json(path, run(1), COMMON, {"b": measured(1.0)})
    assert list(json.loads(path.read_text())["metrics"]) == ["b"]


def test_revision_names_the_commit_and_marks_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for name in ("README.md", "code.py"):
        Path(name).write_text("1")
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *command], check=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+\+[0-9a-f]{7,}", revision())
    Path("README.md").write_text("2")
    assert not revision().endswith(".dirty")
    Path("code.py").write_text("2")
    assert revision().endswith(".dirty")


def test_the_command_names_no_folder_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["prog", "--ancestor", str(tmp_path / "checkout"), "--json", "docs/results/a.json"])
    assert start_run("rewards").command == "python -m benchmarks.rewards --ancestor checkout --json docs/results/a.json"
