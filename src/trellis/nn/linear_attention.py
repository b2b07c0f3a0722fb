"""Causal attention whose weights are products of features: time linear in the length.

Legend: B sequences, H heads, T positions, d entries of a head, C positions of a chunk.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.nn.attention import check_heads, merge_heads, split_heads

CHUNK = 64


class LinearMemory(NamedTuple):
    """All earlier positions, in a size that does not grow with their number.

    Args:
        positions: ``[B, H, S, 0]``: empty, it says how many they are.
        sums: of the products of features of keys and values, ``[B, H, d, d]``.
        features: sums of the features of keys, ``[B, H, d]``.
    """

    positions: Tensor
    sums: Tensor
    features: Tensor


def positive_features(x: Tensor) -> Tensor:
    """``elu(x) + 1``."""
    return F.elu(x) + 1


def attend_linearly(
    query: Tensor, keys: Tensor, values: Tensor, memory: LinearMemory | None = None
) -> tuple[Tensor, LinearMemory]:
    r"""Causal attention with weights proportional to products of positive features.

    .. math:: y_t = \frac{\phi(q_t)^\top \sum_{s \le t} \phi(k_s) v_s^\top}
        {\phi(q_t)^\top \sum_{s \le t} \phi(k_s)}, \quad \phi(x) = \mathrm{elu}(x) + 1

    Sums over earlier chunks of 64 positions are carried, products inside a chunk are made whole.

    Args:
        query: ``[B, H, T, d]``.
        keys: ``[B, H, T, d]``.
        values: ``[B, H, T, d]``.
        memory: of the positions before these.
    Shape:
        -> ``[B, H, T, d]``, and the memory with these positions

    Source: Katharopoulos et al. 2020, eq. 7 and 12; in chunks as Hua et al. 2022, section 3.3.
    """
    length = query.size(2)
    chunks = -(-length // CHUNK)
    size = CHUNK if chunks > 1 else length

    def cut(x: Tensor) -> Tensor:  # -> [B, H, chunks, C, d]
        return F.pad(x, (0, 0, 0, chunks * size - length)).unflatten(2, (chunks, size))

    query, features, values = (
        cut(positive_features(query)),
        cut(positive_features(keys)),
        cut(values),
    )
    sums, totals = features.transpose(-1, -2) @ values, features.sum(-2)  # of each chunk
    sums, totals = sums.cumsum(2), totals.cumsum(2)
    if memory is not None:
        sums, totals = sums + memory.sums.unsqueeze(2), totals + memory.features.unsqueeze(2)
    before = [_shifted(sums, memory and memory.sums), _shifted(totals, memory and memory.features)]
    weights = (query @ features.transpose(-1, -2)).tril()
    attended = weights @ values + query @ before[0]
    normaliser = weights.sum(-1) + (query @ before[1].unsqueeze(-1)).squeeze(-1)
    attended = (attended / normaliser.unsqueeze(-1)).flatten(2, 3)[:, :, :length]
    seen = 0 if memory is None else memory.positions.size(2)
    positions = query.new_empty(*query.shape[:2], seen + length, 0)
    return attended, LinearMemory(positions, sums[:, :, -1], totals[:, :, -1])


def _shifted(sums: Tensor, first: Tensor | None) -> Tensor:
    """What stands before each chunk, given what stands after it: the next is that of the last."""
    start = torch.zeros_like(sums[:, :, :1]) if first is None else first.unsqueeze(2)
    return torch.cat([start, sums[:, :, :-1]], 2)


class CausalLinearAttention(nn.Module):
    """Every position attends to itself and to earlier ones, which a memory of fixed size keeps.

    Args:
        embed_dim: width D.
        num_heads: heads H; divides ``embed_dim``.
        dropout: of the attention weights, which are never made: 0.
        bias: whether the maps have biases.
    Shape:
        x ``[B, T, D]``, memory -> ``[B, T, D]``, memory
    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``; dropout, or a rotation, which
            would make features negative.

    Source: Katharopoulos et al. 2020.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, *, dropout: float = 0.0, bias: bool = True
    ) -> None:
        super().__init__()
        check_heads(embed_dim, num_heads)
        if dropout:
            raise ValueError(
                f"attention_dropout={dropout}: linear attention makes no weights to drop, give 0"
            )
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(embed_dim, 3 * embed_dim, bias=bias)
        self.output = nn.Linear(embed_dim, embed_dim, bias=bias)

    def forward(
        self, x: Tensor, cache: LinearMemory | None = None, rotation: Tensor | None = None
    ) -> tuple[Tensor, LinearMemory]:
        """``cache`` is the memory of the positions before x."""
        query, keys, values = self._project(x, rotation)
        attended, memory = attend_linearly(query, keys, values, cache)
        return self.output(merge_heads(attended)), memory

    def weights(self, x: Tensor, rotation: Tensor | None = None) -> Tensor:
        """Attention weights ``[B, H, T, T]``, zero above the diagonal."""
        query, keys, _ = self._project(x, rotation)
        weights = (positive_features(query) @ positive_features(keys).transpose(-1, -2)).tril()
        return weights / weights.sum(-1, keepdim=True)

    def _project(self, x: Tensor, rotation: Tensor | None) -> list[Tensor]:
        if rotation is not None:
            raise ValueError("positions: linear attention takes no rotary positions")
        return [split_heads(part, self.num_heads) for part in self.query_key_value(x).chunk(3, -1)]
