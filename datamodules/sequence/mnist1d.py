"""Digits as short signals: as many difficulties as images have, in 40 numbers."""

import zipfile

import numpy as np
import torch
from torch import Tensor

from trellis.checks import at_least_one, not_negative
from trellis.datamodules.engine.base import DataModule, Split, held_out, tensor_loader
from trellis.datamodules.engine.checks import check_features, check_labels
from trellis.datamodules.engine.downloads import damaged_file, fetch
from trellis.datamodules.engine.loader import Loader
from trellis.files import FilePath, data_root
from trellis.spec import TensorSpec

FILE = "mnist1d_data.npz"
LENGTH = 40


class MNIST1D(DataModule):
    """5,000 one-dimensional digits of 40 steps: shifted, scaled, padded and noisy; 10 classes.

    Batch: ``(x, y)`` with ``x [B, 40]`` (or ``[B, 1, 40]``) and labels ``y [B]``.

    ===== === ===== =======
    train val test  classes
    ===== === ===== =======
    3,600 400 1,000 10
    ===== === ===== =======

    Args:
        data_dir: the file is ``data_dir/MNIST1D/mnist1d_data.npz``, with the arrays x, y, x_test
            and y_test of the authors' package ``mnist1d``.
        batch_size: examples per batch.
        flatten: vectors of 40 features instead of signals of one channel.
        num_val: number of training examples, drawn with a fixed seed, to validate on. 0 trains on
            all of them and validates on the test examples.
    Raises:
        FileNotFoundError: the file is missing.
        OSError: the file is damaged.
        ValueError: ``num_val`` leaves nothing to train on, or a value is out of range.

    Source: Greydanus 2020, "Scaling down deep learning".
    """

    def __init__(
        self,
        data_dir: FilePath | None = None,
        batch_size: int = 100,
        flatten: bool = True,
        num_val: int = 400,
    ) -> None:
        super().__init__()
        self.folder = data_root(data_dir) / "MNIST1D"
        self.batch_size = at_least_one("batch_size", batch_size)
        self.num_val = not_negative("num_val", num_val)
        classes = tuple(str(digit) for digit in range(10))
        channels, size = (LENGTH, ()) if flatten else (1, (LENGTH,))
        self.spec = TensorSpec(channels, 10, size, classes)
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}

    def prepare_data(self) -> None:
        fetch(self.folder, {FILE: None}, ())

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        self.splits = held_out(
            *self._read("x", "y"), *self._read("x_test", "y_test"), self.num_val
        )

    def _read(self, *names: str) -> tuple[Tensor, Tensor]:
        path = self.folder / FILE
        try:
            with np.load(path, allow_pickle=False) as file:
                x, y = (torch.from_numpy(file[name]) for name in names)
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise damaged_file(path, error) from error
        if x.shape != (len(y), LENGTH):
            raise damaged_file(path, f"{names[0]} is {list(x.shape)}, not [N, {LENGTH}]")
        check_features(x, f"{path}, {names[0]}")
        check_labels(y, 10, f"{path}, {names[1]}")
        return x.float().view(-1, *self.spec.shape), y.long()

    def loader(self, split: Split) -> Loader[tuple[Tensor, Tensor]]:
        x, y = self.splits[split]
        return tensor_loader(x, y, batch_size=self.batch_size, train=split == "train")
