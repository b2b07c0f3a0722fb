"""What callbacks share that use the validation split once more after a fit."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.seed import isolate_rng


@contextmanager
def evaluation(pl_module: L.LightningModule) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards modes and random states are as before.

    A checkpoint that is written later must not depend on it.
    """
    modes = {module: module.training for module in pl_module.modules()}
    with isolate_rng(), torch.no_grad():
        pl_module.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training


def validation_batches(trainer: L.Trainer) -> Iterator[Any]:
    """The batches that the fit validates on, on the device of this process."""
    loaders = trainer.val_dataloaders
    if loaders is None:
        return
    loaders = loaders if isinstance(loaders, (list, tuple)) else [loaders]
    for loader, limit in zip(loaders, trainer.num_val_batches, strict=True):
        for batch in islice(loader, None if limit == float("inf") else int(limit)):
            converted = trainer.precision_plugin.convert_input(batch)
            yield trainer.strategy.batch_to_device(converted)
