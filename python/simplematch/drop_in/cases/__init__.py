"""The cases of every codebase that `simplematch_kernels.integrations` knows."""

from __future__ import annotations

from ..case import Codebase
from . import flows, pairs, score_maps, semantic

CODEBASES: dict[str, Codebase] = {
    **semantic.CODEBASES,
    **score_maps.CODEBASES,
    **pairs.CODEBASES,
    **flows.CODEBASES,
}
