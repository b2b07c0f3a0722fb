"""Random states and loader positions, so that a resumed run equals the uninterrupted one."""

import random
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from trellis.lightning_modules.engine.lightning_private import restore_loaders
from trellis.lightning_modules.engine.run_config import KEY, saved_run
from trellis.lightning_modules.engine.upgrade import description


class ExactResume(L.Callback):
    """Save each rank's random states and half-accumulated gradients, restore them on resuming.

    Together with ``Loader`` and Lightning's own states, a run stopped between two batches
    continues bit-equal on a CPU: same world size, batch size and versions. After an exception
    inside a step, the batch of that step is served again.
    """

    def __init__(self) -> None:
        self._state: dict[str, Any] | None = None
        self._mid_epoch = False
        self._loaders: list[dict[str, Any]] = []

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # Objectives write their own, also where Lightning calls no callback.
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        checkpoint.setdefault("trellis", description(pl_module, datamodule))
        if (run := saved_run(trainer)) is not None:
            checkpoint[KEY] = run
        progress = trainer.fit_loop.epoch_loop.batch_progress
        processed: int = progress.current.processed  # type: ignore[attr-defined]
        mid_epoch = not progress.is_last_batch or progress.current.ready > processed
        states: list[Any] = [_random_states()]
        if mid_epoch and processed % trainer.accumulate_grad_batches:
            states[0]["gradients"] = {
                name: parameter.grad
                for name, parameter in pl_module.named_parameters()
                if parameter.grad is not None
            }
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            dist.all_gather_object(gathered, states[0])
            states = gathered
        checkpoint["trellis_random_states"] = {"ranks": states, "mid_epoch": mid_epoch}
        # A loader has served batches that no step has seen yet, and an epoch may end before it.
        for position in _loader_states(checkpoint):
            if "batches" in position:
                position["batches"] = processed if mid_epoch else 0
        _close_epoch(checkpoint["loops"]["fit_loop"])

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        saved = checkpoint.get("trellis_random_states")
        if not saved:
            return
        if len(saved["ranks"]) != trainer.world_size:
            rank_zero_warn(
                f"the checkpoint was written by {len(saved['ranks'])} processes, this run has "
                f"{trainer.world_size}: it resumes, but not bit-equal"
            )
            return
        self._state = saved["ranks"][trainer.global_rank]
        self._mid_epoch = saved["mid_epoch"]
        self._loaders = _loader_states(checkpoint)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # At the end of an epoch: before the next epoch's iterator exists.
        if not self._mid_epoch:
            self._restore()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning gives the loaders nothing back at the end of an epoch, not even their seed, nor
        # where a schedule asked for the number of steps before the checkpoint was read.
        states, self._loaders = self._loaders, []
        restore_loaders(trainer, states)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # In mid-epoch: once, after the iterator has been made.
        if self._state is not None:
            for name, gradient in self._state.get("gradients", {}).items():
                parameter = pl_module.get_parameter(name)
                parameter.grad = gradient.to(parameter, copy=True)
            self._restore()

    def _restore(self) -> None:
        state, self._state = self._state, None
        if state is None:
            return
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal.tolist()), gauss))
        name, keys, position, has_gauss, cached = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
        torch.set_rng_state(state["torch"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])


def _close_epoch(loop: dict[str, Any]) -> None:
    """Make an epoch that is over look over, and the next one not begun.

    With ``max_steps`` Lightning takes every checkpoint for one of an unfinished epoch: resuming
    at the end of one, it would count that epoch twice and shuffle the next like the one after.
    """
    epochs, batches = loop["epoch_progress"], loop["epoch_loop.batch_progress"]
    if epochs["current"]["processed"] == epochs["current"]["ready"]:
        for counts in (epochs["current"], epochs["total"]):
            counts["completed"] = counts["processed"]
        batches["current"] = dict.fromkeys(batches["current"], 0)
        batches["is_last_batch"] = False


def _random_states() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "python": [version, torch.tensor(internal, dtype=torch.int64), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _loader_states(checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
    return checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", [])
