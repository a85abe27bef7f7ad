"""The namespace of the operators in torch.ops.

Kernels of the Hugging Face hub have a file of this name and these functions instead, written for one build: then two
builds don't share a namespace.
"""

from __future__ import annotations

import re

import torch

_PACKAGE = __name__.rpartition(".")[0]
NAMESPACE = "simplematch" if _PACKAGE == "simplematch_kernels" else "simplematch_" + re.sub(r"\W", "_", _PACKAGE)
"""A copy of this package under another name has a namespace of its own."""

ops = getattr(torch.ops, NAMESPACE)


def add_op_namespace_prefix(op_name: str) -> str:
    """Give the full name of an operator, namespace and name, with which it is registered."""
    return f"{NAMESPACE}::{op_name}"
