"""The tables of ablations as text and Markdown, beside the paper's numbers."""

from __future__ import annotations

ALPHAS = (0.05, 0.1, 0.15)
Table = dict[str, dict[str, list[float]]]  # of each row: PCK at ALPHAS of "all" pairs and of each category
_Row = tuple[float | None, float | None, float | None]

PAPER: dict[str, tuple[str, dict[str, _Row]]] = {
    "window": (
        "Table 7",
        {
            "9x9": (55.4, 69.4, 85.1),
            "15x15": (56.4, 70.6, 76.3),
            "30x30": (55.3, 71.5, 78.2),
            "45x45": (55.1, 72.2, 79.6),
            "60x60": (52.8, 70.6, 78.2),
        },
    ),
    "multi-scale-loss": (
        "Table 8",
        {"all scales": (43.2, 59.6, 67.7), "w/o multi-scale loss": (42.8, 58.2, 65.6)},
    ),
    "feature-map-size": (
        "Table 9",
        {
            "16x16 of 256 x 256": (None, 59.7, None),
            "32x32 of 256 x 256": (None, 68.6, None),
            "64x64 of 256 x 256": (None, 72.2, None),
            "32x32 of 512 x 512": (None, 68.2, None),
            "64x64 of 512 x 512": (None, 72.9, None),
            "128x128 of 512 x 512": (None, 73.9, None),
        },
    ),
    "resolution": (
        "Table 10",
        {
            "256 x 256": (55.1, 72.2, 79.6),
            "320 x 320": (59.2, 74.3, 80.7),
            "384 x 384": (60.9, 74.5, 80.6),
            "448 x 448": (62.2, 74.7, 80.3),
            "512 x 512": (61.5, 73.9, 79.3),
        },
    ),
}
"""The paper's PCK in percent at ALPHAS on SPair-71k, by the titles of our rows."""


def format_rows(name: str, table: Table) -> str:
    """Format the table as text: percentages for all pairs and for each category."""
    groups = list(next(iter(table.values())))
    width = max(len(name), *(len(title) for title in table))
    wide = 7 * len(ALPHAS)
    heads = "".join(f"{group:>{wide}}" for group in groups)
    alphas = "".join(f"{alpha:>7g}" for alpha in ALPHAS) * len(groups)
    lines = [f"{'':{width}}{heads}", f"{name:{width}}{alphas}"]
    for title, found in table.items():
        lines.append(f"{title:{width}}" + "".join(f"{100 * x:>7.1f}" for group in groups for x in found[group]))
    return "\n".join(lines)


def markdown(name: str, table: Table) -> str:
    """Format the table as Markdown, with the paper's numbers in the last column."""
    groups = list(next(iter(table.values())))
    number, paper = PAPER[name]
    lines = [
        f"| {name} | {' | '.join(groups)} | the paper's {number}, SPair-71k |",
        "|---" * (len(groups) + 2) + "|",
    ]
    for title, found in table.items():
        theirs = paper.get(title)
        cells = [" / ".join(f"{100 * x:.1f}" for x in found[group]) for group in groups]
        cells.append("" if theirs is None else " / ".join("-" if x is None else f"{x:.1f}" for x in theirs))
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
