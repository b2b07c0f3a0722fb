"""A softmax over a large vocabulary that computes most words only where they occur."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one


class AdaptiveSoftmax(nn.Module):
    r"""Embeddings of tokens, and a softmax in two steps over the same vectors.

    Tokens are split by their ids at ``cutoffs``. The first step chooses among the tokens below
    the first cutoff and the groups above it, the second a token of the group, with vectors e:

    .. math:: p(w \mid h) = p(g \mid h)\, \mathrm{softmax}(E_g W_g h)_w

    The vectors of a group are multiplied only where the target is in it, so a training step costs
    little more than one of a vocabulary of ``cutoffs[0]``, if frequent tokens have low ids, as
    those of ``WordTokenizer``. The probabilities are exact.

    Args:
        num_tokens: size V of the vocabulary.
        features: width D of the hidden vectors h and of the embeddings.
        cutoffs: first ids of the groups, increasing.
    Raises:
        ValueError: a size below 1, or cutoffs that do not increase or lie outside ``(0, V)``.

    Source: Grave et al. 2017, "Efficient softmax approximation for GPUs"; Press and Wolf 2017
    (shared vectors). Deviates: the vectors of rare tokens are not narrower.

    >>> softmax = AdaptiveSoftmax(10, 4, cutoffs=[3, 6])
    >>> softmax.log_prob(torch.randn(2, 4)).exp().sum(-1).round(decimals=4)
    tensor([1., 1.], grad_fn=<RoundBackward1>)
    """

    def __init__(self, num_tokens: int, features: int, *, cutoffs: Sequence[int]) -> None:
        super().__init__()
        at_least_one("num_tokens", num_tokens)
        at_least_one("features", features)
        bounds = [0, *cutoffs, num_tokens]
        if not cutoffs or any(low >= high for low, high in zip(bounds, bounds[1:], strict=False)):
            raise ValueError(
                f"cutoffs={list(cutoffs)}: give increasing ids between 0 and num_tokens="
                f"{num_tokens}, such as [1500, 5000] of 30,000"
            )
        self.num_tokens, self.bounds = num_tokens, bounds
        self.layers = nn.AdaptiveLogSoftmaxWithLoss(
            features, num_tokens, list(cutoffs), div_value=1.0, head_bias=True
        )

    def _groups(self) -> Iterator[tuple[nn.Linear, nn.Linear]]:
        """The map of the hidden vectors of each group of rare tokens, and its vectors."""
        for layer in self.layers.tail:
            maps, vectors = layer.children()
            assert isinstance(maps, nn.Linear)
            assert isinstance(vectors, nn.Linear)
            yield maps, vectors

    def tables(self) -> list[Tensor]:
        """Vectors of the tokens of each group, the frequent ones first."""
        groups = [vectors.weight for _, vectors in self._groups()]
        return [self.layers.head.weight[: self.bounds[1]], *groups]

    def embed(self, tokens: Tensor) -> Tensor:
        """``[...]`` -> ``[..., D]``."""
        embedded: Tensor | float = 0.0
        for table, first in zip(self.tables(), self.bounds, strict=False):
            inside = (tokens >= first) & (tokens < first + len(table))
            rows = F.embedding((tokens - first).clamp(0, len(table) - 1), table)
            embedded = embedded + rows * inside.unsqueeze(-1)
        return torch.as_tensor(embedded)

    def log_prob(self, hidden: Tensor) -> Tensor:
        """Log-probabilities of all tokens, ``[..., D]`` -> ``[..., V]``."""
        return self.layers.log_prob(hidden.flatten(0, -2)).unflatten(0, hidden.shape[:-1])

    def log_prob_of(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Log-probabilities of the targets alone, ``[..., D]`` and ``[...]`` -> ``[...]``.

        Which groups are multiplied depends on the targets: it has their values to read.
        """
        # Under autocast, torch copies numbers of one type among those of another, and fails.
        with torch.autocast(hidden.device.type, enabled=False):
            rows = hidden.flatten(0, -2).to(self.layers.head.weight.dtype)
            scores = self.layers(rows, targets.flatten()).output
        # The map of a group without targets has a gradient of 0, not none: several processes
        # wait for one of each parameter.
        nothing = 0 * torch.stack([maps.weight.sum() for maps, _ in self._groups()]).sum()
        return scores.view_as(targets) + nothing
