"""The base of tables: a row is an example, some columns are its targets."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trellis.checks import at_least_one, choose_from
from trellis.datamodules.engine.base import DataModule, Inputs, Split, tensor_loader
from trellis.datamodules.engine.division import Rows, with_validation
from trellis.datamodules.engine.labels import class_names
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.vector.columns import Columns, read_columns
from trellis.datamodules.vector.encoding import Encoding, Missing, mean_and_scale
from trellis.spec import Targets, TensorSpec

MAX_CLASSES = 20  # whole numbers of more values than these are real targets


class TabularData(DataModule):
    """Base of the data whose examples are rows: a subclass reads the table and divides it.

    Batch: ``(x, y)`` with ``x [B, F]`` and labels ``y [B]``, or real targets ``y [B, T]`` in
    their own unit. Features of numbers are standardised by the mean and the standard deviation of
    the training rows, texts become one entry of 0 or 1 for each category there. What was learnt
    is in ``spec``, and so in each checkpoint: ``inputs`` encodes new rows in the same way, and
    ``Regression`` predicts in the unit of the targets. Rows without a target are left out.

    Args:
        target: column of the class or of the real target, or several of real targets; none of
            them: ``y`` is 0.
        targets: ``labels`` or ``real``; ``None``: texts are labels, and so are whole numbers of
            at most 20 different values, each of which is there twice on average.
        batch_size: examples per batch.
        standardize: false leaves features and real targets as they are.
        missing: a value of a feature: ``error``, ``mean`` puts that of the training rows (0 in
            all entries of a category), ``indicator`` also adds an entry of 0 or 1 that says so.
        categories: columns of numbers that stand for categories.
        id: column of the names of examples, which is no feature; predictions carry them, or else
            the numbers of the rows.
    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        target: Sequence[str] | str | None,
        targets: Targets | None,
        batch_size: int,
        standardize: bool,
        missing: Missing,
        categories: Sequence[str] = (),
        id: str | None = None,
    ) -> None:
        super().__init__()
        if targets is not None:
            choose_from("targets", targets, Targets)
        self.target = (target,) if isinstance(target, str) else (*(target or ()),)
        if len(self.target) > 1 and targets == "labels":
            raise ValueError(
                f"target={list(self.target)}: give one column of labels, or real ones"
            )
        self.targets, self.standardize = targets, standardize
        self.missing = choose_from("missing", missing, Missing)
        self.batch_size = at_least_one("batch_size", batch_size)
        self.categories, self.id = (*categories,), id
        self.splits: dict[Split, tuple[Tensor, Tensor]] = {}
        self.ids: dict[Split, list[str]] = {}  # what the examples of a split are called

    @abstractmethod
    def read(self) -> Columns:
        """The table."""

    @abstractmethod
    def features(self, table: Columns) -> list[str]:
        """The columns that are features."""

    @abstractmethod
    def divided(self, table: Columns, rows: Tensor, strata: Tensor) -> Rows:
        """The rows of each split; without some for validation it is done on training rows.

        Args:
            table: that ``read`` gave.
            rows: those with a target.
            strata: the class of each of ``rows``, 0 for real targets.
        """

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        table = self.read()
        features = self.features(table)
        table.require(self.target, "target")
        y, rows, classes = self._targets(table)
        strata = y[rows] if classes else torch.zeros(len(rows), dtype=torch.long)
        division = with_validation(self.divided(table, rows, strata), table.source)
        if classes:
            self._check_classes(table, y, division, classes)
        encoding = Encoding.fitted(
            table,
            features,
            division["train"],
            categories=self.categories,
            standardize=self.standardize,
            missing=self.missing,
        )
        x = encoding(table)
        self.splits = {split: (x[chosen], y[chosen]) for split, chosen in division.items()}
        ids = self._ids(table)
        self.ids = {
            split: [ids[row] for row in chosen.tolist()] for split, chosen in division.items()
        }
        self.test_ids = self.ids["test"]
        self.spec = self._spec(encoding, classes, y[division["train"]])

    def _ids(self, table: Columns) -> list[str]:
        """The column of names, or else the numbers of the rows."""
        if self.id is not None and self.id in table:
            return table.texts(self.id)
        return list(map(str, range(len(table))))

    def _spec(self, encoding: Encoding, classes: tuple[str, ...], y: Tensor) -> TensorSpec:
        width, columns = encoding.width, encoding.to_json()
        if y.ndim == 1:
            return TensorSpec(width, max(len(classes), 1), classes=classes, columns=columns)
        learnt = [mean_and_scale(each.numpy()) for each in y.double().unbind(1)]
        return TensorSpec(
            width,
            y.size(1),
            targets="real",
            target_names=self.target,
            target_means=tuple(mean for mean, _ in learnt) if self.standardize else (),
            target_scales=tuple(scale for _, scale in learnt) if self.standardize else (),
            columns=columns,
        )

    def _targets(self, table: Columns) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        """Targets of all rows, the rows that have them, and the names of classes."""
        if not self.target:
            return torch.zeros(len(table), dtype=torch.long), torch.arange(len(table)), ()
        if (self.targets or self._guess(table)) == "real":
            advice = "mend it, or give targets=labels if these are classes"
            numbers = np.column_stack([table.floats(name, advice) for name in self.target])
            rows = torch.from_numpy(np.flatnonzero(~np.isnan(numbers).any(1)))
            return torch.from_numpy(numbers.astype(np.float32)), rows, ()
        texts = table.texts(self.target[0])
        rows = torch.tensor([row for row, text in enumerate(texts) if text], dtype=torch.long)
        source = f"{table.source}, column {self.target[0]!r}"
        classes = class_names([text for text in texts if text], source)
        place = {name: label for label, name in enumerate(classes)}
        return torch.tensor([place.get(text, -1) for text in texts]), rows, classes

    def _guess(self, table: Columns) -> Targets:
        if len(self.target) > 1:
            return "real"
        (name,) = self.target
        if table.is_category(name):
            return "labels"
        values = table.floats(name, "mend it, or give targets=labels if these are classes")
        known = values[~np.isnan(values)]
        found = np.unique(known)
        few = len(found) <= min(MAX_CLASSES, len(known) / 2)
        return "labels" if few and not (found % 1).any() else "real"

    def _check_classes(
        self, table: Columns, y: Tensor, division: Rows, classes: Sequence[str]
    ) -> None:
        """Refuse a class that no training row has."""
        trained = y[division["train"]].bincount(minlength=len(classes))
        for split, rows in division.items():
            unseen = (trained[y[rows]] == 0).nonzero()
            if len(unseen):
                row = int(rows[unseen[0]])
                problem = (
                    f"class {classes[int(y[row])]!r} is in the {split} split, but in no training "
                    f"row: divide the table otherwise, or leave its {len(unseen)} rows out"
                )
                raise table.error(row, self.target[0], problem)

    def inputs(self, path: str, spec: Any) -> Inputs:
        if not getattr(spec, "columns", ""):
            raise ValueError(f"input={path}: the model was not trained on a table")
        encoding, table = Encoding.from_json(spec.columns), read_columns(path, "input")
        x = encoding(encoding.fitting(table))
        y = torch.zeros(len(x), dtype=torch.long)
        if spec.targets == "real":
            y = y.new_zeros(len(x), spec.out_channels, dtype=torch.float32)
        loader = tensor_loader(x, y, batch_size=self.batch_size, train=False)
        return Inputs(loader, self._ids(table))

    def loader(self, split: Split) -> Loader[tuple[Tensor, Tensor]]:
        x, y = self.splits[split]
        return tensor_loader(x, y, batch_size=self.batch_size, train=split == "train")
