"""Results of `verify` as text, HTML and the page docs/integrations.md."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from simplematch_kernels.integrations import NAMES, integration

from .verify import agrees

COLUMNS = ("case", "largest difference", "gradient", "time", "memory", "")
Result = dict[str, Any]


def cells(row: Result) -> tuple[str, ...]:
    """A case as text, in the order of `COLUMNS`; "forward; forward and backward" where there is a gradient."""
    unit = {"px": " px", "score": "", "match": ""}[row["unit"]]
    difference = f"{row['difference']:.1e}{unit}"
    if row["unit"] == "match":
        difference = f"{row['apart']} of {row['compared']} differ"
    elif row["apart"]:
        difference += f", {row['apart']} of {row['compared']} apart"
    gradient = "" if row["gradient_difference"] is None else f"{row['gradient_difference']:.0e}"
    both = [x for x in (row["forward"], row["forward_and_backward"]) if x is not None]
    time = "; ".join(f"{x['time_ratio']:.2g}" for x in both)
    memory = "; ".join(f"{x['theirs_mib']:.0f} to {x['ours_mib']:.0f}" for x in both if x["theirs_mib"] is not None)
    return row["title"], difference, gradient, time, memory, "" if agrees(row) else "differs"


def as_text(result: Result) -> str:
    """Headline, and a block for each case."""
    lines = [_headline(result)]
    for row in result["cases"]:
        title, difference, gradient, time, memory, verdict = cells(row)
        lines.append(f"\n{title}" + (f": {verdict}" if verdict else ""))
        lines.append(f"  largest difference  {difference}")
        lines += [f"  gradient            {gradient} (relative L2)"] if gradient else []
        lines.append(f"  time, ours / theirs {time}")
        lines += [f"  peak memory         {memory} MiB"] if memory else []
    return "\n".join(lines)


def as_html(result: Result) -> str:
    """One self-contained page."""
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(row)) + "</tr>\n" for row in result["cases"]
    )
    head = "".join(f"<th>{html.escape(name)}</th>" for name in COLUMNS)
    title = html.escape(_headline(result))
    style = "body{font:15px sans-serif;margin:2em}td,th{padding:.3em .8em;text-align:left;border-bottom:1px solid #ccc}"
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>\n'
        f"<h1>{title}</h1>\n<p>{html.escape(_EXPLANATION)}</p>\n<table><tr>{head}</tr>\n{body}</table></html>\n"
    )


def as_page(results: Sequence[Result]) -> str:
    """docs/integrations.md: what `patch` replaces, and the results."""
    known = {result["name"]: result for result in results}
    parts = [_PAGE, _EXPLANATION, ""]
    parts += ["| codebase | `patch` | verified at | cases that agree |", "|---|---|---|---|"]
    for name in NAMES:
        found, repository = known.get(name), integration(name).repository
        link = f"[{repository}](https://github.com/{repository})"
        if found is None:
            parts.append(f"| {link} | `{name}` | not on a clone | |")
        else:
            right = sum(map(agrees, found["cases"]))
            version = found["version"]
            short = version[:10] if len(version) == 40 else version
            parts.append(f"| {link} | `{name}` | {short} | {right} of {len(found['cases'])} |")
    for name in NAMES:
        parts += ["", f"## {name}", "", *(f"- `{x.place}`" for x in integration(name).replacements)]
        if name in known:
            parts += ["", f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
            parts += ["| " + " | ".join(cells(row)) + " |" for row in known[name]["cases"]]
            parts += ["", f"{_machine(known[name]).capitalize()}."]
    return "\n".join(parts) + "\n"


def _headline(result: Result) -> str:
    right = sum(map(agrees, result["cases"]))
    return (
        f"{result['name']} ({result['repository']} at {result['version'][:10]}): {right} of {len(result['cases'])} "
        f"cases agree; {_machine(result)}"
    )


def _machine(result: Result) -> str:
    machine = result["machine"]
    threads = f"{machine['threads']} thread" + "s" * (machine["threads"] != 1)
    load = "" if machine["load"] is None else f", load {machine['load']:.1f}"
    return f"torch {machine['torch']}, {threads}{load}"


_EXPLANATION = (
    "Each function of the clone and ours ran on the same inputs, drawn from a seed, at the shapes of that codebase, on "
    "a CPU. Difference: the largest of all results, in pixels of its image or in scores. Gradient: L2 norm of the "
    "difference over that of theirs, the largest over the inputs. Time: ours / theirs, the median over alternating "
    "calls, below 1 where ours is faster. Memory: growth of the process's peak, theirs to ours, in MiB. Two numbers "
    "are the forward, and forward and backward."
)
_PAGE = """# Other codebases

<!-- Written by `simplematch integrations`; edit python/simplematch/drop_in/report.py instead. -->

`simplematch_kernels.integrations` replaces functions of other codebases by ours, without a change of their files:

    from simplematch_kernels.integrations import patch

    with patch("cats"):            # or p = patch("cats"), later p.unpatch()
        trainer.train()

The folder of the clone must be on `sys.path`, as it is for its own scripts. The functions are looked up by module, name
and parameters: if one isn't there, or has other parameters, a `PatchError` says what was looked for, and nothing is
replaced. Names that loaded modules of the codebase imported (`from module import function`) are replaced too, and all
are restored exactly. `SIMPLEMATCH_INTEGRATIONS=off` in the environment switches every patch off. The logger
`simplematch_kernels` has a line for each function. `torch.jit.script` compiles theirs, patched or not.

To check your own clone, with the same tables as below:

    simplematch verify-drop-in cats path/to/clone --output cats.json --html cats.html

The exit status is 1 if a case differs by more than 5e-3 pixels, 1e-4 in scores (relative to the largest) or 1e-4 in
gradients. Up to one result in 500 may be apart, for rounding decides between candidates that are nearly equal.
`examples/integrations` shows the lines to change for those who prefer editing to patching.

What ours can't do is passed on to the function of the codebase, such as kornia's matching of a given distance matrix,
its ratio tests while a gradient is wanted, LightGlue's assignment matrix while training, or masks in sd-dino's flow.
Not replaced: RoMa's `cls_to_flow_refine`, whose neighbours wrap around the edges of the map; LoFTR's coarse matching,
which returns the whole confidence matrix; and DIFT's SPair evaluation, a script without functions.
"""
