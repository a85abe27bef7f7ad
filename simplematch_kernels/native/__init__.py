"""The compiled module behind torch: `cpu.py` is a backend of the operators.

`_options.py`, which needs no torch, serves NumPy too.
"""
