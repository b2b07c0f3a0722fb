"""One line that says how far the run is, redrawn by time and not by step."""

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar


class ProgressLine(ProgressBar):
    """Epoch, batch, steps per second and the newest metrics on one line of stderr.

    Reading a metric waits for the device, so nothing is read between two redraws. Where stderr is
    no terminal, a line is printed every ``quiet_seconds`` instead.

    Args:
        seconds: between two redraws on a terminal.
        quiet_seconds: between two lines in a log file.
    """

    def __init__(self, seconds: float = 0.2, quiet_seconds: float = 30.0) -> None:
        super().__init__()
        self._terminal = sys.stderr.isatty()
        self._every = seconds if self._terminal else quiet_seconds
        self._enabled = True
        self._next = self._since = 0.0
        self._steps = 0

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.monotonic()
        self._next = self._since + self._every
        self._steps = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *batch: Any
    ) -> None:
        now = time.monotonic()
        if now >= self._next and self._enabled:
            self._next = now + self._every
            self._show(trainer, now)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._enabled and trainer.is_global_zero:
            self._show(trainer, time.monotonic())
            if self._terminal:
                sys.stderr.write("\n")

    def _show(self, trainer: L.Trainer, now: float) -> None:
        if not trainer.is_global_zero:
            return
        progress = trainer.fit_loop.epoch_loop.batch_progress.current
        last = trainer.max_epochs if (trainer.max_epochs or 0) > 0 else None
        epoch = trainer.current_epoch + 1
        speed = (trainer.global_step - self._steps) / max(now - self._since, 1e-9)
        metrics = trainer.progress_bar_metrics
        parts = [
            f"epoch {min(epoch, last)}/{last}" if last else f"epoch {epoch}",
            f"batch {progress.ready}/{trainer.num_training_batches}",
            f"{speed:.1f} steps/s",
            *(f"{name} {float(value):.4g}" for name, value in metrics.items()),
        ]
        line = "  ".join(parts)
        sys.stderr.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        sys.stderr.flush()

    def print(self, *args: Any, **options: Any) -> None:
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
        print(*args, **options)
