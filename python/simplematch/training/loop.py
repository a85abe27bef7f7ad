"""The training loop (paper section 3.4): Adam on the multi-scale keypoint loss, the rate falling by steps."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from torch.utils.data import DataLoader

from ..data import PairBatch, PairTransform, SkippedPairs, TransformedPairs, collate, open_dataset
from ..evaluation import evaluate
from ..models import SimpleMatch, multi_scale_loss
from . import checkpoint
from .checkpoint import Position
from .config import TrainConfig
from .sampler import EpochSampler
from .stop import stop_on_signals

_log = logging.getLogger(__name__)


@dataclass
class TrainResult:
    """How a run ended.

    Attributes:
        step: steps done in all.
        losses: of each step of this call, in pixels, the sum over scales.
        best_pck: the best PCK@0.1 on the validation pairs, from 0 to 1; -1 before the first validation.
        stopped: a signal, or `max_steps`, ended the run before its last epoch did.
        skipped: pairs that could not be read.
    """

    step: int
    losses: list[float]
    best_pck: float
    stopped: bool
    skipped: int


def train(config: TrainConfig, resume: bool = False) -> TrainResult:
    """Train a model; the best and the last are left in `config.output`, with a state to resume from.

    Started by `accelerate launch` or `torchrun` it runs on several processes. Ctrl-C and SIGTERM end it after the
    current step, with everything saved; `resume=True` goes on from there as if nothing had happened.

    Raises:
        FileNotFoundError: `resume` without a saved state.
        DataError, ValueError: data, preset or weights are missing or don't fit.
    """
    return _Run(config).go(resume)


class _Run:
    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.accelerator = Accelerator(
            gradient_accumulation_steps=config.accumulation, mixed_precision=config.precision, log_with="tensorboard",
            project_dir=str(config.output),
        )  # fmt: skip
        set_seed(config.seed)
        self.network = SimpleMatch.from_preset(config.preset, config.pretrained, config.weights, **config.model)
        self.pairs, self.sampler, loader = _training_data(config, self.network)
        self.validation = open_dataset(config.dataset, config.root, "val", skip_broken=config.skip_broken)
        trained = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, config.learning_rate)
        self.scheduler = torch.optim.lr_scheduler.StepLR(optimizer, config.gamma_every, config.gamma)
        # The scheduler is not prepared: it steps once a step, however many processes there are.
        self.accelerator.register_for_checkpointing(self.scheduler)
        network: Any = torch.compile(self.network) if config.compile else self.network
        self.model, self.optimizer, self.loader = self.accelerator.prepare(network, optimizer, loader)
        self.position = Position()
        self.losses: list[float] = []
        self.skipped = SkippedPairs()

    def go(self, resume: bool) -> TrainResult:
        config, position = self.config, self.position
        if resume:
            self.position = position = checkpoint.load_state(self.accelerator, config.output)
        if self.accelerator.is_main_process:
            checkpoint.write_config(config)
            self.accelerator.init_trackers("log")
        stopped = False
        with stop_on_signals() as request:
            while position.epoch < config.epochs and not stopped:
                stopped = self._epoch(request)
                if not stopped:
                    position.epoch, position.batch = position.epoch + 1, 0
                    if position.epoch % config.evaluate_every == 0 or position.epoch == config.epochs:
                        self._validate()
                checkpoint.save_state(self.accelerator, config.output, position)
        checkpoint.save_model(self.accelerator, self.network, config.output / checkpoint.LAST)
        self.accelerator.end_training()
        return TrainResult(position.step, self.losses, position.best_pck, stopped, self.skipped.count)

    def _epoch(self, request: object) -> bool:
        """The rest of an epoch; True if it was cut short."""
        config, position = self.config, self.position
        first = position.batch * config.batch_size * self.accelerator.num_processes
        self.sampler.set_position(position.epoch, first)
        self.pairs.set_epoch(position.epoch)
        self.loader.set_epoch(position.epoch)  # otherwise it counts from 0, and tells the data set so
        self.model.train()
        for batch in self.loader:
            start = time.perf_counter()
            losses = self._step(batch)
            position.batch += 1
            if not self.accelerator.sync_gradients:
                continue
            position.step += 1
            self._record(losses, len(batch) * config.accumulation / (time.perf_counter() - start))
            if request or position.step == config.max_steps:
                return True
            if position.step % config.save_every == 0:
                checkpoint.save_state(self.accelerator, config.output, position)
        return False

    def _step(self, batch: PairBatch) -> list[Tensor]:
        self.skipped.add(batch)
        with self.accelerator.accumulate(self.model):
            with self.accelerator.autocast():
                matches = self.model(
                    batch.source_images, batch.target_images, batch.source_keypoints, batch.num_keypoints
                )
            losses = multi_scale_loss(matches, batch.target_keypoints, batch.num_keypoints)
            self.accelerator.backward(torch.stack(losses).sum() * self._share(batch))
            if self.accelerator.sync_gradients and self.config.clip is not None:
                self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.accelerator.sync_gradients:
                self.scheduler.step()
        return losses

    def _share(self, batch: PairBatch) -> Tensor | float:
        """What makes the mean of the processes' means the mean over all keypoints of the whole batch (eq. 13)."""
        if self.accelerator.num_processes == 1:
            return 1.0
        count = batch.num_keypoints.sum().float()
        total: Tensor = self.accelerator.reduce(count, "sum")
        share: Tensor = count * self.accelerator.num_processes / total.clamp(min=1)
        return share

    def _record(self, losses: list[Tensor], images_per_second: float) -> None:
        values = [float(x.detach()) for x in losses]
        self.losses.append(sum(values))
        if self.position.step % self.config.log_every:
            return
        entry = {f"loss/scale {i}": value for i, value in enumerate(values)}
        entry |= {"loss": sum(values), "learning rate": float(self.scheduler.get_last_lr()[0])}
        entry["pairs a second"] = images_per_second
        if torch.cuda.is_available():
            entry["peak memory, MiB"] = torch.cuda.max_memory_allocated() / 2**20
        self.accelerator.log(entry, step=self.position.step)
        _log.info("step %d: loss %.2f pixels, %.1f pairs/s", self.position.step, sum(values), images_per_second)

    def _validate(self) -> None:
        found = evaluate(self.network, self.validation, keep_predictions=False, skip_broken=self.config.skip_broken)
        pck = found.results[0].at(0.1)
        self.accelerator.log({"PCK@0.1, validation": pck}, step=self.position.step)
        _log.info("epoch %d: PCK@0.1 %.2f", self.position.epoch, pck)
        if pck > self.position.best_pck:
            self.position.best_pck = pck
            checkpoint.save_model(self.accelerator, self.network, self.config.output / checkpoint.BEST)


def _training_data(
    config: TrainConfig, model: SimpleMatch
) -> tuple[TransformedPairs, EpochSampler, DataLoader[PairBatch]]:
    dataset = open_dataset(config.dataset, config.root, "trn", skip_broken=config.skip_broken)
    transform = PairTransform(
        model.image_size, model.mean, model.std, config.max_keypoints, config.crop, config.rotate, config.photometric,
        config.exchange,
    )  # fmt: skip
    pairs = TransformedPairs(dataset, transform, seed=config.seed, skip_broken=config.skip_broken)
    sampler = EpochSampler(len(pairs), config.seed)
    loader: DataLoader[Any] = DataLoader(
        pairs, config.batch_size, sampler=sampler, num_workers=config.workers, collate_fn=collate, drop_last=True,
        persistent_workers=config.workers > 0, pin_memory=torch.cuda.is_available(),
    )  # fmt: skip
    return pairs, sampler, loader
