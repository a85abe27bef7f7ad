"""The training loop (section 3.4 of the paper): Adam with StepLR on the multi-scale keypoint loss."""

from __future__ import annotations

import gc
import logging
import os
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor, distributed

from .._files import DataError
from ..data import CopiedGroups, CopiedPairs, GroupBatch, PairBatch, SkippedPairs, open_dataset
from ..evaluation import card_result, evaluate
from ..models import CardResult, SimpleMatch
from . import checkpoint
from .card import run_facts
from .checkpoint import Position
from .config import TrainConfig
from .data import training_data, training_losses
from .fetch import Failure, fetch
from .finite import DivergedError, LossWatch, all_finite
from .guard import StepGuard
from .lock import locked
from .monitor import Monitor, trackers
from .precision import settle
from .reduce import ProcessMax, end_communication
from .run_cache import RunCache
from .sharding import is_sharded, make_accelerator, name_blocks, whole_model
from .stop import StopRequest, stop_on_signals
from .synchronise import synchronise_batch_norm

_log = logging.getLogger(__name__)
FAILED, DIVERGED = 1000, 1001  # reasons to stop besides signal numbers, shared between processes


@dataclass
class TrainResult:
    """The result of a run.

    Attributes:
        step: total number of steps.
        losses: the loss of each step of this call, summed over scales, in pixels for loss "distance"; NaN for a skipped
            step, whose loss or gradient was NaN or infinite.
        best_pck: the best PCK@0.1 on the validation pairs, 0 to 1; -1 before the first validation.
        stopped: True if a signal or `max_steps` ended the run before its last epoch.
        skipped: number of unreadable pairs.
        signal: the number of the signal that ended the run, or None.
    """

    step: int
    losses: list[float]
    best_pck: float
    stopped: bool
    skipped: int
    signal: int | None = None


def train(config: TrainConfig, resume: bool = False, allow_changes: bool = False) -> TrainResult:
    """Train a model, and save the best and the last model and a state to resume from in `config.output`.

    Start it with `accelerate launch` or `torchrun` to use several processes. Ctrl-C, SIGTERM, SIGHUP, SIGQUIT and
    SIGUSR1 end the run after the current step with everything saved; `resume=True` then continues exactly. An
    unreadable training image (without `skip_broken`) and a killed data loader worker also end the run with everything
    saved.

    Args:
        config: the configuration.
        resume: resume from the newest intact state in `config.output`.
        allow_changes: resume although fields that decide the result (`TrainConfig.DECIDING`) have changed.

    Raises:
        FileNotFoundError: `resume` without a saved state.
        ValueError: `output` already has a run and `resume` is False, or it has a run with other settings, or another
            run is using it.
        DataError, ValueError: data, preset or weights are missing or invalid, or all states are damaged.
        DivergedError: the loss was NaN or infinite three times in a row, or the weights are; earlier states are kept.
        OSError: the last state or model can't be written, or a data loader worker was killed.
    """
    config = settle(config, resume)
    with locked(config.output) if int(os.environ.get("RANK", 0)) == 0 else nullcontext():
        run = _Run(config)
        result = run.run(resume, allow_changes)
        run.close()
    return result


class _Run:
    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.accelerator = make_accelerator(config, trackers(config))
        set_seed(config.seed)
        self.network = SimpleMatch.from_preset(config.preset, config.pretrained, config.weights, **config.model)
        self.network.card_facts |= run_facts(config)
        self.samples, self.sampler, loader = training_data(config, self.network)
        self.validation = open_dataset(config.dataset, config.root, "val", skip_broken=config.skip_broken)
        optimizer = torch.optim.Adam(_parameter_groups(config, self.network))
        self.scheduler = torch.optim.lr_scheduler.StepLR(optimizer, config.lr_step_size, config.gamma)
        # The scheduler is not prepared by Accelerate: it steps once per optimizer step for any number of processes, so
        # the step number is its whole state.
        if config.channels_last:
            for parameter in self.network.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        if config.synchronise and self.accelerator.num_processes > 1:
            synchronise_batch_norm(self.network, self.accelerator.device)
        losses: Any = training_losses(config, self.network)
        name_blocks(losses)
        losses = torch.compile(losses) if config.compile else losses
        self.model, self.optimizer, self.loader = self.accelerator.prepare(losses, optimizer, loader)
        if is_sharded(self.model) and self.accelerator.is_main_process:
            _log.info("weights and optimizer are sharded over %d processes", self.accelerator.num_processes)
        self.position = Position()
        self.saved: Position | None = None  # position of the newest state
        self.validated: tuple[int, CardResult] | None = None  # step and result of the newest validation of this call
        self.max_over_processes = ProcessMax(self.accelerator.num_processes)
        self.groups = [x for x in (distributed.group.WORLD, self.max_over_processes.group) if x is not None]
        self.request = StopRequest()
        self.signal: int | None = None
        self.watch = LossWatch()
        self.losses: list[Tensor] = []  # tensors, so that the CPU doesn't wait for the GPU
        self.skipped = SkippedPairs()
        several = self.accelerator.num_processes > 1
        self.guard = StepGuard(self.network, self._total if several else None, self.accelerator.scaler is not None)
        self.monitor = Monitor(self.accelerator, config, self._steps())
        self.cache: RunCache | None = None
        if config.cache is not None:
            assert isinstance(self.samples, CopiedPairs | CopiedGroups)
            self.cache = RunCache(config, self.accelerator, self.network, self.samples.copies, self.max_over_processes)

    def run(self, resume: bool, allow_changes: bool) -> TrainResult:
        config, position = self.config, self.position
        if not resume and checkpoint.has_state(config.output):
            raise ValueError(f"output {config.output} already has a run: resume it, or choose another folder")
        if resume:
            self.position = position = checkpoint.load_state(self.accelerator, config, allow_changes)
            self.saved = replace(position)
            self._set_scheduler(position.step)
        if self.accelerator.is_main_process:
            checkpoint.write_config(config)
            self.monitor.begin()
        with stop_on_signals() as self.request, self.monitor.showing():
            stopped = not self._fill_cache()
            saved = self._save() if stopped else True
            while position.epoch < config.epochs and not stopped:
                stopped = self._epoch()
                if not stopped:
                    self._end_epoch()
                saved = self._save()
            saved = self._save_model(checkpoint.LAST) and saved
        if is_sharded(self.network):
            end_communication(self.accelerator)
        self.monitor.end()
        if not saved:
            raise OSError(f"the end of the run in {config.output} can't be saved: free some space, then resume")
        losses = [float(x) for x in self.losses]
        return TrainResult(position.step, losses, position.best_pck, stopped, self.skipped.count, self.signal)

    def _fill_cache(self) -> bool:
        """Encode the images of a frozen encoder once; return False if the run must stop."""
        if self.cache is None:
            return True
        self.model.eval()
        filled = self.cache.fill(self.validation, lambda: bool(self.request), self.monitor.encoded)
        if not filled:
            self.signal = self.request.signal
        return filled

    def close(self) -> None:
        """Free the process groups, whose destructors join their threads.

        These threads need Python's lock to free tensors. While Python shuts down they would abort the process
        ("terminate called without an active exception"). The destructor of DDP, which keeps the lock, would wait for
        them forever, but that of Python's reference to a group releases it: therefore those references go last.
        """
        groups = self.groups
        vars(self).clear()  # they are part of reference cycles
        if groups:
            gc.collect()
            groups.clear()

    def _epoch(self) -> bool:
        """Train for the rest of an epoch; return True if the run must stop."""
        config, position = self.config, self.position
        self.sampler.set_position(position.epoch, position.samples)
        self.samples.set_epoch(position.epoch)
        self.loader.set_epoch(position.epoch)  # otherwise Accelerate sets the data set's epoch from 0
        self.model.train()
        batches, samples, images = iter(self.loader), 0, 0
        total, files = torch.zeros((), device=self.accelerator.device), list[str]()
        while config.max_steps is None or position.step < config.max_steps:
            batch = fetch(batches)
            if self._must_stop(batch, within_step=samples > 0):
                return True
            if batch is None:
                return False
            losses = torch.stack([x.detach().float() for x in self._step(batch)])
            total, files = total + losses.sum(), files + batch.files
            samples += config.batch_size * self.accelerator.num_processes
            images += batch.images_encoded * self.accelerator.num_processes
            if not self.accelerator.sync_gradients:
                continue
            position.step, position.samples = position.step + 1, position.samples + samples
            self.losses.append(losses.sum())
            self.watch.add(position.step, total, files)
            self.monitor.step(position.step, losses, images, float(self.scheduler.get_last_lr()[0]))
            samples, images, total, files = 0, 0, torch.zeros_like(total), []
            if position.step % config.save_every == 0:
                self._save()
        return True

    def _end_epoch(self) -> None:
        """Validate if due, after saving a state, so that an interrupted validation can be repeated."""
        config, position = self.config, self.position
        if (position.epoch + 1) % config.evaluate_every == 0 or position.epoch + 1 == config.epochs:
            self._save()
            self._validate()
        position.epoch, position.samples = position.epoch + 1, 0

    def _must_stop(self, batch: object, within_step: bool) -> bool:
        """Return whether to stop; all processes agree, because one would wait forever for the others.

        Raises:
            DivergedError, OSError, DataError: the run can't continue.
        """
        number = 0 if within_step or self.request.signal is None else int(self.request.signal)
        if self.watch.diverged:
            number = DIVERGED
        elif isinstance(batch, Failure) and not number:
            number = FAILED
        number = self.max_over_processes(number)
        if number == DIVERGED:
            raise self._diverged()
        if number == FAILED:
            raise self._failed(batch)
        self.signal = number or None
        return number > 0

    def _failed(self, batch: object) -> Exception:
        """Save, then return the error to raise when this process, or another, has no next batch."""
        error = batch.error if isinstance(batch, Failure) else None
        saved = " Resume to continue." if self._save() else ""
        if isinstance(error, DataError):
            return DataError(f"{error} With skip_broken: true a run replaces such images.{saved}")
        return ChildProcessError(f"{error or 'another process of this run has failed; see its message.'}{saved}")

    def _save(self) -> bool:
        """Save a state unless the newest is current; return False if it can't be written.

        Raises:
            DivergedError: weights or optimizer state are NaN or infinite; nothing is written.
        """
        self.watch.drain()
        kept = (value for values in self.optimizer.state.values() for value in values.values())
        if self.max_over_processes(0 if all_finite((*self.network.state_dict().values(), *kept)) else DIVERGED):
            raise self._diverged()
        if self.position == self.saved:
            return True
        if checkpoint.save_state(self.accelerator, self.config, self.position):
            self.saved = replace(self.position)
            return True
        return False

    def _save_model(self, name: str) -> bool:
        """Save the model with its PCK on its card, if it has been measured; return False if it can't be written."""
        step = self.network.card_facts["step"] = self.position.step
        facts = {"results": [self.validated[1]]} if self.validated and self.validated[0] == step else None
        return checkpoint.save_model(self.accelerator, self.network, self.config.output / name, facts)

    def _diverged(self) -> DivergedError:
        what = self.watch.first or f"the weights after step {self.position.step} are NaN or infinite"
        often = f", the first of {self.watch.count} in a row" if self.watch.count > 1 else ""
        states = self.config.output / checkpoint.STATE
        kept = f"the states in {states} are from earlier steps" if self.saved else "nothing is saved yet"
        return DivergedError(
            f"{what}{often}; {kept}. Use a smaller learning_rate, clip or "
            "precision fp32 (resume with allow_changes), or check those images."
        )

    def _set_scheduler(self, step: int) -> None:
        """Set the scheduler to `step` steps; the optimizer's state already has the learning rates."""
        self.scheduler.last_epoch, self.scheduler._step_count = step, step + 1
        self.scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _step(self, batch: PairBatch | GroupBatch) -> list[Tensor]:
        self.skipped.add(batch.skipped)
        with self.accelerator.accumulate(self.model):
            self.guard.begin()
            with self.accelerator.autocast():
                losses: list[Tensor] = self.model(*batch.inputs)
            loss = torch.stack(losses).sum()
            self.accelerator.backward(loss * self._share(batch))
            self.guard.add_loss(loss)
            if self.accelerator.sync_gradients:
                mark = self.guard.end()
                losses = [x.detach() + mark for x in losses]
                if self.config.clip is not None:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.accelerator.sync_gradients:
                self.scheduler.step()
        return losses

    def _share(self, batch: PairBatch | GroupBatch) -> Tensor | float:
        """Return the factor that turns the mean over processes into the mean over all keypoints (eq. 13)."""
        if self.accelerator.num_processes == 1:
            return 1.0
        count = batch.count.float()
        total: Tensor = self.accelerator.reduce(count, "sum")
        share: Tensor = count * self.accelerator.num_processes / total.clamp(min=1)
        return share

    def _total(self, x: Tensor) -> Tensor:
        total: Tensor = self.accelerator.reduce(x, "sum")
        return total

    def _steps(self) -> int:
        """Return the total number of steps of the run."""
        config = self.config
        batches = len(self.samples) // (config.batch_size * self.accelerator.num_processes)
        steps: int = config.epochs * max(batches // config.accumulation, 1)
        return steps if config.max_steps is None else min(steps, config.max_steps)

    def _validate(self) -> None:
        """Validate; unreadable pairs are skipped with a warning, because one file shouldn't end a run."""
        read = None if self.cache is None else self.cache.reader
        found = evaluate(whole_model(self.network), self.validation, skip_broken=True, read=read)
        if len(found.skipped) == len(self.validation):
            raise DataError(f"no validation pair can be read; the first reason: {found.skipped[0]} Fix it and resume.")
        result, position = found.results[0], self.position
        assert found.predictions is not None
        self.monitor.validation(position.step, position.epoch + 1, result, found.predictions, self.validation)
        best = result.at(0.1) > position.best_pck
        self.validated = position.step, card_result(result, self.config.root, self.validation.name, "val")
        if best and self._save_model(checkpoint.BEST):
            position.best_pck = result.at(0.1)


def _parameter_groups(config: TrainConfig, network: SimpleMatch) -> list[dict[str, Any]]:
    """Return the trainable parameters with their learning rates."""
    encoder = [p for p in network.encoder.parameters() if p.requires_grad]
    others = [p for name, p in network.named_parameters() if p.requires_grad and not name.startswith("encoder.")]
    groups = [
        {"params": others, "lr": config.learning_rate},
        {"params": encoder, "lr": config.encoder_learning_rate or config.learning_rate},
    ]
    return [group for group in groups if group["params"]]
