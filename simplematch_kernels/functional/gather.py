"""The descriptors of keypoints."""

from __future__ import annotations

from torch import Tensor

from .. import _checks
from .._checks import as_map
from .._options import SamplingOptions, Size
from ..operators import gather_keypoints as operator
from ._calls import check_gather_call
from ._shared import once, requested


def gather_keypoints(
    features: Tensor,
    keypoints: Tensor,
    *,
    layout: str = "map",
    shape: Size = None,
    size: Size | Tensor = None,
    coords: str = "corner",
    sampling: str = "floor",
    padding: str = "zeros",
    backend: str | None = None,
) -> Tensor:
    """Descriptors (B, N, C) of features (B, C, H, W) at keypoints (B, N, 2), given as (x, y) (eq. 6-7).

    Args:
        features: (B, C, H, W), or with layout "tokens" (B, H*W, C), float32, bfloat16, float16 or float64, any strides.
        keypoints: (B, N, 2) in pixels of `size`, or in cells if that is None.
        layout: "map" or "tokens", as in `sparse_window_match`.
        shape: (H, W) in cells; required by layout "tokens", None for "map".
        size: (height, width) in pixels of the image that `keypoints` refer to, or (B, 2) integers: one for each image.
        coords: "corner", "half_pixel" or "align_corners", as `source_coords` of `sparse_window_match`.
        sampling: "floor", "round" or "bilinear", as in `sparse_window_match`.
        padding: what a bilinear sample finds outside the map: "zeros" or "border".
        backend: as in `sparse_window_match`.

    Returns:
        (B, N, C) in the dtype of the features. Keypoints that fall in one cell get equal rows.

    Gradients:
        To features, and to keypoints if `sampling` is "bilinear"; without atomics, bitwise repeatable.

    Raises:
        TypeError, ValueError, RuntimeError: as `sparse_window_match`.
    """
    options = {
        "size": size,
        "coords": coords,
        "sampling": sampling,
        "padding": padding,
        "layout": layout,
        "shape": shape,
    }
    checked = once(check_gather_call, (features, keypoints), options)
    features, keypoints = as_map(features, checked.source_shape), _checks.as_points(keypoints, sampling == "bilinear")
    sizes = _checks.check_image_sizes("size", size, features)
    return gather(features, keypoints, sizes, checked.sampling, requested(backend))


def gather(features: Tensor, points: Tensor, sizes: Tensor | None, sampling: SamplingOptions, backend: str) -> Tensor:
    """Descriptors (B, N, C) at checked points; sizes: (B, 2) of their images, if they differ."""
    return operator.run(operator.Arguments(features, points, sizes, sampling, backend)).descriptors
