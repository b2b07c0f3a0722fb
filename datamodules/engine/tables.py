"""Tables as people have them: from spreadsheets, from pandas, from collections of graphs."""

import csv
import re
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trellis.datamodules.engine.checks import in_line
from trellis.files import decode_utf8

Row = tuple[int, list[str]]  # line number and cells
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_QUOTED = re.compile(r'"[^"]*"')
_SEPARATOR = re.compile(r"sep=(.)", re.IGNORECASE)  # Excel's own first line


def parsed_rows(raw: bytes, source: str, ids: Container[str] | None = None) -> list[Row]:
    """Rows of a table that are not empty.

    The first line tells what separates cells: tabs, else semicolons, else commas, else spaces.
    Where it is semicolons, numbers with a decimal comma get a point.

    Args:
        raw: the bytes of the file.
        source: its name in messages.
        ids: lines that begin with # or %, but not with one of these, are comments; ``None``:
            there are none.
    Raises:
        ValueError: it is not a table in UTF-8.
    """
    text = decode_utf8(raw, source)
    lines = [line.strip(" \r\n") for line in text.splitlines()]
    separator, lines = _separated(lines, ids)
    reader = csv.reader(
        (f"{line}\n" for line in lines),
        delimiter=separator,
        skipinitialspace=separator == " ",
    )
    try:
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise ValueError(f"{source}, line {reader.line_num}: not CSV ({error})") from None
    if separator == ";":
        rows = [(line, list(_with_points(cells))) for line, cells in rows]
    return [(line, cells) for line, cells in rows if any(cells)]


def _separated(lines: list[str], ids: Container[str] | None) -> tuple[str, list[str]]:
    """What separates the cells, and the lines with empty ones in place of comments."""
    if lines and (told := _SEPARATOR.fullmatch(lines[0])):
        return told[1], ["", *lines[1:]]
    if ids is not None:
        lines = ["" if is_comment(line, ids) else line for line in lines]
    return separator_of(next((line for line in lines if line), "")), lines


def separator_of(line: str) -> str:
    """What separates the cells of a table, by its first line.

    >>> separator_of('"a;b",c'), separator_of("a b")
    (',', ' ')
    """
    line = _QUOTED.sub("", line)
    return next((separator for separator in "\t;," if separator in line), " ")


def is_comment(line: str, ids: Container[str]) -> bool:
    """Whether a line begins with # or %, but not with one of the ids."""
    return line[:1] in ("#", "%") and re.split(r"[\t;, ]", line)[0] not in ids


def _with_points(cells: list[str]) -> Iterator[str]:
    for cell in cells:
        yield cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell


def read_numbers(
    path: Path, header: Sequence[str], rows: list[Row], columns: Sequence[int]
) -> Tensor:
    """Some columns of a table as numbers ``[rows, columns]``.

    Args:
        path: of the table, for messages.
        header: names of all columns.
        rows: without the header.
        columns: which of them to read.
    Raises:
        ValueError: a cell is no finite number; names line and column.
    """
    try:
        x = _floats([[cells[c] for c in columns] for _, cells in rows])
        if np.isfinite(x).all():
            return torch.from_numpy(x)
    except ValueError:
        pass
    for line, cells in rows:
        for column in columns:
            if not _finite(cells[column]):
                problem = f"{cells[column]!r} is not a finite number: replace it"
                raise in_line(path, line, problem, header[column])
    raise AssertionError("one cell is not a finite number")


def _floats(cells: str | list[list[str]]) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, an error below
        return np.array(cells).astype(np.float32)


def _finite(cell: str) -> bool:
    try:
        return bool(np.isfinite(_floats(cell)))
    except ValueError:
        return False
