"""From the columns of a table to vectors, with what was learnt from the training rows."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from trellis.datamodules.vector.columns import Columns
from trellis.index import did_you_mean

Missing = Literal["error", "mean", "indicator"]
_TEXT = "mend it, or name the column in categories to make a class of each text"


@dataclass(frozen=True)
class Column:
    """One column of features.

    Args:
        name: of the column.
        categories: its texts, each of which becomes an entry that is 0 or 1; empty for numbers.
        mean: that is subtracted from numbers.
        scale: that they are divided by.
        fill: the number in place of a missing one; ``None``: there may be none.
        indicator: a further entry is 1 where the value is missing.
    """

    name: str
    categories: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0
    fill: float | None = None
    indicator: bool = False

    @property
    def width(self) -> int:
        """Number of entries."""
        return (len(self.categories) or 1) + self.indicator

    def entries(self, table: Columns) -> np.ndarray:
        """Its part ``[N, width]`` of the vectors."""
        entries, absent = self._chosen(table) if self.categories else self._numbers(table)
        if absent.any() and self.fill is None:
            advice = "fill it in, or give missing=mean or missing=indicator"
            row = int(np.flatnonzero(absent)[0])
            raise table.error(row, self.name, f"the value is missing: {advice}")
        return np.column_stack([entries, absent]) if self.indicator else entries

    def _numbers(self, table: Columns) -> tuple[np.ndarray, np.ndarray]:
        values = table.floats(self.name, _TEXT)
        absent = np.isnan(values)
        filled = np.where(absent, self.fill or 0.0, values)
        return ((filled - self.mean) / self.scale)[:, None], absent

    def _chosen(self, table: Columns) -> tuple[np.ndarray, np.ndarray]:
        place = {text: number for number, text in enumerate(self.categories)}
        texts = table.texts(self.name)
        chosen = np.array([place.get(text, -1) for text in texts])
        absent = np.array([text == "" for text in texts])
        if unknown := {text for text in texts if text and text not in place}:
            warnings.warn(
                f"{table.source}, column {self.name!r}: {min(unknown)!r} is not among the "
                f"{len(place)} texts of the training rows: all its entries are 0",
                stacklevel=2,
            )
        return np.arange(len(place)) == chosen[:, None], absent


@dataclass(frozen=True)
class Encoding:
    """All columns of features, in the order of the entries of a vector."""

    columns: tuple[Column, ...]

    @classmethod
    def fitted(
        cls,
        table: Columns,
        features: Sequence[str],
        rows: Tensor,
        *,
        categories: Sequence[str] = (),
        standardize: bool = True,
        missing: Missing = "error",
    ) -> "Encoding":
        """What the training rows of a table say.

        Args:
            table: with a column for each feature.
            features: names of columns.
            rows: indices of the training rows.
            categories: columns of numbers whose values are classes.
            standardize: to mean 0 and standard deviation 1; a constant column becomes 0.
            missing: see ``TabularData``.
        Raises:
            ValueError: a text among numbers, a column of which nearly each text is different, or
                one without a value in the training rows.
        """
        chosen = rows.numpy()
        return cls(
            tuple(
                _category(table, name, chosen, missing)
                if name in categories or table.is_category(name)
                else _number(table, name, chosen, standardize, missing)
                for name in features
            )
        )

    @classmethod
    def from_json(cls, text: str) -> "Encoding":
        """As ``to_json`` wrote it."""
        read = json.loads(text)
        return cls(tuple(Column(**{**c, "categories": tuple(c["categories"])}) for c in read))

    def to_json(self) -> str:
        """For the spec."""
        return json.dumps([asdict(column) for column in self.columns])

    @property
    def width(self) -> int:
        """Entries of a vector."""
        return sum(column.width for column in self.columns)

    def __call__(self, table: Columns) -> Tensor:
        """Vectors ``[N, width]`` of the rows of a table.

        Raises:
            ValueError: a column is not there, or a cell does not fit; names both.
        """
        parts = [column.entries(table) for column in self.columns]
        return torch.from_numpy(np.hstack(parts).astype(np.float32))

    def fitting(self, table: Columns) -> Columns:
        """The table with the names of the features, where it has none of its own.

        Raises:
            ValueError: it lacks a column, or has another number of them than there are features.
        """
        names = [column.name for column in self.columns]
        if not table.named:
            if len(table.cells) != len(names):
                raise ValueError(
                    f"{table.source} has {len(table.cells)} columns, but the model was trained "
                    f"on {len(names)} features: give these alone, in their order: "
                    f"{', '.join(names[:20])}"
                )
            cells = dict(zip(names, table.cells.values(), strict=True))
            return Columns(table.source, cells, table.lines)
        if lacking := [name for name in names if name not in table]:
            hint = did_you_mean(lacking[0], set(table.cells) - set(names))
            raise ValueError(
                f"{table.source} has no column {lacking[0]!r} among its {len(table.cells)}, but "
                f"the model was trained on {len(names)} features{hint}"
            )
        return table


def _number(
    table: Columns, name: str, rows: np.ndarray, standardize: bool, missing: Missing
) -> Column:
    values = table.floats(name, _TEXT)[rows]
    known = values[~np.isnan(values)]
    if not len(known):
        raise _empty(table, name)
    mean, scale = mean_and_scale(known)
    return Column(
        name,
        mean=mean if standardize else 0.0,
        scale=scale if standardize else 1.0,
        fill=None if missing == "error" else mean,
        indicator=missing == "indicator" and len(known) < len(values),
    )


def mean_and_scale(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of numbers ``[N]``; 1 where these are all the same."""
    mean, scale = float(values.mean()), float(values.std())
    return mean, scale if scale > 1e-10 * abs(mean) else 1.0


def _category(table: Columns, name: str, rows: np.ndarray, missing: Missing) -> Column:
    texts = np.array(table.texts(name), dtype=object)[rows]
    found = sorted(set(texts) - {""})
    if not found:
        raise _empty(table, name)
    if len(texts) >= 20 and len(found) > len(texts) / 2:
        raise ValueError(
            f"{table.source}, column {name!r}: {len(texts)} training rows have {len(found)} "
            f"different texts, such as {found[0][:40]!r}: name it in ignore, or as the id"
        )
    indicator = missing == "indicator" and "" in texts
    fill = None if missing == "error" else 0.0
    return Column(name, tuple(found), fill=fill, indicator=indicator)


def _empty(table: Columns, name: str) -> ValueError:
    return ValueError(
        f"{table.source}, column {name!r}: no training row has a value: name it in ignore"
    )
