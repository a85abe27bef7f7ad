"""Training: one configuration, one loop, checkpoints that resume exactly."""

from .config import TrainConfig
from .loop import TrainResult, train

__all__ = ["TrainConfig", "TrainResult", "train"]
