"""Ctrl-C ends a run between two steps, so that it can be resumed exactly."""

import signal
import threading
from typing import Any

import lightning as L
from lightning.pytorch.utilities.rank_zero import rank_zero_info


class GracefulStop(L.Callback):
    """Finish the step under way, then stop; a second Ctrl-C stops at once.

    Lightning raises ``KeyboardInterrupt`` wherever the signal arrives, even inside the optimiser,
    and the weights saved then belong to no step. It is Lightning that puts the former handler
    back, and that ends a run between two steps on SIGTERM.
    """

    def __init__(self) -> None:
        self._asked = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._asked = False
        if threading.current_thread() is threading.main_thread():  # elsewhere it is not allowed
            signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        rank_zero_info("\nStopping after this step; Ctrl-C again stops at once.")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *batch: Any
    ) -> None:
        # Validation and the end of the epoch follow a last batch: stop after them.
        if self._asked and not trainer.is_last_batch:
            raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._asked:
            raise KeyboardInterrupt
