"""What the README claims, measured: `python -m benchmarks.NAME` from the repository's root."""
