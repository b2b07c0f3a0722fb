"""Beam search with any step function, batched over the prompts.

Legend: as in ``trellis.sequence.decoding``; K beams, W of them before a step (1, then K).
"""

from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.checks import at_least_one
from trellis.sequence.decoding import (
    Hypotheses,
    Step,
    check_eos,
    check_numbers,
    check_prompt,
    select_rows,
    stable_topk,
)

LengthPenalty = float | Callable[[Tensor], Tensor]
NEVER = float("-inf")


def gnmt_penalty(alpha: float) -> Callable[[Tensor], Tensor]:
    r"""The length penalty of Google's NMT system, weaker for short sequences than a power.

    .. math:: (5 + n)^\alpha / 6^\alpha

    Source: Wu et al. 2016, eq. 14.

    >>> gnmt_penalty(1.0)(torch.tensor([1.0, 7.0]))
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
    r"""Beam search: the best sequences found by extending K hypotheses side by side.

    .. math:: \frac{1}{n^\alpha} \sum_{t=1}^{n} \log p(y_t \mid y_{<t}, x)

    Each step keeps the K extensions with the largest sums. A finished hypothesis is stored and
    keeps its place in the beam, so a search ends when K have finished. It ends earlier when no
    unfinished one can still enter the R best of those stored: log-probabilities are at most 0, so
    a sum s becomes at best s divided by the largest divisor of the lengths still possible. Early
    stopping never changes the result.

    With ``num_beams=1`` it is ``greedy_search``, whatever the penalty. A beam may be wider than
    the vocabulary: surplus places stay empty, and a beam as wide as the number of sequences finds
    the best of all. In between, more beams usually find better sums but may find worse ones: a
    prefix of the best sequence can drop out of the beam. Ties go to the hypothesis that finished
    earlier, then to the better beam, then to the lower token.

    Args:
        step: see ``greedy_search``, as for the next five arguments.
        prompt: ``[B, T0]``.
        state: B rows.
        memory: B rows.
        eos_id: ends a sequence; ``None`` if no token does.
        max_new_tokens: longest continuation.
        num_beams: K, hypotheses kept for each prompt.
        length_penalty: :math:`\alpha`: 0 compares sums, which favours short sequences, 1 compares
            means; or a function from lengths ``[n]`` to positive divisors, such as
            ``gnmt_penalty(0.6)``.
        count_eos: whether ``eos_id`` counts in the length n; if not, an empty sequence has 1.
        num_return: R, at most K.
    Returns:
        The R best by ``normalized``: finished hypotheses, then those that reached
        ``max_new_tokens``; the other way round where the best of the latter has a larger sum than
        the best finished one. Where there are fewer than R, scores of ``-inf``.
    Raises:
        ValueError: an empty prompt, or a number is out of range.
        FloatingPointError: a logit is NaN.

    Source: Sutskever et al. 2014, section 3.2; Wu et al. 2016, section 7.
    """
    check_prompt(prompt, max_new_tokens)
    at_least_one("num_beams", num_beams)
    if not 1 <= num_return <= num_beams:
        raise ValueError(f"num_return={num_return}: give 1 to num_beams={num_beams}")
    divisors = _Divisors.of(length_penalty, count_eos, max_new_tokens)
    batch, device = len(prompt), prompt.device
    beams = _Beams.start(batch, num_return, device)
    tokens = prompt
    trace: list[_Extensions] = []
    rows = torch.arange(batch)  # places of the network's rows among [B, W], on the CPU
    while True:
        logits, state = step(tokens, state, memory)
        logits = logits[:, -1].float()
        check_eos(eos_id, logits.size(-1))
        width = beams.scores.size(1)
        best = _extensions(beams, logits, rows.to(device), num_beams)
        beams = _set_aside(beams, best, eos_id, len(trace), divisors)
        trace.append(best)
        live = (beams.scores != NEVER).view(-1).cpu().nonzero().squeeze(1)  # the only sync
        if not len(live) or len(trace) == max_new_tokens:
            break
        places = live.to(device)
        parents = places // num_beams * width + best.parents.view(-1)[places]
        kept = torch.searchsorted(rows.to(device), parents)
        state = select_rows(state, kept)
        if not torch.equal(live // num_beams, rows // width):  # else the prompts are the same
            memory = select_rows(memory, kept)
        tokens, rows = best.tokens.view(-1)[places].unsqueeze(1), live
    return _collect(beams, trace, eos_id, divisors.cut)


class _Divisors(NamedTuple):
    """Divisors of the sums, for each length.

    Args:
        ending: of a hypothesis that ends with each step.
        ahead: the largest of those after each step.
        cut: of a hypothesis that is truncated after the last step.
    """

    ending: list[float]
    ahead: list[float]
    cut: float

    @classmethod
    def of(cls, length_penalty: LengthPenalty, count_eos: bool, longest: int) -> "_Divisors":
        lengths = torch.arange(longest + 1, dtype=torch.float64).clamp(min=1)
        power = length_penalty
        divisors = power(lengths) if callable(power) else lengths**power
        if not bool(((divisors > 0) & divisors.isfinite()).all()):
            raise ValueError(f"length_penalty={power}: gives divisors that are not all positive")
        values = divisors.tolist()
        ending = values[1:] if count_eos else values[:-1]
        ahead = list(accumulate(reversed(ending), max))[::-1]
        return cls(ending, [*ahead[1:], 1.0], values[-1])


class _Beams(NamedTuple):
    """Unfinished hypotheses, and the best of the finished ones.

    Args:
        scores: ``[B, W]`` sums of the unfinished, ``-inf`` where a place is empty.
        ended: ``[B]`` how many have finished.
        stored: ``[B, R]`` sums of the best of these, by ``normalized``.
        normalized: ``[B, R]`` of the same.
        ends: ``[B, R]`` where they ended: step times K plus place.
    """

    scores: Tensor
    ended: Tensor
    stored: Tensor
    normalized: Tensor
    ends: Tensor

    @classmethod
    def start(cls, batch: int, num_return: int, device: torch.device) -> "_Beams":
        empty = torch.full((batch, num_return), NEVER, device=device)
        nowhere = torch.full_like(empty, -1, dtype=torch.long)
        # Sums of many log-probabilities need more than 16 bits.
        dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
        begun = torch.zeros(batch, 1, device=device, dtype=dtype)
        return cls(begun, nowhere.new_zeros(batch), empty, empty, nowhere)


class _Extensions(NamedTuple):
    """The K best extensions of each prompt's hypotheses, best first.

    Args:
        scores: ``[B, K]`` sums, ``-inf`` where there are fewer.
        parents: ``[B, K]`` places among W of the extended hypotheses.
        tokens: ``[B, K]`` the tokens added.
    """

    scores: Tensor
    parents: Tensor
    tokens: Tensor


def _extensions(beams: _Beams, logits: Tensor, rows: Tensor, num_beams: int) -> _Extensions:
    """Extend every hypothesis; ``logits [N, V]`` are those of the places ``rows [N]``."""
    batch, width = beams.scores.shape
    each = min(num_beams, logits.size(1))  # extensions of one hypothesis that may be in the best K
    values, ids = stable_topk(logits, each)
    sums = beams.scores.new_full((batch * width, each), NEVER)
    before = beams.scores.view(-1, 1)[rows]
    sums[rows] = (before + values - logits.logsumexp(1, keepdim=True)).to(sums.dtype)
    tokens = ids.new_zeros(batch * width, each)
    tokens[rows] = ids
    scores, order = sums.view(batch, -1).sort(descending=True, stable=True)
    missing = max(0, num_beams - scores.size(1))
    scores = F.pad(scores[:, :num_beams], (0, missing), value=NEVER)
    order = F.pad(order[:, :num_beams], (0, missing))
    return _Extensions(scores, order // each, tokens.view(batch, -1).gather(1, order))


def _set_aside(
    beams: _Beams, best: _Extensions, eos_id: int | None, step: int, divisors: _Divisors
) -> _Beams:
    """Store finished hypotheses, keep the others, and end searches that are decided."""
    num_beams, num_return = best.scores.size(1), beams.ends.size(1)
    rank = torch.arange(num_beams, device=best.scores.device)
    taken = rank >= num_beams - beams.ended.unsqueeze(1)  # places of finished hypotheses
    scores = best.scores.masked_fill(taken, NEVER)
    if eos_id is None:
        return beams._replace(scores=scores)
    ends_here = best.tokens == eos_id
    live, ended = scores.masked_fill(ends_here, NEVER), scores.masked_fill(~ends_here, NEVER)
    normalized, order = torch.cat([beams.normalized, ended / divisors.ending[step]], 1).sort(
        descending=True, stable=True
    )
    normalized, order = normalized[:, :num_return], order[:, :num_return]
    ends = (step * num_beams + rank).expand_as(ended)
    bound = live.amax(1) / divisors.ahead[step]
    return _Beams(
        live.masked_fill((bound <= normalized[:, -1]).unsqueeze(1), NEVER),
        beams.ended + (ended != NEVER).sum(1),
        torch.cat([beams.stored, ended], 1).gather(1, order),
        normalized,
        torch.cat([beams.ends, ends], 1).gather(1, order),
    )


def _collect(
    beams: _Beams, trace: list[_Extensions], eos_id: int | None, divisor: float
) -> Hypotheses:
    """The stored hypotheses, then truncated ones, traced back to the prompts."""
    num_beams, num_return = beams.scores.size(1), beams.ends.size(1)
    rank = torch.arange(num_beams, device=beams.ends.device)
    cut = ((len(trace) - 1) * num_beams + rank).expand_as(beams.scores)
    goes_on = (beams.scores.amax(1) > beams.stored[:, 0]).unsqueeze(1)
    kind = torch.cat([2 * (beams.stored != NEVER), (beams.scores != NEVER) * (1 + 2 * goes_on)], 1)
    order = kind.sort(descending=True, stable=True).indices[:, :num_return]
    kind = kind.gather(1, order)
    scores = torch.cat([beams.stored, beams.scores], 1).gather(1, order)
    normalized = torch.cat([beams.normalized, beams.scores / divisor], 1).gather(1, order)
    ends = torch.cat([beams.ends, cut], 1).gather(1, order)
    check_numbers(scores)
    last, place = ends.div(num_beams, rounding_mode="floor"), ends % num_beams
    columns = []
    for step, best in reversed(list(enumerate(trace))):
        inside = last >= step
        columns.append(best.tokens.gather(1, place).where(inside, eos_id or 0))
        place = best.parents.gather(1, place).where(inside, place)
    tokens = torch.stack(columns[::-1], -1)[..., : int(last.max()) + 1]
    finished = kind == 2
    return Hypotheses(tokens, last + 1 - finished.long(), scores, normalized, finished)
