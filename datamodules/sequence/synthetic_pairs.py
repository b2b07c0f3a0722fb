"""Sequence-to-sequence tasks whose examples are generated on the fly."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from trellis.checks import at_least_one
from trellis.datamodules.engine.base import Split
from trellis.datamodules.engine.loader import Loader
from trellis.random import hashed_integers
from trellis.sequence.batches import TokenPairs

Random = Callable[[int, Tensor | int], Tensor]
# Random streams: the splits share no random numbers.
STREAMS = {"train": 0, "val": 1, "test": 2}


class SyntheticPairs:
    """Examples that are generated batch by batch.

    Training example i of epoch e is a function of the seed, e and i: each epoch has new examples.
    Those of validation and test are always the same, whatever the seed.

    Args:
        make: ``(split, random) -> TokenPairs``, a batch of examples as a function of random
            numbers. ``random(high, key)`` gives integers in ``0 .. high - 1``: ``[B, 1]``, or
            ``[B, K]`` for keys ``[K]``; the same key gives the same numbers.
        num_train: pairs per epoch.
        num_val: pairs to validate on.
        num_test: pairs to test on.
        batch_size: pairs per batch.
        seed: of the training examples; ``None`` uses that of ``seed_everything``.
    Raises:
        ValueError: a size is smaller than 1.
    """

    def __init__(
        self,
        make: Callable[[Split, Random], TokenPairs],
        *,
        num_train: int,
        num_val: int,
        num_test: int,
        batch_size: int,
        seed: int | None,
    ) -> None:
        self.make = make
        self.sizes = {"train": num_train, "val": num_val, "test": num_test}
        for split, size in self.sizes.items():
            at_least_one(f"num_{split}", size)
        self.batch_size, self.seed = at_least_one("batch_size", batch_size), seed

    def loader(self, split: Split) -> Loader[TokenPairs]:
        """Batches of a split."""
        train = split == "train"

        def batch(indices: Tensor) -> TokenPairs:
            seed, epoch = (loader.seed, loader.epoch) if train else (0, 0)
            where = (seed, STREAMS[split], epoch, indices.unsqueeze(1))
            return self.make(split, lambda high, key: hashed_integers(high, *where, key))

        # No need to shuffle: the examples are random already.
        loader = Loader(self.sizes[split], batch, batch_size=self.batch_size, seed=self.seed)
        return loader


def padded(rows: list[list[int]], pad_id: int) -> Tensor:
    """Rows of different lengths as one tensor ``[B, T]``.

    >>> padded([[1, 2], [3]], pad_id=0)
    tensor([[1, 2],
            [3, 0]])
    """
    longest = max(map(len, rows))
    filled = [row + [pad_id] * (longest - len(row)) for row in rows]
    return torch.from_numpy(np.array(filled))  # four times as fast as torch.tensor
