"""Runs a drawn case on a backend and on the reference, and says where they differ."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import simplematch_kernels as smk

from .draw import Case

ERRORS = {torch.float64: 1e-9, torch.float32: 2e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}
"""Difference from the reference allowed where magnitudes are tame, relative to 1 + the largest number of a tensor."""

Outputs = dict[str, Tensor]


def differences(case: Case, backend: str) -> list[str]:
    """What `backend` answers otherwise than the reference: NaN and infinities anywhere, numbers where they are tame."""
    leaves, theirs = (_leaves(case) for _ in range(2))
    ours, definition = _forward(case, leaves, backend), _forward(case, theirs, "reference")
    found, ties = _compare_outputs(case, ours, definition)
    if not any(x.requires_grad for x in leaves.values()) or case.upstream == "none":
        return found
    upstream = _upstream(case, ours, ties)
    gradients, expected = backward(ours, leaves, upstream), backward(definition, theirs, upstream)
    for name, gradient in gradients.items():
        if not _gradients_overflow(case):
            found += _compare_gradient(name, gradient, expected[name], case, upstream)
    return found


def _compare_gradient(name: str, gradient: Tensor, expected: Tensor, case: Case, upstream: Outputs) -> list[str]:
    undecided = ((gradient == 0) & expected.isnan()) | ((expected == 0) & gradient.isnan())
    if name == "keypoints" and case.operator == "sparse_window_match" and undecided.any():
        # Zero times NaN counts as zero, and rounding decides whether such a gradient of a descriptor is zero.
        undecided &= _only_rounding(case, upstream)[..., None]
        gradient, expected = gradient.masked_fill(undecided, 0), expected.masked_fill(undecided, 0)
    scale = _gradient_scale(name, case)
    return compare(f"gradient of {name}", gradient, expected, case, overflows=not case.tame, scale=scale)


def _only_rounding(case: Case, upstream: Outputs) -> Tensor:
    """The rows (B, N) to which gradients arrive but whose descriptor has a channel where their terms cancel."""
    descriptors = _sampled(case, case.tensors["source"].double()).requires_grad_()
    options = {k: v for k, v in case.options.items() if k not in ("sampling", "sampling_padding")}
    if "temperature" in case.tensors:
        options["temperature"] = case.tensors["temperature"].double()
    matches = smk.match_descriptors(descriptors, case.tensors["target"].double(), **options, backend="reference")
    outputs = [getattr(matches, name) for name in upstream]
    (gradient,) = torch.autograd.grad(outputs, descriptors, [g.double() for g in upstream.values()])
    arriving = torch.zeros(descriptors.shape[:2], dtype=torch.float64, device=descriptors.device)
    for g in upstream.values():
        arriving += g.double().abs().reshape(*g.shape[:2], -1).sum(2)
    if case.options["metric"] == "cosine":
        terms = 1 / denominator(case, descriptors.detach(), dim=2)
    else:
        terms = 2 * descriptors.detach().abs().amax(2, keepdim=True)
    cancels = (gradient.abs() <= 1e-6 * arriving[..., None] * terms).any(2)
    return cancels & (arriving > 0)


def _gradient_scale(name: str, case: Case) -> Tensor | float:
    """The scale of the terms whose difference is a cosine's gradient: 1 / D(x) of the vector x."""
    if case.options.get("metric") != "cosine" or name not in ("target", "descriptors", "source", "keypoints"):
        return 0.0
    if name in ("target", "descriptors"):
        return 1 / denominator(case, case.tensors[name], dim=1 if name == "target" else 2)
    least = denominator(case, _sampled(case, case.tensors["source"].double()), dim=2).nan_to_num(torch.inf).amin(1)
    return 1 / (least[:, None] if name == "keypoints" else least[:, None, None])


def denominator(case: Case, vectors: Tensor, dim: int) -> Tensor:
    """D(x) of vectors along `dim`, which is kept; infinity where it is zero, because the gradient is zero there."""
    norm, eps = vectors.double().norm(dim=dim, keepdim=True), case.options["eps"]
    divisor = norm + eps if case.options["eps_mode"] == "add" else norm.clamp(min=eps)
    return divisor.masked_fill(divisor == 0, torch.inf)


def _sampled(case: Case, source: Tensor) -> Tensor:
    """The descriptors (B, N, C) of a map."""
    return smk.gather_keypoints(
        source, case.tensors["keypoints"], sampling=case.options["sampling"],
        padding=case.options["sampling_padding"], backend="reference",
    )  # fmt: skip


def _gradients_overflow(case: Case) -> bool:
    """Whether the cosine's gradient has a pole that no type holds: vectors of denormal numbers, and no eps."""
    return case.options.get("eps") == 0 and any("denormal" in drawn for drawn in case.description)


def _leaves(case: Case) -> Outputs:
    needed = {"source", "target", "descriptors", "scores", "temperature"}
    if case.options.get("sampling") == "bilinear":
        needed.add("keypoints")
    return {k: v.detach().requires_grad_(k in needed) for k, v in case.tensors.items()}


def _forward(case: Case, leaves: Outputs, backend: str) -> Outputs:
    tensors, options = dict(leaves), dict(case.options)
    if "temperature" in tensors:
        options["temperature"] = tensors.pop("temperature")
    if case.operator == "gather":
        options["padding"] = options.pop("sampling_padding")
        tensors = {"features": tensors["source"], "keypoints": tensors["keypoints"]}
        return {"descriptors": smk.gather_keypoints(**tensors, **options, backend=backend)}
    operator: Callable[..., Tensor | smk.Matches] = getattr(smk, case.operator)
    result = operator(**tensors, **options, backend=backend)
    return {"scores": result} if isinstance(result, Tensor) else result._asdict()


def _compare_outputs(case: Case, ours: Outputs, definition: Outputs) -> tuple[list[str], Tensor | None]:
    """Differences, and the rows (B, N) whose peaks differ while their scores are as good as equal."""
    magnitude = _magnitude(case)
    if "peak" not in ours:
        (name,) = ours
        return compare(name, ours[name], definition[name], case, magnitude), None
    differ = ours["peak"] != definition["peak"]
    if magnitude is not None:
        magnitude = magnitude.flatten(2).gather(2, definition["peak"].clamp(min=0)[..., None])[..., 0]
    found = compare("score", ours["score"], definition["score"], case, magnitude)
    if (differ & ours["score"].isnan()).any() or (case.operator == "localize" and differ.any()):
        found.append(f"peak: {ours['peak'].tolist()} for {definition['peak'].tolist()}")
    for name in ("keypoints", "log_sum_exp"):
        mask = differ[..., None] if name == "keypoints" else differ
        found += compare(name, ours[name].masked_fill(mask, 0), definition[name].masked_fill(mask, 0), case)
    return found, differ


def _magnitude(case: Case) -> Tensor | None:
    """What the summands of every score (B, N, H, W) add up to without signs, in float64: the scale of rounding."""
    if "target" not in case.tensors:
        return None
    positive = {k: v.detach().double().abs().nan_to_num(0, 0, 0) for k, v in case.tensors.items()}
    queries = positive.get("descriptors")
    if queries is None:
        queries = _sampled(case, positive["source"])
    options = {k: case.options[k] for k in ("metric", "eps", "eps_mode")}
    return smk.cosine_similarity(queries, positive["target"], **options, backend="reference").abs()


def compare(
    name: str,
    value: Tensor,
    expected: Tensor,
    case: Case,
    magnitude: Tensor | None = None,
    overflows: bool = False,
    scale: Tensor | float = 0.0,
) -> list[str]:
    """NaN and infinities in the same places, and numbers alike where the case is tame or their `magnitude` is known.

    Numbers of tame cases may differ by ERRORS, relative to 1 + the largest of them or their `scale`, whichever is more.
    With `overflows` a number that leaves the type may be an infinity or, where two of them meet, NaN.
    """
    value, expected = value.detach().double(), expected.detach().double()
    if value.shape != expected.shape:
        return [f"{name}: shape {tuple(value.shape)} for {tuple(expected.shape)}"]
    limit = torch.finfo(case.dtype).max / 16
    beyond = ~(expected.abs() < limit) | ~(value.abs() < limit)
    wrong = value.isnan() != expected.isnan()
    if overflows:  # at least neither may be an ordinary number where the other is NaN
        wrong &= (value.abs() < limit / 2**20) | (expected.abs() < limit / 2**20)
    elif not case.tame:
        wrong |= (value.isinf() != expected.isinf()) & ((value.abs() < limit) | (expected.abs() < limit))
    if wrong.any():
        at = wrong.nonzero()[0].tolist()
        return [
            f"{name}: {value[tuple(at)].item()} for {expected[tuple(at)].item()} at {at}, {int(wrong.sum())} places"
        ]
    if magnitude is not None:
        grade = 1e-11 if case.dtype == torch.float64 else 1e-5
        bound = grade * magnitude.clamp(min=expected.abs()) + 1e-20
    elif case.tame:
        largest = expected.masked_fill(beyond, 0).abs().amax() if expected.numel() else 0.0
        bound = ERRORS[case.dtype] * (1 + torch.as_tensor(scale).clamp(min=float(largest)).expand(expected.shape))
    else:
        return []
    differs = ((value - expected).abs() > bound) & ~beyond
    if differs.any():
        at = differs.nonzero()[0].tolist()
        return [f"{name}: {value[tuple(at)].item()!r} for {expected[tuple(at)].item()!r} at {at}"]
    return []


def _upstream(case: Case, outputs: Outputs, ties: Tensor | None) -> Outputs:
    """Gradients for every output that has one; zero in rows with `ties`, whose windows may differ."""
    generator = torch.Generator().manual_seed(case.seed + 1)
    upstream = {}
    for name, output in outputs.items():
        if not output.requires_grad or (len(outputs) > 1 and torch.rand((), generator=generator) < 0.2):
            continue
        g = torch.randn(output.shape, generator=generator, dtype=torch.float64)
        rows = torch.rand(output.shape[:2], generator=generator) < 0.5
        if case.upstream == "zeros":
            g.zero_()
        elif case.upstream == "zero rows":
            g[rows] = 0
        elif case.upstream in ("nan row", "inf row"):
            rows[1:] = False
            g[rows] = float(case.upstream.split()[0])
        upstream[name] = g.to(output)
        if ties is not None:
            upstream[name][ties] = 0
    if case.upstream == "zero rows" and len(outputs) > 1:  # rows that get nothing from any output
        for g in upstream.values():
            g[:, ::2] = 0
    return upstream


def backward(outputs: Outputs, leaves: Outputs, upstream: Outputs) -> Outputs:
    named = {k: v for k, v in leaves.items() if v.requires_grad}
    chosen = [outputs[name] for name in upstream]
    if not chosen:
        return {}
    found = torch.autograd.grad(chosen, list(named.values()), list(upstream.values()), allow_unused=True)
    return {k: g for k, g in zip(named, found, strict=True) if g is not None}
