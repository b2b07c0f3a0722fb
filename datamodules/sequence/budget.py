"""Batches of sequences within a budget of tokens."""

from collections.abc import Callable
from typing import Literal, TypeVar

from torch import Tensor

from trellis.datamodules.engine.loader import Loader
from trellis.sequence.batches import consecutive_budget, token_budget

Batch = TypeVar("Batch")
# To train, batches change each epoch; to evaluate, like lengths stay together; to predict, the
# order is the file's.
Order = Literal["shuffled", "sorted", "as given"]


def budget_loader(
    lengths: Tensor, batch: Callable[[Tensor], Batch], max_tokens: int, order: Order
) -> Loader[Batch]:
    """A loader whose batches hold at most ``max_tokens``, padding included.

    Args:
        lengths: of all examples ``[N]``.
        batch: indices ``[B]`` -> the batch.
        max_tokens: in a batch; a longer example is alone.
        order: in which examples are served.
    """
    train = order == "shuffled"
    if order == "as given":
        plan = consecutive_budget(lengths, max_tokens)
    else:
        plan = token_budget(lengths, max_tokens, shuffle=train)
    return Loader(len(lengths), batch, plan=plan, shuffle=train, pad=train)
