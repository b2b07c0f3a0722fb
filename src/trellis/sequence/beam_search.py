"""Beam search over any step function, batched over the prompts.

Legend: as in ``trellis.sequence.decoding``; K beams, R hypotheses returned.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.nn.checks import at_least_one
from trellis.sequence.decoding import (
    Hypotheses,
    Step,
    check_eos,
    check_numbers,
    check_prompt,
    largest,
    select_rows,
)

LengthPenalty = float | Callable[[Tensor], Tensor]
NEVER = float("-inf")


def gnmt(alpha: float) -> Callable[[Tensor], Tensor]:
    r"""The length penalty of Google's translator, milder on short sequences than a power.

    .. math:: (5 + n)^\alpha / 6^\alpha

    Source: Wu et al. 2016, eq. 14.

    >>> gnmt(1.0)(torch.tensor([1.0, 7.0]))
    tensor([1., 2.])
    """
    return lambda lengths: ((5 + lengths) / 6) ** alpha


@torch.no_grad()
def beam_search(
    step: Step,
    prompt: Tensor,
    state: Any = None,
    memory: Any = None,
    *,
    eos_id: int | None,
    max_new_tokens: int,
    num_beams: int = 5,
    length_penalty: LengthPenalty = 1.0,
    count_eos: bool = True,
    num_return: int = 1,
) -> Hypotheses:
    r"""The best sequences that K hypotheses, extended side by side, come upon.

    Each step keeps the best of all extensions. One that ends is set aside and keeps its place, so
    the search is over when K have ended; or earlier, when no hypothesis under way can still come
    before those set aside: log-probabilities are at most 0, so one with the sum s now will end
    with at most s / max of the divisors of the lengths that it can still have.

    .. math:: \frac{1}{n^\alpha} \sum_{t} \log p(y_t \mid y_{<t}, x)

    Ties go to what came first: the hypothesis that ended earlier, then the better beam, then the
    lower token. ``num_beams=1`` is ``greedy``, whatever the penalty. Beams beyond what there is
    to try stay empty, so a beam may be wider than the vocabulary; one as wide as the number of
    sequences finds the best of them all.

    Args:
        step: see ``greedy``, as the next five.
        prompt: ``[B, T0]``.
        state: B rows.
        memory: B rows.
        eos_id: ends a sequence; ``None`` if nothing does.
        max_new_tokens: after which a sequence is cut off.
        num_beams: K, hypotheses under way for each prompt.
        length_penalty: :math:`\alpha`: 0 compares sums, which favours short ones, 1 means; or a
            function from lengths ``[n]`` to divisors above 0, such as ``gnmt(0.6)``.
        count_eos: whether ``eos_id`` counts in the length n; if not, an empty sequence has 1.
        num_return: R, at most K.
    Returns:
        The R best by ``normalized``; those cut off by ``max_new_tokens`` come after all that
        ended, and empty places with scores of ``-inf`` where there are fewer than R.
    Raises:
        ValueError: no prompt, or a number is out of range.
        FloatingPointError: the logits are not numbers.

    Source: Sutskever et al. 2014, section 3.2; Wu et al. 2016, section 7.
    """
    _check(prompt, max_new_tokens, num_beams, num_return)
    divisors = _divisors(length_penalty, count_eos, max_new_tokens)
    ahead = [*accumulate(divisors[:0:-1], max)][::-1] + [1.0]  # the largest still to come
    batch, device = len(prompt), prompt.device
    beams = _Beams.start(batch, num_return, device)
    tokens, trace = prompt, []
    rows = torch.arange(batch)  # of the batch x beams places, those under way; on the host
    for length in range(1, max_new_tokens + 1):
        logits, state = step(tokens, state, memory)
        check_eos(eos_id, logits.size(-1))
        before = beams.scores.numel()
        divide = (divisors[length - 1], ahead[length - 1])
        beams, parents, chosen = _advance(
            beams, logits[:, -1].float(), rows.to(device), num_beams, eos_id, length, divide
        )
        trace.append((parents % (before // batch), chosen))
        if length == max_new_tokens:
            break
        live = (beams.scores.view(-1) != NEVER).cpu().nonzero().squeeze(1)  # the only wait
        if not len(live):
            break
        index = torch.empty(before, dtype=torch.long, device=device)
        index[rows.to(device)] = torch.arange(len(rows), device=device)
        where = live.to(device)
        kept = index[parents.view(-1)[where]]
        state = select_rows(state, kept)
        if not torch.equal(live // num_beams, rows // (before // batch)):
            memory = select_rows(memory, kept)
        tokens, rows = chosen.view(-1)[where].unsqueeze(1), live
    return _collect(beams, trace, max_new_tokens, divisors, eos_id)


class _Beams(NamedTuple):
    """Hypotheses under way and the store of those that ended.

    Args:
        scores: ``[B, K]`` under way, ``-inf`` where a place is empty.
        ended: ``[B]`` how many have ended.
        stored: ``[B, R]`` sums of those set aside, best normalised first.
        normalized: ``[B, R]``.
        ends: ``[B, R]`` where they ended: step times K plus beam.
    """

    scores: Tensor
    ended: Tensor
    stored: Tensor
    normalized: Tensor
    ends: Tensor

    @classmethod
    def start(cls, batch: int, num_return: int, device: torch.device) -> "_Beams":
        empty = torch.full((batch, num_return), NEVER, device=device)
        return cls(
            torch.zeros(batch, 1, device=device),
            torch.zeros(batch, dtype=torch.long, device=device),
            empty,
            empty,
            torch.full_like(empty, -1, dtype=torch.long),
        )


def _advance(
    beams: _Beams,
    logits: Tensor,
    rows: Tensor,
    num_beams: int,
    eos_id: int | None,
    length: int,
    divisors: tuple[float, float],
) -> tuple[_Beams, Tensor, Tensor]:
    """Extend all hypotheses by one token: the new beams, their parents' places, their tokens.

    ``divisors`` are those of this length and of the best that may still come.
    """
    scores, parents, tokens = _candidates(beams.scores, logits, rows, num_beams)
    rank = torch.arange(num_beams, device=logits.device)
    scores = scores.masked_fill(rank >= num_beams - beams.ended.unsqueeze(1), NEVER)
    if eos_id is None:
        return beams._replace(scores=scores), parents, tokens
    is_end = tokens == eos_id
    live, ended = scores.masked_fill(is_end, NEVER), scores.masked_fill(~is_end, NEVER)
    normalized, order = torch.cat(
        [beams.normalized, ended / divisors[0]], 1
    ).sort(descending=True, stable=True)  # fmt: skip
    order, normalized = order[:, : beams.ends.size(1)], normalized[:, : beams.ends.size(1)]
    ends = (rank + (length - 1) * num_beams).expand_as(ended)
    stored = torch.cat([beams.stored, ended], 1).gather(1, order)
    ends = torch.cat([beams.ends, ends], 1).gather(1, order)
    reach = live.amax(1) / divisors[1]
    live = live.masked_fill((reach <= normalized[:, -1]).unsqueeze(1), NEVER)
    count = beams.ended + (ended != NEVER).sum(1)
    return _Beams(live, count, stored, normalized, ends), parents, tokens


def _candidates(
    scores: Tensor, logits: Tensor, rows: Tensor, num_beams: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The K best extensions of each prompt's hypotheses: sums, parents' places, tokens."""
    batch, width = scores.shape
    each = min(num_beams, logits.size(-1))
    values, ids = largest(logits, each)  # [N, each]
    sums = scores.new_full((batch * width, each), NEVER)
    sums[rows] = scores.view(-1, 1)[rows] + values - logits.logsumexp(-1, keepdim=True)
    tokens = ids.new_zeros(batch * width, each)
    tokens[rows] = ids
    best, order = sums.view(batch, -1).sort(descending=True, stable=True)
    missing = max(0, num_beams - best.size(1))
    best = F.pad(best[:, :num_beams], (0, missing), value=NEVER)
    order = F.pad(order[:, :num_beams], (0, missing))
    first = torch.arange(batch, device=rows.device).unsqueeze(1) * width
    return best, first + order // each, tokens.view(batch, -1).gather(1, order)


def _collect(
    beams: _Beams,
    trace: list[tuple[Tensor, Tensor]],
    max_new_tokens: int,
    divisors: list[float],
    eos_id: int | None,
) -> Hypotheses:
    """Fill free places of the store with what was cut off; follow all back to their prompts."""
    num_beams, num_return = beams.scores.size(1), beams.ends.size(1)
    last = len(trace) - 1
    cut = torch.arange(num_beams, device=beams.ends.device) + last * num_beams
    scores = torch.cat([beams.stored, beams.scores], 1)
    normalized = torch.cat([beams.normalized, beams.scores / divisors[-1]], 1)
    ends = torch.cat([beams.ends, cut.expand_as(beams.scores)], 1)
    kind = torch.cat([2 * (beams.stored != NEVER), 1 * (beams.scores != NEVER)], 1)
    order = kind.sort(descending=True, stable=True).indices[:, :num_return]
    scores, normalized, ends, kind = (x.gather(1, order) for x in (scores, normalized, ends, kind))
    check_numbers(scores)
    ends = ends.masked_fill(kind == 0, -1)
    step, place = ends.div(num_beams, rounding_mode="floor"), ends.clamp(min=0) % num_beams
    columns = []
    for index in range(last, -1, -1):
        parents, tokens = trace[index]
        here = step >= index
        columns.append(tokens.gather(1, place).where(here, eos_id or 0))
        place = parents.gather(1, place).where(here, place)
    finished = kind == 2
    return Hypotheses(
        torch.stack(columns[::-1], -1)[..., : int(step.max()) + 1],
        step + 1 - finished.long(),
        scores,
        normalized,
        finished,
    )


def _divisors(length_penalty: LengthPenalty, count_eos: bool, longest: int) -> list[float]:
    """What the sum of a hypothesis is divided by, for 1 .. ``longest`` tokens with the end."""
    first = 1 if count_eos else 0
    lengths = torch.arange(first, first + longest, dtype=torch.float64).clamp(min=1)
    power = length_penalty
    divisors = power(lengths) if callable(power) else lengths**power
    if not bool(((divisors > 0) & divisors.isfinite()).all()):
        raise ValueError(f"length_penalty={length_penalty}: gives divisors that are not above 0")
    return divisors.tolist()


def _check(prompt: Tensor, max_new_tokens: int, num_beams: int, num_return: int) -> None:
    check_prompt(prompt, max_new_tokens)
    at_least_one("num_beams", num_beams)
    if not 1 <= num_return <= num_beams:
        raise ValueError(f"num_return={num_return}: give 1 to num_beams={num_beams}")
