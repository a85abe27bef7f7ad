"""Triton kernels of the operators: tensors in, tensors out, no autograd. `backend.py` imports Triton."""
