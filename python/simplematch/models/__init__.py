"""The model of the paper, its presets, its loss, and untrained matchers to compare with."""

from .config import PRESETS, SimpleMatchConfig, preset
from .loss import keypoint_loss, multi_scale_loss
from .model import SimpleMatch

__all__ = ["PRESETS", "SimpleMatch", "SimpleMatchConfig", "keypoint_loss", "multi_scale_loss", "preset"]
