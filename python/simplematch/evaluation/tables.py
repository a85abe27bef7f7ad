"""Results as text, JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .geo_aware import GeoAwareResult, geo_aware_json, geo_aware_rows
from .pck import PCKResult, Scores


def format_result(result: PCKResult) -> str:
    """Format percentages as a table: the protocol, then a line for each category, average and group."""
    rows: list[tuple[str, int, int, list[float]]] = []
    by_point = result.protocol.averaging == "per-point"
    for field, values in result.groups.items():
        for value, scores in values.items():
            name = value if field == "category" else f"{field}={value}"
            rows.append((name, scores.pairs, scores.points, scores.per_point if by_point else scores.per_image))
    overall = result.overall
    rows += [
        ("mean of categories", overall.pairs, overall.points, result.category_mean),
        ("per point", overall.pairs, overall.points, overall.per_point),
        ("per image", overall.pairs, overall.points, overall.per_image),
    ]
    width = max(len(name) for name, *_ in rows)
    heads = "".join(f"{f'@{alpha:g}':>7}" for alpha in result.protocol.alphas)
    lines = [result.description, f"{'':{width}}  pairs  points{heads}"]
    lines += [f"{name:{width}}  {pairs:>5}  {points:>6}{_percent(values)}" for name, pairs, points, values in rows]
    return "\n".join(lines)


def to_json(results: Sequence[PCKResult] | Sequence[GeoAwareResult]) -> list[dict[str, Any]]:
    """Convert results to JSON values; PCK is 0 to 1, or null without pairs."""
    return [
        _without_nan(geo_aware_json(result) if isinstance(result, GeoAwareResult) else _as_dict(result))
        for result in results
    ]


def to_csv(results: Sequence[PCKResult], geo_aware: Sequence[GeoAwareResult] = ()) -> str:
    """Format results as CSV, one row for each protocol, group, averaging and alpha."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(("protocol", "field", "value", "averaging", "alpha", "pck", "pairs", "points"))
    for result in results:
        groups = {"": {"": result.overall}, **result.groups}
        for field, values in groups.items():
            for value, scores in values.items():
                writer.writerows(_rows(result, field, value, scores))
        mean = zip(result.protocol.alphas, result.category_mean, strict=True)
        sizes = (result.overall.pairs, result.overall.points)
        writer.writerows((result.description, "", "", "per-category", alpha, pck, *sizes) for alpha, pck in mean)
    for found in geo_aware:
        writer.writerows(geo_aware_rows(found))
    return output.getvalue()


def _as_dict(result: PCKResult) -> dict[str, Any]:
    groups = {f: {value: asdict(scores) for value, scores in v.items()} for f, v in result.groups.items()}
    return {
        "description": result.description,
        "protocol": asdict(result.protocol),
        "headline": result.headline,
        "overall": asdict(result.overall),
        "category_mean": result.category_mean,
        "groups": groups,
    }


def _rows(result: PCKResult, field: str, value: str, scores: Scores) -> list[tuple[object, ...]]:
    averages = (("per-image", scores.per_image), ("per-point", scores.per_point))
    return [
        (result.description, field, value, averaging, alpha, pck, scores.pairs, scores.points)
        for averaging, values in averages
        for alpha, pck in zip(result.protocol.alphas, values, strict=True)
    ]


def _percent(values: Sequence[float]) -> str:
    return "".join(f"{100 * value:>7.1f}" for value in values)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
