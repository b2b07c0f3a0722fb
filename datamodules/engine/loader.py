"""A loader that shuffles, shards and resumes by itself."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from trellis.checks import at_least_one
from trellis.processes import rank_and_world

Batch = TypeVar("Batch")
# From an order of example indices to batches: length buckets, token budgets.
Plan = Callable[[Tensor, torch.Generator], Sequence[Tensor]]


class Loader(Generic[Batch]):
    """Batches as a pure function of (seed, epoch, rank, world size), resumable mid-epoch.

    It is not a ``torch.utils.data.DataLoader``: Lightning rebuilds those under DDP and in
    ``predict``, and cannot resume them. ``fetch`` takes the indices of a whole batch, so data in
    memory is indexed once per batch instead of being collated from Python objects.

    Batch n goes to process n modulo their number. All have equally many, as their collectives
    need: where the batches do not divide, the last round repeats the first ones. Training counts
    them twice; evaluation and prediction, which ask ``repeats``, leave them out.

    Args:
        num_examples: number of examples.
        fetch: indices ``[B]`` -> the batch.
        batch_size: examples per batch and process.
        shuffle: a new order each epoch.
        drop_last: leave out a last batch shorter than ``batch_size``.
        seed: of the order; ``None`` uses that of ``seed_everything``.
        plan: divides an order into batches; ``None`` cuts it every ``batch_size``.
    Raises:
        ValueError: no examples, a batch size below 1, or ``drop_last`` leaves no batch.

    >>> loader = Loader(5, fetch=lambda indices: indices, batch_size=2)
    >>> list(loader)
    [tensor([0, 1]), tensor([2, 3]), tensor([4])]
    """

    def __init__(
        self,
        num_examples: int,
        fetch: Callable[[Tensor], Batch],
        *,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int | None = None,
        plan: Plan | None = None,
    ) -> None:
        if num_examples < 1:
            raise ValueError("Loader: the split is empty, there is nothing to iterate over")
        at_least_one("batch_size", batch_size)
        if drop_last and plan is None and num_examples < batch_size:
            raise ValueError(
                f"batch_size={batch_size}: drop_last leaves nothing of {num_examples} examples"
            )
        self.num_examples, self.fetch, self.batch_size = num_examples, fetch, batch_size
        self.shuffle, self.drop_last, self.plan = shuffle, drop_last, plan
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.epoch = 0
        self._served = self._skip = 0
        self._num_batches = 0  # of all processes, in the epoch that is being served

    @property
    def sampler(self) -> "Loader[Batch]":
        """Lightning calls ``loader.sampler.set_epoch`` before each epoch."""
        return self

    batch_sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def batches(self) -> Sequence[Tensor]:
        """Index batches of this epoch for this process."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.num_examples, generator=generator) if self.shuffle else None
        if self.plan is None:
            return self._share(partial(self._cut, order), self._num_cuts())
        whole = torch.arange(self.num_examples) if order is None else order
        batches = self.plan(whole, generator)
        return self._share(batches.__getitem__, len(batches))

    def _cut(self, order: Tensor | None, number: int) -> Tensor:
        start = number * self.batch_size
        end = min(start + self.batch_size, self.num_examples)
        return torch.arange(start, end) if order is None else order[start:end]

    def _num_cuts(self) -> int:
        whole, rest = divmod(self.num_examples, self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def _share(self, cut: Callable[[int], Tensor], total: int) -> "_Share":
        self._num_batches = total
        return _Share(cut, total, self._numbers(total))

    def _numbers(self, total: int) -> range:
        """Which of ``total`` batches this process serves; repeats count beyond the last one."""
        rank, world = rank_and_world()
        return range(rank, -(-total // world) * world, world)

    def repeats(self, number: int) -> bool:
        """Whether batch ``number`` of the epoch, counted over all processes, is there twice."""
        return number >= self._num_batches

    def __len__(self) -> int:
        return len(self.batches() if self.plan else self._numbers(self._num_cuts()))

    def __iter__(self) -> Iterator[Batch]:
        batches = self.batches()
        self._served, self._skip = self._skip, 0
        for number in range(self._served, len(batches)):
            self._served += 1
            yield self.fetch(batches[number])

    def state_dict(self) -> dict[str, Any]:
        """Position in the epoch and seed of the order; Lightning puts them into checkpoints."""
        return {"batches": self._served % max(len(self), 1), "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the epoch and the order of ``state`` with the next iteration."""
        self._skip = state["batches"]
        self.seed = state.get("seed", self.seed)


class _Share(Sequence[Tensor]):
    """The batches of one process, each made when it is asked for.

    The run of an agent is one epoch with a batch for each update: a list of them, or only their
    order, would take gigabytes.

    Args:
        cut: from the number of a batch to its indices.
        total: batches of all processes.
        numbers: which of them are this process's; those beyond the last one are the first ones.
    """

    def __init__(self, cut: Callable[[int], Tensor], total: int, numbers: range) -> None:
        self.cut, self.total, self.numbers = cut, total, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return _Share(self.cut, self.total, self.numbers[number])
        return self.cut(self.numbers[number] % self.total)
