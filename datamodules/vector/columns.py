"""Tables as columns of cells: from text, NumPy's files and Parquet."""

import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trellis.datamodules.engine.downloads import DAMAGE
from trellis.datamodules.engine.labels import MISSING, as_number
from trellis.datamodules.engine.tables import parsed_rows
from trellis.files import name_of, read_bytes
from trellis.index import did_you_mean

# What stands in a cell without a value; "?" in the files of UCI.
NO_VALUE = MISSING | {"", "?"}


@dataclass(frozen=True)
class Columns:
    """A table: columns of numbers, or of texts of which some may be numbers.

    Args:
        source: its name in messages.
        cells: by name of the column: ``[N]``, real numbers (NaN: missing) or texts.
        lines: of the file that each row stands on; ``None``: rows are counted from 0.
        named: whether the columns have names of their own; else these are 0, 1, 2 ...
    """

    source: str
    cells: Mapping[str, np.ndarray]
    lines: Sequence[int] | None = None
    named: bool = True

    def __len__(self) -> int:
        return len(next(iter(self.cells.values()), ()))

    def __contains__(self, name: str) -> bool:
        return name in self.cells

    def require(self, names: Iterable[str], option: str) -> None:
        """Check that there are columns of these names.

        Args:
            names: of columns.
            option: that asks for them, for the message.
        Raises:
            ValueError: one is not there; names the nearest that is.
        """
        for name in names:
            if name not in self:
                known = ", ".join(list(self.cells)[:20])
                hint = did_you_mean(name, self.cells) or f"; its columns are {known}"
                raise ValueError(f"{self.source}: there is no column {option}={name!r}{hint}")

    def texts(self, name: str) -> list[str]:
        """The cells of a column as texts, whole numbers without a point, missing ones empty."""
        column = self.cells[name]
        if column.dtype == object:
            return ["" if cell in NO_VALUE else cell for cell in column]
        return ["" if np.isnan(cell) else f"{cell:.15g}" for cell in column.tolist()]

    def is_category(self, name: str) -> bool:
        """Whether a column holds texts of which none is a number."""
        return self.cells[name].dtype == object and not any(
            as_number(text) is not None for text in set(self.texts(name))
        )

    def floats(self, name: str, advice: str) -> np.ndarray:
        """A column as real numbers ``[N]``, missing ones NaN.

        Args:
            name: of the column.
            advice: what to do about a text, for the message.
        Raises:
            ValueError: a cell is no finite number; names its line and column.
        """
        column = self.cells[name]
        if column.dtype != object:
            finite = ~np.isinf(column)
        else:
            texts = self.texts(name)
            known = {text: as_number(text) for text in set(texts)}
            finite = np.array([known[text] is not None or text == "" for text in texts])
            values = [np.nan if (number := known[text]) is None else number for text in texts]
            column = np.array(values, dtype=np.float64)
        if not finite.all():
            row = int(np.flatnonzero(~finite)[0])
            cell = str(self.cells[name][row])[:40]
            raise self.error(row, name, f"{cell!r} is not a finite number: {advice}")
        return column

    def error(self, row: int, name: str, problem: str) -> ValueError:
        """The error about the cell of a row and a column."""
        place = f"row {row}" if self.lines is None else f"line {self.lines[row]}"
        return ValueError(f"{self.source}, {place}, column {name!r}: {problem}")


def read_columns(path: str | Path, what: str) -> Columns:
    """A table of any kind that is known; the contents say which, not the name.

    It may be compressed by gzip. Text: cells are separated as in ``parsed_rows``; a first line of
    nothing but numbers is no header. ``.npy``: ``[N, C]``. ``.npz``: arrays ``[N]`` are columns,
    arrays ``[N, C]`` are the columns NAME_0, NAME_1, ... Parquet needs pandas.

    Args:
        path: of a file; ``-`` is standard input.
        what: the option that gave it.
    Raises:
        FileNotFoundError: there is no such file.
        ImportError: pandas is missing; says how to install it.
        OSError: it is compressed and damaged.
        ValueError: it is no table.
    """
    raw, source = read_bytes(path, what), name_of(path)
    if raw.startswith(b"\x1f\x8b"):
        try:
            raw = gzip.decompress(raw)
        except DAMAGE as error:
            raise OSError(f"{source} is damaged ({error}): put a good copy there") from error
    if raw.startswith((b"\x93NUMPY", b"PK\x03\x04")):
        return _from_numpy(raw, source)
    return _from_parquet(raw, source) if raw.startswith(b"PAR1") else _from_text(raw, source)


def _from_text(raw: bytes, source: str) -> Columns:
    rows = parsed_rows(raw, source)
    if not rows:
        raise ValueError(f"{source} is empty: give a header and a line for each example")
    header = rows[0][1]
    named = not all(as_number(cell) is not None for cell in header)
    names = header if named else list(map(str, range(len(header))))
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{source}: two columns have the name {repeated[0]!r}: rename one")
    rows = rows[1:] if named else rows
    if not rows:
        raise ValueError(f"{source}: there is no row below the header")
    for line, cells in rows:
        if len(cells) != len(names):
            problem = f"{len(cells)} cells for {len(names)} columns"
            raise ValueError(f"{source}, line {line}: {problem}")
    columns = zip(*(cells for _, cells in rows), strict=True)
    texts = {name: _objects(cells) for name, cells in zip(names, columns, strict=True)}
    return Columns(source, texts, [line for line, _ in rows], named)


def _objects(cells: Sequence[str]) -> np.ndarray:
    column = np.empty(len(cells), dtype=object)
    column[:] = cells
    return column


def _from_numpy(raw: bytes, source: str) -> Columns:
    try:
        read: Any = np.load(io.BytesIO(raw), allow_pickle=False)
        arrays = {"": read} if isinstance(read, np.ndarray) else {n: read[n] for n in read.files}
    except Exception as error:  # a damaged archive has its own way to be wrong
        raise ValueError(f"{source} cannot be read: {str(error).splitlines()[0]}") from None
    columns: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if array.ndim not in (1, 2):
            shape = f"{name or 'the array'} has the shape {list(array.shape)}"
            raise ValueError(f"{source}: {shape}: give [N] or [N, C], a row for each example")
        if array.ndim == 1 and name:
            columns[name] = _cells(array)
        else:
            prefix = f"{name}_" if name else ""
            parts = array.reshape(len(array), -1).T
            columns |= {f"{prefix}{n}": _cells(part) for n, part in enumerate(parts)}
    if len({len(column) for column in columns.values()}) != 1:
        sizes = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise ValueError(f"{source}: arrays of different lengths ({sizes}): give one row each")
    return Columns(source, columns, named=[*arrays] != [""])


def _cells(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    return _objects([str(cell) for cell in array])


def _from_parquet(raw: bytes, source: str) -> Columns:
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "Table reads Parquet with pandas: pip install 'torch-trellis[table]'", name="pandas"
        ) from error
    try:
        frame = pd.read_parquet(io.BytesIO(raw))
    except ImportError:
        raise
    except Exception as error:  # of one of its engines
        raise ValueError(f"{source} cannot be read: {str(error).splitlines()[0]}") from None
    columns = {}
    for name in frame.columns:
        cells = frame[name]
        if pd.api.types.is_numeric_dtype(cells):
            columns[str(name)] = cells.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            columns[str(name)] = _objects(["" if c is None or c != c else str(c) for c in cells])
    return Columns(source, columns)
