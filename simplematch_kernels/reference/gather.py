"""Sparse keypoint gather (paper eq. 6-7): q_n = sample(F, p_n), and its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .._resolved import AffineMap, Sampling, Truth, cells_from_pixels
from .._types import GatherGradients, GatherProblem, Given


def apply_affine(x: Tensor, affine: AffineMap) -> Tensor:
    """(x * numerator + shift) / denominator, in the dtype of x."""
    return (x * affine.numerator + affine.shift) / affine.denominator


def rate(affine: AffineMap, dtype: torch.dtype) -> Any:
    """How fast the result of an affine map moves with x: a number, or (B, 1) in `dtype` where each image has a map."""
    numerator: Any = affine.numerator
    denominator: Any = affine.denominator
    if isinstance(denominator, Tensor):
        return (numerator / denominator.double()).to(dtype)
    if isinstance(numerator, Tensor):
        return (numerator.double() / denominator).to(dtype)
    return numerator / denominator


Convert = Callable[[str, int, int], AffineMap]


def maps_of_images(convert: Convert, coordinates: str, sizes: Tensor, shape: tuple[int, int]) -> list[AffineMap]:
    """The maps of x and y between cells of a map and pixels of each image: affine maps of numbers (B, 1).

    convert: `cells_from_pixels` or `pixels_from_cells`, whose three numbers are linear in the pixels, if these are
        more than one.
    """
    height, width = shape
    maps = []
    for cells, pixels in ((width, sizes[:, 1:]), (height, sizes[:, :1])):
        one, two, three = (convert(coordinates, cells, count) for count in (1, 2, 3))
        numbers: list[Any] = [
            torch.where(pixels > 1, at_two + (at_three - at_two) * (pixels - 2), at_one)
            for at_one, at_two, at_three in (
                (one.numerator, two.numerator, three.numerator),
                (one.shift, two.shift, three.shift),
                (one.denominator, two.denominator, three.denominator),
            )
        ]
        maps.append(AffineMap(*numbers))
    return maps


def maps_to_cells(sampling: Sampling | Truth, features: Tensor) -> list[AffineMap]:
    """The maps of x and y from keypoints to cells of the features."""
    if isinstance(sampling, Truth) or sampling.image_sizes is None:
        return [sampling.to_cells_x, sampling.to_cells_y]
    height, width = features.shape[-2:]
    return maps_of_images(cells_from_pixels, sampling.coordinates, sampling.image_sizes, (height, width))


def gather_keypoints(features: Tensor, keypoints: Tensor, sampling: Sampling, *, dtype: torch.dtype) -> Tensor:
    """Descriptors (B, N, C) in `dtype` of features (B, C, H, W) at keypoints (B, N, 2), given as (x, y).

    floor, round:  q = F[:, clamp(trunc(y)), clamp(trunc(x))]         (round: to the nearest cell, halves to even)
    bilinear:      q = sum over the four cells (i, j) around (x, y) of (1 - |x - i|) (1 - |y - j|) F[:, j, i]

    A cell of weight zero isn't read, so what it holds doesn't matter.
    """
    x, y = to_cells(keypoints, features, sampling)
    finite = (x.isfinite() & y.isfinite())[..., None]
    descriptors = torch.zeros((), dtype=dtype, device=features.device)
    for i, j, weight, _, _ in corners(x, y, features, sampling):
        weight = weight.to(dtype)[..., None]
        cells = read_cells(features, i, j).to(dtype)
        descriptors = descriptors + weight * torch.where((weight != 0) | cells.isfinite(), cells, 0)
    return torch.where(finite, descriptors, torch.nan)


def source_backward(p: GatherProblem, gradient: Tensor, needs: GatherGradients[bool]) -> GatherGradients[Given]:
    """Gradients from dL/dq (B, N, C).

    dF[:, j, i] = sum_n weight_n(i, j) dq_n        dp_n = sum over (i, j) of <F[:, j, i], dq_n> dweight_n(i, j)/dp_n

    Weights, slopes and gradients that are zero have no part in a sum, whatever they would be multiplied by.
    """
    features, keypoints, sampling = p
    x, y = to_cells(keypoints, features, sampling)
    gradient = torch.where((x.isfinite() & y.isfinite())[..., None], gradient, 0)  # such a row read nothing
    maps = torch.zeros_like(features, dtype=gradient.dtype) if needs.features else None
    points = torch.zeros(keypoints.shape, dtype=torch.float64, device=keypoints.device) if needs.keypoints else None
    batch = torch.arange(features.shape[0], device=features.device)[:, None]
    for i, j, weight, weight_dx, weight_dy in corners(x, y, features, sampling):
        if maps is not None:
            cells = (batch, slice(None), *_clamped(features, i, j))
            weighted = torch.where(weight[..., None] != 0, weight[..., None].to(gradient.dtype) * gradient, 0)
            maps.permute(0, 2, 3, 1).index_put_((cells[0], cells[2], cells[3]), weighted, accumulate=True)
        if points is not None:
            product = torch.where(gradient == 0, 0, read_cells(features, i, j).double() * gradient.double()).sum(-1)
            points += torch.stack([torch.where(slope == 0, 0, product * slope) for slope in (weight_dx, weight_dy)], -1)
    if points is not None:
        scale = [rate(affine, points.dtype) for affine in maps_to_cells(sampling, features)]
        points = torch.stack([points[..., 0] * scale[0], points[..., 1] * scale[1]], -1).to(keypoints.dtype)
    return GatherGradients(None if maps is None else maps.to(features.dtype), points)


def to_cells(keypoints: Tensor, features: Tensor, sampling: Sampling | Truth) -> tuple[Tensor, Tensor]:
    """Cell coordinates (x, y), each (B, N) float64."""
    points, (of_x, of_y) = keypoints.double(), maps_to_cells(sampling, features)
    return apply_affine(points[..., 0], of_x), apply_affine(points[..., 1], of_y)


def corners(x: Tensor, y: Tensor, features: Tensor, sampling: Sampling) -> Iterator[tuple[Tensor, ...]]:
    """The cells (i, j) that a sample at (x, y) reads: i, j, weight, dweight/dx, dweight/dy, each (B, N) float64."""
    if sampling.mode != "bilinear":
        nearest = torch.trunc if sampling.mode == "floor" else torch.round
        x = x.detach()
        yield nearest(x), nearest(y.detach()), torch.ones_like(x), torch.zeros_like(x), torch.zeros_like(x)
        return
    height, width = features.shape[-2:]
    passes_x, passes_y = torch.ones_like(x), torch.ones_like(y)
    if sampling.padding == "border":  # a clamped coordinate is a constant
        passes_x, passes_y = ((x >= 0) & (x <= width - 1)).double(), ((y >= 0) & (y <= height - 1)).double()
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = x.detach().floor(), y.detach().floor()
    for i, weight_x, sign_x in ((left, left + 1 - x, -1), (left + 1, x - left, 1)):
        for j, weight_y, sign_y in ((top, top + 1 - y, -1), (top + 1, y - top, 1)):
            inside = (i >= 0) & (i < width) & (j >= 0) & (j < height)
            weights = (weight_x * weight_y, sign_x * weight_y * passes_x, sign_y * weight_x * passes_y)
            yield i, j, *(torch.where(inside, weight, 0) for weight in weights)


def read_cells(features: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """features[b, :, y, x] as (B, N, C), coordinates clamped to the map; NaN reads cell 0."""
    batch = torch.arange(features.shape[0], device=features.device)[:, None]
    row, column = _clamped(features, x, y)
    return features.permute(0, 2, 3, 1)[batch, row, column]


def _clamped(features: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(row, column) inside the map."""
    height, width = features.shape[-2:]
    return y.nan_to_num().clamp(0, height - 1).long(), x.nan_to_num().clamp(0, width - 1).long()
