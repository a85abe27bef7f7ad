"""Progress bar, log and TensorBoard output of a run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from .._files import reason_of
from ..data import PairDataset
from ..evaluation import PCKResult, Predictions
from ..viz import as_array, draw_grid, prediction_panel
from .config import TrainConfig

_log = logging.getLogger(__name__)
PICTURES = 4  # pairs drawn at each validation
PICTURE_ALPHA = 0.1
PICTURE = "matches, validation"
PROJECT = "simplematch"  # of trackers that have projects


def trackers(config: TrainConfig) -> str | None:
    """Return the argument `log_with` of an Accelerator.

    Raises:
        ValueError: the tracker's package is missing.
    """
    if config.tracker == "none":
        return None
    if find_spec(config.tracker) is None:
        raise ValueError(
            f"tracker {config.tracker} needs the package {config.tracker}: pip install 'simplematch-kernels[track]'"
        )
    return config.tracker


class Monitor:
    """Reports the progress of a run, on its main process only.

    Args:
        accelerator: the accelerator with the trackers.
        config: the configuration of the run.
        steps: total number of steps.
    """

    def __init__(self, accelerator: Accelerator, config: TrainConfig, steps: int) -> None:
        self.accelerator, self.config, self.steps = accelerator, config, steps
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
        )  # fmt: skip
        hidden = not (console.is_terminal and accelerator.is_main_process)
        self.progress = Progress(*columns, console=console, disable=hidden)
        self.task = self.progress.add_task("training", total=steps, state="")
        self.encoding: TaskID | None = None
        self.losses: list[Tensor] = []
        self.images, self.since = 0, time.perf_counter()
        self.lost = False  # True after the log couldn't be written

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show the progress bar while the block runs, if standard error is a terminal."""
        with suppress(OSError):
            self.progress.start()
        try:
            with _quiet_writer():
                yield
        finally:
            with suppress(OSError):  # the terminal is closed
                self.progress.stop()

    def encoded(self, done: int, total: int) -> None:
        """Report how many images for the cache are encoded."""
        if self.encoding is None:
            self.encoding = self.progress.add_task("encoding", total=total, state="")
        self.progress.update(self.encoding, completed=done, total=total, visible=done < total)
        self.images, self.since = 0, time.perf_counter()

    def begin(self) -> None:
        """Open the log, on the main process.

        Raises:
            ValueError: the tracker can't start, for example because nobody is logged in.
        """
        config = self.config
        about = {"name": config.output.name, "config": config.to_dict()}
        options = {"wandb": {"dir": str(config.output), **about}, "trackio": about}
        try:
            self.accelerator.init_trackers("log" if config.tracker == "tensorboard" else PROJECT, init_kwargs=options)
        except Exception as error:  # each tracker has errors of its own
            if config.tracker == "tensorboard":
                raise
            raise ValueError(f"tracker {config.tracker} can't start: {reason_of(error)}") from error

    def end(self) -> None:
        """Close the log."""
        self._record(self.accelerator.end_training)

    def _record(self, write: Callable[[], object]) -> None:
        """Write to the log; on a full disk the run continues without it, and starts a new file when possible."""
        try:
            if self.lost and self.config.tracker == "tensorboard" and self.accelerator.is_main_process:
                self.begin()
            write()
            self.lost = False
        except Exception as error:
            tracker = self.config.tracker
            if tracker == "tensorboard" and not isinstance(error, OSError):
                raise
            if not self.lost:  # other trackers have errors of their own, for example of a service that can't be reached
                log = f"{self.config.output / 'log'} can't be written"
                what = log if tracker == "tensorboard" else f"tracker {tracker} fails"
                _log.warning("%s, %s; the run continues", what, reason_of(error))
            self.lost = True

    def step(self, number: int, losses: Tensor, images: int, learning_rate: float) -> None:
        """Report a step over `images` images; its losses (scales,) are read every `log_every` steps."""
        self.images += images
        self.losses.append(losses)
        self.progress.update(self.task, completed=number)
        if number % self.config.log_every == 0:
            self._log_steps(number, torch.stack(self.losses).mean(0).tolist(), learning_rate)
            self.losses.clear()

    def _log_steps(self, number: int, losses: list[float], learning_rate: float) -> None:
        """Log the mean losses since the last entry."""
        self.progress.update(self.task, state=f"loss {sum(losses):.2f}")
        now = time.perf_counter()
        speed, self.images, self.since = self.images / (now - self.since), 0, now
        entry = {f"loss/{name}": value for name, value in zip(self._names(len(losses)), losses, strict=True)}
        entry |= {"loss/all": sum(losses), "learning rate": learning_rate, "images a second": speed}
        entry["peak memory, MiB"] = _peak_memory()
        self._record(lambda: self.accelerator.log(entry, step=number))
        parts = ", ".join(f"{value:.2f}" for value in losses)
        _log.info("step %d of %d: losses %s, %.1f images/s", number, self.steps, parts, speed)

    def validation(
        self, step: int, epoch: int, result: PCKResult, predictions: Predictions, pairs: PairDataset
    ) -> None:
        """Report the validation after an epoch, and draw some predictions."""
        chosen = {f"PCK@{alpha:g}, validation": result.at(alpha) for alpha in (0.05, 0.1, 0.15)}
        for category, scores in result.groups["category"].items():
            chosen[f"PCK@0.1/{category}"] = scores.per_image[result.protocol.alphas.index(0.1)]
        self._record(lambda: self.accelerator.log(chosen, step=step))
        text = ", ".join(f"{name} {100 * value:.1f}" for name, value in chosen.items())
        _log.info("epoch %d: %s", epoch, text)
        if self.accelerator.is_main_process and predictions.items:
            picture = validation_picture(result, predictions, pairs)
            self._record(lambda: self._draw(picture, step))
        self.since, self.images = time.perf_counter(), 0

    def _draw(self, picture: Any, step: int) -> None:
        for tracker in self.accelerator.trackers:
            if hasattr(tracker, "writer"):  # TensorBoard's
                tracker.writer.add_image(PICTURE, picture, step, dataformats="HWC")
            elif hasattr(tracker, "log_images"):
                tracker.log_images({PICTURE: [picture]}, step=step)

    def _names(self, count: int) -> list[str]:
        names = [f"scale {i}" for i in range(count)]
        return [*names[:-1], "contrast"] if self.config.contrast else names


@contextmanager
def _quiet_writer() -> Iterator[None]:
    """Suppress tracebacks of TensorBoard's writer thread, whose errors the next call raises again."""
    previous = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, OSError):
            previous(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = previous


def validation_picture(result: PCKResult, predictions: Predictions, pairs: PairDataset) -> Any:
    """Draw evenly spaced predictions as an array (H, W, 3) uint8."""
    ordered = sorted(predictions.items, key=lambda item: item.info.pair_id)
    places = np.linspace(0, len(ordered) - 1, min(PICTURES, len(ordered))).round().astype(int)
    chosen = [ordered[i] for i in places]
    side = predictions.image_size
    return as_array(draw_grid([[prediction_panel(x, pairs, result.protocol, PICTURE_ALPHA, side)] for x in chosen]))


def _peak_memory() -> float:
    """Return the peak memory in MiB, of the GPU's tensors if available, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
