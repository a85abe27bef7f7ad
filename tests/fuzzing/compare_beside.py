"""Runs a drawn case of an operator beside a match on a backend and on the reference, and says where they differ."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import simplematch_kernels as smk

from .compare import ERRORS, Outputs, backward, compare, denominator
from .draw import Case

COSINES = {"a": -1, "b": -1, "queries": -1, "source": 1, "target": 1}
"""The tensors whose cosine is taken, and where their channels are: 1 in a map, the last in a list."""


def differences(case: Case, backend: str) -> list[str]:
    """As for a match: NaN and infinities anywhere, numbers where they are tame."""
    leaves, theirs = (_leaves(case) for _ in range(2))
    ours, definition = _run(case, leaves, backend), _run(case, theirs, "reference")
    undecided = _undecided(case, ours, definition)
    found = []
    for name in definition:
        if not definition[name].is_floating_point():
            continue
        mask = undecided.get(name)
        pair = [_without(x[name], mask) for x in (ours, definition)]
        found += compare(name, *pair, case, overflows=not case.tame)
    if found or case.upstream == "none" or not case.tame:
        return found
    upstream = _upstream(case, ours, undecided)
    gradients, expected = backward(ours, leaves, upstream), backward(definition, theirs, upstream)
    if gradients.keys() != expected.keys():
        found.append(f"gradients of {sorted(gradients)} for {sorted(expected)}")
    scale = _gradient_scale(case)
    for name in gradients.keys() & expected.keys():
        found += compare(f"gradient of {name}", gradients[name], expected[name], case, scale=scale)
    return found


def _leaves(case: Case) -> Outputs:
    """Keypoints are sampled at cells as well, where a bilinear sample has a kink: they get no gradient here."""
    return {k: v.detach().requires_grad_(k not in ("keypoints", "coords")) for k, v in case.tensors.items()}


def _run(case: Case, leaves: Outputs, backend: str) -> Outputs:
    operator = case.operator.rpartition(" ")[2]
    options = {k: v for k, v in case.options.items() if v is not None}
    result: Any = getattr(smk, operator)(**leaves, **options, backend=backend)
    named = {"result": result} if isinstance(result, Tensor) else result._asdict()
    return {name: x for name, x in named.items() if x is not None}


def _undecided(case: Case, ours: Outputs, definition: Outputs) -> dict[str, Tensor]:
    """By result: the rows that rounding decides, since several cells score as good as the best."""
    if case.operator == "match_all":
        return {} if case.tame else {f"log_sum_exp_{side}": _far(case, definition[f"score_{side}"]) for side in "ab"}
    if case.operator == "dense_match":
        return {"flow": _ties(case)[:, None]}
    if "peak" not in ours:
        return {}
    rows = ours["peak"] != definition["peak"]
    named = {"keypoints": rows, "covariance": rows, "second_score": rows}
    if case.options.get("outside_value", -torch.inf) != -torch.inf or case.options.get("localization") != "global":
        named["log_sum_exp"] = rows
    return named


def _far(case: Case, score: Tensor) -> Tensor:
    """The rows whose score over T leaves no digit of float64 for the sum of the others."""
    temperature = case.tensors.get("temperature", torch.as_tensor(case.options.get("temperature", 1.0)))
    quotient = score.detach().double() / temperature.detach().double().to(score.device).view(-1, 1)
    return quotient.abs() > 1e15


def _ties(case: Case) -> Tensor:
    """(B, Hs, Ws): source cells with a second cell about as good as the best, or without a number to tell."""
    source, target = case.tensors["source"].double(), case.tensors["target"].double()
    options = {k: case.options[k] for k in ("metric", "eps", "eps_mode")}
    if case.options.get("target_mask") is not None:
        options["target_mask"] = case.options["target_mask"]
    found = smk.match_descriptors(
        source.flatten(2).mT, target, **options, localization="argmax", second_radius=0, return_second=True,
        backend="reference",
    )  # fmt: skip
    assert found.second_score is not None
    margin = 10 * ERRORS[case.dtype] * (1 + found.score.abs())
    ties = ~(found.score - found.second_score > margin)
    return ties.unflatten(1, source.shape[2:])


def _without(x: Tensor, rows: Tensor | None) -> Tensor:
    if rows is None:
        return x
    mask = rows.view(*rows.shape, *(1,) * (x.dim() - rows.dim()))
    return x.masked_fill(mask, 0)


def _upstream(case: Case, outputs: Outputs, undecided: dict[str, Tensor]) -> Outputs:
    generator = torch.Generator().manual_seed(case.seed + 1)
    upstream = {}
    for name, output in outputs.items():
        if not output.requires_grad:
            continue
        g = torch.randn(output.shape, generator=generator, dtype=torch.float64)
        if case.upstream == "zeros":
            g.zero_()
        elif case.upstream == "zero rows":
            g[torch.rand(output.shape[:2], generator=generator) < 0.5] = 0
        g = g.to(output)
        if case.operator == "match_all" and name.startswith("score"):
            g.zero_()  # rounding decides between pairs as good as each other; the sums have all of them
        elif case.operator == "dense_match":
            g = g.masked_fill(undecided["flow"] if name == "flow" else undecided["flow"][:, 0], 0)
        elif "keypoints" in undecided:  # the score of another cell has another gradient
            g = _without(g, undecided["keypoints"])
        upstream[name] = g
    return upstream


def _gradient_scale(case: Case) -> Tensor | float:
    """The scale of the terms that add up to a gradient: the greatest 1 / D(x) or number, times the sharpest softmax."""
    temperature = case.tensors.get("temperature", torch.as_tensor(case.options.get("temperature", 1.0)))
    sharpness = 1 / float(temperature.min()) if temperature.numel() else 1.0
    if case.options.get("metric") != "cosine":
        finite = [x.detach().double().abs().nan_to_num(0, 0, 0) for x in case.tensors.values() if x.numel()]
        return sharpness * max((float(x.amax()) for x in finite), default=1.0)
    scale = 1.0
    for name, dim in COSINES.items():
        x = case.tensors.get(name)
        if x is not None and x.numel():
            divisor = denominator(case, x, dim=1 if x.dim() == 4 else dim)
            scale = max(scale, float((1 / divisor).nan_to_num(0).amax()))
    return sharpness * scale
