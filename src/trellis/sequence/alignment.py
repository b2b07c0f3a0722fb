"""Attention of a recurrent decoder to the outputs of its encoder.

Legend: B sentences, T queries (decoder steps), S source positions, A width of the projected keys.
A kind of attention is a score of a query ``q`` against an encoder output ``k``; the weights are
the softmax over all non-padding positions, and the context is the weighted mean of the values,
which are the outputs unless a kind says otherwise. What depends on the outputs only is computed
once per sentence, by ``keys`` and ``values``.
"""

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_equal, positive


class Alignment(nn.Module, ABC):
    """Base of attention by a score; subclasses define the keys and the score.

    Args:
        query_dim: width of a decoder state.
        key_dim: width of an encoder output.
    Shape:
        query ``[B, T, query_dim]``, keys ``[B, S, A]``, values ``[B, S, key_dim]``, mask
        ``[B, S]`` (True = keep) -> context ``[B, T, key_dim]``, weights ``[B, T, S]``
    """

    def __init__(self, query_dim: int, key_dim: int) -> None:
        super().__init__()
        self.query_dim = at_least_one("query_dim", query_dim)
        self.key_dim = at_least_one("key_dim", key_dim)

    @abstractmethod
    def keys(self, outputs: Tensor) -> Tensor:
        """Keys from the encoder's outputs, ``[B, S, key_dim] -> [B, S, A]``."""

    def values(self, outputs: Tensor) -> Tensor:
        """What is averaged: the encoder's outputs, ``[B, S, key_dim] -> [B, S, key_dim]``."""
        return outputs

    @abstractmethod
    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """``[B, T, query_dim]``, ``[B, S, A]`` -> ``[B, T, S]``."""

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Context and weights, which are NaN for a sentence that is all padding."""
        scores = self.score(query, keys).masked_fill(~mask.unsqueeze(1), -torch.inf)
        weights = scores.softmax(-1)
        return weights @ values, weights


class AlignmentFactory(Protocol):
    """Builds the attention of a decoder from its sizes; called by keyword."""

    def __call__(self, query_dim: int, key_dim: int) -> Alignment: ...


class LastState(Alignment):
    """No attention: the context is the encoder's output at each sentence's last position.

    Of a unidirectional encoder this is its last state, the bottleneck that attention removes.

    Source: Cho et al. 2014, section 2.2: the summary c is an input of each decoder step.
    """

    def keys(self, outputs: Tensor) -> Tensor:
        return outputs[..., :1]

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return keys.new_zeros(query.size(0), query.size(1), keys.size(1))

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        behind = mask.flip(1).cumsum(1).flip(1)  # [B, S]: number of kept positions from here on
        last = (mask & (behind == 1)).to(values.dtype)
        weights = last.unsqueeze(1).expand(-1, query.size(1), -1)
        return weights @ values, weights


class MeanState(Alignment):
    r"""No scores: the context is the mean of the encoder's outputs, the same at each step.

    .. math:: e_{ts} = 0

    It is the control of an attention: what all states say together, whatever the query.
    """

    def keys(self, outputs: Tensor) -> Tensor:
        return outputs[..., :1]

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return keys.new_zeros(query.size(0), query.size(1), keys.size(1))


class DotAttention(Alignment):
    r"""Dot product of states and outputs.

    .. math:: e_{ts} = q_t^\top k_s

    Raises:
        ValueError: the widths differ.

    Source: Luong et al. 2015, eq. 8 (dot).
    """

    def __init__(self, query_dim: int, key_dim: int) -> None:
        super().__init__(query_dim, key_dim)
        other = "; use GeneralAttention, or an encoder as wide as the decoder"
        check_equal("DotAttention", other, query_dim=query_dim, key_dim=key_dim)

    def keys(self, outputs: Tensor) -> Tensor:
        return outputs

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return query @ keys.transpose(1, 2)


class GeneralAttention(Alignment):
    r"""A bilinear form.

    .. math:: e_{ts} = q_t^\top W k_s

    with ``query_dim * key_dim`` parameters.

    Source: Luong et al. 2015, eq. 8 (general).
    """

    def __init__(self, query_dim: int, key_dim: int) -> None:
        super().__init__(query_dim, key_dim)
        self.key = nn.Linear(key_dim, query_dim, bias=False)

    def keys(self, outputs: Tensor) -> Tensor:
        return self.key(outputs)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return query @ keys.transpose(1, 2)


class ReducedRankAttention(Alignment):
    r"""A bilinear form of low rank.

    .. math:: e_{ts} = (U q_t)^\top (V k_s)

    with ``rank * (query_dim + key_dim)`` parameters.

    Args:
        query_dim: width of a decoder state.
        key_dim: width of an encoder output.
        rank: width of the space they are both mapped to.
    """

    def __init__(self, query_dim: int, key_dim: int, *, rank: int = 64) -> None:
        super().__init__(query_dim, key_dim)
        at_least_one("rank", rank)
        self.query = nn.Linear(query_dim, rank, bias=False)
        self.key = nn.Linear(key_dim, rank, bias=False)

    def keys(self, outputs: Tensor) -> Tensor:
        return self.key(outputs)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return self.query(query) @ keys.transpose(1, 2)


class AdditiveAttention(Alignment):
    r"""A network with one hidden layer.

    .. math:: e_{ts} = v^\top \tanh(W q_t + U k_s + b)

    Args:
        query_dim: width of a decoder state.
        key_dim: width of an encoder output.
        attention_dim: width of the hidden layer.

    Source: Bahdanau et al. 2015, appendix A.1.2, eq. 6; the bias follows later implementations.
    """

    def __init__(self, query_dim: int, key_dim: int, *, attention_dim: int = 256) -> None:
        super().__init__(query_dim, key_dim)
        at_least_one("attention_dim", attention_dim)
        self.query = nn.Linear(query_dim, attention_dim, bias=False)
        self.key = nn.Linear(key_dim, attention_dim)
        self.energy = nn.Linear(attention_dim, 1, bias=False)

    def keys(self, outputs: Tensor) -> Tensor:
        return self.key(outputs)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        hidden = self.query(query).unsqueeze(2) + keys.unsqueeze(1)  # [B, T, S, A]
        return self.energy(hidden.tanh_()).squeeze(-1)


class KernelAttention(Alignment):
    r"""A Gaussian kernel of the distance between states and outputs, both mapped to one space.

    .. math:: e_{ts} = -\frac{\lVert U q_t - V k_s \rVert^2}{2 h^2}

    so that the context is the Nadaraya-Watson estimate of the outputs at the query, with a learned
    bandwidth :math:`h`, which begins at ``bandwidth``.

    Args:
        query_dim: width of a decoder state.
        key_dim: width of an encoder output.
        rank: width of the space they are both mapped to.
        bandwidth: the first one; ``None`` takes :math:`\sqrt{rank}`.
    Raises:
        ValueError: a size below 1, or a bandwidth that is not positive.

    Source: Nadaraya 1964; Watson 1964.
    """

    def __init__(
        self, query_dim: int, key_dim: int, *, rank: int = 64, bandwidth: float | None = None
    ) -> None:
        super().__init__(query_dim, key_dim)
        at_least_one("rank", rank)
        first = positive("bandwidth", rank**0.5 if bandwidth is None else bandwidth)
        self.query = nn.Linear(query_dim, rank, bias=False)
        self.key = nn.Linear(key_dim, rank, bias=False)
        self.log_bandwidth = nn.Parameter(torch.tensor(float(first)).log())

    def keys(self, outputs: Tensor) -> Tensor:
        return self.key(outputs)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        query = self.query(query)
        squares = query.square().sum(-1).unsqueeze(2) + keys.square().sum(-1).unsqueeze(1)
        distances = squares - 2 * query @ keys.transpose(1, 2)  # [B, T, S], squared
        return -distances * (-2 * self.log_bandwidth).exp() / 2


class LearnedValue(Alignment):
    r"""Any attention with values of their own.

    .. math:: c_t = \sum_s \alpha_{ts} \, v(h_s), \quad v(h) = \tanh(W h + b)

    Args:
        query_dim: width of a decoder state.
        key_dim: width of an encoder output, and of a value.
        attention: gives the weights, from ``(query_dim, key_dim)``.

    Source: Vaswani et al. 2017, section 3.2, for the values. Deviates: a linear :math:`v` would
    commute with the weighted mean, and be one with the layers that read the context.
    """

    def __init__(
        self, query_dim: int, key_dim: int, *, attention: AlignmentFactory = AdditiveAttention
    ) -> None:
        super().__init__(query_dim, key_dim)
        self.attention = attention(query_dim=query_dim, key_dim=key_dim)
        self.value = nn.Linear(key_dim, key_dim)

    def keys(self, outputs: Tensor) -> Tensor:
        return self.attention.keys(outputs)

    def values(self, outputs: Tensor) -> Tensor:
        return self.value(self.attention.values(outputs)).tanh()

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return self.attention.score(query, keys)

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.attention(query, keys, values, mask)
