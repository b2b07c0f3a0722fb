"""Decoding with any network that predicts the next token: step functions, greedy, sampling.

Legend: B prompts, R hypotheses returned for each, N unfinished rows (at most B times the beams), T
tokens, V the size of the vocabulary. Finished rows leave the batch, so a step costs only as much
as the rows that are left. Nothing depends on a network's class; call ``network.eval()`` first.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from trellis.checks import at_least_one


class Step(Protocol):
    """Takes tokens and returns the logits of the next ones.

    ``state`` and ``memory`` are ``None``, tensors with the rows in their first dimension, or
    nested tuples of these. The state changes from step to step; the memory stays the same but for
    the rows of finished sequences. The method ``decode`` of a sequence-to-sequence network is a
    step.

    Shape:
        tokens ``[N, T]`` -> logits ``[N, T, V]`` and the state after them
    """

    def __call__(self, tokens: Tensor, state: Any, memory: Any) -> tuple[Tensor, Any]: ...


class Hypotheses(NamedTuple):
    """The result of decoding, best hypotheses first.

    Args:
        tokens: ``[B, R, T]`` after the prompt; padded with ``eos_id`` (0 if there is none).
        lengths: ``[B, R]``: tokens before the end of the sequence; ``eos_id`` does not count.
        scores: ``[B, R]``: sum of the log-probabilities, that of ``eos_id`` included; ``-inf``
            where there is no such hypothesis.
        normalized: ``[B, R]``: scores after length normalization.
        finished: ``[B, R]``: false where ``max_new_tokens`` came before ``eos_id``.
    """

    tokens: Tensor
    lengths: Tensor
    scores: Tensor
    normalized: Tensor
    finished: Tensor

    def best(self) -> list[list[int]]:
        """Tokens of each prompt's first hypothesis, without ``eos_id``."""
        rows = zip(self.tokens[:, 0].tolist(), self.lengths[:, 0].tolist(), strict=True)
        return [tokens[:length] for tokens, length in rows]


class _Seen(NamedTuple):
    """Tokens that a step was given, and the state after them."""

    tokens: Tensor
    state: Any


def language_model(network: Callable[..., tuple[Tensor, Any]]) -> Step:
    """A step from a network ``(tokens, state) -> (logits, state)``.

    Where the network has a limited ``context``, longer sequences use a sliding window: their last
    ``context`` tokens are fed again without a state, as if the text began there.

    Args:
        network: causal, takes its state as an argument and returns it.
    """
    context: int = getattr(network, "context", 0)

    def step(tokens: Tensor, state: Any, memory: Any) -> tuple[Tensor, Any]:
        return network(tokens, state)

    def windowed(tokens: Tensor, state: _Seen | None, memory: Any) -> tuple[Tensor, _Seen]:
        window = tokens if state is None else torch.cat([state.tokens, tokens], 1)
        if window.size(1) > context:
            window = tokens = window[:, -context:]
            state = None
        logits, inner = network(tokens, state.state if state else None)
        return logits, _Seen(window, inner)

    return windowed if context else step


def transition_table(probabilities: Tensor) -> Step:
    """A step from a Markov chain: the next token depends only on the last one.

    Args:
        probabilities: ``[V, V]``: row i holds those of the successors of token i.

    >>> step = transition_table(torch.tensor([[0.1, 0.9], [0.5, 0.5]]))
    >>> greedy_search(step, torch.tensor([[1]]), eos_id=None, max_new_tokens=3).best()
    [[0, 1, 0]]
    """
    logits = probabilities.log()

    def step(tokens: Tensor, state: Any, memory: Any) -> tuple[Tensor, Any]:
        return logits[tokens], state

    return step


def suppress_tokens(step: Step, ids: Sequence[int]) -> Step:
    """``step`` with the probability of some tokens set to zero, such as that of padding.

    Args:
        step: gives the logits.
        ids: of those tokens.

    >>> step = suppress_tokens(transition_table(torch.tensor([[0.1, 0.9], [0.5, 0.5]])), [1])
    >>> greedy_search(step, torch.tensor([[1]]), eos_id=None, max_new_tokens=3).best()
    [[0, 0, 0]]
    """

    def suppressed(tokens: Tensor, state: Any, memory: Any) -> tuple[Tensor, Any]:
        logits, state = step(tokens, state, memory)
        index = torch.tensor(ids, dtype=torch.long, device=logits.device)
        return logits.index_fill(-1, index, float("-inf")), state

    return suppressed


def block_repeats(step: Step, size: int) -> Step:
    """``step`` that gives no n-gram a second time: the last token of one gets probability zero.

    Args:
        step: gives the logits; its sequences begin with a prompt, which counts.
        size: n, tokens of an n-gram.
    Raises:
        ValueError: it is below 1.

    Source: Paulus et al. 2018, section 2.5 (trigrams).

    >>> step = block_repeats(transition_table(torch.tensor([[0.1, 0.9], [0.5, 0.5]])), 2)
    >>> greedy_search(step, torch.tensor([[1]]), eos_id=None, max_new_tokens=3).best()
    [[0, 1, 1]]
    """
    at_least_one("size", size)

    def blocked(tokens: Tensor, state: _Seen | None, memory: Any) -> tuple[Tensor, _Seen]:
        logits, inner = step(tokens, state.state if state else None, memory)
        seen = tokens if state is None else torch.cat([state.tokens, tokens], 1)
        if seen.size(1) >= size:
            grams = seen.unfold(1, size, 1)  # [N, grams, size]
            repeats = (grams[..., :-1] == seen[:, None, seen.size(1) - size + 1 :]).all(-1)
            lasts = torch.zeros_like(logits[:, -1]).scatter_add(
                1, grams[..., -1], repeats.to(logits.dtype)
            )
            last = logits[:, -1].masked_fill(lasts > 0, float("-inf"))
            logits = torch.cat([logits[:, :-1], last.unsqueeze(1)], 1)
        return logits, _Seen(seen, inner)

    return blocked


@torch.no_grad()
def greedy_search(
    step: Step,
    prompt: Tensor,
    state: Any = None,
    memory: Any = None,
    *,
    eos_id: int | None,
    max_new_tokens: int,
) -> Hypotheses:
    """Greedy decoding: the most probable token at each step, the lowest id among equals.

    Args:
        step: gives the logits.
        prompt: ``[B, T0]``, the beginnings of the sequences; at least one token.
        state: of the first step, B rows.
        memory: of every step, B rows.
        eos_id: ends a sequence; ``None`` if no token does.
        max_new_tokens: longest continuation; longer ones are truncated.
    Returns:
        One hypothesis each; ``normalized`` is the mean log-probability, ``eos_id`` included.
    Raises:
        ValueError: an empty prompt, or ``eos_id`` or ``max_new_tokens`` out of range.
        FloatingPointError: a logit is NaN.
    """

    def choose(logits: Tensor) -> Tensor:
        return logits.argmax(-1)

    return _rollout(choose, step, prompt, state, memory, eos_id, max_new_tokens)


@torch.no_grad()
def sample(
    step: Step,
    prompt: Tensor,
    state: Any = None,
    memory: Any = None,
    *,
    eos_id: int | None,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Hypotheses:
    """Sample each token from the predicted distribution.

    Args:
        step: see ``greedy_search``, as for the next five arguments.
        prompt: ``[B, T0]``; repeat one for several samples of it.
        state: B rows.
        memory: B rows.
        eos_id: ends a sequence; ``None`` if no token does.
        max_new_tokens: longest continuation.
        temperature: divides the logits; below 1 sharpens the distribution, above 1 flattens it.
        top_k: sample from the k most probable tokens; ``None`` from all.
        top_p: then from the fewest whose probabilities add up to at least this (nucleus).
        min_p: then from those at least this share as probable as the most probable one.
        generator: on the device of the logits; ``None`` uses torch's global one.
    Returns:
        One hypothesis each; the scores are log-probabilities of the full distribution at
        temperature 1.
    Raises:
        ValueError: an argument is out of range.
        FloatingPointError: a logit is NaN.

    Source: Holtzman et al. 2020 (top-p); Fan et al. 2018 (top-k); Nguyen et al. 2025 (min-p).
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: give more than 0, or use greedy_search")
    if top_k is not None:
        at_least_one("top_k", top_k)
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p}: give a probability above 0, up to 1")
    if min_p is not None and not 0 <= min_p <= 1:
        raise ValueError(f"min_p={min_p}: give a share from 0 to 1")
    top_p = None if top_p == 1 else top_p  # rounding must not remove rare tokens

    def choose(logits: Tensor) -> Tensor:
        ids = None
        if top_k is not None or top_p is not None:
            logits, ids = stable_topk(logits, min(top_k or logits.size(1), logits.size(1)))
        # Minus the largest logit: a small temperature must not overflow.
        probabilities = ((logits - logits.amax(1, keepdim=True)) / temperature).softmax(1)
        if top_p is not None:
            before = probabilities.cumsum(1) - probabilities
            probabilities = probabilities.where(before < top_p, 0)
        if min_p:
            least = min_p * probabilities.amax(1, keepdim=True)
            probabilities = probabilities.where(probabilities >= least, 0)
        check_numbers(probabilities)
        drawn = torch.multinomial(probabilities, 1, generator=generator)
        return (drawn if ids is None else ids.gather(1, drawn)).squeeze(1)

    return _rollout(choose, step, prompt, state, memory, eos_id, max_new_tokens)


def _rollout(
    choose: Callable[[Tensor], Tensor],
    step: Step,
    prompt: Tensor,
    state: Any,
    memory: Any,
    eos_id: int | None,
    max_new_tokens: int,
) -> Hypotheses:
    """Token by token; ``choose`` maps logits ``[N, V]`` to tokens ``[N]``."""
    check_prompt(prompt, max_new_tokens)
    tokens, columns = prompt, []
    rows = torch.arange(len(prompt), device=prompt.device)
    lengths = torch.zeros_like(rows)
    scores = torch.zeros(len(prompt), device=prompt.device)
    finished = torch.zeros_like(rows, dtype=torch.bool)
    for _ in range(max_new_tokens):
        logits, state = step(tokens, state, memory)
        last = logits[:, -1].float()  # [N, V]
        check_eos(eos_id, last.size(-1))
        chosen = choose(last)
        column = prompt.new_full((len(prompt),), eos_id or 0)
        column[rows] = chosen
        columns.append(column)
        scores[rows] += last.gather(1, chosen.unsqueeze(1)).squeeze(1) - last.logsumexp(-1)
        ended = chosen == eos_id if eos_id is not None else torch.zeros_like(rows) > 0
        finished[rows] = ended
        lengths[rows] += ~ended
        if eos_id is not None:
            unfinished = (~ended).nonzero().squeeze(1)
            if len(unfinished) < len(rows):
                rows, chosen = rows[unfinished], chosen[unfinished]
                state, memory = select_rows(state, unfinished), select_rows(memory, unfinished)
            if not len(rows):
                break
        tokens = chosen.unsqueeze(1)
    check_numbers(scores)
    normalized = scores / (lengths + finished)
    fields = (torch.stack(columns, 1), lengths, scores, normalized, finished)
    return Hypotheses(*(field.unsqueeze(1) for field in fields))


def stable_topk(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest values of each row of ``x [N, V]`` in order, and their indices.

    Among equal values the lowest index comes first; with ``torch.topk`` any may.

    >>> stable_topk(torch.tensor([[1.0, 3.0, 1.0, 3.0]]), 3)
    (tensor([[3., 3., 1.]]), tensor([[1, 3, 0]]))
    """
    # On a CPU a sort is 50 times as slow; on an accelerator, looking for ties would synchronize.
    if k < x.size(1) and x.device.type == "cpu":
        values, where = x.topk(k + 1)
        if not bool((values[:, k - 1] == values[:, k]).any()):
            where = where[:, :k].sort().values
            values, order = x.gather(1, where).sort(descending=True, stable=True)
            return values, where.gather(1, order)
    values, where = x.sort(descending=True, stable=True)
    return values[:, :k], where[:, :k]


def select_rows(tree: Any, rows: Tensor) -> Any:
    """Select rows of every tensor in a state or memory.

    Args:
        tree: nested tuples of tensors ``[N, ...]`` and ``None``.
        rows: ``[M]``, in 0 .. N - 1.
    Raises:
        TypeError: the tree holds something else.
    """
    if tree is None:
        return None
    if isinstance(tree, Tensor):
        return tree.index_select(0, rows)
    if isinstance(tree, tuple):
        parts = [select_rows(part, rows) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    raise TypeError(
        f"a state or memory holds a {type(tree).__name__}: give tensors with the rows first, "
        f"None, or nested tuples of these"
    )


def check_prompt(prompt: Tensor, max_new_tokens: int) -> None:
    """Raise a ``ValueError`` for an empty prompt or no new tokens."""
    at_least_one("max_new_tokens", max_new_tokens)
    if prompt.dim() != 2 or 0 in prompt.shape:
        raise ValueError(
            f"prompt {list(prompt.shape)}: give token ids [B, T] with at least one row and one "
            f"token, such as bos_id"
        )


def check_eos(eos_id: int | None, num_tokens: int) -> None:
    """Raise a ``ValueError`` for an ``eos_id`` outside the vocabulary."""
    if eos_id is not None and not 0 <= eos_id < num_tokens:
        raise ValueError(f"eos_id={eos_id}: the step has the tokens 0 to {num_tokens - 1}")


def check_numbers(scores: Tensor) -> None:
    """Raise a ``FloatingPointError`` for a log-probability that is NaN."""
    if bool(scores.isnan().any()):
        raise FloatingPointError(
            "decoding met logits that are NaN: did training diverge, or is a row all -inf?"
        )
