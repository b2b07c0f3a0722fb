"""The base of all data modules: a spec, and one loader for each split."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from copy import copy
from typing import Any, Literal, get_args

import lightning as L
import torch
from torch import Tensor

from trellis.datamodules.engine.loader import Loader
from trellis.hyperparameters import PlainHyperparameters

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class DataModule(PlainHyperparameters, L.LightningDataModule, ABC):
    """A ``LightningDataModule`` with a ``spec``: all that objectives may know about the data.

    Subclasses set ``self.spec`` in ``__init__`` or in ``setup``, and implement ``loader``;
    predictions are made on the test split. ``setup`` may learn from the training data (a
    vocabulary, normalization constants): what it has learnt goes into ``spec`` and, where it is
    more than plain numbers and strings, into ``state_dict()``. The arguments of a subclass are
    kept in ``hparams``.
    """

    spec: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str | None = None) -> None:
        """Read the raw files; data that is computed needs nothing here."""

    @abstractmethod
    def loader(self, split: Split) -> Iterable[Any]:
        """Batches of ``split``; shuffled for training."""

    def train_dataloader(self) -> Iterable[Any]:
        loader = self.loader("train")
        if isinstance(loader, Loader) and getattr(self.trainer, "overfit_batches", False):
            # Lightning turns shuffling off in torch's own loaders: the same few batches again.
            loader.shuffle = False
        return loader

    def val_dataloader(self) -> Iterable[Any]:
        return self.loader("val")

    def test_dataloader(self) -> Iterable[Any]:
        return self.loader("test")

    def predict_dataloader(self) -> Iterable[Any]:
        return self.loader("test")

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        if device.type == "cpu":  # where batches are made; Lightning would look at each part
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        dtype = getattr(getattr(self.trainer, "lightning_module", None), "dtype", torch.float32)
        return batch if dtype == torch.float32 else in_type(batch, dtype)


def passed_on(part: str, name: str) -> Any:
    """An attribute of a data module that is one of its part's; ``BatchSizeFinder`` sets it.

    Args:
        part: attribute that holds the part.
        name: of the part's attribute.
    """
    return property(
        lambda self: getattr(getattr(self, part), name),
        lambda self, value: setattr(getattr(self, part), name, value),
    )


def in_type(batch: Any, dtype: torch.dtype) -> Any:
    """A batch whose real numbers are of this type, that of the parameters.

    Lightning converts tensors, and tuples and dictionaries of them; here the others follow, those
    with an ``apply`` for their tensors, as graphs and replay blocks.
    """
    if isinstance(batch, (Tensor, tuple, list, dict)) or not hasattr(batch, "apply"):
        return batch
    return copy(batch).apply(lambda x: x.to(dtype) if x.is_floating_point() else x)


def tensor_loader(
    x: Tensor, y: Tensor, *, batch_size: int, train: bool
) -> Loader[tuple[Tensor, Tensor]]:
    """Batches ``(x, y)`` of tensors in memory; shuffled to train."""
    # index_select copies whole rows: two to three times as fast as x[i].
    return Loader(
        len(x),
        lambda i: (x.index_select(0, i), y.index_select(0, i)),
        batch_size=batch_size,
        shuffle=train,
    )
