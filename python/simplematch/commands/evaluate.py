"""`simplematch eval`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from simplematch_kernels import use_backend

from .. import evaluation
from .._files import NewFiles, check_output
from .._json import to_json
from ..data import open_dataset, symmetry_of
from ..evaluation import GeoAwareResult, PCKResult
from ..evaluation.processes import joined_processes
from ..models import check_model, default_device, load_model
from ..models.hub import check_card, folder_of
from ..models.storage import CARD
from .lists import names
from .model_options import model_options
from .progress import progress_bar


def evaluate(
    dataset: str,
    root: Path,
    preset: str = "efficientnet-lite0-448-nn",
    checkpoint: Path | None = None,
    weights: Path | None = None,
    encoder: str | None = None,
    block: int | None = None,
    image_size: str | None = None,
    resize: str | None = None,
    split: str = "test",
    codebase: str | None = None,
    annotations: str = "image",
    batch_size: int = 16,
    output: Path | None = None,
    predictions: Path | None = None,
    symmetry: str | None = None,
    card: bool = False,
    skip_broken: bool = False,
    backend: str | None = None,
    device: str | None = None,
) -> None:
    """Measure PCK of a model on a data set; under torchrun, each process evaluates a share of the pairs.

    Args:
        dataset: spair, pf-pascal, pf-willow, ap10k, images or auto.
        root: folder of the data set, in any of its known layouts.
        preset: a model with a pretrained encoder; -nn presets are untrained nearest-neighbour matchers.
        checkpoint: a folder that training or save_pretrained wrote, or a repository owner/name of the Hugging Face hub,
            instead of a preset.
        weights: file of the encoder weights of the preset or of encoder.
        encoder: instead of a preset, any model of timm, for an untrained nearest-neighbour matcher.
        block: with encoder, the block (or the stage) whose descriptors are compared; default: three quarters of a ViT's
            depth, or strides 8 and 16 of an encoder with stages.
        image_size: size of the network's input instead of the preset's: 448, or height x width: 448x672.
        resize: squash (each axis independently) or letterbox (keep the aspect ratio); default: the model's.
        split: split of the data set.
        codebase: comma-separated codebases whose PCK protocols to use: default, cats, simplematch, sd4match,
            geoaware-sc, sd-dino, dift.
        annotations: image or pair: which annotation to use where the two differ (SPair-71k layout only).
        batch_size: pairs per batch.
        output: json file for the results; a csv file with the same name is written beside it.
        predictions: file for all predictions, from which any protocol can be computed later.
        symmetry: json file with groups of interchangeable keypoints, or landmarks-spair, spair-71k or ap-10k: also
            print PCK of keypoints with a counterpart in the target, and how many wrong ones land on it; default:
            symmetry.json in the folder of the data set, if any.
        card: add the results to the model card in the folder `checkpoint`.
        skip_broken: skip unreadable images and report how many.
        backend: backend of the operators; default: the fastest available.
        device: default: cuda if available.
    """
    files = _outputs(output, predictions)
    chosen = _checked_folder(checkpoint) if checkpoint else preset
    if card:
        _check_card(checkpoint)
    if checkpoint and encoder is not None:
        raise ValueError(f"encoder must not be given with a checkpoint, which has its own, got {encoder}")
    how = model_options(encoder, block, image_size, resize)
    check_model(chosen, encoder, block)  # before reading a large data set
    if annotations != "image" and dataset != "spair":
        raise ValueError(f"annotations must be image unless dataset is spair, got {annotations!r}")
    options: dict[str, Any] = {"annotations": annotations} if dataset == "spair" else {}
    pairs = open_dataset(dataset, root, split, skip_broken=skip_broken, **options)
    groups = symmetry_of(pairs, symmetry)
    protocols = [evaluation.preset(name, pairs.name) for name in names(codebase)] if codebase else None
    model = load_model(chosen, weights, **how)
    chosen_backend = use_backend(backend) if backend is not None else nullcontext()
    with joined_processes() as main, chosen_backend, progress_bar("pairs", main) as progress:
        model.to(device or default_device())
        found = evaluation.evaluate(
            model, pairs, protocols, batch_size=batch_size, skip_broken=skip_broken, progress=progress,
            keep_predictions=predictions is not None or groups is not None,
        )  # fmt: skip
    if not main:
        return
    geo_aware = []
    if groups is not None and found.predictions is not None:
        geo_aware = [evaluation.geo_aware(found.predictions, pairs, groups, x.protocol) for x in found.results]
    report: dict[str, Any] = {"results": evaluation.to_json(found.results), "seconds": found.seconds}
    report |= {"geo_aware": evaluation.to_json(geo_aware)} if geo_aware else {}
    report |= {
        "model": str(checkpoint or encoder or preset),
        "dataset": pairs.name,
        "split": split,
        "skipped": found.skipped,
    }
    if encoder is not None:
        report["config"] = model.config.to_dict()
    try:
        with NewFiles() as new:
            if output is not None:
                new.add(files[0]).write(to_json(report, indent=1).encode())
                new.add(files[1]).write(evaluation.to_csv(found.results, geo_aware).encode())
            if predictions is not None and found.predictions is not None:
                found.predictions.write(new.add(predictions))
            if card and checkpoint is not None:
                results = [evaluation.card_result(result, root, pairs.name, split) for result in found.results]
                new.add(checkpoint / CARD).write(model.updated_card(checkpoint, results=results).encode())
    finally:  # print the results even if they can't be written
        print(_tables(found.results, geo_aware))
        seconds = ", ".join(f"{part} {value:.1f}" for part, value in found.seconds.items())
        print(f"\n{len(pairs)} pairs of {found.images} images, {found.encoded} encoded; seconds: {seconds}")


def _tables(results: Sequence[PCKResult], geo_aware: Sequence[GeoAwareResult]) -> str:
    """Format the results, each with its breakdown."""
    tables = [evaluation.format_result(result) for result in results]
    for number, result in enumerate(geo_aware):
        tables[number] += f"\n\n{evaluation.format_geo_aware(result)}"
    return "\n\n".join(tables)


def _outputs(output: Path | None, predictions: Path | None) -> list[Path]:
    """List the output files, and check that they can be written."""
    files = [] if output is None else [output, output.with_suffix(".csv")]
    files += [] if predictions is None else [predictions]
    if output is not None and output.suffix == ".csv":
        raise ValueError(f"output must not end in .csv, the suffix of the table beside it, got {output}")
    if predictions is not None and predictions in files[:-1]:
        raise ValueError(f"predictions must differ from output and its table, got {predictions}")
    for file in files:
        check_output(file)
    return files


def _check_card(checkpoint: Path | None) -> None:
    if checkpoint is None or not checkpoint.is_dir():
        raise ValueError(f"card must be false unless checkpoint is a folder on this computer, got {checkpoint}")
    check_card(checkpoint)
    check_output(checkpoint / CARD)


def _checked_folder(checkpoint: Path) -> Path:
    folder = folder_of(checkpoint)
    if not folder.is_dir():
        raise FileNotFoundError(f"checkpoint must be a folder with config.json and model.safetensors, got {checkpoint}")
    return folder
