"""The compiled module behind torch: `cpu.py` and `cuda.py` are backends of the operators.

`_records.py`, which needs no torch, serves NumPy too.
"""
