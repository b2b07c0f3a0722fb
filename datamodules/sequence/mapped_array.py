"""Numbers in files larger than memory, and the sequences that are made of them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trellis.files import atomic_write
from trellis.sequence.tokenizer import EOS

RESIDENT = 1 << 26  # bytes of a mapping that may stay in memory; see MappedArray
_PAGES = 1 << 18  # what the system may map around a byte that is read
_BLOCK = 1 << 18  # numbers that are read at once


class MappedArray:
    """A range of the numbers in a file, read where they are needed: tokens, places.

    Pages of a mapping that were read once count as this process's memory as long as it stays, and
    random places come to all pages in the end. So the file is mapped anew now and then; the pages
    stay in the system's cache.

    Args:
        path: of the file.
        dtype: of a number.
        start: first number of the range.
        length: how many.
    """

    def __init__(self, path: Path, dtype: str, start: int, length: int) -> None:
        self.path, self.dtype, self.start, self.length = path, np.dtype(dtype), start, length
        self._mapped: np.ndarray | None = None
        self._resident = 0

    def __len__(self) -> int:
        return self.length

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_mapped": None}

    def opened(self, places: int, count: int) -> np.ndarray:
        """The whole range, to read ``count`` numbers at so many places."""
        self._resident += places * _PAGES + count * self.dtype.itemsize
        if self._mapped is None or self._resident > RESIDENT:
            offset = self.start * self.dtype.itemsize
            mapped = np.memmap(self.path, self.dtype, "r", offset, (self.length,))
            self._mapped = np.asarray(mapped)  # slices of a memmap are slow
            self._resident = 0
        return self._mapped

    def rows(self, starts: Tensor, length: int) -> Tensor:
        """The ``length`` numbers from each of ``starts [B]`` on: ``[B, length]``, of int64."""
        mapped = self.opened(len(starts), len(starts) * length)
        rows = [mapped[start : start + length] for start in starts.tolist()]
        return torch.from_numpy(np.stack(rows).astype(np.int64))


class MappedLines:
    """Sequences in a file, one after the other, as ``Ragged`` holds them in memory.

    Args:
        tokens: of all sequences.
        ends: places of their ends among the tokens.
        begin: ids that are put before each.
    """

    def __init__(
        self, tokens: MappedArray, ends: MappedArray, begin: tuple[int, ...] = ()
    ) -> None:
        self.tokens, self.ends, self.begin = tokens, ends, begin

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> Tensor:
        """Of all sequences ``[N]``, of int32; read from the file each time."""
        lengths, before = np.empty(len(self), np.int32), 0
        for start in range(0, len(self), _BLOCK):
            ends = self.ends.opened(1, _BLOCK)[start : start + _BLOCK]
            lengths[start : start + _BLOCK] = np.diff(ends, prepend=before) + len(self.begin)
            before = ends[-1]
        return torch.from_numpy(lengths)

    def padded(self, indices: Tensor, pad_id: int) -> Tensor:
        """The sequences ``indices [B]`` as one tensor ``[B, T]``, padded with ``pad_id``."""
        where, offset = indices.numpy(), len(self.begin)
        places = self.ends.opened(len(where), 2 * len(where))
        ends, starts = places[where], np.where(where > 0, places[where - 1], 0)
        lengths = ends - starts + offset
        tokens = self.tokens.opened(len(where), int(lengths.sum()))
        rows = np.full((len(where), lengths.max()), pad_id, np.int64)
        rows[:, :offset] = self.begin
        for row, start, end in zip(rows, starts.tolist(), ends.tolist(), strict=True):
            row[offset : offset + end - start] = tokens[start:end]
        return torch.from_numpy(rows)


def write_ends(tokens: Path, dtype: np.dtype, target: Path) -> int:
    """Write the places of the ends of sequences, each of which ends with ``EOS``.

    Args:
        tokens: file of all of them.
        dtype: of a token.
        target: file to write, of int64.
    Returns:
        The number of sequences.
    """
    count = read = 0
    with open(tokens, "rb") as file, atomic_write(target) as written:
        while len(ids := np.fromfile(file, dtype, _BLOCK)):
            ends = np.flatnonzero(ids == EOS) + (read + 1)
            written.write(ends.astype(np.int64).tobytes())
            count, read = count + len(ends), read + len(ids)
    return count
