"""Tables of zeros and ones by which discrete densities have been compared for years."""

import io
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from trellis.checks import at_least_one, choose_from
from trellis.datamodules.engine.base import DataModule, Split, tensor_loader
from trellis.datamodules.engine.downloads import damaged_file, fetch, read_gzip
from trellis.datamodules.engine.loader import Loader
from trellis.files import FilePath, data_root
from trellis.spec import TensorSpec

Name = Literal["nltcs", "plants", "dna", "mushrooms"]
_FILES: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}


class BinaryDensities(DataModule):
    """Rows of zeros and ones, to estimate their density.

    Batch: ``(x, y)`` with ``x [B, D]`` and labels ``y [B]`` of 0, which say nothing.

    ========= === ====== ===== =====
    name      D   train  val   test
    ========= === ====== ===== =====
    nltcs     16  16,181 2,157 3,236
    plants    69  17,412 2,321 3,482
    dna       180 1,600  400   1,186
    mushrooms 112 2,000  500   5,624
    ========= === ====== ===== =====

    Args:
        name: of the set: disabilities of old people, states where plants grow, splice junctions,
            properties of mushrooms.
        data_dir: the files are ``data_dir/debd/NAME/NAME.{train,valid,test}.data.gz``, a row a
            line, with commas between.
        batch_size: rows per batch.
    Raises:
        FileNotFoundError: a file is missing.
        OSError: a file is damaged.
        ValueError: an unknown name, or a size below 1.

    Source: Lowd and Davis 2010; Van Haaren and Davis 2012; Larochelle and Murray 2011.
    """

    def __init__(
        self, name: Name = "nltcs", data_dir: FilePath | None = None, batch_size: int = 100
    ) -> None:
        super().__init__()
        self.name = choose_from("name", name, Name)
        self.folder = data_root(data_dir) / "debd" / name
        self.batch_size = at_least_one("batch_size", batch_size)
        self.splits: dict[Split, Tensor] = {}

    def _path(self, split: Split) -> Path:
        return self.folder / f"{self.name}.{_FILES[split]}.data.gz"

    def prepare_data(self) -> None:
        fetch(self.folder, {self._path(split).name: None for split in _FILES}, ())

    def setup(self, stage: str | None = None) -> None:
        if not self.splits:
            self.splits = {split: _read(self._path(split)) for split in _FILES}
            self.spec = TensorSpec(self.splits["train"].size(1), 1, values="binary")

    def loader(self, split: Split) -> Loader[tuple[Tensor, Tensor]]:
        x = self.splits[split]
        y = torch.zeros(len(x), dtype=torch.long)
        return tensor_loader(x, y, batch_size=self.batch_size, train=split == "train")


def _read(path: Path) -> Tensor:
    try:
        rows = np.loadtxt(io.BytesIO(read_gzip(path)), delimiter=",", dtype=np.int8, ndmin=2)
    except ValueError as error:  # a text, or rows of several lengths
        raise damaged_file(path, error) from error
    if not np.isin(rows, (0, 1)).all():
        raise damaged_file(path, "there are other numbers than 0 and 1")
    return torch.from_numpy(rows).float()
