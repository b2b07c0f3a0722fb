"""Causal attention to the last few positions, in time linear in the length.

Legend: B sequences, H heads, T queries, S keys, d entries of a head, W positions of the window.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def window_mask(
    length: int, total: int, window: int, device: torch.device | None = None
) -> Tensor:
    """Which of ``total`` positions the last ``length`` attend to, ``[length, total]``.

    >>> window_mask(3, 4, window=2).int()
    tensor([[1, 1, 0, 0],
            [0, 1, 1, 0],
            [0, 0, 1, 1]], dtype=torch.int32)
    """
    ones = torch.ones(length, total, dtype=torch.bool, device=device)
    return ones.tril(total - length).triu(total - length - window + 1)


def attend_locally(
    query: Tensor, keys: Tensor, values: Tensor, window: int, dropout: float = 0.0
) -> Tensor:
    """Scaled dot-product attention of the last T of S positions to the last W before each.

    The queries are cut into blocks of W; the keys of a block are its own and those of the W - 1
    positions before it. So each query is compared with fewer than 2 W keys instead of S.

    Args:
        query: ``[B, H, T, d]``.
        keys: ``[B, H, S, d]`` with ``S >= T``.
        values: ``[B, H, S, d]``.
        window: W, the position itself included.
        dropout: of the attention weights.
    Shape:
        -> ``[B, H, T, d]``

    Source: Child et al. 2019 (local part); Beltagy et al. 2020, section 3.1.
    """
    length, total = query.size(2), keys.size(2)
    if length == 1:
        keys, values = keys[:, :, -window:], values[:, :, -window:]
        return F.scaled_dot_product_attention(query, keys, values, dropout_p=dropout)
    blocks = -(-length // window)
    # The first block looks back W - 1 positions, the last one is filled up.
    before, after = window - 1 - (total - length), blocks * window - length

    def cut(x: Tensor) -> Tensor:  # -> [B H, blocks, 2 W - 1, d]
        padded = F.pad(x, (0, 0, before, after)).flatten(0, 1)
        return padded.unfold(1, 2 * window - 1, window).transpose(-1, -2)

    queries = F.pad(query, (0, 0, 0, after)).flatten(0, 1).unflatten(1, (blocks, window))
    near = window_mask(window, 2 * window - 1, window, query.device)
    key = torch.arange(2 * window - 1, device=query.device)
    first = window * torch.arange(blocks, device=query.device) - before  # key of each block
    mask = near & (first[:, None, None] + key >= 0)
    attended = F.scaled_dot_product_attention(
        queries, cut(keys), cut(values), attn_mask=mask, dropout_p=dropout
    )
    return attended.flatten(1, 2)[:, :length].unflatten(0, query.shape[:2])
