"""Random states in every checkpoint, so that a resumed run is the uninterrupted one, bit by bit."""

import random
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed as dist


class ExactResume(L.Callback):
    """Save the random states of every rank, restore them where the run goes on.

    Together with ``Loader`` (position in the epoch) and Lightning's own states a run stopped
    between two steps continues bit-equal on a CPU: same world size, batch size and versions.
    After an exception inside a step, the batch of that step is served again.
    """

    def __init__(self) -> None:
        self._state: dict[str, Any] | None = None
        self._mid_epoch = False

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        states: list[Any] = [_random_states()]
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            dist.all_gather_object(gathered, states[0])
            states = gathered
        progress = trainer.fit_loop.epoch_loop.batch_progress
        checkpoint["trellis_random_states"] = {
            "ranks": states,
            "mid_epoch": not progress.is_last_batch,
        }
        in_flight = progress.current.ready - progress.current.processed
        for loader in checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", ()):
            loader["batches"] = max(loader.get("batches", 0) - in_flight, 0)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        saved = checkpoint.get("trellis_random_states")
        if saved and len(saved["ranks"]) == trainer.world_size:
            self._state = saved["ranks"][trainer.global_rank]
            self._mid_epoch = saved["mid_epoch"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # At the end of an epoch: before the next epoch's iterator exists.
        if not self._mid_epoch:
            self._restore()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # In mid-epoch: once, after the iterator has been made.
        if self._state is not None:
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


def _random_states() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "python": [version, torch.tensor(internal, dtype=torch.int64), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
