"""Benchmark of the extended body schema: `python -m benchmarks.body_schema`."""

import ideomotor_learn as _learn  # noqa: F401 - torch and a renderer in one process: see there
