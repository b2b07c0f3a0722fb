"""Predictions of all processes, in the order of the data."""

from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device

from trellis.processes import of_all_processes


class GatherPredictions(L.Callback):
    """With several processes, make ``trainer.predict`` return what all of them predicted.

    Lightning returns the predictions of the first process alone, every other batch of the data.

    Raises:
        ValueError: a loader that does not deal its batches to the processes in turn, as those of
            trellis data modules do.
    """

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.world_size == 1:
            return
        loader: Any = trainer.predict_dataloaders
        if not hasattr(loader, "repeats"):
            raise ValueError(
                f"predictions of {trainer.world_size} processes cannot be put in order for a "
                f"{type(loader).__name__}: predict with --trainer.devices 1"
            )

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.world_size == 1:
            return
        own: list[Any] = trainer.predict_loop.predictions
        gathered = of_all_processes(move_data_to_device(own, torch.device("cpu")))
        in_turn = [batch for each in zip(*gathered, strict=True) for batch in each]
        loader: Any = trainer.predict_dataloaders
        own[:] = [batch for number, batch in enumerate(in_turn) if not loader.repeats(number)]
