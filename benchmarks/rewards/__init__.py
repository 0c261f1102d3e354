"""Benchmark of time-invariant rewards: `python -m benchmarks.rewards`."""
