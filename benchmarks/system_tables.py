"""Tables of whole models (memory and time of training steps, inference, evaluation) and of the operator's scaling."""

from __future__ import annotations

from typing import Any

from .table import milliseconds, table

Row = dict[str, Any]


def sections(result: dict[str, Any]) -> list[str]:
    parts = [
        _training_memory(result.get("training_memory", [])),
        _stage(result.get("stage_memory", [])),
        _step_time(result.get("step_time", []), result.get("gradients", [])),
        _throughput(result.get("throughput", [])),
        _scaling(result.get("cost", []), result.get("threads", [])),
        _evaluation(result.get("evaluation", [])),
    ]
    return [part for part in parts if part]


def _training_memory(rows: list[Row]) -> str:
    if not rows:
        return ""
    text = (
        "### Memory of a training step\n\nA whole step at batch 8 with 30 keypoints: weights, gradients, Adam's "
        "moments, images and activations, in MiB and relative to dense matching. *Counted* is the live storage of fake "
        "tensors, which needs no GPU and excludes the scratch memory of kernels. *Checkpointing* recomputes the "
        "activations of each trained block of a ViT and of each step of the decoder in the backward. Table 11 of the "
        "paper reports 21941, 16287 and 10675 MB (-51 %) for dense, window and sparse; the authors' implementation, "
        "counted in the same way, takes 8811, 8025 and 6319 MiB (iBOT) and 6578, 5862 and 4241 MiB (DINOv2, 252)."
    )
    for reading in (x for x in ("counted_mib", "allocated_mib", "reserved_mib") if x in rows[0]):
        text += f"\n\n{reading.removesuffix('_mib').capitalize()}:\n\n" + _pivot(rows, "variant", "preset", reading)
    return text


def _stage(rows: list[Row]) -> str:
    if not rows:
        return ""
    named = [row | {"cells": f"{row['side']} x {row['side']}"} for row in rows]
    return (
        "### Memory of the matching stage\n\nGather, projection, similarity, window and soft-argmax, forward and "
        "backward at B=8, C=768, window 45: MiB beyond both maps, their gradients and the projection's. The memory of "
        "*fused* is the projected target and its gradient.\n\n" + _pivot(named, "matching", "cells", "counted_mib")
    )


def _pivot(rows: list[Row], down: str, across: str, field: str) -> str:
    columns = list(dict.fromkeys(row[across] for row in rows))
    values = {(row[down], row[across]): row[field] for row in rows}

    def cell(name: str, column: str) -> str:
        below = 100 * (values[name, column] / values["dense", column] - 1)
        return f"{values[name, column]:.0f}" + (f" ({below:.0f} %)" if name != "dense" else "")

    names = dict.fromkeys(row[down] for row in rows)
    return table(["", *columns], [[name, *(cell(name, column) for column in columns)] for name in names])


def _step_time(rows: list[Row], gradients: list[Row]) -> str:
    if not rows:
        return ""
    names = list(rows[0]["times"])
    lines = []
    for row in rows:
        plain = row["times"]["fused"]["median_ms"]
        cells = [f"{milliseconds(t, digits=0)}: {t['median_ms'] / plain:.2f}x" for t in row["times"].values()]
        lines.append([row["preset"], *cells])
    text = (
        f"### Time of a training step\n\nBatch {rows[0]['batch']}, float32: milliseconds, and relative to *fused*. "
        "Recomputation takes one more forward of the trained blocks of the encoder and of the decoder.\n\n"
        + table(["", *names], lines)
    )
    for row in gradients:
        text += (
            f"\n\nThe gradients of a step of {row['preset']}, over all parameters, fused with recomputation and dense "
            f"differ by {row['difference']:.1e} (batch {row['batch']}, float32)."
        )
    return text


def _throughput(rows: list[Row]) -> str:
    if not rows:
        return ""
    names = list(rows[0]["images_per_s"])
    lines = []
    for row in rows:
        how = [row["preset"], str(row["batch"]), row["precision"], "compiled" if row["compiled"] else "eager"]
        speeds = [f"{row['images_per_s'][name]:.1f}" for name in names]
        gains = [f"{row['faster_than'][n]:.2f}x of at most {row['most_to_gain'][n]:.2f}x" for n in names[1:]]
        shares = [f"{100 * row['matching_share'][name]:.1f}" for name in names]
        peaks = [f"{row['peak_bytes'][name] / 2**20:.0f}" for name in names]
        lines.append([*how, " / ".join(speeds), " / ".join(gains), " / ".join(shares), " / ".join(peaks)])
    order = " / ".join(names)
    head = ["model", "batch", "", "", "images a second", "faster than", "matching, % of the time", "memory, MiB"]
    return (
        f"### Inference\n\n{order}; fused over {' / '.join(names[1:])}, with one time of encoder and decoder for all, "
        "and the speedup of a matching stage that takes no time. Pairs have 30 keypoints; memory excludes weights and "
        "images. Table 3 of the paper reports 65 images per second at 252 x 252 (RTX 4090).\n\n" + table(head, lines)
    )


def _scaling(rows: list[Row], threads: list[Row]) -> str:
    if not rows:
        return ""
    lines = []
    for row in rows:
        points = ", ".join(f"{size}: {time:.2f}" for size, time in zip(row["sizes"], row["median_ms"], strict=True))
        lines.append([row["axis"], row["mode"], points, f"{row['exponent']:.2f}"])
    text = (
        "### Scaling\n\nMilliseconds at B=1, N=64, C=256, 64 x 64 cells, window 15, float32, contiguous, except for "
        "the varied size. The exponent is fitted to the three largest sizes, for cells and windows in the number of "
        "cells; 1 is linear.\n\n" + table(["", "", "size: time", "exponent"], lines)
    )
    for row in threads:
        one, two = (row["threads"][x]["median_ms"] for x in ("1", "2"))
        text += f"\n\nThe paper's shape, {row['mode']}: {one:.1f} ms with one thread, "
        text += f"{two:.1f} with two ({one / two:.2f}x)."
    return text


def _evaluation(rows: list[Row]) -> str:
    if not rows:
        return ""
    lines = [[str(row["pairs_per_image"]), f"{row['pairs_per_s']:.1f}"] for row in rows]
    return (
        "### Evaluating a data set\n\nEach image is encoded once: EfficientNet-Lite0 at 256 x 256, images of noise.\n\n"
        + table(["pairs an image", "pairs a second"], lines)
    )
