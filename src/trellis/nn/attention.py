"""Multi-head attention over torch's fused kernel: self, causal with a cache, and cross.

Legend: B sequences, H heads, T queries, S keys, D embed_dim, d = D / H. Masks are True at the keys
that are attended to.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one, probability
from trellis.nn.local_attention import attend_locally, window_mask
from trellis.nn.positional import rotate


class KeyValues(NamedTuple):
    """Projected keys and values, ``[B, H, S, d]`` each."""

    keys: Tensor
    values: Tensor


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """``[B, T, H d]`` -> ``[B, H, T, d]``, without a copy."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """``[B, H, T, d]`` -> ``[B, T, H d]``."""
    return x.transpose(1, 2).flatten(2)


def attend(
    query: Tensor, key_values: KeyValues, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    r"""Scaled dot-product attention.

    .. math:: \mathrm{softmax}(Q K^\top / \sqrt{d})\, V

    Args:
        query: ``[B, H, T, d]``.
        key_values: keys and values ``[B, H, S, d]``.
        mask: keys to attend to, ``[B, S]``, or of each query, ``[B, T, S]``; ``None`` means all.
            Every query needs at least one.
        dropout: of the attention weights; above 0 torch has no fused kernel on the CPU.
    Shape:
        -> ``[B, H, T, d]``

    Source: Vaswani et al. 2017, eq. 1.
    """
    return F.scaled_dot_product_attention(
        query, *key_values, attn_mask=_of_heads(mask), dropout_p=dropout
    )


def _of_heads(mask: Tensor | None) -> Tensor | None:
    """A mask of keys, to be broadcast: ``[B, 1, 1 or T, S]``."""
    if mask is None:
        return None
    return mask.unsqueeze(1) if mask.ndim == 3 else mask[:, None, None]


def attend_causally(query: Tensor, key_values: KeyValues, dropout: float = 0.0) -> Tensor:
    """``attend`` for the last T of S positions, with a causal mask.

    With fewer heads of keys than of queries, groups of queries share them.

    Shape:
        query ``[B, H, T, d]``, key_values ``[B, G, S, d]`` with ``S >= T``, G a divisor of H ->
        ``[B, H, T, d]``
    """
    length, total = query.size(2), key_values.keys.size(2)
    grouped = query.size(1) != key_values.keys.size(1)
    if length == total:
        return F.scaled_dot_product_attention(
            query, *key_values, dropout_p=dropout, is_causal=True, enable_gqa=grouped
        )
    mask = None if length == 1 else causal_mask(length, total, query.device)
    return F.scaled_dot_product_attention(
        query, *key_values, attn_mask=mask, dropout_p=dropout, enable_gqa=grouped
    )


def causal_mask(length: int, total: int, device: torch.device | None = None) -> Tensor:
    """Causal mask of the last ``length`` of ``total`` positions, ``[length, total]``.

    >>> causal_mask(2, 4).int()
    tensor([[1, 1, 1, 0],
            [1, 1, 1, 1]], dtype=torch.int32)
    """
    return window_mask(length, total, total, device)


def attention_weights(query: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""The attention weights only, for figures: :math:`\mathrm{softmax}(Q K^\top / \sqrt{d})`.

    Args:
        query: ``[B, H, T, d]``.
        keys: ``[B, H, S, d]``.
        mask: keys to attend to; broadcast against ``[B, H, T, S]``.
    Shape:
        -> ``[B, H, T, S]``, rows sum to one.
    """
    scores = query @ keys.transpose(-2, -1) / query.size(-1) ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1)


class _JointProjection(nn.Module):
    """One linear map to the queries, keys and values of the same positions."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        dropout: float = 0.0,
        bias: bool = True,
        key_value_heads: int | None = None,
    ) -> None:
        super().__init__()
        check_heads(embed_dim, num_heads)
        self.num_heads, self.dropout = num_heads, probability("dropout", dropout)
        self.key_value_heads = key_value_heads or num_heads
        shared = embed_dim // num_heads * self.key_value_heads
        self.sizes = [embed_dim, shared, shared]
        self.query_key_value = nn.Linear(embed_dim, sum(self.sizes), bias=bias)
        self.output = nn.Linear(embed_dim, embed_dim, bias=bias)

    def project(self, x: Tensor, rotation: Tensor | None) -> tuple[Tensor, KeyValues]:
        """``[B, T, D]`` -> queries ``[B, H, T, d]``, keys and values ``[B, G, T, d]`` each."""
        parts = self.query_key_value(x).split(self.sizes, -1)
        query = split_heads(parts[0], self.num_heads)
        keys, values = (split_heads(part, self.key_value_heads) for part in parts[1:])
        if rotation is not None:
            query, keys = rotate(query, rotation), rotate(keys, rotation)
        return query, KeyValues(keys, values)


class SelfAttention(_JointProjection):
    """Every position attends to every position.

    Args:
        embed_dim: width D.
        num_heads: heads H; divides ``embed_dim``.
        dropout: of the attention weights.
        bias: whether the maps have biases.
    Shape:
        x ``[B, T, D]`` -> ``[B, T, D]``
    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``.

    Source: Vaswani et al. 2017, section 3.2.

    >>> sum(p.numel() for p in SelfAttention(256, 8).parameters()) == 4 * (256 * 256 + 256)
    True
    """

    def forward(
        self, x: Tensor, mask: Tensor | None = None, rotation: Tensor | None = None
    ) -> Tensor:
        """``mask [B, T]`` or ``[B, T, T]`` of ``attend``; ``rotation`` of ``RotaryPositions``."""
        query, key_values = self.project(x, rotation)
        dropout = self.dropout if self.training else 0.0
        return self.output(merge_heads(attend(query, key_values, mask, dropout)))

    def weights(
        self, x: Tensor, mask: Tensor | None = None, rotation: Tensor | None = None
    ) -> Tensor:
        """Attention weights ``[B, H, T, T]``."""
        query, key_values = self.project(x, rotation)
        return attention_weights(query, key_values.keys, _of_heads(mask))


class CausalSelfAttention(_JointProjection):
    """Every position attends to itself and to earlier ones, which may be in a cache.

    Feeding a sequence in pieces, each with the cache of the last, equals feeding it at once.

    Args:
        embed_dim: width D.
        num_heads: heads H; divides ``embed_dim``.
        dropout: of the attention weights.
        bias: whether the maps have biases.
        key_value_heads: heads G of keys and values; divides ``num_heads``, which is the default.
        window: attend to this many positions, the own one included; ``None`` to all.
    Shape:
        x ``[B, T, D]``, cache of S positions -> ``[B, T, D]``, cache of S + T positions
    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``, ``key_value_heads`` does not
            divide ``num_heads``, or a window below 1.

    Source: Vaswani et al. 2017, section 3.2.3; Ainslie et al. 2023 (groups); Child et al. 2019
    (window).
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        dropout: float = 0.0,
        bias: bool = True,
        key_value_heads: int | None = None,
        window: int | None = None,
    ) -> None:
        if key_value_heads is not None:
            at_least_one("key_value_heads", key_value_heads)
            if num_heads % key_value_heads:
                raise ValueError(
                    f"key_value_heads={key_value_heads}: give a divisor of num_heads={num_heads}"
                )
        if window is not None:
            at_least_one("window", window)
        options: dict[str, Any] = {"dropout": dropout, "bias": bias}
        super().__init__(embed_dim, num_heads, key_value_heads=key_value_heads, **options)
        self.window = window

    def forward(
        self, x: Tensor, cache: KeyValues | None = None, rotation: Tensor | None = None
    ) -> tuple[Tensor, KeyValues]:
        """``cache`` of the positions before x; ``rotation`` of ``RotaryPositions``."""
        query, key_values = self.project(x, rotation)
        if cache is not None:
            key_values = KeyValues(
                *(torch.cat(pair, 2) for pair in zip(cache, key_values, strict=True))
            )
        dropout = self.dropout if self.training else 0.0
        if self.window is None:
            attended = attend_causally(query, key_values, dropout)
        else:
            attended = attend_locally(query, *self._for_each(key_values), self.window, dropout)
        return self.output(merge_heads(attended)), key_values

    def _for_each(self, key_values: KeyValues) -> KeyValues:
        """Keys and values of each head of queries."""
        size = self.num_heads // self.key_value_heads
        if size == 1:
            return key_values
        return KeyValues(*(each.repeat_interleave(size, 1) for each in key_values))

    def weights(self, x: Tensor, rotation: Tensor | None = None) -> Tensor:
        """Attention weights ``[B, H, T, T]``, zero above the diagonal."""
        query, key_values = self.project(x, rotation)
        length = x.size(1)
        mask = window_mask(length, length, self.window or length, x.device)
        return attention_weights(query, self._for_each(key_values).keys, mask)


class CrossAttention(nn.Module):
    """Every position attends to a memory, whose keys and values are projected once.

    Args:
        embed_dim: width D.
        num_heads: heads H; divides ``embed_dim``.
        dropout: of the attention weights.
        bias: whether the maps have biases.
    Shape:
        x ``[B, T, D]``, key_values ``[B, H, S, d]`` -> ``[B, T, D]``
    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, *, dropout: float = 0.0, bias: bool = True
    ) -> None:
        super().__init__()
        check_heads(embed_dim, num_heads)
        self.num_heads, self.dropout = num_heads, probability("dropout", dropout)
        self.query = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.key_value = nn.Linear(embed_dim, 2 * embed_dim, bias=bias)
        self.output = nn.Linear(embed_dim, embed_dim, bias=bias)

    def project(self, memory: Tensor) -> KeyValues:
        """``[B, S, D]`` -> keys and values ``[B, H, S, d]``."""
        keys, values = self.key_value(memory).chunk(2, -1)
        return KeyValues(split_heads(keys, self.num_heads), split_heads(values, self.num_heads))

    def forward(self, x: Tensor, key_values: KeyValues, mask: Tensor | None = None) -> Tensor:
        """``key_values`` from ``project``; ``mask [B, S]`` of keys to attend to."""
        query = split_heads(self.query(x), self.num_heads)
        dropout = self.dropout if self.training else 0.0
        return self.output(merge_heads(attend(query, key_values, mask, dropout)))

    def weights(self, x: Tensor, key_values: KeyValues, mask: Tensor | None = None) -> Tensor:
        """Attention weights ``[B, H, T, S]``."""
        query = split_heads(self.query(x), self.num_heads)
        return attention_weights(query, key_values.keys, _of_heads(mask))


def check_heads(embed_dim: int, num_heads: int) -> None:
    """Check that the heads can be equally wide.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``.
    """
    at_least_one("embed_dim", embed_dim)
    at_least_one("num_heads", num_heads)
    if embed_dim % num_heads:
        raise ValueError(f"num_heads={num_heads}: give a divisor of embed_dim={embed_dim}")
