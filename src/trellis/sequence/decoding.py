"""Sequences out of a network that gives the next token: step functions, greedy, sampling.

Legend: B prompts, R hypotheses returned for each, N rows under way (at most B times the beams), T
tokens, V the size of the vocabulary. Rows that have ended leave the batch, so each step costs what
is still to be done. Nothing here knows a network's class, and nothing is learned: call
``network.eval()`` first.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from trellis.checks import at_least_one


class Step(Protocol):
    """Feeds tokens and tells what may come next.

    ``state`` and ``memory`` are ``None``, tensors with the rows on their first dimension, or
    nested tuples of these. The state changes from step to step; the memory stays, and only loses
    the rows that have ended. A sequence-to-sequence network's ``decode`` is a step as it is.

    Shape:
        tokens ``[N, T]`` -> logits ``[N, T, V]`` and the state after them
    """

    def __call__(self, tokens: Tensor, state: Any, memory: Any) -> tuple[Tensor, Any]: ...


class Hypotheses(NamedTuple):
    """What decoding returns, best first.

    Args:
        tokens: ``[B, R, T]`` after the prompt; filled with ``eos_id`` (0 if there is none).
        lengths: ``[B, R]``: tokens before the end of the sequence; ``eos_id`` does not count.
        scores: ``[B, R]``: sum of the log-probabilities, that of ``eos_id`` included; ``-inf``
            where there is no such hypothesis.
        normalized: ``[B, R]``: scores divided by what their method makes of the length.
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


class _Window(NamedTuple):
    """The tokens a network of limited context has read, and its state after them."""

    tokens: Tensor
    state: Any


def language_model(network: Callable[..., tuple[Tensor, Any]]) -> Step:
    """A step from a network ``(tokens, state) -> (logits, state)``.

    Where the network has a ``context``, the tokens that it can read, a sequence that outgrows it
    goes on: its last ``context`` tokens are fed again, from no state, as if the text began there.

    Args:
        network: causal, with the state passed in and out.
    """
    context: int = getattr(network, "context", 0)

    def step(tokens: Tensor, state: Any, memory: Any) -> tuple[Tensor, Any]:
        return network(tokens, state)

    def windowed(tokens: Tensor, state: _Window | None, memory: Any) -> tuple[Tensor, _Window]:
        seen = tokens if state is None else torch.cat([state.tokens, tokens], 1)
        if seen.size(1) > context:
            seen = tokens = seen[:, -context:]
            state = None
        logits, inner = network(tokens, state.state if state else None)
        return logits, _Window(seen, inner)

    return windowed if context else step


def transition_table(probabilities: Tensor) -> Step:
    """A step whose next token depends on the last one only.

    Args:
        probabilities: ``[V, V]``: row i holds those of what follows token i.

    >>> step = transition_table(torch.tensor([[0.1, 0.9], [0.5, 0.5]]))
    >>> greedy_search(step, torch.tensor([[1]]), eos_id=None, max_new_tokens=3).best()
    [[0, 1, 0]]
    """
    logits = probabilities.log()

    def step(tokens: Tensor, state: Any, memory: Any) -> tuple[Tensor, Any]:
        return logits[tokens], state

    return step


def suppress_tokens(step: Step, ids: Sequence[int]) -> Step:
    """``step`` after which some tokens never come, such as padding.

    Args:
        step: gives the logits.
        ids: of those tokens; the others share what they had.

    >>> step = suppress_tokens(transition_table(torch.tensor([[0.1, 0.9], [0.5, 0.5]])), [1])
    >>> greedy_search(step, torch.tensor([[1]]), eos_id=None, max_new_tokens=3).best()
    [[0, 0, 0]]
    """

    def others(tokens: Tensor, state: Any, memory: Any) -> tuple[Tensor, Any]:
        logits, state = step(tokens, state, memory)
        hidden = torch.tensor(ids, dtype=torch.long, device=logits.device)
        return logits.index_fill(-1, hidden, float("-inf")), state

    return others


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
    """The most probable token, again and again; of equal ones the lowest.

    Args:
        step: gives the logits.
        prompt: ``[B, T0]``, where the sequences begin; at least one token.
        state: what the first step starts from, B rows.
        memory: what every step gets, B rows.
        eos_id: ends a sequence; ``None`` if nothing does.
        max_new_tokens: after which a sequence is cut off.
    Returns:
        One hypothesis each; ``normalized`` is the mean log-probability, ``eos_id`` counted.
    Raises:
        ValueError: no prompt, or ``eos_id`` or ``max_new_tokens`` out of range.
        FloatingPointError: the logits are not numbers.
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
    generator: torch.Generator | None = None,
) -> Hypotheses:
    """Draw each token from what the network expects.

    Args:
        step: see ``greedy_search``, as the next five.
        prompt: ``[B, T0]``; repeat one for several samples of it.
        state: B rows.
        memory: B rows.
        eos_id: ends a sequence; ``None`` if nothing does.
        max_new_tokens: after which a sequence is cut off.
        temperature: divides the logits; below 1 favours the probable, above 1 the rare.
        top_k: draw among this many of the most probable tokens; ``None`` among all.
        top_p: then, among the fewest whose probabilities sum to at least this (nucleus).
        generator: of random numbers, on the device of the logits; ``None`` takes torch's.
    Returns:
        One hypothesis each, scored by the network itself: at temperature 1, nothing cut off.
    Raises:
        ValueError: an argument is out of range.
        FloatingPointError: the logits are not numbers.

    Source: Holtzman et al. 2020 (top-p); Fan et al. 2018 (top-k).
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: give more than 0, or decode greedily")
    if top_k is not None:
        at_least_one("top_k", top_k)
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p}: give a probability above 0, up to 1")
    top_p = None if top_p == 1 else top_p  # rounding must not cut off what is rare

    def choose(logits: Tensor) -> Tensor:
        ids = None
        if top_k is not None or top_p is not None:
            logits, ids = stable_topk(logits, min(top_k or logits.size(1), logits.size(1)))
        # Less the largest: a small temperature must not overflow.
        probabilities = ((logits - logits.amax(1, keepdim=True)) / temperature).softmax(1)
        if top_p is not None:
            before = probabilities.cumsum(1) - probabilities
            probabilities = probabilities.where(before < top_p, 0)
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
    """One token after another; ``choose`` maps logits ``[N, V]`` to tokens ``[N]``."""
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
            going = (~ended).nonzero().squeeze(1)
            if len(going) < len(rows):
                rows, chosen = rows[going], chosen[going]
                state, memory = select_rows(state, going), select_rows(memory, going)
            if not len(rows):
                break
        tokens = chosen.unsqueeze(1)
    check_numbers(scores)
    normalized = scores / (lengths + finished)
    fields = (torch.stack(columns, 1), lengths, scores, normalized, finished)
    return Hypotheses(*(field.unsqueeze(1) for field in fields))


def stable_topk(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest of each row of ``x [N, V]`` in order, and where they are.

    Of equal ones those on the left come first; ``torch.topk`` takes any.

    >>> stable_topk(torch.tensor([[1.0, 3.0, 1.0, 3.0]]), 3)
    (tensor([[3., 3., 1.]]), tensor([[1, 3, 0]]))
    """
    # A sort costs the CPU 50 times as much; on an accelerator, asking for ties costs a wait.
    if k < x.size(1) and x.device.type == "cpu":
        values, where = x.topk(k + 1)
        if not bool((values[:, k - 1] == values[:, k]).any()):
            where = where[:, :k].sort().values
            values, order = x.gather(1, where).sort(descending=True, stable=True)
            return values, where.gather(1, order)
    values, where = x.sort(descending=True, stable=True)
    return values[:, :k], where[:, :k]


def select_rows(tree: Any, rows: Tensor) -> Any:
    """Those rows of every tensor in a state or memory.

    Args:
        tree: nested tuples of tensors ``[N, ...]`` and ``None``.
        rows: ``[M]``, in 0 .. N - 1.
    Raises:
        TypeError: it holds something else.
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
    """Raise a ``ValueError`` where there is nothing to start from or nothing to do."""
    at_least_one("max_new_tokens", max_new_tokens)
    if prompt.dim() != 2 or 0 in prompt.shape:
        raise ValueError(
            f"prompt {list(prompt.shape)}: give token ids [B, T] with at least one row and one "
            f"token, such as bos_id"
        )


def check_eos(eos_id: int | None, num_tokens: int) -> None:
    """Raise a ``ValueError`` where a sequence could never end."""
    if eos_id is not None and not 0 <= eos_id < num_tokens:
        raise ValueError(f"eos_id={eos_id}: the step knows the tokens 0 to {num_tokens - 1}")


def check_numbers(scores: Tensor) -> None:
    """Raise a ``FloatingPointError`` where log-probabilities are not numbers."""
    if bool(scores.isnan().any()):
        raise FloatingPointError(
            "decoding met logits that are not numbers: did training diverge, or is a row all -inf?"
        )
