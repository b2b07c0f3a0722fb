"""Ctrl-C and SIGTERM end a run between two steps, so that it can be resumed exactly."""

import signal
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_info


class GracefulStop(L.Callback):
    """Finish the step under way, then stop; a second Ctrl-C stops at once.

    Lightning raises ``KeyboardInterrupt`` wherever the signal arrives, even inside the optimiser,
    and the weights saved then belong to no step.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._signal = None
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._handle)
            except ValueError:  # not in the main thread: the launcher handles signals
                return

    def _handle(self, number: int, frame: Any) -> None:
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = number
        rank_zero_info("\nStopping after this step; Ctrl-C again stops at once.")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *batch: Any
    ) -> None:
        # Validation and the end of the epoch follow a last batch: stop after them.
        if not trainer.is_last_batch:
            self._stop()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._signal == signal.SIGTERM:
            raise SIGTERMException
        if self._signal is not None:
            raise KeyboardInterrupt

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._restore()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)
