"""Skip-gram with negative sampling: centres, their contexts, and noise; of words or of nodes.

Legend: S sequences of length T, B centres, M contexts of each, K negatives of each.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.checks import at_least_one

NO_CONTEXT = -1  # stands where a centre has fewer than M contexts


class SkipGramBatch(NamedTuple):
    """Centres with their contexts, and noise to tell these from.

    Args:
        center: ids ``[B]``.
        context: ids ``[B, M]``, -1 where there is none; single pairs have M = 1.
        negatives: ids ``[B, K]`` drawn at random, the same for all contexts of a centre.
    """

    center: Tensor
    context: Tensor
    negatives: Tensor


class PairCounts(NamedTuple):
    """Pairs of words and how often they stand near each other.

    Args:
        center: ids ``[B]``.
        context: ids ``[B]``.
        counts: of the pairs ``[B]``, above 0.
    """

    center: Tensor
    context: Tensor
    counts: Tensor


class Probe(NamedTuple):
    """Labelled ids, and those that a linear classifier is to predict them from.

    Args:
        ids: to predict ``[B]``.
        labels: of them ``[B]``.
        train_ids: to learn from ``[A]``.
        train_labels: of them ``[A]``.
    """

    ids: Tensor
    labels: Tensor
    train_ids: Tensor
    train_labels: Tensor


def context_windows(sequences: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Each element of each sequence with what stands at most ``window`` places from it.

    Args:
        sequences: ids; those below 0 are no elements.
        window: places to either side, at least 1.
    Returns:
        centres and their contexts, see ``SkipGramBatch``.
    Shape:
        ``[S, T]`` -> ``[B]``, ``[B, 2 * window]``
    Raises:
        ValueError: ``window`` is below 1.

    >>> center, context = context_windows(torch.tensor([[5, 6, 7]]), 1)
    >>> center, context
    (tensor([5, 6, 7]), tensor([[-1,  6], [ 5,  7], [ 6, -1]]))
    """
    at_least_one("window", window)
    padded = F.pad(sequences, (window, window), value=NO_CONTEXT).clamp(min=NO_CONTEXT)
    windows = padded.unfold(1, 2 * window + 1, 1)  # [S, T, 2 * window + 1]
    beside = torch.cat([windows[..., :window], windows[..., window + 1 :]], -1).flatten(0, 1)
    center = sequences.flatten()
    kept = (center >= 0) & (beside >= 0).any(1)
    return center[kept], beside[kept]


class Noise:
    r"""The distribution of negatives: frequencies to a power, as a table to draw from.

    .. math:: P(i) \propto \text{counts}_i^{\text{power}}

    Args:
        counts: how often each id occurs in the data.
        power: 0 draws all ids alike, those that never occur included.
    Shape:
        counts ``[N]``
    Raises:
        ValueError: a count is negative, or none is positive.

    Source: Mikolov et al. 2013b, section 2.2.
    """

    def __init__(self, counts: Tensor, power: float = 0.75) -> None:
        if not len(counts) or int(counts.min()) < 0 or not counts.any():
            raise ValueError("counts: give none below 0, and one above it")
        weights = counts.double() ** power
        self._upper = weights.cumsum(0) / weights.sum()
        self._last = int(weights.nonzero()[-1])  # rounding may leave a gap below 1

    def draw(self, *shape: int, generator: torch.Generator | None = None) -> Tensor:
        """Ids of this shape."""
        share = torch.rand(shape, generator=generator, dtype=torch.float64)
        return torch.searchsorted(self._upper, share, right=True).clamp_(max=self._last)


def skip_gram_loss(positive: Tensor, negative: Tensor, present: Tensor) -> Tensor:
    r"""Mean over the pairs of a centre with one of its contexts, in nats.

    .. math:: -\ln \sigma(u_c^\top v_o) - \sum_k \ln \sigma(-u_c^\top v_k)

    Args:
        positive: logits of the contexts.
        negative: logits of the negatives k.
        present: where there is a context.
    Shape:
        positive ``[B, M]``, negative ``[B, K]``, present ``[B, M]`` -> a scalar

    Source: Mikolov et al. 2013b, eq. 4.

    >>> zero = torch.zeros(1, 1)
    >>> skip_gram_loss(zero, torch.zeros(1, 5), zero == 0)  # 6 ln 2
    tensor(4.1589)
    """
    noise = F.softplus(negative).sum(1, keepdim=True)  # [B, 1]
    pairs = F.softplus(-positive) + noise
    return torch.where(present, pairs, 0).sum() / present.sum().clamp(min=1)
