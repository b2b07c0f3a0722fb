"""Windows of a running text in blocks, whose words share their contexts and their noise.

Legend: N blocks of L centres, C places of contexts of each, K negatives of each.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.checks import at_least_one

NO_LINE = -1  # where there is no word


class WindowBatch(NamedTuple):
    """Words of a text as centres, what stands near them, and noise to tell that from.

    A gather for each word of a block, in place of one for each pair, and products of matrices in
    place of those of vectors: several times as fast as single pairs.

    Args:
        center: ids ``[N, L]``.
        context: ids ``[N, C]``, from a window before the first centre to one after the last.
        near: whether a context belongs to a centre ``[N, L, C]``.
        negatives: ids ``[N, K]`` drawn at random, the same for all pairs of a block.
    """

    center: Tensor
    context: Tensor
    near: Tensor
    negatives: Tensor


def window_blocks(
    ids: Tensor, lines: Tensor, reach: Tensor, *, window: int, length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A text as blocks of centres, with the places that they may have contexts at.

    Args:
        ids: of its words, one after the other.
        lines: the line of each; no window reaches into another line.
        reach: places to either side that count for each word, 1 to ``window``.
        window: the largest reach.
        length: L.
    Returns:
        ``center``, ``context`` and ``near`` of a ``WindowBatch``.
    Shape:
        ``[S]``, ``[S]``, ``[S]`` -> ``[N, L]``, ``[N, L + 2 window]``, ``[N, L, L + 2 window]``
    Raises:
        ValueError: a size below 1.

    Source: Mikolov et al. 2013a, section 3.2 (the windows); Ji et al. 2016, section 4 (blocks).

    >>> words, line = torch.tensor([5, 6, 7]), torch.zeros(3)
    >>> center, context, near = window_blocks(words, line, torch.ones(3), window=1, length=3)
    >>> context, near.int()[0]
    (tensor([[0, 5, 6, 7, 0]]), tensor([[0, 0, 1, 0, 0],
            [0, 1, 0, 1, 0],
            [0, 0, 1, 0, 0]], dtype=torch.int32))
    """
    at_least_one("window", window)
    at_least_one("length", length)
    missing = -len(ids) % length if len(ids) else length
    width = length + 2 * window
    margins = (window, window + missing)
    context = F.pad(ids, margins).unfold(0, width, length)  # [N, C]
    context_lines = F.pad(lines, margins, value=NO_LINE).unfold(0, width, length)
    inside = slice(window, window + length)
    center_lines = context_lines[:, inside, None]
    place, other = torch.arange(length)[:, None] + window, torch.arange(width)
    distance = (place - other).abs()  # [L, C]
    distance[place == other] = window + 1  # a word is not its own context
    near = distance <= F.pad(reach, (0, missing)).view(-1, length, 1)
    near &= (center_lines == context_lines[:, None]) & (center_lines != NO_LINE)
    return context[:, inside], context, near


def kept_share(counts: Tensor, sample: float) -> Tensor:
    r"""How often each word of a text is kept, so that frequent ones come up less often.

    .. math:: \min(1, \sqrt{t / f} + t / f)

    with the share f of the word in the text.

    Args:
        counts: how often each word occurs.
        sample: t; 0 keeps all.
    Shape:
        ``[V]`` -> ``[V]``

    Source: word2vec.c; Mikolov et al. 2013b, eq. 5, has no second term.

    >>> kept_share(torch.tensor([98, 1, 1]), 0.02)[:2]
    tensor([0.1633, 1.0000], dtype=torch.float64)
    """
    if not sample:
        return torch.ones(len(counts), dtype=torch.float64)
    ratio = sample * counts.sum() / counts.double().clamp(min=1)
    return (ratio.sqrt() + ratio).clamp(max=1)


def window_loss(positive: Tensor, negative: Tensor, near: Tensor, num_negatives: int) -> Tensor:
    r"""Skip-gram with negative sampling over the pairs of a block, a mean in nats.

    .. math:: -\ln \sigma(u_c^\top v_o) - \frac{k}{K} \sum_{n=1}^K \ln \sigma(-u_c^\top v_n)

    Args:
        positive: logits of the contexts.
        negative: logits of the K negatives.
        near: which contexts count.
        num_negatives: k, what the loss has for each pair in expectation.
    Shape:
        positive and near ``[N, L, C]``, negative ``[N, L, K]`` -> a scalar

    Source: Mikolov et al. 2013b, eq. 4.
    """
    pairs = near.sum(-1)  # [N, L]
    noise = F.softplus(negative).mean(-1) * num_negatives
    found = torch.where(near, F.softplus(-positive), 0).sum(-1)
    return (found + pairs * noise).sum() / pairs.sum().clamp(min=1)


def bag_of_contexts(vectors: Tensor, near: Tensor) -> Tensor:
    """Means of the vectors of the contexts of each centre, 0 where it has none.

    Shape:
        ``[N, C, D]``, ``[N, L, C]`` -> ``[N, L, D]``
    """
    shares = near / near.sum(-1, keepdim=True).clamp(min=1)
    return shares.to(vectors.dtype) @ vectors
