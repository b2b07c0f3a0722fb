"""Ctrl-C ends a run between two steps, so that it can be resumed exactly."""

import signal
import threading
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from trellis.lightning_modules.engine.lightning_private import (
    announce_boundaries,
    is_over,
    requeues,
    share_no_sigterm,
    spawns_processes,
)


class Stopped(KeyboardInterrupt):
    """Ctrl-C, raised between two steps: the state of the run is whole."""


def in_main_thread() -> bool:
    """Whether Python lets this thread handle signals."""
    return threading.current_thread() is threading.main_thread()


class GracefulStop(L.Callback):
    """Finish the step under way, then stop; a second Ctrl-C stops at once and saves nothing.

    What follows the step belongs to it: a validation that is due, and after the last batch the
    end of the epoch. Lightning raises ``KeyboardInterrupt`` wherever the signal arrives, even
    inside the optimiser, and the weights saved then belong to no step. It is Lightning that puts
    the former handlers back, and that ends a run of one process between two steps on SIGTERM.

    Several processes stop after the same step, whichever of them gets the signal, or SIGTERM:
    they ask each other after each one, as Lightning's would do before it. The answers are read
    after the next step, so that nobody waits for them: they stop a step later than one alone.
    """

    def __init__(self) -> None:
        self._asked = 0  # by this signal
        self._group: Any = None  # of all processes
        self._vote: tuple[Any, torch.Tensor] | None = None  # under way

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._asked, self._vote = 0, None
        if trainer.world_size > 1 and self._group is None and dist.is_initialized():
            # Apart from the gradients, and on the host, where reading an answer waits for no GPU.
            self._group = dist.new_group(backend="gloo")
        announce_boundaries(trainer)
        if in_main_thread():
            signal.signal(signal.SIGINT, self._handle)
            if trainer.world_size > 1 and not requeues(trainer):
                share_no_sigterm(trainer)
                signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        if number == signal.SIGTERM:
            self._asked = self._asked or number
            return
        if self._asked:
            raise KeyboardInterrupt
        self._asked = number
        rank_zero_info("\nStopping after this step; Ctrl-C again stops at once, without saving.")

    def _asked_of_any(self, trainer: L.Trainer) -> int:
        """The signal that any process had by the boundary before this one."""
        own = torch.tensor(self._asked)
        if self._group is None:  # the processes of a TPU form no group of torch's
            strategy = trainer.strategy
            return int(strategy.reduce(own.to(strategy.root_device), reduce_op="max"))
        work = dist.all_reduce(own, dist.ReduceOp.MAX, self._group, async_op=True)
        before, self._vote = self._vote, (work, own)
        if before is None:
            return 0
        before[0].wait()
        return int(before[1])

    def on_boundary(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop here if a signal has asked for it; a run that is over ends by itself."""
        asked = self._asked if trainer.world_size == 1 else self._asked_of_any(trainer)
        if not asked or is_over(trainer):
            return
        if in_main_thread():  # else another process has got the signal
            for each in (signal.SIGINT, signal.SIGTERM):  # nothing interrupts the saving
                signal.signal(each, signal.SIG_IGN)
        if not spawns_processes(trainer):
            raise Stopped if asked == signal.SIGINT else SIGTERMException
        # Lightning calls no on_exception in these, and the one that waits needs an exit code.
        stopped = SIGTERMException(128 + asked)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            callback.on_exception(trainer, pl_module, stopped)
        raise stopped
