"""Benchmark of the extended body schema: `python -m benchmarks.body_schema`."""
