"""Benchmarks: `pytest benchmarks` measures, `python -m benchmarks.report` writes docs/benchmarks.md."""
