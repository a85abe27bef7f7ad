"""Benchmarks of the operators and the models: `pytest benchmarks` measures, `python -m benchmarks.report` writes the tables."""
