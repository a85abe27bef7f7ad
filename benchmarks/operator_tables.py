"""Tables of the operator's results."""

from __future__ import annotations

from typing import Any

from .table import milliseconds, table

Row = dict[str, Any]
MEMORY_BARS = "bars: 3 % kept, 10 % transient"


def sections(result: dict[str, Any]) -> list[str]:
    rows = result.get("op", [])
    windows = [row for row in rows if row["localization"] == "window"]
    others = [row for row in rows if row["localization"] == "global"]
    parts = [_times("The operator", windows), _times("With the softmax over the whole map", others)]
    parts += [_resources(rows), _memory(windows)]
    parts += [_steps(result.get("steps", [])), _smallest_call(result.get("smallest_call", []), result)]
    return [part for part in parts if part]


def describe(row: Row) -> str:
    window = f", k={row['window']}" if row["localization"] == "window" else ""
    return f"B={row['batch']}, N={row['queries']}, C={row['channels']}, {row['side']} x {row['side']}{window}"


def _times(title: str, rows: list[Row]) -> str:
    if not rows:
        return ""
    rivals = list(dict.fromkeys(name for row in rows for name in row["times"] if name != "ours"))
    lines = []
    for row in rows:
        ours = row["times"]["ours"]["median_ms"]
        cells = [
            f"{milliseconds(row['times'][name])}: **{row['times'][name]['median_ms'] / ours:.1f}x**"
            if name in row["times"]
            else ""
            for name in rivals
        ]
        where = [describe(row), f"{row['dtype']}, {row['layout']}", row["mode"]]
        lines.append([*where, milliseconds(row["times"]["ours"]), *cells])
    about = (
        "Milliseconds, and our speedup. *eager* is the reference in plain PyTorch, which divides "
        "scores by norms; *by hand* is typical code of other codebases, with a normalised copy of the features; "
        "*compile* is `torch.compile`; *two stages* has a separate window operator."
        if "by hand" in rivals
        else "*attention* is `scaled_dot_product_attention` with the coordinates of the cells as values."
    )
    reasons = dict.fromkeys(f"{name}: {why}" for row in rows for name, why in row["failed"].items())
    notes = "".join(f"\n\n{reason}" for reason in reasons)
    return f"### {title}\n\n{about}\n\n" + table(["shape", "maps", "", "ours", *rivals], lines) + notes


def _resources(rows: list[Row]) -> str:
    """Make a table of bytes, memory and errors."""
    if not rows:
        return ""
    launches = any(row["launches"]["ours"] is not None for row in rows)
    head = ["shape", "maps", "", "floor, MB", "of a copy's bandwidth", "peak memory, MB", "eager's", "error", "eager's"]
    lines = []
    for row in rows:
        peaks = [f"{row['peak_bytes'][name] / 1e6:.0f}" for name in ("ours", "eager")]
        errors = [f"{row['errors'][name]['target_gradient']:.0e}" for name in ("ours", "eager")]
        share = [f"{row['floor_bytes'] / 1e6:.0f}", f"{100 * row['share_of_copy']:.0f} %"]
        line = [describe(row), f"{row['dtype']}, {row['layout']}", row["mode"], *share, *peaks, *errors]
        lines.append(line + ([f"{row['launches']['ours']} / {row['launches']['eager']}"] if launches else []))
    about = (
        "The floor reads the target once per pass and writes two gradients. Peak memory excludes the inputs and "
        "includes results. The error is that of the target's gradient against float64."
    )
    return "### Bytes, memory and error\n\n" + about + "\n\n" + table(head + (["launches"] if launches else []), lines)


def _memory(rows: list[Row]) -> str:
    """Make a table of memory as shares of a map, at the first shape."""
    if not rows:
        return ""
    shape = describe(rows[0])
    lines = []
    for row in rows:
        if describe(row) == shape and row["mode"] == "forward" and row["dtype"] == "float32":
            back = next((r for r in rows if r["mode"] == "backward" and _same_problem(r, row)), None)
            if back is None:
                continue
            size = row["floor_bytes"]  # a forward's floor is one map
            for name in (x for x in row["kept_bytes"] if x in back["peak_bytes"] and x != "compile"):
                shares = [row["kept_bytes"][name], row["peak_bytes"][name], back["peak_bytes"][name] - 2 * size]
                lines.append([row["layout"], name, *(f"{100 * share / size:.1f} %" for share in shares)])
    about = (
        f"{shape}, float32: shares of one feature map. *Kept* memory is saved for the backward, beyond the inputs. "
        f"*Transient* memory is the peak beyond inputs, results and kept memory ({MEMORY_BARS})."
    )
    head = ["layout", "", "kept", "transient, forward", "transient, backward"]
    return "### Memory of the operator\n\n" + about + "\n\n" + table(head, lines)


def _same_problem(a: Row, b: Row) -> bool:
    fields = ("batch", "queries", "channels", "side", "window", "dtype", "layout", "localization")
    return all(a[field] == b[field] for field in fields)


def _steps(rows: list[Row]) -> str:
    if not rows:
        return ""
    lines = [[f"`{row['step']}`", *(milliseconds(row["times"][name]) for name in ("ours", "eager"))] for row in rows]
    return f"### Each step alone\n\n{describe(rows[0] | {'localization': 'window'})}; milliseconds.\n\n" + table(
        ["", "ours", "eager"], lines
    )


def _smallest_call(rows: list[Row], result: dict[str, Any]) -> str:
    if not rows:
        return ""
    lines = [[row["mode"], *(milliseconds(row["times"][n], 1e3, 0) for n in ("ours", "eager"))] for row in rows]
    text = "### The smallest call\n\nB=1, N=1, C=8, 4 x 4 cells, from the host; microseconds.\n\n" + table(
        ["", "ours", "eager"], lines
    )
    for row in result.get("cuda_graph", []):
        graph = milliseconds(row["times"]["ours"], 1e3, 1)
        text += f"\n\nForward and backward as a CUDA graph, B={row['batch']}: {graph} us."
    for row in result.get("start", []):
        text += (
            f"\n\nImporting the package adds {row['import_s'] * 1e3:.0f} ms to `import torch` (bar: 300 ms); the first "
            f"call takes {row['first_call_s'] * 1e3:.1f} ms, without compilation."
        )
    return text
