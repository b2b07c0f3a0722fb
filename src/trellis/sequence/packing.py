"""Several sequences in one row, so that little of a batch is padding.

Legend: B rows, T tokens.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trellis.sequence.batches import Ragged


class PackedTokens(NamedTuple):
    """Sequences one after the other; padding at the end of a row counts as one.

    Args:
        tokens: ids ``[B, T]``.
        positions: ``[B, T]``: of each token in its sequence; 0 begins one.
    """

    tokens: Tensor
    positions: Tensor


def same_sequence(positions: Tensor) -> Tensor:
    """Which tokens of packed rows belong together: the mask of their attention.

    Shape:
        ``[B, T]`` -> ``[B, T, T]``

    Source: Krell et al. 2021, section 3.2.

    >>> same_sequence(torch.tensor([[0, 1, 0]])).int()
    tensor([[[1, 1, 0],
             [1, 1, 0],
             [0, 0, 1]]], dtype=torch.int32)
    """
    number = (positions == 0).cumsum(1)
    return number.unsqueeze(2) == number.unsqueeze(1)


def packed_rows(lengths: Sequence[int]) -> list[list[int]]:
    """Which sequences share a row as long as the longest one: first-fit decreasing.

    Source: Johnson 1973: at most 11/9 of the fewest possible rows, and 6/9 more.

    >>> packed_rows([2, 5, 3, 2])
    [[1], [2, 0], [3]]
    """
    room = max(lengths)
    rows: list[list[int]] = []
    left: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        place = next((n for n, free in enumerate(left) if free >= length), len(rows))
        if place == len(rows):
            rows.append([index])
            left.append(room - length)
        else:
            rows[place].append(index)
            left[place] -= length
    return rows


def joined(sequences: Ragged, rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """The sequences of each row, one after the other, and then ``fill``: ``[B, T]``."""
    flat = [torch.cat([sequences[index] for index in row]) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(flat, batch_first=True, padding_value=fill)


def packed(sequences: Ragged, rows: Sequence[Sequence[int]], pad_id: int) -> PackedTokens:
    """Tokens of sequences in rows, such as ``packed_rows`` gives.

    >>> packed(Ragged([[7, 8], [9], [5, 6, 7]]), [[2], [0, 1]], pad_id=0).positions
    tensor([[0, 1, 2],
            [0, 1, 0]])
    """
    tokens = joined(sequences, rows, pad_id)
    lengths = sequences.lengths.tolist()
    positions = torch.zeros_like(tokens)
    for row, indices in zip(positions, rows, strict=True):
        counted = [lengths[index] for index in indices]
        counted.append(len(row) - sum(counted))
        row.copy_(torch.cat([torch.arange(length) for length in counted]))
    return PackedTokens(tokens, positions)
