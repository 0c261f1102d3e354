"""The statistics that every claimed number goes through."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report import metric, percentile, write_json


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


def test_json(tmp_path: Path) -> None:
    result = metric([(0, 1.0), (1, 2.0)], "mm")
    assert result is not None
    write_json(tmp_path / "x.json", "name", [0, 1], {"key": result})
    content = json.loads((tmp_path / "x.json").read_text())
    assert set(content) == {"benchmark", "version", "machine", "command", "seeds", "metrics"}
    assert set(content["metrics"]["key"]) == {"value", "unit", "ci95", "n", "per_seed"}


def test_json_keeps_what_was_not_measured_again(tmp_path: Path) -> None:
    one, two = metric([(0, 1.0)], "mm"), metric([(0, 2.0)], "mm")
    assert one is not None
    assert two is not None
    path = tmp_path / "x.json"
    write_json(path, "name", [0], {"a": one, "b": one})
    write_json(path, "name", [0], {"b": two})
    metrics = json.loads(path.read_text())["metrics"]
    assert {key: m["value"] for key, m in metrics.items()} == {"a": 1.0, "b": 2.0}
    write_json(path, "name", [0, 1], {"b": two})  # other seeds: another measurement
    assert list(json.loads(path.read_text())["metrics"]) == ["b"]
