"""Benchmarks of the operator: `python -m benchmarks` measures, `python -m benchmarks.report` writes the tables."""
