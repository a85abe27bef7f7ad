"""The paper's model, its presets and loss, and untrained baselines."""

from .config import PRESETS, SimpleMatchConfig, preset
from .load import check_model, default_device, load_model
from .loss import keypoint_distance, keypoint_loss, multi_scale_loss
from .model import SimpleMatch
from .nearest import NEAREST_PRESETS, NearestNeighbour

__all__ = [
    "NEAREST_PRESETS",
    "PRESETS",
    "NearestNeighbour",
    "SimpleMatch",
    "SimpleMatchConfig",
    "check_model",
    "default_device",
    "keypoint_distance",
    "keypoint_loss",
    "load_model",
    "multi_scale_loss",
    "preset",
]
