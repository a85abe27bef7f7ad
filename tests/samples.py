"""The one list of inputs that every kind of test runs over, on every backend that can run here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from simplematch_kernels import _backends, _native

DEVICE = torch.device("cuda" if torch.cuda.is_available() and not _backends.interpreting() else "cpu")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
LAYOUTS = ("contiguous", "channels_last", "transposed", "sliced", "expanded")


def runnable_backends() -> list[str]:
    """Backends under test in this process. Triton's interpreter and the emulated GPU have processes of their own."""
    if _backends.interpreting():
        return ["triton"]
    if _native.emulates_gpu():
        return ["cuda"]
    return [name for name in _backends.BACKENDS if _backends.why_not(name, DEVICE) is None]


BACKENDS = runnable_backends()
SIMULATED = _backends.interpreting() or _native.emulates_gpu()
"""Whether this process is there for kernels of a GPU, run by the CPU."""


@dataclass(frozen=True)
class Sample:
    """One input of `sparse_window_match`: sizes, layout, which rows and cells take part, and the options."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    batch: int = 2
    queries: int = 5
    channels: int = 20
    source_map: tuple[int, int] = (7, 9)
    target_map: tuple[int, int] = (9, 8)
    layout: str = "contiguous"
    rows: tuple[str, ...] = ()  # of "num_keypoints", "valid", "target_mask", "empty_target_mask", "query_masks"
    temperature: str = "number"  # or "scalar", "rows"
    keypoints: str = "inside"  # or "border": on and outside the border
    own_sizes: bool = False  # whether the images behind the maps differ in size

    def __str__(self) -> str:
        return self.name

    def make(self, dtype: torch.dtype = torch.float32, device: torch.device = DEVICE, seed: int = 0) -> Inputs:
        generator = torch.Generator().manual_seed(seed)
        source, target = self._maps(generator)
        options = dict(self.options)
        options.update(self._rows(generator))
        if self.temperature == "scalar":
            options["temperature"] = torch.tensor(0.05, dtype=_exact(dtype))
        elif self.temperature == "rows":
            options["temperature"] = 0.03 + 0.05 * torch.rand(
                self.batch, self.queries, generator=generator, dtype=_exact(dtype)
            )
        if self.own_sizes:
            grown = torch.arange(self.batch)[:, None] * torch.tensor([5, 2])
            options |= {name: torch.tensor(options[name]) + grown for name in ("source_size", "target_size")}
        source = lay_out(source.to(device, dtype), self.layout)
        target = lay_out(target.to(device, dtype), self.layout)
        keypoints = self._keypoints(generator).to(device, _exact(dtype))
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in options.items()}
        return Inputs(source, target, keypoints, moved)

    def _maps(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Smooth maps; the target holds each image's source in disorder, so every query has one clear best cell."""
        source = torch.randn(self.batch, self.channels, *self.source_map, generator=generator)
        cells = self.target_map[0] * self.target_map[1]
        chosen = torch.randint(0, self.source_map[0] * self.source_map[1], (self.batch, 1, cells), generator=generator)
        target = source.flatten(2).gather(2, chosen.expand(-1, self.channels, -1)).unflatten(2, self.target_map)
        target = target + 0.3 * torch.randn(target.shape, generator=generator)
        blurred = F.avg_pool2d(target, 3, 1, 1, count_include_pad=False)
        return source, 0.7 * target + 0.3 * blurred

    def _keypoints(self, generator: torch.Generator) -> Tensor:
        height, width = self.options.get("source_size") or self.source_map
        points = torch.rand(self.batch, self.queries, 2, generator=generator)
        if self.keypoints == "border":  # from one cell outside on the left to one outside on the right, borders hit
            steps = torch.tensor([-0.15, 0.0, 0.4, 1.0, 1.15])
            points = steps[torch.randint(0, 5, points.shape, generator=generator)]
            return points * torch.tensor([width - 1.0, height - 1.0])
        points = points * torch.tensor([width - 1.0, height - 1.0])
        return (points * 8).floor() / 8 + 1 / 16  # between cells: a bilinear sample has a kink at each

    def _rows(self, generator: torch.Generator) -> dict[str, Tensor]:
        made: dict[str, Tensor] = {}
        if "num_keypoints" in self.rows:
            made["num_keypoints"] = torch.arange(self.batch) % (self.queries + 1) + self.queries // 2
            made["num_keypoints"].clamp_(max=self.queries)
        if "valid" in self.rows:
            made["valid"] = torch.rand(self.batch, self.queries, generator=generator) < 0.6
        if "target_mask" in self.rows or "empty_target_mask" in self.rows:
            made["target_mask"] = torch.rand(self.batch, *self.target_map, generator=generator) < 0.6
        if "empty_target_mask" in self.rows:
            made["target_mask"][0] = False
        if "query_masks" in self.rows:  # the second query has none
            chosen = torch.rand(self.batch, self.queries, *self.target_map, generator=generator) < 0.6
            chosen[:, 1:2] = False
            made["target_mask"] = chosen
        return made


@dataclass(frozen=True)
class Inputs:
    source: Tensor
    target: Tensor
    keypoints: Tensor
    options: dict[str, Any]

    def to(self, dtype: torch.dtype) -> Inputs:
        """The same values in a wider dtype."""
        options = {
            k: v.to(dtype) if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in self.options.items()
        }
        return Inputs(self.source.to(dtype), self.target.to(dtype), self.keypoints.to(dtype), options)

    def requiring(self, *names: str) -> Inputs:
        """Fresh leaves (views of one where the layout asks for it), those named requiring gradients."""
        options = dict(self.options)
        if isinstance(options.get("temperature"), Tensor):
            options["temperature"] = options["temperature"].detach().requires_grad_("temperature" in names)
        leaves = {
            name: getattr(self, name).detach().requires_grad_(name in names)
            for name in ("source", "target", "keypoints")
        }
        return replace(self, options=options, **leaves)

    def leaf(self, name: str) -> Tensor:
        """The tensor that a gradient of that name belongs to."""
        found: Tensor = self.options["temperature"] if name == "temperature" else getattr(self, name)
        return found

    def leaves(self) -> dict[str, Tensor]:
        """The inputs that require gradients, by name."""
        named = {"source": self.source, "target": self.target, "keypoints": self.keypoints}
        temperature = self.options.get("temperature")
        if isinstance(temperature, Tensor):
            named["temperature"] = temperature
        return {k: v for k, v in named.items() if v.requires_grad}


def lay_out(x: Tensor, layout: str) -> Tensor:
    """The same values (one channel repeated, for "expanded") with other strides."""
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "transposed":  # height and width change places in memory
        return x.transpose(2, 3).contiguous().transpose(2, 3)
    if layout == "sliced":  # every second cell of every second channel of a larger buffer
        buffer = torch.full((x.shape[0], 2 * x.shape[1], x.shape[2] + 1, 2 * x.shape[3]), 7.0).to(x)
        view = buffer[:, ::2, 1:, ::2]
        view.copy_(x)
        return view
    if layout == "tokens":  # what layout="tokens" makes of tokens (B, 1 + H*W, C) without their first
        tokens = torch.full((x.shape[0], 1 + x[0, 0].numel() if len(x) else 1, x.shape[1]), 7.0).to(x)
        view = tokens[:, 1:].transpose(1, 2).unflatten(2, x.shape[2:])
        view.copy_(x)
        return view
    if layout == "expanded":  # stride 0 over the batch
        return x[:1].expand(x.shape)
    return x.contiguous()


def _exact(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


_PIXELS = {"source_size": (56, 72), "target_size": (90, 64)}

SAMPLES: tuple[Sample, ...] = (
    # localisation
    Sample("window", {"window_size": 5}),
    Sample("window-even", {"window_size": 4}),
    Sample("window-rectangle", {"window_size": (3, 6)}),
    Sample("window-shrink", {"window_size": 5, "border": "shrink"}),
    Sample("window-shrink-even", {"window_size": (6, 2), "border": "shrink"}),
    Sample("window-larger-than-map", {"window_size": 45}),
    Sample("window-larger-than-map-shrink", {"window_size": 11, "border": "shrink"}),
    Sample("window-one-cell", {"window_size": 1}),
    Sample("disc", {"window_size": 5, "window_shape": "disc"}),
    Sample("disc-shrink", {"window_size": (6, 5), "window_shape": "disc", "border": "shrink"}),
    Sample("disc-real", {"window_size": 5.5, "window_shape": "disc"}),
    Sample(
        "disc-real-closed",
        {"window_size": (2 * 5**0.5, 6.0), "window_shape": "disc", "disc_edge": "closed", "border": "shrink"},
    ),
    Sample("disc-closed-larger-than-map", {"window_size": 20, "window_shape": "disc", "disc_edge": "closed"}),
    Sample("plus", {"window_size": 3, "window_shape": "plus"}),
    Sample("plus-even", {"window_size": (6, 4), "window_shape": "plus", "border": "shrink"}),
    Sample("outside-plus", {"window_size": 5, "window_shape": "plus", "outside_value": 0.1}, rows=("target_mask",)),
    Sample("outside-zero", {"window_size": 3, "outside_value": 0.0, "border": "shrink"}),
    Sample("outside-above-all-scores", {"window_size": 3, "outside_value": 1.5}),
    Sample(
        "outside-disc-masked", {"window_size": 5, "outside_value": -0.1, "window_shape": "disc"}, rows=("target_mask",)
    ),
    Sample("argmax", {"localization": "argmax"}),
    Sample("global", {"localization": "global"}),
    Sample("gaussian", {"localization": "gaussian", "sigma": 1.7}),
    Sample("gaussian-masked", {"localization": "gaussian", "sigma": 3.0}, rows=("target_mask",)),
    # metric
    Sample("dot", {"metric": "dot", "window_size": 5, "temperature": 4.0}),
    Sample("l2", {"metric": "l2", "window_size": 5, "temperature": 4.0}),
    Sample("l1", {"metric": "l1", "window_size": 5, "temperature": 2.0}),
    Sample("l1-bilinear", {"metric": "l1", "sampling": "bilinear", "temperature": 2.0}, rows=("valid", "target_mask")),
    Sample("clamp", {"eps_mode": "clamp", "eps": 1e-6, "window_size": 5}),
    Sample("clamp-above-the-norms", {"eps_mode": "clamp", "eps": 6.0, "window_size": 5}),
    Sample("large-eps", {"eps": 0.5, "window_size": 5}),
    # coordinates and sampling
    Sample("corner", {**_PIXELS, "window_size": 5}),
    Sample(
        "half-pixel", {**_PIXELS, "source_coords": "half_pixel", "target_coords": "half_pixel", "sampling": "round"}
    ),
    Sample("align-corners", {**_PIXELS, "source_coords": "align_corners", "target_coords": "align_corners"}),
    Sample("offset", {**_PIXELS, "output_offset": 3.3, "window_size": 3}),
    Sample("own-sizes", {**_PIXELS, "window_size": 5}, own_sizes=True),
    Sample(
        "own-sizes-half-pixel",
        {**_PIXELS, "source_coords": "half_pixel", "target_coords": "half_pixel", "sampling": "bilinear"},
        own_sizes=True,
    ),
    Sample(
        "own-sizes-align-corners",
        {**_PIXELS, "source_coords": "align_corners", "target_coords": "align_corners", "sampling": "round"},
        own_sizes=True,
    ),
    Sample("round", {"sampling": "round", "window_size": 5}),
    Sample("bilinear-zeros", {"sampling": "bilinear", "window_size": 5}),
    Sample(
        "bilinear-border",
        {**_PIXELS, "sampling": "bilinear", "sampling_padding": "border", "source_coords": "half_pixel"},
    ),
    Sample("border-floor", {"window_size": 5}, keypoints="border"),
    Sample("border-round", {"sampling": "round", "window_size": 5}, keypoints="border"),
    Sample("border-bilinear-zeros", {"sampling": "bilinear", "window_size": 5}, keypoints="border"),
    Sample("border-bilinear-border", {"sampling": "bilinear", "sampling_padding": "border"}, keypoints="border"),
    # temperature, rows, cells
    Sample("temperature-scalar", {"window_size": 5}, temperature="scalar"),
    Sample("temperature-rows", {"localization": "global"}, temperature="rows"),
    Sample("temperature-rows-outside", {"window_size": 3, "outside_value": 0.0}, temperature="rows"),
    Sample("temperature-gaussian", {"localization": "gaussian", "sigma": 2.0}, temperature="rows"),
    Sample("num-keypoints", {"window_size": 5}, rows=("num_keypoints",)),
    Sample("valid", {"window_size": 5, "sampling": "bilinear"}, rows=("valid",), temperature="rows"),
    Sample("target-mask", {"window_size": 5}, rows=("target_mask",)),
    Sample("query-masks", {"window_size": 5}, rows=("query_masks",)),
    Sample(
        "query-masks-global",
        {"localization": "global", "sampling": "bilinear", "temperature": 0.1},
        rows=("query_masks",),
    ),
    Sample(
        "query-masks-outside-disc",
        {"window_size": 4.5, "window_shape": "disc", "outside_value": -0.1},
        rows=("query_masks", "num_keypoints"),
        temperature="rows",
    ),
    Sample("query-masks-many", {"window_size": 3}, queries=37, target_map=(13, 11), rows=("query_masks", "valid")),
    Sample("all-restrictions", {"window_size": 5}, rows=("num_keypoints", "valid", "empty_target_mask")),
    # layouts
    *(Sample(layout, {"window_size": 5}, layout=layout) for layout in (*LAYOUTS[1:], "tokens")),
    Sample("channels-last-bilinear", {"sampling": "bilinear"}, layout="channels_last"),
    Sample(
        "channels-last-aligned", {"window_size": 5}, queries=7, channels=64, target_map=(24, 24), layout="channels_last"
    ),
    Sample("channels-last-many", {"sampling": "bilinear"}, queries=50, channels=32, layout="channels_last"),
    Sample("sliced-l2", {"metric": "l2", "temperature": 4.0, "localization": "global"}, layout="sliced"),
    Sample("channels-last-l1", {"metric": "l1", "temperature": 2.0, "window_size": 5}, layout="channels_last"),
    Sample("sliced-l1", {"metric": "l1", "temperature": 3.0, "localization": "global"}, layout="sliced"),
    # sizes
    Sample("one-of-each", {"metric": "dot"}, batch=1, queries=1, channels=1, source_map=(1, 1), target_map=(1, 1)),
    Sample("no-queries", {}, queries=0),
    Sample("no-images", {}, batch=0),
    Sample("one-row", {"window_size": 3, **_PIXELS, "target_coords": "align_corners"}, target_map=(1, 13)),
    Sample("one-column", {"window_size": (7, 3)}, source_map=(11, 1), target_map=(17, 1)),
    Sample("primes", {"window_size": 7}, batch=3, queries=37, channels=53, source_map=(13, 11), target_map=(11, 19)),
    Sample(
        "primes-l1",
        {"metric": "l1", "temperature": 5.0, "window_size": 7},
        queries=37,
        channels=83,
        source_map=(13, 11),
        target_map=(11, 19),
    ),
    Sample("many-queries", {"window_size": 3}, batch=1, queries=131, channels=16, target_map=(6, 7)),
    Sample("wide-channels", {"window_size": 9}, batch=1, queries=3, channels=300, target_map=(12, 13)),
)

SPREAD = SAMPLES[::5] if _backends.interpreting() else SAMPLES
"""For what needs several runs of each sample: all of them, but every fifth in the interpreter, which is slow."""
