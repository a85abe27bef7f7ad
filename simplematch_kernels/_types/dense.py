"""`dense_match`: a flow."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class DenseMatches(NamedTuple):
    """Where each source cell matches in the target. Cells outside the mask hold flow (0, 0), score 0 and log_sum_exp 0.

    Attributes:
        flow: (B, 2, Hs, Ws) from the cell's own place, in pixels of `source_size`, to the matched point in pixels of
            `target_size`, as (x, y); each in cells if its size was None.
        score: (B, Hs, Ws) similarity at the peak.
        log_sum_exp: (B, Hs, Ws) as in `Matches`.
        mutual: (B, Hs, Ws) bool, whether the best source cell of the peak is this one; None if not asked for.
    """

    flow: Tensor
    score: Tensor
    log_sum_exp: Tensor
    mutual: Tensor | None
