"""N-gram language models: the next token, from how often it followed the last few.

Legend: B sequences, T tokens, V ``num_tokens``, n ``order``, c(h, w) how often token w followed
the context h. These networks have no parameters: ``count`` reads a text once, and ``forward`` is
what other language models have. The state holds the last n - 1 tokens, ``[B, n - 1]``, -1 before
the beginning of a text: there, at the beginning of a window that is read without a state, contexts
are shorter, and the probabilities those of the shorter n-grams.

``count`` keeps the counts in tensors, which ``state_dict`` holds. How many tokens followed a
context decides the shapes inside ``forward``, so it has values to read.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_tokens, positive, probability
from trellis.sequence.ngram_counts import NOTHING, Level, NGramCounts, column

FALLBACK = (0.5, 1.0, 1.5)  # discounts where the counts are too few to estimate them


class ReadContexts(NamedTuple):
    """What is known of the contexts of N positions.

    Args:
        levels: n-grams by the lengths of their contexts.
        contexts: numbers of the contexts of each length, ``[N]``; -1 where it was never met.
        lengths: tokens before the next one that there are, ``[N]``, at most n - 1.
    """

    levels: list[Level]
    contexts: list[Tensor]
    lengths: Tensor


class CountedLM(nn.Module, ABC):
    """Base of the language models that learn by counting.

    Args:
        num_tokens: size of the vocabulary.
        order: tokens of the longest n-grams: each depends on the ``order - 1`` before it.
        continuations: see ``NGramCounts``.
    Shape:
        tokens ``[B, T]``, state ``[B, n - 1]`` or None -> log-probabilities ``[B, T, V]``, state
    Raises:
        ValueError: a size below 1, or an id outside the vocabulary.
    """

    def __init__(self, num_tokens: int, order: int, *, continuations: bool) -> None:
        super().__init__()
        self.num_tokens = at_least_one("num_tokens", num_tokens)
        self.order = at_least_one("order", order)
        self.counts = NGramCounts(num_tokens, order, continuations=continuations)

    def count(self, tokens: Tensor, state: Tensor | None = None) -> Tensor:
        """Count every n-gram that ends in ``tokens``, and return the state after them.

        Args:
            tokens: ``[B, T]``, which continue those in ``state``; what has a negative id does not
                count, nor does any n-gram with it.
            state: from the call before; ``None`` at the beginning of a text.
        """
        check_tokens("tokens", tokens.clamp(min=NOTHING + 1), self.num_tokens)
        rows = self._with_history(tokens, state)
        self.counts.add(rows)
        return rows[:, tokens.size(1) :]

    def forget(self) -> None:
        """Start again from nothing."""
        self.counts.forget()

    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        read, state = self._read(tokens, state)
        probabilities = self.probabilities(read)  # [B * T, V]
        return probabilities.log_().float().view(*tokens.shape, self.num_tokens), state

    def log_prob(
        self, tokens: Tensor, targets: Tensor, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities ``[B, T]`` of the targets alone, and the state.

        It looks up one token of the vocabulary at each position: far faster than ``forward``.
        """
        check_tokens("targets", targets, self.num_tokens)
        read, state = self._read(tokens, state)
        probabilities = self.probabilities(read, targets.flatten())  # [B * T]
        return probabilities.log_().float().view_as(targets), state

    @abstractmethod
    def probabilities(self, read: "ReadContexts", targets: Tensor | None = None) -> Tensor:
        """Of the next tokens at N positions, ``[N, V]``, or of ``targets [N]``; in float64."""

    def _read(self, tokens: Tensor, state: Tensor | None) -> "tuple[ReadContexts, Tensor]":
        check_tokens("tokens", tokens, self.num_tokens)
        rows = self._with_history(tokens, state)
        levels = self.counts.levels()
        begun = torch.ones_like(tokens).flatten()
        lengths, contexts = begun * 0, [begun * 0]  # the empty context is number 0
        for back, level in enumerate(levels[1:]):
            token = column([rows], self.order - 1 - back, back)
            begun = begun * (token >= 0)
            lengths = lengths + begun
            contexts.append(level.find(contexts[-1], token))
        return ReadContexts(levels, contexts, lengths), rows[:, tokens.size(1) :]

    def _with_history(self, tokens: Tensor, state: Tensor | None) -> Tensor:
        if state is None:
            state = tokens.new_full((len(tokens), self.order - 1), NOTHING)
        return torch.cat([state, tokens], 1)


class AddKLM(CountedLM):
    r"""N-grams with the same number added to every count.

    .. math:: p(w \mid h) = \frac{c(h, w) + k}{\sum_{w'} c(h, w') + k V}

    Args:
        order: n.
        k: what is added; 1 is Laplace's, 0.5 that of Jeffreys and Perks.
    Raises:
        ValueError: ``k`` is not above 0.

    Source: Lidstone 1920; Chen and Goodman 1998, section 2.1.

    >>> network = AddKLM(3, order=2, k=1.0)
    >>> state = network.count(torch.tensor([[0, 1, 0, 1, 0, 2]]))
    >>> logits, state = network(torch.tensor([[0]]))
    >>> logits.exp()  # after 0 came 1 twice and 2 once
    tensor([[[0.1667, 0.5000, 0.3333]]])
    """

    def __init__(self, num_tokens: int, *, order: int = 3, k: float = 0.1) -> None:
        super().__init__(num_tokens, order, continuations=False)
        self.k = float(positive("k", k))

    def probabilities(self, read: ReadContexts, targets: Tensor | None = None) -> Tensor:
        levels, contexts, lengths = read
        p = torch.full((len(lengths),), self.k, dtype=torch.double, device=lengths.device)
        total = p * self.num_tokens
        if targets is None:
            p = p[:, None].repeat(1, self.num_tokens)
        for length, (level, context) in enumerate(zip(levels, contexts, strict=True)):
            context = context.where(lengths == length, NOTHING)
            total += level.sums(context)[0]
            if targets is not None:
                p += level.value_of(context, targets)
            else:
                followers = level.followers(context)
                p.index_put_(followers[:2], followers.value.double(), accumulate=True)
        return p / (total if targets is not None else total[:, None])


class KneserNeyLM(CountedLM):
    r"""Interpolated Kneser-Ney: discounted n-grams, and what is left by the next shorter ones.

    .. math:: p(w \mid h) = \frac{\max(a(h, w) - D, 0)}{\sum_{w'} a(h, w')}
        + \gamma(h)\, p(w \mid h')

    where h' is h without its first token, :math:`\gamma(h)` what makes the sum 1, and a(h, w) the
    count c(h, w) of the longest n-grams, but of shorter ones the number of different tokens met
    before (h, w). What followed a context that was never met is left to h'.

    Each order has three discounts D, for a = 1, 2 and more, estimated from how many a are 1, 2, 3
    and 4; where there are none of one, 0.5, 1 and 1.5.

    Args:
        order: n.
        discount: one D for all, in [0, 1], in place of the estimates.
        uniform: discount single tokens as well, and mix them with 1 / V: a token that was never
            met has a probability. Without it, it has none.
    Raises:
        ValueError: ``discount`` is no probability.

    Source: Kneser and Ney 1995; Chen and Goodman 1998, section 3 (interpolated, three discounts);
    Heafield et al. 2013 (uniform, fallback). With ``discount=0.1, uniform=False`` the numbers are
    those of nltk's ``KneserNeyInterpolated``, but for contexts met at the very beginning of a
    text with a token that never followed them again: there those of nltk add up to more than 1.

    >>> network = KneserNeyLM(3, order=2, discount=0.5, uniform=False)
    >>> state = network.count(torch.tensor([[0, 1, 0, 1, 0, 2]]))
    >>> logits, state = network(torch.tensor([[0]]))
    >>> logits.exp()  # 1 / 3 of the mass is left: a third for each, as each was met after one
    tensor([[[0.1111, 0.6111, 0.2778]]])
    """

    def __init__(
        self,
        num_tokens: int,
        *,
        order: int = 5,
        discount: float | None = None,
        uniform: bool = True,
    ) -> None:
        super().__init__(num_tokens, order, continuations=True)
        self.discount = None if discount is None else probability("discount", discount)
        self.uniform = uniform

    def discounts(self) -> Tensor:
        """D of each order, of n-grams with a = 1, 2, and 3 or more: ``[n, 3]``."""
        n = torch.stack([level.tally for level in self.counts.levels()]).double()  # [n, 4]
        if self.discount is not None:
            found = torch.full_like(n[:, :3], self.discount)
        else:
            number = torch.arange(1, 4, device=n.device)
            y = n[:, :1] / (n[:, :1] + 2 * n[:, 1:2])
            found = number - (number + 1) * y * n[:, 1:] / n[:, :3]
            valid = (found >= 0) & (found <= number)  # not so of NaN
            found = found.where(valid.all(1, keepdim=True), n.new_tensor(FALLBACK))
        if not self.uniform:
            found[0] = 0
        return found

    def probabilities(self, read: ReadContexts, targets: Tensor | None = None) -> Tensor:
        levels, contexts, lengths = read
        discounts = self.discounts()
        # Without a context all positions are alike: there would be V tokens to add for each.
        size = self.num_tokens
        root = lengths.new_zeros(1)
        p = torch.full((1, size), 1 / size, dtype=torch.double, device=root.device)
        p = self._mixed(p, levels[0], root, discounts[0])
        p = p.repeat(len(lengths), 1) if targets is None else p[0, targets]
        for level, context, discount in zip(levels[1:], contexts[1:], discounts[1:], strict=True):
            p = self._mixed(p, level, context, discount, targets)
        return p

    def _mixed(
        self,
        p: Tensor,
        level: Level,
        context: Tensor,
        discount: Tensor,
        targets: Tensor | None = None,
    ) -> Tensor:
        """Discounted n-grams of one length, mixed with those of shorter ones: ``p [N, V]``.

        With ``targets [N]``, ``p [N]`` of these alone.
        """
        total, kinds = level.sums(context)
        met = total > 0
        # Sums of 0, where nothing was met, must not divide.
        total, context = total.where(met, 1), context.where(met, NOTHING)
        left = ((kinds * discount).sum(1) / total).where(met, 1)
        if targets is not None:
            value = level.value_of(context, targets)
            return p * left + _discounted(value, discount) / total
        p *= left[:, None]
        position, token, value = level.followers(context)
        kept = _discounted(value, discount) / total[position]
        return p.index_put_((position, token), kept, accumulate=True)


def _discounted(value: Tensor, discount: Tensor) -> Tensor:
    """Values less the discount of 1, 2, and 3 or more; never below 0."""
    return (value - discount[value.clamp(1, 3) - 1]).clamp(min=0)
