"""`simplematch export`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from simplematch_kernels import onnx as operators

from .. import correspondences
from .._files import NewFiles, check_output
from ..models import NearestNeighbour, SimpleMatch, load_model
from ..sizes import height_width

INPUTS = ("source_image", "target_image", "keypoints")
OUTPUTS = ("matches", "score")


class PairMatcher(nn.Module):
    """A model with its normalisation of images; what the exported file computes.

    Args:
        model: in eval mode.
    """

    def __init__(self, model: SimpleMatch | NearestNeighbour) -> None:
        super().__init__()
        self.model = model
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(model.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(model.std)[:, None, None])

    def forward(self, source_image: Tensor, target_image: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """Match keypoints (B, N, 2) in pixels of images (B, 3, H, W), RGB values 0 to 1.

        Returns:
            Matches (B, N, 2) in pixels of the target images, and their scores (B, N).
        """
        images = ((image - self.mean) / self.std for image in (source_image, target_image))
        found = self.model(*images, keypoints)
        return found.keypoints, found.score


def export(onnx: Path, model: str = correspondences.DEFAULT_MODEL) -> None:
    """Write a model as one ONNX file: encoder, decoder and matching, of standard operators.

    Its inputs are source_image and target_image (B, 3, H, W), RGB values 0 to 1, and keypoints (B, N, 2) as (x, y) in
    pixels of these images; its outputs matches (B, N, 2) and score (B, N). B and N are free, H x W is the model's size.

    Args:
        onnx: file to write.
        model: a preset, the folder of a model, or a repository owner/name of the Hugging Face hub.
    """
    check_output(onnx)
    program = export_model(load_model(model))
    with NewFiles() as new:
        new.add(onnx).write(program)
    print(f"written: {onnx}, {len(program) / 2**20:.1f} MiB")


def export_model(model: SimpleMatch | NearestNeighbour) -> bytes:
    """Export a model in eval mode; return the contents of the file.

    Raises:
        ValueError: a package that the export needs is missing.
    """
    images, keypoints = torch.zeros(2, 3, *height_width(model.image_size)), torch.zeros(2, 3, 2)
    batch, points = torch.export.Dim.DYNAMIC, torch.export.Dim.DYNAMIC
    try:
        program = operators.export(
            PairMatcher(model.cpu().eval()).eval(),
            (images, images.clone(), keypoints),
            dynamic_shapes=({0: batch}, {0: batch}, {0: batch, 1: points}),
            input_names=INPUTS,
            output_names=OUTPUTS,
        )
    except ImportError as error:
        raise ValueError(str(error)) from error
    content: bytes = program.model_proto.SerializeToString()
    return content
