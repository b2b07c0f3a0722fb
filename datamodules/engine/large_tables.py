"""Large tables of names and numbers, read by pyarrow: seconds instead of minutes.

A table is *plain* if there is nothing to interpret: no comments after the first lines, empty
lines, decimal commas or missing numbers. One that is not, or that has an error, is read
line by line by ``trellis.datamodules.engine.tables``, which says where the error is.
"""

import csv
import io
from collections.abc import Callable, Collection, Container, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from trellis.datamodules.engine.tables import is_comment, separator_of
from trellis.files import read_bytes

LARGE = 1 << 24  # bytes: below, line by line takes a second


def read_table(path: Path, option: str) -> bytes:
    """The bytes of a table that fits into memory.

    Args:
        path: of the table.
        option: that gave the path.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is larger than the memory that is free.
    """
    free = _free_memory()
    if free is not None and path.is_file() and (size := path.stat().st_size) > free:
        raise ValueError(
            f"{path} has {size / 1e9:,.1f} GB, more than the {free / 1e9:,.1f} GB of memory that "
            f"are free: leave out features or take a part of the graph; where the tables fit but "
            f"a step on the whole graph does not, train on samples: --data SampledNodes"
        )
    return read_bytes(path, option)


def _free_memory() -> int | None:
    """Bytes, where the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        told = next(line for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    return int(told.split()[1]) << 10


class Heading(NamedTuple):
    """What the first line of a table says of its columns.

    Args:
        names: of the columns.
        texts: names of those that hold texts; others hold numbers.
        is_row: whether the line is the first row itself.
    """

    names: Sequence[str]
    texts: Collection[str]
    is_row: bool = False


class PlainTable(NamedTuple):
    """A table in columns.

    Args:
        names: of the columns.
        columns: by name: texts as pyarrow's, or float32 ``[rows]``.
        lines: of the file, where the rows stand.
    """

    names: Sequence[str]
    columns: dict[str, Any]
    lines: range

    def texts(self, name: str) -> list[str]:
        """A column of texts."""
        return self.columns[name].to_pylist()

    def numbers(self, names: Sequence[str]) -> Tensor:
        """Columns of numbers, ``[rows, columns]``."""
        x = np.empty((len(self.lines), len(names)), dtype=np.float32)
        for place, name in enumerate(names):
            x[:, place] = self.columns[name]
        return torch.from_numpy(x)

    def places(self, name: str, known: Collection[str]) -> Tensor | None:
        """Where each text of a column stands among known ones; ``None`` if one does not."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.index_in(self.columns[name], value_set=pa.array(list(known), pa.string()))
        if found.null_count:
            return None
        return torch.from_numpy(found.to_numpy().astype(np.int64))


def read_plain(
    raw: bytes,
    heading: Callable[[list[str]], Heading | None],
    ids: Container[str] | None = None,
) -> PlainTable | None:
    """A table that is large and plain, else ``None``.

    Args:
        raw: the bytes of the file.
        heading: what the cells of the first line say; ``None``: something unknown.
        ids: see ``parsed_rows``.
    """
    if len(raw) < LARGE:
        return None
    skipped, first = 0, ""
    for line in io.BytesIO(raw):
        first = line.decode("utf-8", "replace").strip(" \r\n")
        if ids is None or not is_comment(first, ids):
            break
        skipped += 1
    separator = separator_of(first)
    found = heading([cell.strip() for cell in next(csv.reader([first], delimiter=separator), [])])
    if separator not in "\t," or found is None or len({*found.names}) < len(found.names):
        return None
    skipped += 0 if found.is_row else 1
    rows = raw.count(b"\n") + (not raw.endswith(b"\n")) - skipped
    columns = _parsed(raw, separator, skipped, found)
    if columns is None or rows < 1 or any(len(column) != rows for column in columns.values()):
        return None
    return PlainTable(found.names, columns, range(skipped + 1, skipped + 1 + rows))


def _parsed(raw: bytes, separator: str, skipped: int, heading: Heading) -> dict[str, Any] | None:
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import csv as arrow
    except ImportError:
        size = f"{len(raw) / 1e6:,.0f} MB of a table"
        rank_zero_info(f"{size}: pip install 'torch-trellis[table]' to read them faster")
        return None
    types = {
        name: pa.string() if name in heading.texts else pa.float64() for name in heading.names
    }
    try:
        table = arrow.read_csv(
            io.BytesIO(raw),
            arrow.ReadOptions(column_names=list(heading.names), skip_rows=skipped),
            arrow.ParseOptions(delimiter=separator),
            arrow.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=False),
        )
    except pa.ArrowInvalid:
        return None
    columns: dict[str, Any] = {}
    for name in heading.names:
        column = table[name]
        if name in heading.texts:
            columns[name] = pc.utf8_trim_whitespace(column)
        else:
            with np.errstate(over="ignore"):  # what is too large becomes infinite
                columns[name] = column.to_numpy().astype(np.float32)
            if column.null_count or not np.isfinite(columns[name]).all():
                return None
    return columns
