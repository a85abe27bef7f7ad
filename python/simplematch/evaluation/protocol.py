"""PCK protocols: the conventions of published codebases as records."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..data.records import BoolArray, Box, FloatArray, PairInfo, Size
from ..sizes import ImageSize, height_width, size_text

ALPHAS = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
THRESHOLDS = ("bbox", "image", "bbox-kp", "bbox-padded")
SPACES = ("squash", "pad", "original")
AVERAGINGS = ("per-image", "per-point", "per-category")


@dataclass(frozen=True)
class PCKProtocol:
    """A PCK protocol: a keypoint is correct if its error is at most alpha times the threshold.

    Attributes:
        threshold: "bbox" (longer side of the target's box), "image" (longer side of the target image), "bbox-kp"
            (longer extent of the target's keypoints) or "bbox-padded" ("bbox-kp" of keypoints padded with (-1, -1) to
            `padded_to`: too large, but used by DHPF, CATs, CHM and others).
        space: where distance and threshold are measured: "squash" (the H x W input, each axis scaled independently),
            "pad" (both axes scaled by the smaller factor, S over the longer side for a square) or "original" pixels. It
            doesn't depend on how the model resizes images.
        strict: compare with < instead of <=.
        averaging: averaging of the headline: "per-image" (mean over pairs), "per-point" (mean over keypoints) or
            "per-category" (mean over categories of their means over pairs). Results contain all three.
        reverse: match target keypoints in the source image; the source's box and size give the threshold.
        alphas: ascending thresholds.
        padded_to: number of keypoints for "bbox-padded".
        name: name in tables.
    """

    threshold: str
    space: str = "squash"
    strict: bool = False
    averaging: str = "per-image"
    reverse: bool = False
    alphas: tuple[float, ...] = ALPHAS
    padded_to: int = 40
    name: str = ""

    def __post_init__(self) -> None:
        for field, allowed in (("threshold", THRESHOLDS), ("space", SPACES), ("averaging", AVERAGINGS)):
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field} must be one of {', '.join(allowed)}, got '{getattr(self, field)}'")
        if not self.alphas or min(self.alphas) < 0 or list(self.alphas) != sorted(set(self.alphas)):
            raise ValueError(f"alphas must be ascending and non-negative, got {self.alphas}")

    def describe(self, image_size: ImageSize, window: object = None, resize: str | None = None) -> str:
        """Describe the protocol in one line, with the size of the network's input and how images are brought to it."""
        parts = [
            f"threshold {self.threshold}",
            f"space {self.space}",
            "distance < alpha * threshold" if self.strict else "distance <= alpha * threshold",
            self.averaging,
            "target to source" if self.reverse else "source to target",
            f"image {size_text(image_size)}" + ("" if resize is None else f" ({resize})"),
            f"window {'not stated' if window is None else window}",
        ]
        return (f"{self.name}: " if self.name else "") + ", ".join(parts)

    def distances(self, predicted: FloatArray, info: PairInfo, image_size: ImageSize) -> FloatArray:
        """Compute the distances (N,) float64, divided by the threshold, of predictions (N, 2) in target pixels.

        Raises:
            ValueError: the pair has no box, or its threshold is zero.
        """
        return self.distances_to(info.target_keypoints, predicted, info, image_size)

    def distances_to(
        self, points: FloatArray, predicted: FloatArray, info: PairInfo, image_size: ImageSize
    ) -> FloatArray:
        """Compute the distances (N,) of predictions (N, 2) to other points (N, 2) of the target, see `distances`."""
        scale = _scale(self.space, info.target_size, image_size)
        offsets = predicted * scale - points * scale
        return np.hypot(offsets[:, 0], offsets[:, 1]) / self.threshold_of(info, image_size)

    def within(self, distances: FloatArray) -> BoolArray:
        """Compare distances (N,), divided by the threshold, with every alpha: (N, A)."""
        alphas = np.array(self.alphas)
        return np.asarray(distances[:, None] < alphas if self.strict else distances[:, None] <= alphas)

    def threshold_of(self, info: PairInfo, image_size: ImageSize) -> float:
        """Return the length that alpha multiplies, in pixels of the protocol's space."""
        scale = _scale(self.space, info.target_size, image_size)
        truth = info.target_keypoints * scale
        if self.threshold == "bbox":
            length = _longer_side(info.target_box, scale, info)
        elif self.threshold == "image":
            length = float(max(info.target_size[1] * scale[0], info.target_size[0] * scale[1]))
        else:
            if self.threshold == "bbox-padded" and len(truth) < self.padded_to:
                truth = np.concatenate((truth, [[-1.0, -1.0]]))
            length = float(np.ptp(truth, axis=0).max())
        if not length > 0:
            raise ValueError(f"threshold '{self.threshold}' of pair {info.pair_id} must be above zero, got {length}")
        return length


def default_protocols(dataset: str) -> list[PCKProtocol]:
    """Return the usual protocols of `dataset` (a `PairDataset.name`); PF-WILLOW also has a legacy one."""
    usual = preset("default", dataset)
    if dataset != "pf-willow":
        return [usual]
    return [usual, replace(usual, threshold="bbox-padded", name="legacy")]


def preset(codebase: str, dataset: str) -> PCKProtocol:
    """Return the protocol of a published codebase for a data set.

    Args:
        codebase: "default", "simplematch", "sd4match", "geoaware-sc", "sd-dino", "dift" or "cats".
        dataset: "spair", "pf-pascal", "pf-willow", "ap10k" or "images".
    """
    if dataset not in _THRESHOLDS:
        raise ValueError(f"dataset must be one of {', '.join(_THRESHOLDS)}, got '{dataset}'")
    if codebase.lower() not in _PRESETS:
        raise ValueError(f"codebase must be one of {', '.join(_PRESETS)}, got '{codebase}'")
    protocol = replace(_PRESETS[codebase.lower()], threshold=_THRESHOLDS[dataset])
    if dataset == "pf-willow" and protocol.name in _PADDED:
        return replace(protocol, threshold="bbox-padded")
    return protocol


_THRESHOLDS = {"spair": "bbox", "ap10k": "bbox", "pf-pascal": "image", "pf-willow": "bbox-kp", "images": "image"}
_PADDED = ("SimpleMatch", "CATs")
_PRESETS = {
    "default": PCKProtocol("bbox"),
    "simplematch": PCKProtocol("bbox", name="SimpleMatch"),
    "sd4match": PCKProtocol("bbox", name="SD4Match"),
    "geoaware-sc": PCKProtocol("bbox", space="pad", strict=True, name="GeoAware-SC"),
    "sd-dino": PCKProtocol("bbox", space="pad", strict=True, averaging="per-point", name="sd-dino"),
    "dift": PCKProtocol("bbox", space="original", name="DIFT"),
    "cats": PCKProtocol("bbox", reverse=True, name="CATs"),
}


def _scale(space: str, size: Size, image_size: ImageSize) -> FloatArray:
    """Return the factors (x, y) from original pixels to the space."""
    height, width = size
    rows, columns = height_width(image_size)
    if space == "squash":
        return np.array([columns / width, rows / height])
    return np.full(2, min(columns / width, rows / height) if space == "pad" else 1.0)


def _longer_side(box: Box | None, scale: FloatArray, info: PairInfo) -> float:
    if box is None:
        raise ValueError(
            f"threshold must be 'image' or 'bbox-kp' for pair {info.pair_id}, which has no target box, got 'bbox'"
        )
    return float(max((box[2] - box[0]) * scale[0], (box[3] - box[1]) * scale[1]))
