"""The descriptors of keypoints, on arrays."""

from __future__ import annotations

import numpy as np

from .._options import GATHER_NAMES, LayoutOptions, SamplingOptions, Size
from .._resolved import Sampling
from ..native import _records
from ..native._records import _C
from . import _arrays, _checks
from ._arrays import Array, Rows, view
from ._run import device_of


def gather_keypoints(
    features: Array,
    keypoints: Array,
    *,
    layout: str = "map",
    shape: Size = None,
    size: Size | Array = None,
    coords: str = "corner",
    sampling: str = "floor",
    padding: str = "zeros",
    threads: int | None = None,
) -> Array:
    """Descriptors (B, N, C) of features (B, C, H, W) at keypoints (B, N, 2), given as (x, y).

    Args:
        features: (B, C, H, W), or with layout "tokens" (B, H*W, C), any strides.
        keypoints: (B, N, 2) in pixels of `size`, or in cells if that is None.
        layout: "map" or "tokens".
        shape: (H, W) in cells; required by layout "tokens", None for "map".
        size: (height, width) in pixels of the image that `keypoints` refer to, or (B, 2) integers: one for each image.
        coords: "corner", "half_pixel" or "align_corners".
        sampling: "floor", "round" or "bilinear".
        padding: what a bilinear sample finds outside the map: "zeros" or "border".
        threads: as in `sparse_window_match`.

    Returns:
        (B, N, C) in the dtype of the features.

    Raises:
        TypeError, ValueError: as `sparse_window_match`.
    """
    features = _checks.check_map("features", features, LayoutOptions(layout, shape).of_source("shape"))
    _checks.check_cells("features", features)
    keypoints = _checks.check_keypoints(keypoints, features, "features")
    sizes = _checks.check_image_sizes("size", size, features)
    options = SamplingOptions(None if sizes is not None else size, coords, sampling, padding).checked(GATHER_NAMES)  # type: ignore[arg-type]
    _checks.check_values(keypoints, Rows(), None)
    resolved = options.resolve(*features.shape[2:], image_sizes=sizes)
    return gather(features, keypoints, resolved, device_of(threads))


def gather(features: Array, keypoints: Array, sampling: Sampling, device: _C.Device) -> Array:
    """Descriptors (B, N, C) of features (B, C, H, W)."""
    descriptors = np.empty((features.shape[0], keypoints.shape[1], features.shape[1]), features.dtype)
    problem = _records.gather_problem(view(features), view(keypoints), sampling)
    _C.gather_keypoints(problem, {"descriptors": _arrays.address(descriptors)}, device)
    return descriptors
