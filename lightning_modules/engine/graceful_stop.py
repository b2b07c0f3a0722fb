"""Ctrl-C ends a run between two steps, so that it can be resumed exactly."""

import signal
import threading
from typing import Any

import lightning as L
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from trellis.lightning_modules.engine.lightning_private import announce_boundaries, is_over


class Stopped(KeyboardInterrupt):
    """Ctrl-C, raised between two steps: the state of the run is whole."""


class GracefulStop(L.Callback):
    """Finish the step under way, then stop; a second Ctrl-C stops at once and saves nothing.

    What follows the step belongs to it: a validation that is due, and after the last batch the
    end of the epoch. Lightning raises ``KeyboardInterrupt`` wherever the signal arrives, even
    inside the optimiser, and the weights saved then belong to no step. It is Lightning that puts
    the former handler back, and that ends a run between two steps on SIGTERM.
    """

    def __init__(self) -> None:
        self._asked = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._asked = False
        announce_boundaries(trainer)
        if threading.current_thread() is threading.main_thread():  # elsewhere it is not allowed
            signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        rank_zero_info("\nStopping after this step; Ctrl-C again stops at once, without saving.")

    def on_boundary(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop here if Ctrl-C was pressed; a run that is over ends by itself."""
        if self._asked and not is_over(trainer):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing interrupts the saving
            raise Stopped
