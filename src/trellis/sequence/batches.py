"""Batches of sequences: what they are called, how they are padded and bucketed by length.

Legend: B sequences, T and S tokens, padded to the longest of the batch.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class TokenPairs(NamedTuple):
    """Sources and what is to be made of them.

    Args:
        source: ``[B, S]``, ending with ``eos_id``.
        target: ``[B, T]``, from ``bos_id`` to ``eos_id``.
        references: what a translation is measured against, one text each; empty in training and
            where targets are not text.
    """

    source: Tensor
    target: Tensor
    references: tuple[str, ...] = ()


class SentencePairs(NamedTuple):
    """Pairs of sentences in one sequence: [CLS] first [SEP] second [SEP].

    Args:
        tokens: ``[B, T]``.
        segments: ``[B, T]``: 0 up to the first [SEP], then 1.
        in_order: ``[B]``: 1 where the second sentence follows the first in the text, else 0.
    """

    tokens: Tensor
    segments: Tensor
    in_order: Tensor


class Ragged:
    """Sequences of different lengths in one flat tensor, batched without a Python loop.

    Args:
        sequences: token ids of each.
    Raises:
        ValueError: there are none.

    >>> Ragged([[1, 2], [3], [4, 5, 6]]).padded(torch.tensor([1, 2]), pad_id=0)
    tensor([[3, 0, 0],
            [4, 5, 6]])
    """

    def __init__(self, sequences: Sequence[Sequence[int]]) -> None:
        if not sequences:
            raise ValueError("Ragged: there are no sequences")
        self.lengths = torch.tensor([len(sequence) for sequence in sequences])
        self._starts = self.lengths.cumsum(0) - self.lengths
        self._flat = torch.tensor([token for sequence in sequences for token in sequence])

    def __len__(self) -> int:
        return len(self.lengths)

    def padded(self, indices: Tensor, pad_id: int) -> Tensor:
        """The sequences ``indices [B]``, ``[B, T]``, filled with ``pad_id``."""
        lengths = self.lengths[indices]
        column = torch.arange(int(lengths.max()))
        inside = column < lengths.unsqueeze(1)
        where = (self._starts[indices].unsqueeze(1) + column).where(inside, 0)
        return self._flat[where].where(inside, pad_id)


def token_budget(
    lengths: Tensor, max_tokens: int, bucket: int = 100
) -> Callable[[Tensor, torch.Generator], Sequence[Tensor]]:
    """A plan for ``Loader``: batches of like lengths whose padded size stays within a budget.

    The order is cut into runs of ``bucket`` batches' worth of examples, each sorted by length and
    cut into batches, so that batches hold other companions in each epoch; then the batches are
    shuffled.

    Args:
        lengths: of all examples ``[N]``; of pairs, the longer side.
        max_tokens: at most this many in a batch, padding included; a longer sequence is alone.
        bucket: average batches sorted together; more means less padding and less shuffling.
    Raises:
        ValueError: ``max_tokens`` or ``bucket`` is smaller than 1.
    """
    for name, value in (("max_tokens", max_tokens), ("bucket", bucket)):
        if value < 1:
            raise ValueError(f"{name}={value}: give at least 1")
    run = max(1, round(bucket * max_tokens / float(lengths.float().mean())))

    def plan(order: Tensor, generator: torch.Generator) -> Sequence[Tensor]:
        batches: list[Tensor] = []
        for part in order.split(run):
            part = part[lengths[part].argsort(stable=True)]
            batches += _cut(part, lengths[part].tolist(), max_tokens)
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        return [batches[index] for index in shuffled]

    return plan


def _cut(indices: Tensor, lengths: list[int], max_tokens: int) -> list[Tensor]:
    """Cut examples sorted by length; the last of a batch is its longest."""
    batches, start = [], 0
    for end, length in enumerate(lengths):
        if end > start and (end + 1 - start) * length > max_tokens:
            batches.append(indices[start:end])
            start = end
    return [*batches, indices[start:]]
