"""Examples divided into training, validation and test: by shares, or by folds."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trellis.checks import at_least
from trellis.datamodules.engine.base import Split

Rows = dict[Split, Tensor]  # the examples of each split


@dataclass(frozen=True)
class Division:
    """How examples are drawn into splits, each with the class frequencies of all.

    Args:
        column: of a table, which says train, val or test instead of a draw; rows where it is
            empty are left out.
        val_share: share for validation, of what is outside the test fold where there are folds.
        test_share: share for test; not used with folds.
        num_folds: cross-validation by this number of folds.
        fold: the fold to test on, 0 to ``num_folds`` - 1.
        seed: of the draw; the same for all folds.
    Raises:
        ValueError: an option out of range, or shares that leave nothing to train on.

    >>> rows = Division(num_folds=3, val_share=0).rows(torch.tensor([0, 1, 0, 1, 0, 1]))
    >>> len(rows["train"]), len(rows["test"])
    (4, 2)
    """

    column: str | None = None
    val_share: float = 0.1
    test_share: float = 0.2
    num_folds: int | None = None
    fold: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(0, "val_share", self.val_share)
        at_least(0, "test_share", self.test_share)
        if self.num_folds is not None:
            check_fold(self.fold, at_least(2, "num_folds", self.num_folds))
        if self.val_share + (0 if self.num_folds else self.test_share) >= 1:
            raise ValueError(
                f"val_share={self.val_share} and test_share={self.test_share} leave nothing to "
                f"train on: give less than 1 together"
            )

    def rows(self, strata: Tensor) -> Rows:
        """Examples of each split, in ascending order.

        Args:
            strata: class of each example ``[N]``; all 0 where there are no classes.
        """
        place = _place_in_stratum(strata, self.seed)
        if self.num_folds is None:
            return _by_place(place, self.val_share, self.test_share)
        counts = strata.bincount()
        # Each class begins at the fold where the last one ended: folds are of equal size.
        before = (counts.cumsum(0) - counts)[strata]
        test = ((place * counts[strata]).long() + before) % self.num_folds == self.fold
        others = (~test).nonzero().flatten()
        rest = _by_place(_place_in_stratum(strata[others], self.seed + 1), self.val_share, 0.0)
        parts: Rows = {split: others[part] for split, part in rest.items()}
        return {**parts, "test": test.nonzero().flatten()}


def _by_place(place: Tensor, val_share: float, test_share: float) -> Rows:
    test, held_out = place < test_share, place < test_share + val_share
    return {
        "train": (~held_out).nonzero().flatten(),
        "val": (held_out & ~test).nonzero().flatten(),
        "test": test.nonzero().flatten(),
    }


def _place_in_stratum(strata: Tensor, seed: int) -> Tensor:
    """A random place of each example among those of its class, spread evenly over (0, 1)."""
    order = torch.randperm(len(strata), generator=torch.Generator().manual_seed(seed))
    order = order[strata[order].argsort(stable=True)]
    counts = strata.bincount()
    rank = torch.arange(len(strata)) - (counts.cumsum(0) - counts)[strata[order]]
    place = torch.empty(len(strata), dtype=torch.float64)
    place[order] = (rank.double() + 0.5) / counts[strata[order]]
    return place


def with_validation(rows: Rows, source: str) -> Rows:
    """The splits, with the training examples for validation where there are no others.

    Raises:
        ValueError: there is nothing to train on.
    """
    if not len(rows["train"]):
        raise ValueError(f"{source}: no rows to train on: give more, or a larger share of them")
    return rows if len(rows["val"]) else {**rows, "val": rows["train"]}


def check_fold(fold: int, num_folds: int) -> None:
    """Check the number of a fold.

    Raises:
        ValueError: there is none of this number.
    """
    if not 0 <= fold < num_folds:
        raise ValueError(f"fold={fold}: give 0 to {num_folds - 1}")
