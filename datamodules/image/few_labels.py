"""Training data of which a few examples have labels, for semi-supervised learning."""

import torch
from torch import Tensor

from trellis.checks import at_least_one
from trellis.random import hashed_integers
from trellis.sequence.masking import IGNORED


def few_labels(y: Tensor, num_labels: int, num_classes: int) -> Tensor:
    """Labels ``[N]`` of which ``num_labels``, equally many of each class, are kept.

    Which ones is drawn with a fixed seed; the others become -100, which losses ignore.

    Args:
        y: labels ``[N]``.
        num_labels: how many are kept.
        num_classes: classes.
    Raises:
        ValueError: the number is not a multiple of the classes, or a class has too few examples.

    >>> few_labels(torch.tensor([0, 1, 1, 0, 1]), 4, 2).eq(-100).sum().item()
    1
    """
    each, rest = divmod(at_least_one("num_labels", num_labels), num_classes)
    if rest:
        raise ValueError(
            f"num_labels={num_labels}: give a multiple of {num_classes}, as many for each class"
        )
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    kept = torch.full_like(y, IGNORED)
    for label in range(num_classes):
        members = order[y[order] == label]
        if len(members) < each:
            raise ValueError(
                f"num_labels={num_labels}: class {label} has {len(members)} examples, not {each}"
            )
        kept[members[:each]] = label
    return kept


class LabelledDraw:
    """Indices of labelled examples for each batch, drawn with replacement.

    They are a function of the epoch and the batch, as the order of a ``Loader`` is.

    Args:
        y: labels ``[N]``, those of -100 unknown.
        per_batch: how many are drawn.
    """

    def __init__(self, y: Tensor, per_batch: int) -> None:
        self.labelled = (y != IGNORED).nonzero().squeeze(1)
        self.numbers = torch.arange(at_least_one("labels_per_batch", per_batch))

    def __call__(self, epoch: int, first: int) -> Tensor:
        """Indices ``[per_batch]`` for the batch whose first example is ``first``."""
        drawn = hashed_integers(len(self.labelled), 0, epoch, first, self.numbers)
        return self.labelled[drawn]
