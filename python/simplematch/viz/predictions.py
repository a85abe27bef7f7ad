"""Draws the predictions of an evaluation."""

from __future__ import annotations

from ..data import PairDataset
from ..evaluation import PCKProtocol, Prediction
from ..sizes import ImageSize
from .matches import MatchPanel


def prediction_panel(
    item: Prediction, pairs: PairDataset, protocol: PCKProtocol, alpha: float, image_size: ImageSize, name: str = ""
) -> MatchPanel:
    """Make a panel of a prediction; points that are correct at alpha are green.

    Args:
        item: a prediction from source to target.
        pairs: its data set.
        protocol, alpha: decide which points are correct.
        image_size: size of the network's input.
        name: name of the model, for the title.
    """
    info = item.info
    source = pairs.load_image(info.source_path, info.source_size, info.source_variant)
    target = pairs.load_image(info.target_path, info.target_size, info.target_variant)
    correct = protocol.distances(item.predicted, info, image_size) <= alpha
    title = f"{name}{name and ': '}{correct.sum()} of {len(correct)} within {alpha:g} ({info.category})"
    return MatchPanel(
        source.permute(1, 2, 0).numpy(), target.permute(1, 2, 0).numpy(), info.source_keypoints, item.predicted,
        correct, title=title,
    )  # fmt: skip
