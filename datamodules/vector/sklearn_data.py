"""The data sets that scientists meet first, from scikit-learn: no download."""

from typing import Literal

import numpy as np
from torch import Tensor

from trellis.checks import choose_from
from trellis.datamodules.engine.division import Division, Rows
from trellis.datamodules.vector.columns import Columns
from trellis.datamodules.vector.encoding import Missing
from trellis.datamodules.vector.tabular import TabularData

SklearnName = Literal["breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine"]


class SklearnData(TabularData):
    """A table that scikit-learn includes; see ``TabularData``.

    ============= ======== ======== ===================================
    name          examples features targets
    ============= ======== ======== ===================================
    breast_cancer 569      30       2 classes
    diabetes      442      10       progression after a year, a number
    digits        1,797    64       10 classes
    iris          150      4        3 classes
    linnerud      20       3        weight, waist and pulse, numbers
    wine          178      13       3 classes
    ============= ======== ======== ===================================

    Args:
        name: which; the images of digits are those of ``Digits``.
        division: how examples are drawn into splits.
        standardize: see ``TabularData``.
        missing: see ``TabularData``, of new examples; here no value is missing.
        batch_size: see ``TabularData``.
    Raises:
        ValueError: an option out of range.

    Source: scikit-learn's ``datasets.load_NAME``, which cites the origin of each.
    """

    def __init__(
        self,
        name: SklearnName = "iris",
        division: Division = Division(),  # noqa: B008 - frozen
        standardize: bool = True,
        missing: Missing = "error",
        batch_size: int = 32,
    ) -> None:
        choose_from("name", name, SklearnName)
        real = {"diabetes": ("progression",), "linnerud": ("Weight", "Waist", "Pulse")}
        target = real.get(name, "class")
        kind: Literal["labels", "real"] = "real" if name in real else "labels"
        super().__init__(target, kind, batch_size, standardize, missing)
        if division.column is not None:
            raise ValueError(f"division.column={division.column!r}: {name} has no such column")
        self.collection, self.division = name, division

    def read(self) -> Columns:
        from sklearn import datasets

        bunch = getattr(datasets, f"load_{self.collection}")()
        cells = dict(zip(map(str, bunch.feature_names), bunch.data.T.astype(float), strict=True))
        if self.targets == "real":
            columns = bunch.target.reshape(len(bunch.data), -1).T.astype(float)
            cells |= dict(zip(self.target, columns, strict=True))
        else:
            names = np.array([str(name) for name in bunch.target_names], dtype=object)
            cells["class"] = names[bunch.target]
        return Columns(self.collection, cells)

    def features(self, table: Columns) -> list[str]:
        return [name for name in table.cells if name not in self.target]

    def divided(self, table: Columns, rows: Tensor, strata: Tensor) -> Rows:
        return self.division.rows(strata)
