"""The operators as torch sees them: for each its schema, implementation, fake, gradient and autocast rule.

Forward and backward are both operators in the `simplematch` namespace. The backend is chosen inside the
implementation, below the dispatcher, so that torch.compile and torch.export see one opaque node.

Options travel as plain values, in groups that are the same for every operator that has them (the schemas below); they
become the dataclasses of `_options.py` inside the implementation, where sizes are numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import _backends, _options
from ._checks import check_values
from ._options import Localization, Metric, Sampling
from ._registration import operators, register, register_autocast, register_backward
from ._types import ForwardResult, Matches, Rows, Upstream

_SAMPLING = "SymInt[]? source_size, str source_coords, str sampling, str sampling_padding"
_METRIC = "str metric, float eps, str eps_mode"
_LOCALIZATION = (
    "str localization, SymInt[] window_size, str window_shape, str border, float outside_value, float sigma, "
    "float? fixed_temperature, SymInt[]? target_size, str target_coords, float output_offset"
)
_ROWS = "Tensor? num_keypoints, Tensor? valid, Tensor? target_mask, Tensor? temperature"
_UPSTREAM = "Tensor? grad_keypoints, Tensor? grad_score, Tensor? grad_log_sum_exp"

Size = Sequence[int] | None


def _accumulation_dtype(features: Tensor) -> torch.dtype:
    return torch.float64 if features.dtype == torch.float64 else torch.float32


def resolve_sampling(features: Tensor, size: Size, coords: str, sampling: str, padding: str) -> Sampling:
    height, width = features.shape[-2:]
    return _options.resolve_sampling(sampling, padding, coords, _pair(size), height, width)


def resolve_metric(metric: str, eps: float, eps_mode: str) -> Metric:
    return Metric(metric, eps, eps_mode == "clamp")


def resolve_localization(target: Tensor, *options: Any) -> Localization:
    localization, window_size, shape, border, outside, sigma, temperature, size, coords, offset = options
    height, width = target.shape[-2:]
    window = (window_size[0], window_size[1])
    return _options.resolve_localization(
        localization, window, shape, border, outside, sigma, temperature, coords, _pair(size), offset, height, width
    )


def _pair(size: Size) -> tuple[int, int] | None:
    return None if size is None else (size[0], size[1])


def _kept_shape(target: Tensor, queries: int, keep: bool, localization: str, window_size: Sequence[int]) -> list[int]:
    """(B, K, rows, columns) of the scores kept for the backward: as many queries as the budget allows.

    Written with sym_min and sym_max, so that a symbolic shape brings no guard.
    """
    batch, (height, width) = target.shape[0], target.shape[-2:]
    rows, columns = height, width
    if localization == "argmax":
        rows, columns = 1, 1
    elif localization == "window":
        rows, columns = torch.sym_min(window_size[0], height), torch.sym_min(window_size[1], width)
    bytes_per_query = batch * rows * columns * _accumulation_dtype(target).itemsize
    kept = torch.sym_min(queries, _options.SCORE_BUDGET_BYTES // torch.sym_max(1, bytes_per_query)) if keep else 0
    return [batch, kept, rows, columns]


def _or_empty(gradients: Sequence[Tensor | None], like: Tensor) -> tuple[Tensor, ...]:
    """Gradients as operator outputs, which can't be None: an empty tensor stands for one that nobody needs."""
    return tuple(like.new_empty(0) if g is None else g for g in gradients)


def _fake_gradients(inputs: Sequence[Tensor | None], needs: Sequence[bool], like: Tensor) -> tuple[Tensor, ...]:
    return _or_empty(
        [torch.empty_like(x) if x is not None and n else None for x, n in zip(inputs, needs, strict=True)], like
    )


# ---- sparse_window_match -------------------------------------------------------------------------------------------


def _match(
    source: Tensor,
    keypoints: Tensor | None,
    target: Tensor,
    num_keypoints: Tensor | None,
    valid: Tensor | None,
    target_mask: Tensor | None,
    temperature: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, ...]:
    *options, keep, backend = rest
    rows = Rows(num_keypoints, valid, target_mask)
    queries = source.shape[3] if keypoints is None else keypoints.shape[1]
    if target.is_cpu:
        check_values(keypoints, rows, temperature, queries)
    kept = _kept_shape(target, queries, keep, options[7], options[8])[1]
    return _backends.select(backend, target.device).sparse_window_match(
        source,
        keypoints,
        target,
        rows,
        temperature,
        *_match_options(source, keypoints, target, options),
        kept,
    )


def _match_options(
    source: Tensor, keypoints: Tensor | None, target: Tensor, options: Sequence[Any]
) -> tuple[Sampling | None, Metric, Localization]:
    sampling = None if keypoints is None else resolve_sampling(source, *options[:4])
    return sampling, resolve_metric(*options[4:7]), resolve_localization(target, *options[7:])


def _match_fake(source: Tensor, keypoints: Tensor | None, target: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *options, keep, _ = rest[4:]
    batch, cells = target.shape[0], target.shape[2] * target.shape[3]
    queries = source.shape[3] if keypoints is None else keypoints.shape[1]
    empty = _empty_results(target, batch, queries)
    dtype = _accumulation_dtype(target)
    kept = _kept_shape(target, queries, keep, options[7], options[8])
    return *empty, target.new_empty(batch, cells, dtype=dtype), target.new_empty(kept, dtype=dtype)


def _empty_results(like: Tensor, batch: int, queries: int) -> tuple[Tensor, ...]:
    dtype = _accumulation_dtype(like)
    return (
        like.new_empty(batch, queries, 2, dtype=dtype),
        like.new_empty(batch, queries, dtype=dtype),
        like.new_empty(batch, queries, dtype=torch.int64),
        like.new_empty(batch, queries, dtype=dtype),
    )


def _match_setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:7], *output)
    ctx.options = inputs[7:-2]
    ctx.backend = inputs[-1]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2], output[4], output[5])


def _match_gradient(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    needs = [wanted[0], wanted[1] and ctx.options[2] == "bilinear", wanted[2], wanted[6]]
    gradients = operators.sparse_window_match_backward(
        upstream[0], upstream[1], upstream[3], *saved[7:], *saved[:7], *ctx.options, needs, ctx.backend
    )
    source, keypoints, target, temperature = (g if n else None for g, n in zip(gradients, needs, strict=True))
    return source, keypoints, target, None, None, None, temperature, *(None,) * (len(ctx.options) + 2)


def _match_backward(*arguments: Any) -> tuple[Tensor, ...]:
    *options, needs, backend = arguments[16:]
    source, keypoints, target, num_keypoints, valid, target_mask, temperature = arguments[9:16]
    gradients = _backends.select(backend, target.device).sparse_window_match_backward(
        Upstream(*arguments[:3]),
        ForwardResult(*arguments[3:9]),
        source,
        keypoints,
        target,
        Rows(num_keypoints, valid, target_mask),
        temperature,
        *_match_options(source, keypoints, target, options),
        needs,
    )
    return _or_empty(gradients, target)


def _match_backward_fake(*arguments: Any) -> tuple[Tensor, ...]:
    source, keypoints, target, *_, temperature = arguments[9:16]
    return _fake_gradients((source, keypoints, target, _dense(temperature)), arguments[-2], target)


def _dense(temperature: Tensor | None) -> Tensor | None:
    """The layout of a temperature's gradient: one element for each row, also where the tensor is an expanded number."""
    return None if temperature is None else temperature.new_empty(temperature.shape)


_MATCH_INPUTS = f"Tensor source, Tensor? keypoints, Tensor target, {_ROWS}, {_SAMPLING}, {_METRIC}, {_LOCALIZATION}"
register(
    "sparse_window_match",
    f"({_MATCH_INPUTS}, bool keep_scores, str backend) -> (Tensor keypoints, Tensor score, Tensor peak, "
    "Tensor log_sum_exp, Tensor target_norm, Tensor window_scores)",
    _match,
    _match_fake,
    _match_gradient,
    _match_setup_context,
)
register_backward(
    "sparse_window_match",
    f"({_UPSTREAM}, Tensor matched, Tensor score, Tensor peak, Tensor log_sum_exp, Tensor target_norm, "
    f"Tensor window_scores, {_MATCH_INPUTS}, bool[] needs, str backend) -> (Tensor, Tensor, Tensor, Tensor)",
    _match_backward,
    _match_backward_fake,
)
register_autocast("sparse_window_match", 0, 2)


# ---- localize ------------------------------------------------------------------------------------------------------


def _localize(
    scores: Tensor,
    num_keypoints: Tensor | None,
    valid: Tensor | None,
    target_mask: Tensor | None,
    temperature: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, ...]:
    *options, backend = rest
    rows = Rows(num_keypoints, valid, target_mask)
    if scores.is_cpu:
        check_values(None, rows, temperature, scores.shape[1])
    return _backends.select(backend, scores.device).localize(
        scores, rows, temperature, resolve_localization(scores, *options)
    )


def _localize_fake(scores: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return _empty_results(scores, scores.shape[0], scores.shape[1])


def _localize_setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:5], *output)
    ctx.options = inputs[5:-1]
    ctx.backend = inputs[-1]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])


def _localize_gradient(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    needs = [ctx.needs_input_grad[0], ctx.needs_input_grad[4]]
    gradients = operators.localize_backward(
        upstream[0], upstream[1], upstream[3], *saved[5:], *saved[:5], *ctx.options, needs, ctx.backend
    )
    scores, temperature = (g if n else None for g, n in zip(gradients, needs, strict=True))
    return scores, None, None, None, temperature, *(None,) * (len(ctx.options) + 1)


def _localize_backward(*arguments: Any) -> tuple[Tensor, ...]:
    *options, needs, backend = arguments[12:]
    scores, num_keypoints, valid, target_mask, temperature = arguments[7:12]
    gradients = _backends.select(backend, scores.device).localize_backward(
        Upstream(*arguments[:3]),
        Matches(*arguments[3:7]),
        scores,
        Rows(num_keypoints, valid, target_mask),
        temperature,
        resolve_localization(scores, *options),
        needs,
    )
    return _or_empty(gradients, scores)


def _localize_backward_fake(*arguments: Any) -> tuple[Tensor, ...]:
    scores, *_, temperature = arguments[7:12]
    return _fake_gradients((scores, _dense(temperature)), arguments[-2], scores)


_LOCALIZE_INPUTS = f"Tensor scores, {_ROWS}, {_LOCALIZATION}"
register(
    "localize",
    f"({_LOCALIZE_INPUTS}, str backend) -> (Tensor keypoints, Tensor score, Tensor peak, Tensor log_sum_exp)",
    _localize,
    _localize_fake,
    _localize_gradient,
    _localize_setup_context,
)
register_backward(
    "localize",
    f"({_UPSTREAM}, Tensor matched, Tensor score, Tensor peak, Tensor log_sum_exp, {_LOCALIZE_INPUTS}, "
    "bool[] needs, str backend) -> (Tensor, Tensor)",
    _localize_backward,
    _localize_backward_fake,
)


# ---- gather_keypoints ----------------------------------------------------------------------------------------------


def _gather(features: Tensor, keypoints: Tensor, *options: Any) -> Tensor:
    if features.is_cpu:
        check_values(keypoints, Rows(None, None, None), None, keypoints.shape[1])
    backend = _backends.select(options[-1], features.device)
    return backend.gather_keypoints(features, keypoints, resolve_sampling(features, *options[:4]))


def _gather_fake(features: Tensor, keypoints: Tensor, *_: Any) -> Tensor:
    return features.new_empty(keypoints.shape[0], keypoints.shape[1], features.shape[1])


def _gather_setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.options = inputs[2:]


def _gather_gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    *options, backend = ctx.options
    needs = [ctx.needs_input_grad[0], ctx.needs_input_grad[1] and options[2] == "bilinear"]
    gradients = operators.gather_keypoints_backward(gradient, *ctx.saved_tensors, *options, needs, backend)
    features, keypoints = (g if n else None for g, n in zip(gradients, needs, strict=True))
    return features, keypoints, *(None,) * len(ctx.options)


def _gather_backward(gradient: Tensor, features: Tensor, keypoints: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *options, needs, backend = rest
    gradients = _backends.select(backend, features.device).gather_keypoints_backward(
        gradient, features, keypoints, resolve_sampling(features, *options), needs
    )
    return _or_empty(gradients, features)


def _gather_backward_fake(gradient: Tensor, features: Tensor, keypoints: Tensor, *options: Any) -> tuple[Tensor, ...]:
    return _fake_gradients((features, keypoints), options[-2], features)


register(
    "gather_keypoints",
    f"(Tensor features, Tensor keypoints, {_SAMPLING}, str backend) -> Tensor",
    _gather,
    _gather_fake,
    _gather_gradient,
    _gather_setup_context,
)
register_backward(
    "gather_keypoints",
    f"(Tensor gradient, Tensor features, Tensor keypoints, {_SAMPLING}, bool[] needs, str backend) -> (Tensor, Tensor)",
    _gather_backward,
    _gather_backward_fake,
)


# ---- cosine_similarity ---------------------------------------------------------------------------------------------


def _similarity(
    descriptors: Tensor, target: Tensor, metric: str, eps: float, eps_mode: str, backend: str
) -> tuple[Tensor, Tensor]:
    chosen = _backends.select(backend, target.device)
    return chosen.cosine_similarity(descriptors, target, resolve_metric(metric, eps, eps_mode))


def _similarity_fake(descriptors: Tensor, target: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    batch, _channels, height, width = target.shape
    dtype = _accumulation_dtype(target)
    scores = target.new_empty(batch, descriptors.shape[1], height, width, dtype=dtype)
    return scores, target.new_empty(batch, height * width, dtype=dtype)


def _similarity_setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:2], *output)
    ctx.options = inputs[2:]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])


def _similarity_gradient(ctx: Any, gradient: Tensor | None, _norm: None) -> tuple[Tensor | None, ...]:
    if gradient is None:
        return (None,) * 6
    descriptors, target, scores, target_norm = ctx.saved_tensors
    *options, backend = ctx.options
    needs = list(ctx.needs_input_grad[:2])
    gradients = operators.cosine_similarity_backward(
        gradient, scores, target_norm, descriptors, target, *options, needs, backend
    )
    return *(g if n else None for g, n in zip(gradients, needs, strict=True)), None, None, None, None


def _similarity_backward(
    gradient: Tensor, scores: Tensor, target_norm: Tensor, descriptors: Tensor, target: Tensor, *options: Any
) -> tuple[Tensor, ...]:
    *metric, needs, backend = options
    gradients = _backends.select(backend, target.device).cosine_similarity_backward(
        gradient, scores, target_norm, descriptors, target, resolve_metric(*metric), needs
    )
    return _or_empty(gradients, target)


def _similarity_backward_fake(*arguments: Any) -> tuple[Tensor, ...]:
    return _fake_gradients(arguments[3:5], arguments[-2], arguments[4])


register(
    "cosine_similarity",
    f"(Tensor descriptors, Tensor target, {_METRIC}, str backend) -> (Tensor scores, Tensor target_norm)",
    _similarity,
    _similarity_fake,
    _similarity_gradient,
    _similarity_setup_context,
)
register_backward(
    "cosine_similarity",
    f"(Tensor gradient, Tensor scores, Tensor target_norm, Tensor descriptors, Tensor target, {_METRIC}, "
    "bool[] needs, str backend) -> (Tensor, Tensor)",
    _similarity_backward,
    _similarity_backward_fake,
)
register_autocast("cosine_similarity", 0, 1)
