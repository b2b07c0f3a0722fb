"""Batches of sequences: their types, padding and bucketing by length.

Legend: B sequences, T and S tokens, padded to the longest of the batch.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trellis.checks import at_least_one


class TokenPairs(NamedTuple):
    """Source and target sequences.

    Args:
        source: ``[B, S]``, ending with ``eos_id``.
        target: ``[B, T]``, from ``bos_id`` to ``eos_id``.
        references: texts that translations are compared with; empty in training and where targets
            are not text.
    """

    source: Tensor
    target: Tensor
    references: tuple[str, ...] = ()


class SentencePairs(NamedTuple):
    """Pairs of sentences in one sequence: [CLS] first [SEP] second [SEP].

    Args:
        tokens: ``[B, T]``.
        segments: ``[B, T]``: 0 up to the first [SEP], then 1; 0 for padding.
        in_order: ``[B]``: 1 where the second sentence follows the first in the text, else 0.
    """

    tokens: Tensor
    segments: Tensor
    in_order: Tensor


class SentencePair(NamedTuple):
    """Pairs of sentences in sequences of their own.

    Args:
        first: ``[B, S]``.
        second: ``[B, T]``.
    """

    first: Tensor
    second: Tensor


class Ragged:
    """Sequences of different lengths in one flat tensor, batched without a Python loop.

    Args:
        sequences: token ids of each.
    Raises:
        ValueError: there are no sequences.

    >>> Ragged([[1, 2], [3], [4, 5, 6]]).padded(torch.tensor([1, 2]), pad_id=0)
    tensor([[3, 0, 0],
            [4, 5, 6]])
    """

    def __init__(self, sequences: Sequence[Sequence[int]]) -> None:
        if not sequences:
            raise ValueError("Ragged: there are no sequences")
        self.lengths = torch.tensor([len(sequence) for sequence in sequences])
        self._starts = self.lengths.cumsum(0) - self.lengths
        flat = np.fromiter(chain.from_iterable(sequences), np.int64)
        self._flat = torch.from_numpy(flat)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Tensor:
        start = int(self._starts[index])
        return self._flat[start : start + int(self.lengths[index])]

    def padded(self, indices: Tensor, pad_id: int) -> Tensor:
        """The sequences ``indices [B]`` as one tensor ``[B, T]``, padded with ``pad_id``."""
        lengths = self.lengths[indices].unsqueeze(1)
        column = torch.arange(int(lengths.max()))
        inside = column < lengths
        where = (self._starts[indices].unsqueeze(1) + column).where(inside, 0)
        return self._flat[where].where(inside, pad_id)


Plan = Callable[[Tensor, torch.Generator], Sequence[Tensor]]


def token_budget(
    lengths: Tensor, max_tokens: int, *, shuffle: bool = True, round_to: int = 1
) -> Plan:
    """A plan for ``Loader``: batches of similar lengths whose padded size stays within a budget.

    Examples are sorted by length and cut into batches. Equally long ones keep the order given, so
    that with a shuffled order the batches differ from epoch to epoch. Every epoch has the same
    number of batches.

    Args:
        lengths: of all examples ``[N]``; of pairs, the longer side.
        max_tokens: in a batch, padding included; a longer sequence is a batch of its own.
        shuffle: the batches; otherwise they are in the order of their first examples.
        round_to: lengths that round up to the same multiple count as equal. Larger values mix the
            batches more, and pad more.
    Raises:
        ValueError: ``max_tokens`` or ``round_to`` is smaller than 1.

    >>> plan = token_budget(torch.tensor([5, 2, 2, 5, 2]), max_tokens=6, shuffle=False)
    >>> plan(torch.arange(5), torch.Generator())
    [tensor([0]), tensor([1, 2, 4]), tensor([3])]
    """
    at_least_one("max_tokens", max_tokens)
    at_least_one("round_to", round_to)
    rounded = lengths
    if round_to > 1:
        rounded = (lengths + round_to - 1) // round_to * round_to

    def plan(order: Tensor, generator: torch.Generator) -> Sequence[Tensor]:
        by_length = order[rounded[order].argsort(stable=True)]
        batches = _cut(by_length, rounded[by_length], max_tokens)
        if not shuffle:
            return sorted(batches, key=lambda batch: int(batch.min()))
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    return plan


def consecutive_budget(lengths: Tensor, max_tokens: int) -> Plan:
    """A plan for ``Loader``: the order given, cut into batches within a budget.

    Args:
        lengths: of all examples ``[N]``; of pairs, the longer side.
        max_tokens: in a batch, padding included; a longer sequence is a batch of its own.
    Raises:
        ValueError: ``max_tokens`` is smaller than 1.
    """
    at_least_one("max_tokens", max_tokens)

    def plan(order: Tensor, generator: torch.Generator) -> Sequence[Tensor]:
        return _cut(order, lengths[order], max_tokens)

    return plan


def _cut(indices: Tensor, lengths: Tensor, max_tokens: int) -> list[Tensor]:
    """Cut examples in their order; a batch is as large as its longest example allows."""
    batches, start, longest = [], 0, 0
    # In parts: a list takes many times the memory of the tensor.
    parts = (part.tolist() for part in lengths.split(1 << 16))
    for end, length in enumerate(chain.from_iterable(parts)):
        longest = max(longest, length)
        if end > start and (end + 1 - start) * longest > max_tokens:
            batches.append(indices[start:end])
            start, longest = end, length
    return [*batches, indices[start:]]
