# mypy: ignore-errors
"""`gather_keypoints`: the descriptors of keypoints (paper eq. 6-7), for callers who want them by themselves."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import decode, image_of, keypoint_cells, maps_to_cells, names, point_strides, read_queries


@triton.jit(do_not_specialize=names("keypoints descriptors source_sizes"))
def gather_kernel(
    source, keypoints, descriptors, source_sizes, C, sizes, source_strides, keypoints_strides, to_cells,
    SAMPLING: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """q_n = sample(F, p_n): source (B, C, H, W), keypoints (B, N, 2) of any strides, descriptors (B, N, C) contiguous.

    Program = BLOCK_N keypoints x BLOCK_C channels of one image. Bytes: B N C read (four times that if bilinear; 32 a
    read where the channels are not adjacent) and written. A keypoint that is not finite gives NaN.
    """
    ACC: tl.constexpr = tl.float64 if source.dtype.element_ty == tl.float64 else tl.float32
    N, H, W = decode(sizes.N), decode(sizes.H), decode(sizes.W)
    query_tiles, channel_tiles = tl.cdiv(N, BLOCK_N), tl.cdiv(C, BLOCK_C)
    program = tl.program_id(0)
    i_c, i_n = program % channel_tiles, (program // channel_tiles) % query_tiles
    b = (program // channel_tiles // query_tiles).to(tl.int64)
    n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    c = i_c * BLOCK_C + tl.arange(0, BLOCK_C)
    strides = point_strides(keypoints_strides)
    to_cells = maps_to_cells(to_cells, source_sizes, b, H, W)
    points, finite = keypoint_cells(keypoints + b * strides.b, strides, n, n < N, H, W, to_cells, SAMPLING)
    image = image_of(source + b * source_strides.b, H, W, source_strides)
    q = read_queries(image, points, c, C, SAMPLING, False, ACC)  # (BLOCK_N, BLOCK_C)
    q = tl.where(finite[:, None], q, float("nan"))
    pointer = descriptors + ((b * N + n) * C)[:, None] + c[None, :]
    tl.store(pointer, q.to(descriptors.dtype.element_ty), mask=(n < N)[:, None] & (c < C)[None, :])
