"""What several public functions do before they run an operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from .. import _backends, _checks, _resolved
from .._check_options import check_choice, check_upsample
from .._options import COORDINATES, PEAK, LocalizationOptions, pick
from .._resolved import IDENTITY, Sampling
from .._result_options import DetailOptions
from .._types import ALL_ROWS, Matches, Rows, accumulation_dtype, concatenated
from ..operators._torch import has_values, is_exporting
from ..reference.gather import to_cells

Checked = TypeVar("Checked")

_MOST = 1024  # kinds of calls that are kept
_PLAIN = frozenset((int, float, str, bool, type(None)))
_RESTRICTIONS = frozenset(Rows._fields)
_OF_KIND = _RESTRICTIONS | {"temperature", "center"}  # options whose values are checked where an operator runs
_seen: dict[tuple[Any, ...], Any] = {}


class Queries(NamedTuple):
    """What is looked for: a source map and keypoints in it, or without keypoints a list of descriptors (B, C, 1, N).

    source_sizes: (B, 2) sizes of the images that keypoints refer to, or None where the options have one for all.
    """

    source: Tensor
    keypoints: Tensor | None = None
    source_sizes: Tensor | None = None

    @property
    def number(self) -> int:
        """N."""
        return self.source.shape[3] if self.keypoints is None else self.keypoints.shape[1]


def once(check: Callable[..., Checked], tensors: Sequence[Tensor], options: Mapping[str, Any]) -> Checked:
    """`check(*tensors, **options)`, which looks at values of options and at kinds of tensors: shape, dtype and device.

    The result is kept for calls with equal options and tensors of the same kinds, since checks take longer than the
    arithmetic of a small call.
    """
    if torch.compiler.is_compiling():
        return check(*tensors, **options)
    try:
        kinds = [(type(x), x.dtype, x.shape, x.device) for x in tensors]
        values = tuple(options.values())
        types = tuple(map(type, values))
        if not _PLAIN.issuperset(types):
            values = tuple(map(_kind, options, values))
        kind = (check, torch.is_autocast_enabled(tensors[0].device.type), types, *kinds, *options, *values)
        found = _seen.get(kind)
    except (AttributeError, TypeError):  # no tensor; a symbolic shape; an option of another type
        return check(*tensors, **options)
    if found is None:
        found = check(*tensors, **options)
        if len(_seen) >= _MOST:
            _seen.clear()
        _seen[kind] = found
    return found


def _kind(name: str, value: Any) -> Any:
    """Equal for values of one type that no check tells apart; a TypeError where a check may read more than the kind."""
    if type(value) in _PLAIN:
        return value
    if type(value) is tuple:
        return *map(type, value), *(_kind("", each) for each in value)
    if isinstance(value, Tensor) and (name in _OF_KIND or value.dim() == 2):  # (B, 2): sizes of images
        return value.dtype, value.shape, value.device
    raise TypeError(f"{name} has the type {type(value)}")


def rows_and_temperature(scores: Tensor, queries: int, options: Mapping[str, Any]) -> tuple[Rows, Tensor | None]:
    """The restrictions of rows and cells, and the temperature where it is a tensor, in the form that operators take."""
    rows = ALL_ROWS if _RESTRICTIONS.isdisjoint(options) else _restricted(options, queries, scores)
    temperature = options.get("temperature")
    if not isinstance(temperature, Tensor):
        return rows, None
    return rows, _checks.check_temperature(temperature, scores.shape[0], queries, scores)[1]


def _restricted(options: Mapping[str, Any], queries: int, scores: Tensor) -> Rows:
    upsample = check_upsample(options.get("upsample"))
    return _checks.check_rows(pick(Rows, options), queries, scores, upsample)


def size_of(features: Tensor) -> tuple[int, int]:
    """(H, W) of maps."""
    height, width = features.shape[-2:]
    return height, width


def without_padding(x: Tensor, rows: Rows) -> Tensor:
    """x (B, N, ...) with zeros in rows of padding, which may be NaN."""
    valid = rows.valid
    if rows.num_keypoints is not None:
        counted = torch.arange(x.shape[1], device=x.device) < rows.num_keypoints[:, None]
        valid = counted if valid is None else counted & valid
    return x if valid is None else torch.where(valid[(..., *[None] * (x.dim() - 2))], x, 0)


class Localizing(NamedTuple):
    """How scores become coordinates; sizes: (B, 2) of the target's images, or None if the options have one for all."""

    rows: Rows
    temperature: Tensor | None
    sizes: Tensor | None
    options: LocalizationOptions
    details: DetailOptions | None
    backend: str

    def block(self, first: int, last: int) -> Localizing:
        """Of queries first..last - 1."""
        temperature = None if self.temperature is None else self.temperature[:, first:last]
        return self._replace(rows=rows_of_block(self.rows, first, last), temperature=temperature)

    def of_peak(self, rows: Rows) -> Localizing:
        """The peak alone, in cells."""
        return Localizing(rows, None, None, PEAK, None, self.backend)


def in_blocks(
    run: Callable[[Tensor, Localizing], Matches], descriptors: Tensor, target: Tensor, localizing: Localizing
) -> Matches:
    """Matches that `run` makes of some descriptors (B, n, C) at a time, whose scores take the budget at most."""
    if is_exporting():  # symbols say nothing of how many blocks there are
        return run(descriptors, localizing)
    queries, (batch, _, height, width) = descriptors.shape[1], target.shape
    most = _resolved.queries_within_budget(batch * height * width * accumulation_dtype(target).itemsize)
    if queries <= most:
        return run(descriptors, localizing)
    ends = [(first, min(first + most, queries)) for first in range(0, queries, most)]
    return concatenated([run(descriptors[:, first:last], localizing.block(first, last)) for first, last in ends])


def rows_of_block(rows: Rows, first: int, last: int) -> Rows:
    """The restrictions of queries first..last - 1."""
    counts, valid, mask = rows
    return Rows(
        None if counts is None else (counts - first).clamp(0, last - first),
        None if valid is None else valid[:, first:last].contiguous(),
        mask if mask is None or mask.dim() == 2 else mask[:, first:last].contiguous(),
    )


def any_requires_grad(*tensors: Tensor | None) -> bool:
    for x in tensors:  # noqa: SIM110, a generator would take longer than what it does
        if x is not None and x.requires_grad:
            return True
    return False


def in_cells(points: Tensor, target: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, Mapping[str, Any]]:
    """Points of the target in cells, and the options without `target_size`, where each image has a size of its own."""
    sizes = image_sizes("target_size", options, target)
    if sizes is None:
        return points, options
    coordinates = options.get("target_coords", "corner")
    check_choice("target_coords", coordinates, COORDINATES)
    sampling = Sampling(IDENTITY, IDENTITY, "bilinear", "border", coordinates, sizes)
    return torch.stack(to_cells(points, target, sampling), -1), {**options, "target_size": None}


def image_sizes(name: str, options: Mapping[str, Any], features: Tensor) -> Tensor | None:
    """The (B, 2) sizes that an option may be, checked as far as they hold values, for use outside an operator."""
    sizes = _checks.check_image_sizes(name, options.get(name), features)
    if sizes is not None and sizes.device.type == "cpu" and has_values(sizes):
        _checks.check_image_size_values(name, sizes)
    return sizes


def requested(backend: str | None) -> str:
    """The backend for this call and its backward; a compiled function asks again when it runs."""
    if torch.compiler.is_compiling():
        return _backends.WHEN_IT_RUNS if backend is None else _backends.check_name(backend)
    return _backends.requested(backend)
