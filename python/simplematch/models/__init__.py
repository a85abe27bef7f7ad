"""The paper's model, its presets and loss, and untrained baselines."""

from .card import CardResult
from .config import PRESETS, SimpleMatchConfig, preset
from .load import check_model, default_device, load_model
from .loss import keypoint_distance, keypoint_loss, multi_scale_loss
from .model import SimpleMatch
from .nearest import NearestNeighbour
from .nearest_config import NEAREST_PRESETS, NearestConfig

__all__ = [
    "NEAREST_PRESETS",
    "PRESETS",
    "CardResult",
    "NearestConfig",
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
