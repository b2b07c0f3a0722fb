"""Conditional random field of a chain: a score of whole tag sequences.

Legend: B sentences, T tokens, C tags. The tokens of a sentence that have a tag need not be
neighbours: padding, the marks of its ends and the later pieces of words are skipped, wherever they
are, and the tags on both sides of them follow each other.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trellis.checks import at_least, check_shape
from trellis.sequence.masking import known_first

FORBIDDEN = -1e4  # finite, so that no gradient is NaN; its exponential is 0


class Allowed(NamedTuple):
    """Which tags may follow each other.

    Args:
        transitions: ``[C, C]``: whether the tag of the column may follow that of the row.
        first: ``[C]``: whether a sentence may begin with the tag.
    """

    transitions: Tensor
    first: Tensor


class LinearChainCRF(nn.Module):
    r"""Probability of a sequence of tags, given a score of each tag at each token.

    .. math:: \ln p(y \mid x) = b_{y_1} + \sum_t e_{t, y_t} + \sum_{t > 1} A_{y_{t-1}, y_t}
        + c_{y_T} - \ln Z

    with the emissions e of a network, and as parameters the ``transitions`` A, ``first`` b and
    ``last`` c. The sum Z over all :math:`C^T` sequences is computed by the forward algorithm in
    log space, the best sequence by Viterbi's.

    Args:
        num_tags: C.
        allowed: sequences with others have probability 0; ``None`` allows all.
    Shape:
        emissions ``[B, T, C]``, tags ``[B, T]``, negative where a token is skipped ->
        log-probability of the tags of each sentence ``[B]``; 0 of one without tags
    Raises:
        ValueError: fewer than two tags, or shapes that do not fit.

    Source: Lafferty et al. 2001, section 3; Lample et al. 2016, section 2.2. The parameters begin
    uniform in [-0.1, 0.1].

    >>> crf = LinearChainCRF(2)
    >>> emissions, tags = torch.randn(1, 1, 2), torch.tensor([[[0]], [[1]]])
    >>> torch.stack([crf(emissions, each).exp() for each in tags]).sum().round(decimals=4).item()
    1.0
    """

    forbidden: Tensor
    not_first: Tensor

    def __init__(self, num_tags: int, allowed: Allowed | None = None) -> None:
        super().__init__()
        self.num_tags = at_least(2, "num_tags", num_tags)
        self.transitions = nn.Parameter(torch.empty(num_tags, num_tags).uniform_(-0.1, 0.1))
        self.first = nn.Parameter(torch.empty(num_tags).uniform_(-0.1, 0.1))
        self.last = nn.Parameter(torch.empty(num_tags).uniform_(-0.1, 0.1))
        everything = Allowed(torch.ones(num_tags, num_tags), torch.ones(num_tags))
        transitions, first = allowed or everything
        check_shape("allowed.transitions", transitions, (num_tags, num_tags), "each pair of tags")
        check_shape("allowed.first", first, (num_tags,), "each tag")
        # They follow from the tags, which the spec of a checkpoint has.
        self.register_buffer("forbidden", ~transitions.bool(), persistent=False)
        self.register_buffer("not_first", ~first.bool(), persistent=False)

    def forward(self, emissions: Tensor, tags: Tensor) -> Tensor:
        chain = self._chain(emissions, tags >= 0)
        labels = tags.clamp(min=0).gather(1, chain.order)
        return self._score(chain, labels) - self._log_partition(chain)

    def log_partition(self, emissions: Tensor, known: Tensor) -> Tensor:
        """``ln Z [B]`` of the tokens that are ``known [B, T]``; 0 where there is none."""
        return self._log_partition(self._chain(emissions, known))

    def viterbi(self, emissions: Tensor, known: Tensor) -> Tensor:
        """The most probable tags ``[B, T]`` of the tokens that are ``known``; 0 at others."""
        chain, pointers = self._chain(emissions, known), []
        steps = chain.steps()
        best, _ = next(steps)
        stay = torch.arange(self.num_tags, device=best.device).expand_as(best)
        for emission, inside in steps:
            scores, before = (best.unsqueeze(2) + chain.transitions).max(1)  # [B, C]
            best = (scores + emission).where(inside, best)
            pointers.append(before.where(inside, stay))
        tag = (best + self.last).argmax(1, keepdim=True)  # [B, 1]
        path = [tag]
        for before in reversed(pointers):
            tag = before.gather(1, tag)
            path.append(tag)
        tags = torch.cat(path[::-1], 1).where(chain.inside, 0)
        return torch.zeros_like(tags).scatter(1, chain.order, tags)

    def marginals(self, emissions: Tensor, known: Tensor) -> Tensor:
        """Probability of each tag at each token ``[B, T, C]``, over all sequences of the others.

        Of a token that is skipped, those of no tag: zeros.
        """
        chain = self._chain(emissions, known)
        forward = [*self._forward(chain)]
        steps = [*chain.steps()][1:]
        backward = [self.last.expand_as(forward[0])]
        for emission, inside in reversed(steps):
            after = (chain.transitions + (emission + backward[-1]).unsqueeze(1)).logsumexp(2)
            backward.append(after.where(inside, self.last))
        logs = torch.stack(forward, 1) + torch.stack(backward[::-1], 1)  # [B, T, C]
        found = logs.softmax(-1).where(chain.inside.unsqueeze(2), 0)
        return torch.zeros_like(found).scatter(1, chain.order.unsqueeze(2).expand_as(found), found)

    def _chain(self, emissions: Tensor, known: Tensor) -> "_Chain":
        check_shape("emissions", emissions, (*known.shape, self.num_tags), "each tag of a token")
        order, inside = known_first(known)
        return _Chain(
            order,
            inside,
            emissions.gather(1, order.unsqueeze(2).expand_as(emissions)),
            self.transitions.masked_fill(self.forbidden, FORBIDDEN),
            self.first.masked_fill(self.not_first, FORBIDDEN),
        )

    def _forward(self, chain: "_Chain") -> Iterator[Tensor]:
        """Log of the summed scores of all beginnings that end in each tag, ``[B, C]`` a step."""
        steps = chain.steps()
        alpha, _ = next(steps)
        yield alpha
        for emission, inside in steps:
            reached = (alpha.unsqueeze(2) + chain.transitions).logsumexp(1)  # [B, C]
            alpha = (reached + emission).where(inside, alpha)
            yield alpha

    def _log_partition(self, chain: "_Chain") -> Tensor:
        *_, alpha = self._forward(chain)
        return (alpha + self.last).logsumexp(1).where(chain.inside[:, 0], 0)

    def _score(self, chain: "_Chain", labels: Tensor) -> Tensor:
        """Score ``[B]`` of the tags ``labels [B, T]``, in the order of the chain."""
        inside, count = chain.inside, chain.inside.sum(1, keepdim=True)
        emitted = chain.emissions.gather(2, labels.unsqueeze(2)).squeeze(2)
        passed = chain.transitions[labels[:, :-1], labels[:, 1:]]
        ends = labels.gather(1, (count - 1).clamp(min=0)).squeeze(1)
        around = chain.first[labels[:, 0]] + self.last[ends]
        return (
            emitted.where(inside, 0).sum(1)
            + passed.where(inside[:, 1:], 0).sum(1)
            + around.where(inside[:, 0], 0)
        )


class _Chain(NamedTuple):
    """Sentences whose tokens with a tag stand at the front, and the scores between tags."""

    order: Tensor
    inside: Tensor
    emissions: Tensor
    transitions: Tensor
    first: Tensor

    def steps(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Scores ``[B, C]`` and whether there is a token ``[B, 1]``, step by step."""
        # Indexing would make a gradient of the size of all emissions in each step.
        emissions, inside = self.emissions.unbind(1), self.inside.unsqueeze(2).unbind(1)
        yield self.first + emissions[0], inside[0]
        yield from zip(emissions[1:], inside[1:], strict=True)
