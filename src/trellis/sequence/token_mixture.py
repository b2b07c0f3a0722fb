"""A token that stands between others."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from trellis.checks import not_negative


@contextmanager
def mixed_token(
    embedding: nn.Embedding, token: int, shares: Mapping[int, float]
) -> Iterator[None]:
    r"""Let a token's vector be a weighted mean of those of tokens while the block runs.

    .. math:: e_{token} = \sum_k w_k e_k

    With the tags of two languages at :math:`w` and :math:`1 - w`, a model of many languages
    translates into what lies between them.

    Args:
        embedding: of the sources.
        token: whose vector is replaced.
        shares: token k -> :math:`w_k`; they add up to 1.
    Raises:
        ValueError: a share is negative, or they do not add up to 1.

    Source: Johnson et al. 2017, section 8.2.

    >>> embedding = nn.Embedding.from_pretrained(torch.tensor([[0.0], [4.0]]))
    >>> with mixed_token(embedding, 0, {0: 0.25, 1: 0.75}):
    ...     embedding(torch.tensor(0)).item()
    3.0
    >>> embedding(torch.tensor(0)).item()
    0.0
    """
    for share in shares.values():
        not_negative("share", share)
    if abs((total := sum(shares.values())) - 1) > 1e-6:
        raise ValueError(f"shares {list(shares.values())} add up to {total:g}: make it 1")
    weight = embedding.weight.detach()
    kept = weight[token].clone()
    rows = weight[list(shares)]
    weights = torch.tensor(list(shares.values()), dtype=rows.dtype, device=rows.device)
    try:
        weight[token] = weights @ rows
        yield
    finally:
        weight[token] = kept
