"""The operators as torch knows them, one file each: `Arguments` by name, and `run`, which takes them.

Importing a file registers its operator in the namespace that `_ops.py` names: `simplematch`.
"""

from ._torch import NAMESPACE as NAMESPACE
