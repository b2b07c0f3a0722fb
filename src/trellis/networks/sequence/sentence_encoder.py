"""One vector for each sequence, from an encoder's vectors of its tokens.

Legend: B sequences, T tokens, D numbers of a vector.
"""

from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from trellis.checks import choose_from
from trellis.networks.sequence.bert import BERT

Pool = Literal["mean", "first", "max"]


class EncoderFactory(Protocol):
    """Builds an encoder, tokens ``[B, T]`` -> vectors ``[B, T, D]``; called by keyword."""

    def __call__(self, num_tokens: int, *, pad_id: int) -> nn.Module: ...


class SentenceEncoder(nn.Module):
    """The mean or the maximum of an encoder's vectors of all tokens, or that of the first token.

    Args:
        num_tokens: size of the vocabulary.
        pad_id: padding token, which does not count.
        encoder: from ``(num_tokens, pad_id)`` to a module tokens ``[B, T]`` -> ``[B, T, D]``.
        pool: which one.
    Shape:
        tokens ``[B, T]`` -> ``[B, D]``
    Raises:
        ValueError: an unknown ``pool``.

    Source: Reimers and Gurevych 2019, section 3.
    """

    def __init__(
        self,
        num_tokens: int,
        *,
        pad_id: int,
        encoder: EncoderFactory = BERT,
        pool: Pool = "mean",
    ) -> None:
        super().__init__()
        self.pad_id, self.pool = pad_id, choose_from("pool", pool, Pool)
        self.encoder = encoder(num_tokens=num_tokens, pad_id=pad_id)

    def forward(self, tokens: Tensor) -> Tensor:
        return pooled(self.encoder(tokens), tokens != self.pad_id, self.pool)


def pooled(vectors: Tensor, mask: Tensor, pool: Pool) -> Tensor:
    """One vector for several.

    Args:
        vectors: ``[B, T, D]``.
        mask: ``[B, T]``, true for those that count; at least one of each row.
        pool: the ``mean``, the ``first``, or the ``max`` of each number.
    Shape:
        -> ``[B, D]``

    >>> pooled(torch.tensor([[[1.0], [5], [9]]]), torch.tensor([[True, True, False]]), "mean")
    tensor([[3.]])
    """
    if pool == "first":
        return vectors[:, 0]
    there = mask.unsqueeze(2)
    if pool == "max":
        return vectors.masked_fill(~there, -torch.inf).amax(1)
    return vectors.masked_fill(~there, 0).sum(1) / there.sum(1)
