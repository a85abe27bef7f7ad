"""The cache of a run: features of the training and the validation images, or none if they can't be kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from .._files import DataError, reason_of
from ..data import ImageCopies, PairDataset, PairTransform
from ..models import SimpleMatch
from ..models.identity import digest
from .config import TrainConfig
from .feature_cache import CachedCopies, Filling, other_settings
from .lock import lock_after_waiting

_log = logging.getLogger(__name__)
DONE, STOPPED, UNWRITABLE, BROKEN = range(4)  # how filling ended, shared between processes
Most = Callable[[int], int]  # the largest number that any process passes


class RunCache:
    """The cached features of a run.

    Attributes:
        reader: returns the features of a validation image, for `evaluate`; None as long as they aren't cached.
    """

    def __init__(
        self, config: TrainConfig, accelerator: Accelerator, network: SimpleMatch, copies: ImageCopies, most: Most
    ) -> None:
        """Find what is cached.

        Raises:
            ValueError: the encoder is not frozen.
        """
        check_frozen(config, network)
        assert config.cache is not None
        self.config, self.accelerator, self.network, self.most = config, accelerator, network, most
        self.folder = config.cache
        self.digest = digest(network.encoder)
        self.training = CachedCopies(self.folder, network, copies, config.precision, self.digest)
        self.reader: Callable[[tuple[str, str]], Tensor] | None = None

    def fill(self, validation: PairDataset, stopping: Callable[[], bool], progress: Callable[[int, int], None]) -> bool:
        """Encode what is missing, then let the run read features; return False if it was asked to stop.

        If they can't be written, a warning says so, and the run encodes in every step.

        Raises:
            DataError: an image can't be read, and the configuration doesn't skip such images.
            ChildProcessError: a data loader worker was killed, or another process has failed.
        """
        self._report()
        filled = self._fill(self.training, self.accelerator.autocast, self.config.skip_broken, stopping, progress)
        if filled is None:
            return True
        if not filled:
            return False
        self.training.use()
        return self._fill_validation(validation, stopping, progress)

    def _fill_validation(
        self, pairs: PairDataset, stopping: Callable[[], bool], progress: Callable[[int, int], None]
    ) -> bool:
        """Encode the validation images, in float32 as `evaluate` does; its steps encode them anew if that fails."""
        plain = PairTransform(self.network.image_size, self.network.mean, self.network.std, resize=self.network.resize)
        cached = CachedCopies(self.folder, self.network, ImageCopies(pairs, plain, 1), "fp32", self.digest)
        filled = self._fill(cached, nullcontext, True, stopping, progress)
        if filled:
            cached.use()
            self.reader = lambda key: cached.copies.read(key, 0)[0]
        return filled is not False

    def _report(self) -> None:
        if not self.accelerator.is_main_process:
            return
        _log.info("%s", self.training.describe())
        others = "" if len(self.training.store) else other_settings(self.training.store)
        if others:
            _log.info("cache %s also has features of other settings, which are kept apart: %s", self.folder, others)

    def _fill(
        self,
        cached: CachedCopies,
        autocast: Callable[[], AbstractContextManager[Any]],
        skip_broken: bool,
        stopping: Callable[[], bool],
        progress: Callable[[int, int], None],
    ) -> bool | None:
        """Encode what is missing on all processes; return whether it is done, or None if it can't be written."""
        if not self.most(len(cached.missing())):
            return True
        how = Filling(
            self.accelerator.device, autocast, self.config.workers, skip_broken,
            self.accelerator.process_index, self.accelerator.num_processes, stopping, progress,
        )  # fmt: skip
        with ExitStack() as held:
            failure, end = self._begin(cached, held, stopping)
            if self.most(end) == DONE:
                cached.store.refresh()
                self.most(DONE)  # nobody writes before everybody knows what is missing
                failure, end = _filled(cached, self.network, how)
            worst = self.most(end)
        if worst == BROKEN:
            raise failure or ChildProcessError("another process of this run has failed; see its message.")
        if worst == UNWRITABLE:
            cached.store.discard()
            _log.warning(
                "cache %s can't be used, %s; the run goes on without it and encodes images in every step",
                cached.store.folder, reason_of(failure) if failure else "another process failed",
            )  # fmt: skip
            return None
        return worst == DONE

    def _begin(
        self, cached: CachedCopies, held: ExitStack, stopping: Callable[[], bool]
    ) -> tuple[Exception | None, int]:
        """Take the lock and make the folder, on the main process; other processes rely on it."""
        if not self.accelerator.is_main_process:
            return None, DONE
        try:
            if not held.enter_context(self._lock(cached.store.folder, stopping)):
                return None, STOPPED
            cached.store.refresh()
            cached.store.prepare(cached.total)
        except OSError as error:
            return error, UNWRITABLE
        return None, DONE

    def _lock(self, folder: Path, stopping: Callable[[], bool]) -> AbstractContextManager[bool]:
        """Hold the lock of the features on the main process; wait while another run encodes them."""
        told: list[str] = []

        def wait(holder: str) -> bool:
            if not told:
                told.append(holder)
                _log.info("waiting for %s, which is filling the cache %s", holder, folder)
            return not stopping()

        return lock_after_waiting(folder, wait)


def _filled(cached: CachedCopies, network: SimpleMatch, how: Filling) -> tuple[Exception | None, int]:
    """Encode this process's share; return the error, if any, and how it ended."""
    try:
        return None, DONE if cached.fill(network, how) else STOPPED
    except (DataError, ChildProcessError) as error:
        return error, BROKEN
    except OSError as error:
        return error, UNWRITABLE


def check_frozen(config: TrainConfig, network: SimpleMatch) -> None:
    """Raise a ValueError if the encoder's features change while it trains."""
    training = network.config.encoder_training
    if training != "frozen":
        raise ValueError(
            "cache must be null unless the encoder is frozen (model: {encoder_training: frozen}), got "
            f"{config.cache} with encoder_training {training!r}"
        )
