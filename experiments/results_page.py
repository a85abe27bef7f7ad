"""Writes docs/results.md and its figure from the json files under experiments/results/.

python experiments/results_page.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import calibration_page
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PICTURE = ROOT / "docs/images/landmarks.png"
ALPHAS = (0.05, 0.1, 0.15)


def main() -> None:
    curve = read("landmarks/training")
    draw_training(curve["series"]).savefig(PICTURE, dpi=110)
    sections = [introduction(curve), landmarks(), left_and_right(), willow()]
    if (RESULTS / "landmarks/feature-map-size.json").is_file():
        sections.insert(3, map_sizes())
    sections += ablations()
    if (RESULTS / "calibration").is_dir():
        sections.append(calibration_page.section(RESULTS / "calibration"))
    (ROOT / "docs/results.md").write_text("\n\n".join(sections) + "\n")


def read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def introduction(curve: dict[str, Any]) -> str:
    return f"""# Results on photographs

PCK in percent at alpha = 0.05 / 0.1 / 0.15, mean over pairs. Made by `make landmarks` ({curve["device"]}, torch
{curve["torch"]}, commit {curve["commit"]}); `experiments/results_page.py` writes this page from the json files in
`experiments/results/`."""


LANDMARKS = [
    ("EfficientNet-Lite0, nearest neighbour, untrained, 256", "landmarks/nearest"),
    ("EfficientNet-Lite0, nearest neighbour, untrained, 448", "landmarks/efficientnet-lite0-448-nn"),
    ("DINOv2-S, nearest neighbour, untrained, 448", "landmarks/dinov2-s14-448-nn"),
    ("EfficientNet-Lite0, `landmarks-lite0-256`, 256", "landmarks/trained"),
    ("frozen DINOv2-S, `landmarks-dinov2-s14-252`, 252", "landmarks/frozen"),
]
EARLIER = ("EfficientNet-Lite0, `landmarks-lite0-256`, 256",)  # measured on the test pairs before four were replaced


def landmarks() -> str:
    table = ["| model | face | people |", "|---|---|---|"]
    for title, report in reports():
        cells = [category(report, group) for group in ("face", "people")]
        table.append(f"| {title}{' [^1]' if title in EARLIER else ''} | {' | '.join(cells)} |")
    series = read("landmarks/training")["series"]
    minutes, steps = series["loss/all"]["minutes"][-1], series["loss/all"]["step"][-1]
    speed = sorted(series["images a second"]["value"])[len(series["images a second"]["value"]) // 2]
    return f"""## Landmarks-SPair

772 photographs of faces and of people in sport, in the layout of SPair-71k. Trained for {minutes:.0f} minutes,
{steps} steps of 16 images in 2 groups of 8, {speed:.1f} images/s, with other load on the machine for part of the time;
the final checkpoint, without model selection.

{chr(10).join(table)}

![Loss and validation PCK over the run](images/landmarks.png)

[^1]: Measured before four of the 500 test pairs of faces were replaced."""


def reports() -> list[tuple[str, dict[str, Any]]]:
    return [(title, read(name)) for title, name in LANDMARKS if (RESULTS / f"{name}.json").is_file()]


def left_and_right() -> str:
    table = [
        "| model | | geo-aware | the rest | wrong ones on a counterpart |",
        "|---|---|---|---|---|",
    ]
    for title, report in reports():
        if "geo_aware" not in report:
            continue
        alphas, groups = report["results"][0]["protocol"]["alphas"], report["geo_aware"][0]["groups"]
        for group in ("face", "people"):
            found = groups[group]
            pcks = [joined(found[part]["per_image"], alphas) for part in ("geo_aware", "rest")]
            shares = [c / w for c, w in zip(found["confused"], found["wrong"], strict=True)]
            table.append(f"| {title} | {group} | {' | '.join(pcks)} | {joined(shares, alphas)} |")
    return f"""## Left and right

PCK on Landmarks-SPair of the keypoints whose counterpart, such as the other wrist, is visible in the target
(*geo-aware*, [system.md](system.md)) and of the rest, and the percentage of the wrong geo-aware keypoints that lies on
a counterpart.

{chr(10).join(table)}"""


def category(report: dict[str, Any], group: str, result: int = 0) -> str:
    found = report["results"][result]
    values = found["groups"]["category"][group]["per_image"]
    return joined(values, found["protocol"]["alphas"])


def joined(values: list[float], alphas: list[float]) -> str:
    return " / ".join(f"{100 * values[alphas.index(alpha)]:.1f}" for alpha in ALPHAS)


def map_sizes() -> str:
    table = read("landmarks/feature-map-size")
    lines = ["| feature map | all | face | people |", "|---|---|---|---|"]
    for title, groups in table["rows"].items():
        cells = [" / ".join(f"{100 * x:.1f}" for x in groups[name]) for name in ("all", "face", "people")]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return f"""## Feature-map size (the paper's Tables 2 and 9)

The same recipe with a decoder that ends at 1/16, 1/8 or 1/4 of the image; each run has {table["epochs"]} epochs
(`simplematch ablate feature-map-size`). Measured before four of the 500 test pairs of faces were replaced.

{chr(10).join(lines)}"""


def ablations() -> list[str]:
    """Return the section of the tables that `make ablations` has written, if any."""
    tables = [path.read_text().strip() for path in sorted((RESULTS / "ablations").glob("*.md"))]
    if not tables:
        return []
    text = "EfficientNet-Lite0 on Landmarks-SPair, eight epochs a row, by `make ablations`; the paper's numbers are of"
    return [f"## Ablations\n\n{text}\nother encoders on SPair-71k.\n\n" + "\n\n".join(tables)]


def willow() -> str:
    rows = [
        ("EfficientNet-Lite0, nearest neighbour, 448", "willow/efficientnet-lite0-448-nn"),
        ("DINOv2-S, nearest neighbour, 448", "willow/dinov2-s14-448-nn"),
        ("`landmarks-lite0-256`, trained on faces and people, 256", "willow/landmarks-lite0-256"),
    ]
    lines = [
        "| model | `bbox-kp`, squashed | `bbox-kp`, original | legacy threshold | encoding | matching and metric |",
        "|---|---|---|---|---|---|",
    ]
    for title, name in rows:
        if not (RESULTS / f"{name}.json").is_file():
            continue
        report = read(name)
        cells = [joined(x["headline"], x["protocol"]["alphas"]) for x in report["results"]]
        seconds = report["seconds"]
        spent = f"{seconds['encode'] + seconds['decode']:.1f} s | {seconds['match'] + seconds['metric']:.1f} s"
        lines.append(f"| {title} | {' | '.join(cells)} | {spent} |")
    return f"""## PF-WILLOW

The results cover all 900 pairs; each of the 100 images is encoded once. Distances are in the squashed image or in
pixels of the original. The legacy threshold (squashed) includes padding in the extent of the keypoints and is too
large; much of the literature reports it.

{chr(10).join(lines)}

{letterbox()}"""


def letterbox() -> str:
    """Describe the same matchers on images that keep their aspect ratio."""
    names = (("EfficientNet-Lite0", "efficientnet-lite0-448-nn"), ("DINOv2-S", "dinov2-s14-448-nn"))
    cells = []
    for title, name in names:
        found = read(f"willow/{name}-letterbox")["results"]
        scores = [joined(x["headline"], x["protocol"]["alphas"]) for x in found]
        cells.append(f"- {title}: {scores[0]} (`bbox-kp`, squashed), {scores[1]} (original), {scores[2]} (legacy)")
    return "In a letterbox (`--resize letterbox`) the same matchers reach\n\n" + "\n".join(cells)


def smoothed(values: list[float], width: int = 9) -> list[float]:
    """Smooth over neighbours, because a batch has two groups, and people have larger errors."""
    return [
        sum(part) / len(part)
        for i in range(len(values))
        if (part := values[max(i - width // 2, 0) : i + width // 2 + 1])
    ]


def draw_training(series: dict[str, dict[str, list[float]]]) -> Figure:
    """Draw the losses of the scales and the validation PCK over time."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    losses, pck = figure.subplots(1, 2)
    names = {"loss/scale 0": "1/16", "loss/scale 1": "1/8", "loss/scale 2": "1/4"}
    for name, label in names.items():
        losses.plot(series[name]["minutes"], smoothed(series[name]["value"]), linewidth=1, label=label)
    for name, label in (("PCK@0.1/face", "face"), ("PCK@0.1/people", "people")):
        pck.plot(
            series[name]["minutes"], [100 * x for x in series[name]["value"]], marker="o", markersize=3, label=label
        )
    losses.set(xlabel="minutes", ylabel="mean distance, pixels of 256", ylim=(0, None))
    losses.set_title("means over nine logged steps", fontsize=8)
    pck.set(xlabel="minutes", ylabel="validation PCK@0.1, %", ylim=(0, 100))
    for axes in (losses, pck):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    main()
