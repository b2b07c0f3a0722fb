"""The base of all data modules: a spec, and one loader for each split."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any, Literal, NamedTuple, get_args

import lightning as L
import torch
from torch import Tensor

from trellis.datamodules.engine.loader import Loader
from trellis.hyperparameters import PlainHyperparameters

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class Inputs(NamedTuple):
    """New examples to make predictions for.

    Args:
        loader: batches as those of the test split, in the order of the input; no prediction may
            depend on their targets, which are placeholders.
        ids: what each example is called, as many as there are examples: the first column of the
            predictions.
    """

    loader: Loader[Any]
    ids: Sequence[str]


class DataModule(PlainHyperparameters, L.LightningDataModule, ABC):
    """A ``LightningDataModule`` with a ``spec``: all that objectives may know about the data.

    Subclasses set ``self.spec`` in ``__init__`` or in ``setup``, and implement ``loader``;
    predictions are made on the test split. ``setup`` may learn from the training data (a
    vocabulary, normalization constants): what it has learnt goes into ``spec`` and, where it is
    more than plain numbers and strings, into ``state_dict()``. The arguments of a subclass are
    kept in ``hparams``.
    """

    spec: Any = None
    test_ids: Sequence[str] | None = None  # what the examples of the test split are called

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)

    @property
    def device(self) -> torch.device:
        """Where the trainer learns; the CPU as long as there is none."""
        strategy = getattr(self.trainer, "strategy", None)
        return getattr(strategy, "root_device", torch.device("cpu"))

    def setup(self, stage: str | None = None) -> None:
        """Read the raw files; data that is computed needs nothing here."""

    @abstractmethod
    def loader(self, split: Split) -> Iterable[Any]:
        """Batches of ``split``; shuffled for training."""

    def inputs(self, path: str, spec: Any) -> Inputs:
        """New examples, for ``trellis predict CHECKPOINT --input PATH``.

        It is called before ``setup``, on a data module whose raw files may be missing: what was
        learnt from the training data is in ``spec``. A data module without this method predicts
        its test split only.

        Args:
            path: as it was typed: a file or a folder; ``-`` is standard input, which
                ``trellis.files.read_bytes`` reads.
            spec: of the data that the checkpoint was trained on.
        Raises:
            FileNotFoundError: there is nothing at ``path``.
            ValueError: the examples do not fit ``spec``; names the first that does not.
        """
        raise ValueError(f"input={path}: {type(self).__name__} predicts its test split only")

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


def held_out(
    x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, num_val: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """The splits of data with a training and a test part, of which ``num_val`` validate.

    Args:
        x: training examples.
        y: their labels.
        x_test: test examples.
        y_test: their labels.
        num_val: how many training examples, drawn with a fixed seed, validate; 0 trains on all of
            them, and the test examples validate.
    Raises:
        ValueError: nothing is left to train on.
    """
    if num_val >= len(x):
        raise ValueError(f"num_val={num_val}: give less than the {len(x)} training examples")
    test = (x_test, y_test)
    if num_val == 0:
        return {"train": (x, y), "val": test, "test": test}
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, val = order[:-num_val], order[-num_val:]
    return {"train": (x[train], y[train]), "val": (x[val], y[val]), "test": test}
