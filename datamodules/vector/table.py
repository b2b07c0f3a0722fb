"""A table of your own."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trellis.datamodules.engine.base import SPLITS
from trellis.datamodules.engine.division import Division, Rows
from trellis.datamodules.vector.columns import Columns, read_columns
from trellis.datamodules.vector.encoding import Missing
from trellis.datamodules.vector.tabular import TabularData
from trellis.files import FilePath
from trellis.spec import Targets


class Table(TabularData):
    """Rows of a CSV, TSV, NumPy or Parquet file; see ``TabularData`` and ``read_columns``.

    Args:
        path: the file.
        target: see ``TabularData``.
        targets: see ``TabularData``.
        features: columns to learn from; ``None`` takes all others.
        ignore: columns that are not features.
        categories: see ``TabularData``.
        id: see ``TabularData``; predictions of new rows carry it.
        division: how rows are drawn into splits, or the column that says so. Where there are no
            validation rows, it is done on the training rows.
        missing: see ``TabularData``.
        standardize: see ``TabularData``.
        batch_size: see ``TabularData``.
    Raises:
        FileNotFoundError: no such file.
        ValueError: an option out of range, a column that is not there, or a cell that does not
            fit; names file, line and column.
    """

    def __init__(
        self,
        path: FilePath = "table.csv",
        target: Sequence[str] | str | None = None,
        targets: Targets | None = None,
        features: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        categories: Sequence[str] = (),
        id: str | None = None,
        division: Division = Division(),  # noqa: B008 - frozen
        missing: Missing = "error",
        standardize: bool = True,
        batch_size: int = 32,
    ) -> None:
        super().__init__(target, targets, batch_size, standardize, missing, categories, id)
        self.path, self.chosen, self.ignore = path, features, (*ignore,)
        self.division = division

    def read(self) -> Columns:
        return read_columns(self.path, "path")

    def features(self, table: Columns) -> list[str]:
        named = {"ignore": self.ignore, "categories": self.categories}
        single = {"id": self.id, "division.column": self.division.column}
        named |= {option: (name,) for option, name in single.items() if name is not None}
        for option, names in named.items():
            table.require(names, option)
        if self.chosen is not None:
            table.require(self.chosen, "features")
            if both := [name for name in self.chosen if name in self.target]:
                raise ValueError(f"features and target both name {both[0]!r}: leave it in one")
            return [*self.chosen]
        others = {*self.target, *self.ignore, *single.values()}
        if not (found := [name for name in table.cells if name not in others]):
            raise ValueError(f"{table.source}: there is no column of features")
        return found

    def divided(self, table: Columns, rows: Tensor, strata: Tensor) -> Rows:
        if (column := self.division.column) is not None:
            return self._by_column(table, column, set(rows.tolist()))
        drawn = self.division.rows(strata)
        return {split: rows[part] for split, part in drawn.items()}

    def _by_column(self, table: Columns, name: str, with_target: set[int]) -> Rows:
        texts = table.texts(name)
        for row, text in enumerate(texts):
            if text not in (*SPLITS, ""):
                problem = f"{text!r}: give train, val, test or an empty cell"
                raise table.error(row, name, problem)
        return {
            split: torch.tensor(
                [row for row, text in enumerate(texts) if text == split and row in with_target],
                dtype=torch.long,
            )
            for split in SPLITS
        }
