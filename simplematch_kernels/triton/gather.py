# mypy: ignore-errors
"""`gather_keypoints`: the descriptors of keypoints (paper eq. 6-7), for callers who want them by themselves."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import keypoint_cells, names, read_queries


@triton.jit(do_not_specialize=names("keypoints descriptors N H W keypoints_b keypoints_n keypoints_d"))
def gather_kernel(
    source, keypoints, descriptors, N, C, H, W,
    source_b, source_c, source_h, source_w, keypoints_b, keypoints_n, keypoints_d,
    numerator_x: tl.float64, shift_x: tl.float64, divisor_x: tl.float64, reciprocal_x: tl.float64,
    numerator_y: tl.float64, shift_y: tl.float64, divisor_y: tl.float64, reciprocal_y: tl.float64,
    SAMPLING: tl.constexpr, BORDER: tl.constexpr, ACC: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """q_n = sample(F, p_n): source (B, C, H, W), keypoints (B, N, 2) of any strides, descriptors (B, N, C) contiguous.

    Program = BLOCK_N keypoints x BLOCK_C channels of one image. Bytes: B N C read (four times that if bilinear; 32 a
    read where the channels are not adjacent) and written. A keypoint that is not finite gives NaN.
    """
    query_tiles, channel_tiles = tl.cdiv(N, BLOCK_N), tl.cdiv(C, BLOCK_C)
    program = tl.program_id(0)
    i_c, i_n = program % channel_tiles, (program // channel_tiles) % query_tiles
    b = (program // channel_tiles // query_tiles).to(tl.int64)
    n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    c = i_c * BLOCK_C + tl.arange(0, BLOCK_C)
    x, y, finite = keypoint_cells(
        keypoints + b * keypoints_b, keypoints_n, keypoints_d, n, n < N, H, W,
        numerator_x, shift_x, divisor_x, reciprocal_x, numerator_y, shift_y, divisor_y, reciprocal_y, SAMPLING, BORDER,
    )  # fmt: skip
    q = read_queries(
        source + b * source_b, x, y, n, n < N, c, c < C, source_c, source_h, source_w, H, W, SAMPLING, False, ACC
    )
    q = tl.where(finite[:, None], q, float("nan"))
    pointer = descriptors + ((b * N + n) * C)[:, None] + c[None, :]
    tl.store(pointer, q.to(descriptors.dtype.element_ty), mask=(n < N)[:, None] & (c < C)[None, :])
