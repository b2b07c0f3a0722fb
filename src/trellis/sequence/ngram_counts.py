"""How often each token followed each context: sorted keys and counts in tensors.

Legend: V tokens, j tokens of a context, C contexts, G n-grams, N positions. A context is known by
its number among those of its length, an n-gram by ``context * V + token``; a context of j tokens
has the key ``shorter * V + token``, where ``shorter`` is the number of its last j - 1 tokens and
``token`` the one before these. So a number stays below 2^63 / V for any order, and what is known
of a position is found by one binary search for each length.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

NOTHING = -1  # in place of a token: before the beginning of a text, or padding
FEWEST, MOST = 2**18, 2**23  # tokens that wait to be counted together


class Followers(NamedTuple):
    """What followed the contexts of positions: position, token and value of each, ``[F]``."""

    position: Tensor
    token: Tensor
    value: Tensor


class Level(nn.Module):
    """The n-grams whose contexts have one length.

    What ``state_dict`` holds takes any size when it is loaded; the rest follows from it.

    Args:
        num_tokens: size of the vocabulary.
        has_root: the only context is the empty one.
    """

    contexts: Tensor  # [C] sorted keys
    ngrams: Tensor  # [G] sorted keys
    counts: Tensor  # [G] how often each was counted
    values: Tensor  # [G] ``counts``, or the number of different tokens before each
    starts: Tensor  # [C + 1] where the n-grams of each context begin
    totals: Tensor  # [C] sums of ``values``
    kinds: Tensor  # [C, 3] how many ``values`` are 1, 2, and 3 or more
    tally: Tensor  # [4] how many ``values`` of all contexts are 1, 2, 3 and 4

    def __init__(self, num_tokens: int, has_root: bool) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        empty = torch.zeros(0, dtype=torch.long)
        self.register_buffer("contexts", torch.zeros(int(has_root), dtype=torch.long))
        for name in ("ngrams", "counts"):
            self.register_buffer(name, empty.clone())
        for name in ("values", "starts", "totals", "kinds", "tally"):
            self.register_buffer(name, empty.clone(), persistent=False)
        self.register_load_state_dict_pre_hook(_take_sizes)

    def split(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers and tokens that keys are made of."""
        return keys // self.num_tokens, keys % self.num_tokens

    def find(self, shorter: Tensor, token: Tensor) -> Tensor:
        """Number of each context ``[N]``, ``NOTHING`` where it was never met."""
        keys, known = shorter * self.num_tokens + token, (shorter >= 0) & (token >= 0)
        if not len(self.contexts):
            return torch.full_like(keys, NOTHING)
        found = torch.searchsorted(self.contexts, keys).clamp(max=len(self.contexts) - 1)
        return found.where(known & (self.contexts[found] == keys), NOTHING)

    def sums(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """``totals [N]`` and ``kinds [N, 3]`` of contexts, 0 of ``NOTHING``."""
        if not len(self.contexts):
            return torch.zeros_like(context), context.new_zeros(len(context), 3)
        known, at = context >= 0, context.clamp(min=0)
        return self.totals[at] * known, self.kinds[at] * known[:, None]

    def value_of(self, context: Tensor, token: Tensor) -> Tensor:
        """Value of each token after its context ``[N]``, 0 where it never followed."""
        if not len(self.ngrams):
            return torch.zeros_like(token)
        keys = context.clamp(min=0) * self.num_tokens + token
        at = torch.searchsorted(self.ngrams, keys).clamp(max=len(self.ngrams) - 1)
        return self.values[at].where((context >= 0) & (self.ngrams[at] == keys), 0)

    def followers(self, context: Tensor) -> Followers:
        """Every token that followed the context of a position; none follows ``NOTHING``."""
        position = (context >= 0).nonzero().squeeze(1)
        first, last = self.starts[context[position]], self.starts[context[position] + 1]
        number = last - first
        whose = torch.arange(position.size(0), device=context.device).repeat_interleave(number)
        before = number.cumsum(0) - number
        at = first[whose] + torch.arange(whose.size(0), device=context.device) - before[whose]
        return Followers(position[whose], self.ngrams[at] % self.num_tokens, self.values[at])

    def derive(self, values: Tensor) -> None:
        """Set what follows from the n-grams and from the value ``[G]`` of each."""
        size, (context, _) = len(self.contexts), self.split(self.ngrams)
        firsts = torch.arange(size + 1, device=context.device) * self.num_tokens
        self.values, self.starts = values, torch.searchsorted(self.ngrams, firsts)
        self.totals = values.new_zeros(size).index_add_(0, context, values)
        met = values > 0
        kind = context[met] * 3 + values[met].clamp(max=3) - 1
        self.tally = values.clamp(max=5).bincount(minlength=6)[1:5]
        self.kinds = kind.bincount(minlength=3 * size).view(size, 3)


class NGramCounts(nn.Module):
    """Counts of all n-grams up to an order.

    Rows that were given to ``add`` wait until they are as many as what is counted already, or
    until somebody asks: so the cost of a token grows only with the logarithm of their number.

    Args:
        num_tokens: size of the vocabulary.
        order: tokens of the longest n-grams.
        continuations: the value of a shorter n-gram is the number of different tokens that were
            met before it, not how often it was met.
    """

    def __init__(self, num_tokens: int, order: int, *, continuations: bool) -> None:
        super().__init__()
        self.num_tokens, self.order, self.continuations = num_tokens, order, continuations
        self._levels = nn.ModuleList(Level(num_tokens, length == 0) for length in range(order))
        self._waiting: list[Tensor] = []
        self._is_derived = False
        self.register_state_dict_pre_hook(_before_save)
        self.register_load_state_dict_pre_hook(_before_load)

    def add(self, rows: Tensor) -> None:
        """Count the n-grams that end in ``rows [B, order - 1 + T]`` after the first order - 1.

        Those that contain ``NOTHING`` do not count.
        """
        self._waiting.append(rows)
        longest = list(self._each())[-1].ngrams
        most = min(max(FEWEST, len(longest)), MOST)
        if sum(each.numel() for each in self._waiting) >= most:
            self._merge()

    def levels(self) -> list[Level]:
        """The n-grams by the lengths of their contexts, up to date."""
        if self._waiting:
            self._merge()
        if not self._is_derived:
            self._derive()
        return list(self._each())

    def forget(self) -> None:
        """Start again from nothing."""
        self._waiting, self._is_derived = [], False
        for number, level in enumerate(self._each()):
            level.contexts = level.contexts[: number == 0]
            level.ngrams, level.counts = level.ngrams[:0], level.counts[:0]

    def _each(self) -> Iterator[Level]:
        yield from self._levels  # type: ignore[misc]

    def _merge(self) -> None:
        rows, self._waiting, self._is_derived = self._waiting, [], False
        columns = [column(rows, self.order - 1 - back, back) for back in range(self.order)]
        size, token = self.num_tokens, columns[0]
        at = (token >= 0).nonzero().squeeze(1)  # the n-grams of this length
        context = torch.zeros_like(at)  # their numbers
        renumbered = context.new_zeros(1)  # old number of a shorter context -> new one
        for level, before in zip(self._each(), columns, strict=True):
            if before is not token:
                kept = before[at] >= 0
                at, context = at[kept], context[kept]
                shorter, last = level.split(level.contexts)
                old, new = renumbered[shorter] * size + last, context * size + before[at]
                level.contexts = torch.cat([old, new]).unique()
                context, renumbered = (
                    torch.searchsorted(level.contexts, keys) for keys in (new, old)
                )
            longer, last = level.split(level.ngrams)
            keys = torch.cat([renumbered[longer] * size + last, context * size + token[at]])
            counts = torch.cat([level.counts, torch.ones_like(at)])
            level.ngrams, place = keys.unique(return_inverse=True)
            level.counts = counts.new_zeros(len(level.ngrams)).index_add_(0, place, counts)

    def _derive(self) -> None:
        above: Level | None = None
        for level in reversed(list(self._each())):
            values = level.counts
            if self.continuations and above is not None:
                longer, token = above.split(above.ngrams)
                shorter, _ = above.split(above.contexts)
                keys = shorter[longer] * self.num_tokens + token
                place = torch.searchsorted(level.ngrams, keys)
                values = place.bincount(minlength=len(level.ngrams))
            level.derive(values)
            above = level
        self._is_derived = True


def _take_sizes(level: Level, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
    for name in ("contexts", "ngrams", "counts"):
        if (saved := state_dict.get(prefix + name)) is not None:
            setattr(level, name, getattr(level, name).new_zeros(saved.shape))


def _before_save(counts: NGramCounts, *rest: Any) -> None:
    if counts._waiting:
        counts._merge()


def _before_load(counts: NGramCounts, *rest: Any) -> None:
    counts.forget()


def column(rows: Sequence[Tensor], first: int, beyond: int = 0) -> Tensor:
    """The tokens of all rows ``[B, T']`` in a line, but for the first and the last so many.

    >>> column([torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[7, 8, 9, 10]])], 1, 1)
    tensor([2, 5, 8, 9])
    """
    return torch.cat([each[:, first : each.size(1) - beyond].flatten() for each in rows])
