"""Several updates from a replay buffer, with the steps of the environments between them."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from trellis.rl.collector import Rollout
from trellis.rl.replay import ReplayBatch, Transitions


class ReplayBlock:
    """An iterable of batches: the agent acts between them, with the weights it has by then.

    After the iteration it tells what the agent did, as a ``Rollout`` does.

    Args:
        num_updates: U, batches of the block.
        collect: makes the steps that come before a batch, given its number; ``None`` if none do.
        sample: one batch.
        update_priorities: of transitions, given their indices and errors ``[B]``; called only for
            batches that have indices.
    """

    def __init__(
        self,
        num_updates: int,
        collect: Callable[[int], Rollout | None],
        sample: Callable[[], ReplayBatch],
        update_priorities: Callable[[Tensor, Tensor], None],
    ) -> None:
        self.num_updates, self._collect, self._sample = num_updates, collect, sample
        self._update_priorities = update_priorities
        self.rollouts: list[Rollout] = []
        self._convert: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        return self.num_updates

    def __iter__(self) -> Iterator[ReplayBatch]:
        for number in range(self.num_updates):
            if (rollout := self._collect(number)) is not None:
                self.rollouts.append(rollout)
            yield self._converted(self._sample())

    def apply(self, function: Callable[[Tensor], Tensor]) -> "ReplayBlock":
        """From now on apply a function to all tensors of a batch; returns the block itself."""
        self._convert = function
        return self

    def _converted(self, batch: ReplayBatch) -> ReplayBatch:
        if self._convert is None:
            return batch
        transitions = Transitions(*map(self._convert, batch.transitions))
        return batch._replace(transitions=transitions, weights=self._convert(batch.weights))

    def update_priorities(self, batch: ReplayBatch, errors: Tensor) -> None:
        """Set the priorities of a batch by its TD errors; does nothing without priorities.

        Args:
            batch: the last one.
            errors: of either sign, ``[B]``; of K critics ``[K, B]``, whose mean counts.
        """
        if batch.indices is not None:
            sizes = errors.detach().abs()
            self._update_priorities(batch.indices, sizes.mean(0) if sizes.dim() == 2 else sizes)

    @property
    def observations(self) -> Tensor:
        """Of the steps that were made, ``[T + 1, N, *shape]``."""
        parts = [rollout.observations[:-1] for rollout in self.rollouts]
        return torch.cat([*parts, self.rollouts[-1].observations[-1:]])

    @property
    def recent_returns(self) -> Tensor:
        """Of the last 100 finished episodes ``[E]``, undiscounted; fewer at first."""
        return self.rollouts[-1].recent_returns

    @property
    def env_steps(self) -> Tensor:
        """That all environments have made so far."""
        return self.rollouts[-1].env_steps
