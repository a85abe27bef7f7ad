"""Evaluates a model on a data set under several protocols, encoding each image once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, distributed

from simplematch_kernels import Matches

from ..data.batch import pad_keypoints
from ..data.dataset import PairDataset
from ..data.images import ImageError
from ..data.records import PairInfo, Size
from ..data.transforms import PairTransform
from ..sizes import ImageSize, place
from .features import FeatureCache, concatenate
from .pck import PCK, PCKResult, to_original
from .predictions import Prediction, Predictions
from .protocol import PCKProtocol, default_protocols

_log = logging.getLogger(__name__)
_Image = tuple[str, str]


class Matcher(Protocol):
    """The interface of a model for evaluation; images are (B, 3, H, W), normalised with `mean` and `std`.

    A model may have an attribute `resize`, "squash" or "letterbox", see `simplematch.sizes`.
    """

    @property
    def image_size(self) -> ImageSize: ...
    @property
    def mean(self) -> Sequence[float]: ...
    @property
    def std(self) -> Sequence[float]: ...
    def encode(self, images: Tensor) -> Any: ...
    def match_features(
        self, source_features: Any, target_features: Any, keypoints: Tensor, num_keypoints: Tensor | None = None
    ) -> Matches: ...


@dataclass
class Evaluation:
    """The result of an evaluation.

    Attributes:
        results: one result per protocol, in order.
        predictions: the predictions of all pairs; None unless `keep_predictions`.
        images: number of distinct images in the pairs of this process.
        encoded: number of images that this process encoded; larger than `images` only if the cache was too small.
        seconds: time of this process by part: "decode", "encode", "match" and "metric".
        skipped: one sentence for each pair skipped because of an unreadable image.
    """

    results: list[PCKResult]
    predictions: Predictions | None
    images: int
    encoded: int
    seconds: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def evaluate(
    model: Matcher,
    dataset: PairDataset,
    protocols: Sequence[PCKProtocol] | None = None,
    *,
    batch_size: int = 16,
    device: torch.device | str | None = None,
    cache_bytes: int = 4 << 30,
    threads: int = 4,
    skip_broken: bool = False,
    keep_predictions: bool = True,
    window: object = None,
    progress: Callable[[int, int], None] | None = None,
    read: Callable[[tuple[str, str]], Tensor] | None = None,
) -> Evaluation:
    """Match all pairs of a data set and score them under several protocols.

    In a process group each process evaluates a share of the pairs; results and predictions cover all processes.

    Args:
        model: the model, see `Matcher`; it runs in eval mode and returns to its previous mode.
        dataset: the pairs; all their keypoints are used.
        protocols: default: `default_protocols` of the data set.
        batch_size: pairs matched at once; up to twice as many images are encoded at once.
        device: device of the images; default: that of the model's parameters, or the CPU.
        cache_bytes: memory for cached features that later pairs need.
        threads: number of threads that decode images.
        skip_broken: skip pairs with an unreadable image and log how many, instead of raising ImageError.
        keep_predictions: keep the predictions in the result.
        window: window size in the description; default: the model's `window_size`, if any.
        progress: called after each batch with the number of pairs done and the total.
        read: returns the argument of `model.encode` for an image, by `PairInfo.source_key`, such as kept features of
            `SimpleMatch.encode_images`. Default: the decoded image.

    Raises:
        ImageError: an image can't be read and `skip_broken` is False.
        ValueError: the data set is empty, or a pair has no threshold under a protocol; raised before any encoding.
    """
    protocols = list(default_protocols(dataset.name) if protocols is None else protocols)
    if not len(dataset) or not protocols:
        raise ValueError("dataset and protocols must each hold at least one item, got none")
    _check_thresholds(dataset, protocols, model.image_size)
    groups = {"category": dataset.categories, **dataset.variations}
    window = getattr(model, "window_size", None) if window is None else window
    resize = getattr(model, "resize", "squash")
    metrics = [PCK(protocol, model.image_size, groups, window, resize) for protocol in protocols]
    run = _Run(model, dataset, metrics, _device(model, device), threads, skip_broken, keep_predictions, read)
    with _eval_mode(model), torch.inference_mode():
        run.run(_share(_order(dataset)), batch_size, cache_bytes, progress)
    predictions = None
    if run.predictions is not None:
        predictions = Predictions(_gather(run.predictions), model.image_size, window, dataset.name, resize)
    skipped = _gather(run.skipped)
    if skipped:
        _log.warning("skipped %d of %d pairs; the first reason: %s", len(skipped), len(dataset), skipped[0])
    results = [metric.compute() for metric in metrics]
    return Evaluation(results, predictions, run.images, run.encoded, run.seconds, skipped)


class _Run:
    """An evaluation on one process."""

    def __init__(
        self,
        model: Matcher,
        dataset: PairDataset,
        metrics: list[PCK],
        device: torch.device,
        threads: int,
        skip_broken: bool,
        keep_predictions: bool,
        read: Callable[[_Image], Tensor] | None,
    ) -> None:
        self.model = model
        self.read = read or self._decode_image
        self.dataset = dataset
        self.metrics = [metric.to(device) for metric in metrics]
        self.device = device
        self.threads = threads
        self.skip_broken = skip_broken
        self.resize: str = getattr(model, "resize", "squash")
        self.transform = PairTransform(model.image_size, _triple(model.mean), _triple(model.std), resize=self.resize)
        self.predictions: list[Prediction] | None = [] if keep_predictions else None
        self.skipped: list[str] = []
        self.seconds = dict.fromkeys(("decode", "encode", "match", "metric"), 0.0)
        self.images = self.encoded = 0
        self._sizes: dict[_Image, Size] = {}
        self._decoded: dict[_Image, Tensor] = {}
        self._broken: dict[_Image, str] = {}

    def run(
        self, order: list[int], batch_size: int, cache_bytes: int, progress: Callable[[int, int], None] | None
    ) -> None:
        steps = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        keys = [[key for i in step for key in self._keys(self.dataset.info(i))] for step in steps]
        cache = FeatureCache(self._encode, keys, cache_bytes)
        self.images = len({key for step in keys for key in step})
        done = 0
        with ThreadPoolExecutor(self.threads) as pool:
            for number, (step, wanted) in enumerate(zip(steps, keys, strict=True)):
                known = {*self._broken, *self._decoded}
                self._decode(pool, [key for key in dict.fromkeys(wanted) if not cache.has(key) and key not in known])
                infos = self._readable([self.dataset.info(i) for i in step])
                features = cache.get(number, [key for info in infos for key in self._keys(info)])
                if infos:
                    self._match(infos, features)
                done += len(step)
                if progress is not None:
                    progress(done, len(order))
        self.encoded = cache.encoded

    def _keys(self, info: PairInfo) -> tuple[_Image, _Image]:
        self._sizes[info.source_key], self._sizes[info.target_key] = info.source_size, info.target_size
        return info.source_key, info.target_key

    def _decode(self, pool: ThreadPoolExecutor, keys: list[_Image]) -> None:
        with self._timed("decode"):
            for key, image in zip(keys, pool.map(self._load, keys), strict=True):
                if isinstance(image, Tensor):
                    self._decoded[key] = image
                else:
                    self._broken[key] = image

    def _load(self, key: _Image) -> Tensor | str:
        """Return the network's input of an image, or the reason why it can't be read."""
        try:
            return self.read(key)
        except ImageError as error:
            if not self.skip_broken:
                raise
            return str(error)

    def _decode_image(self, key: _Image) -> Tensor:
        return self.transform.prepare(self.dataset.load_image(Path(key[0]), self._sizes[key], key[1]))

    def _readable(self, infos: list[PairInfo]) -> list[PairInfo]:
        good = []
        for info in infos:
            reasons = [self._broken[key] for key in self._keys(info) if key in self._broken]
            if reasons:
                self.skipped.append(f"pair {info.pair_id}: {reasons[0]}")
            else:
                good.append(info)
        return good

    def _encode(self, keys: Sequence[Any]) -> Any:
        with self._timed("encode"):
            images = torch.stack([self._decoded.pop(key) for key in keys]).to(self.device)
            return self.model.encode(images)

    def _match(self, infos: list[PairInfo], features: dict[Any, Any]) -> None:
        source = concatenate([features[info.source_key] for info in infos])
        target = concatenate([features[info.target_key] for info in infos])
        directions = {metric.protocol.reverse for metric in self.metrics}
        for reverse in sorted(directions):
            if reverse:
                source, target, infos = target, source, [info.swapped() for info in infos]
            self._match_one_way(source, target, infos, reverse)

    def _match_one_way(self, source: Any, target: Any, infos: list[PairInfo], reverse: bool) -> None:
        size = self.model.image_size
        with self._timed("match"):
            placed = [place(i.source_size, size, self.resize).to_input(i.source_keypoints) for i in infos]
            points = [torch.from_numpy(points) for points in placed]
            keypoints = pad_keypoints([p.float() for p in points]).to(self.device)
            counts = torch.tensor([len(p) for p in points], device=self.device)
            matches = self.model.match_features(source, target, keypoints, counts)
            predicted = to_original(matches.keypoints, infos, size, self.resize)
            scores = matches.score.double().cpu().numpy()
        with self._timed("metric"):
            for metric in self.metrics:
                if metric.protocol.reverse == reverse:
                    metric.update(predicted, infos)
        if self.predictions is not None:
            rows = zip(infos, predicted, scores, strict=True)
            self.predictions += [Prediction(info, p, s[: len(p)], reverse) for info, p, s in rows]

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[part] += time.perf_counter() - start


def _order(dataset: PairDataset) -> list[int]:
    """Order pairs so that pairs with common images are neighbours."""
    infos = [dataset.info(i) for i in range(len(dataset))]
    return sorted(range(len(infos)), key=lambda i: (infos[i].category, infos[i].source_key, infos[i].target_key))


def _check_thresholds(dataset: PairDataset, protocols: Sequence[PCKProtocol], image_size: ImageSize) -> None:
    for index in range(len(dataset)):
        info = dataset.info(index)
        for protocol in protocols:
            protocol.threshold_of(info.swapped() if protocol.reverse else info, image_size)


def _share(order: list[int]) -> list[int]:
    """Return this process's share: neighbours stay together, and no pair is counted twice."""
    if not distributed.is_available() or not distributed.is_initialized():
        return order
    rank, world = distributed.get_rank(), distributed.get_world_size()
    return order[len(order) * rank // world : len(order) * (rank + 1) // world]


def _gather(items: list[Any]) -> list[Any]:
    if not distributed.is_available() or not distributed.is_initialized():
        return items
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def _device(model: Matcher, device: torch.device | str | None) -> torch.device:
    if device is not None:
        return torch.device(device)
    if isinstance(model, torch.nn.Module):
        for parameter in model.parameters():
            return parameter.device
    return torch.device("cpu")


@contextmanager
def _eval_mode(model: Matcher) -> Iterator[None]:
    training = isinstance(model, torch.nn.Module) and model.training
    if isinstance(model, torch.nn.Module):
        model.eval()
    try:
        yield
    finally:
        if isinstance(model, torch.nn.Module):
            model.train(training)


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
