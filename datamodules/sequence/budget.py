"""Batches of sequences within a budget of tokens."""

from collections.abc import Callable
from typing import Literal, TypeVar

from torch import Tensor

from trellis.checks import at_least_one
from trellis.datamodules.engine.loader import Loader
from trellis.sequence.batches import consecutive_budget, token_budget

Batch = TypeVar("Batch")
# For training, other batches in each epoch; for evaluation, similar lengths together; for
# prediction, the order of the file.
Order = Literal["shuffled", "sorted", "as given"]


def budget_loader(
    lengths: Tensor, batch: Callable[[Tensor], Batch], max_tokens: int, order: Order
) -> Loader[Batch]:
    """A loader whose batches hold at most ``max_tokens``, padding included.

    Args:
        lengths: of all examples ``[N]``.
        batch: indices ``[B]`` -> the batch.
        max_tokens: in a batch; a longer example is a batch of its own.
        order: of the examples.
    """
    train = order == "shuffled"
    if order == "as given":
        plan = consecutive_budget(lengths, max_tokens)
    else:
        plan = token_budget(lengths, max_tokens, shuffle=train)
    return Loader(len(lengths), batch, plan=plan, shuffle=train)


def check_budget(max_tokens: int, max_length: int | None) -> None:
    """Check the budget of a batch and the length at which a sequence is too long.

    Raises:
        ValueError: a sequence of ``max_length`` does not fit into a batch, or holds nothing beside
            its special tokens.
    """
    at_least_one("max_tokens", max_tokens)
    if max_length is not None and not 3 <= max_length <= max_tokens:
        raise ValueError(f"max_length={max_length}: give 3 to max_tokens={max_tokens}")
