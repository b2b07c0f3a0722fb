"""Losses and metrics that several objectives share, and the random numbers of evaluations."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities import dim_zero_cat

from trellis.sequence.masking import IGNORED


class Totals(Metric):
    """Base of the metrics that add up over batches and processes.

    Args:
        counts: names of the integers that it adds up.
        sums: names of the real numbers.
    """

    full_state_update = False

    def __init__(self, *counts: str, sums: Sequence[str] = ()) -> None:
        super().__init__()
        for names, zero in ((counts, torch.tensor(0)), (sums, torch.tensor(0.0))):
            for name in names:
                self.add_state(name, zero.clone(), dist_reduce_fx="sum")


class BatchMean(Totals):
    """Mean over examples, from the means over batches; a single NaN makes it NaN.

    ``torchmetrics.MeanMetric`` skips NaN with a warning, or else ignores the weights.
    """

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__("count", sums=("total",))

    def update(self, mean: Tensor, num_examples: int | Tensor) -> None:
        """Count a batch."""
        self.total += mean.detach() * num_examples
        self.count += num_examples

    def compute(self) -> Tensor:
        """The mean over all examples so far."""
        return self.total / self.count


class Perplexity(BatchMean):
    """Exponential of the mean cross-entropy per token, in nats."""

    def compute(self) -> Tensor:
        """The perplexity of all tokens so far."""
        return super().compute().exp()


class Accuracy(Totals):
    """Share of the labels that were predicted; those of -100 are ignored.

    Unlike ``torchmetrics.classification.MulticlassAccuracy`` with an ``ignore_index``, it does
    not synchronise an accelerator.
    """

    correct: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__("correct", "count")

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Count a batch: classes of one shape."""
        self.correct += (predicted == labels).sum()
        self.count += (labels != IGNORED).sum()

    def compute(self) -> Tensor:
        """The accuracy over all labels so far."""
        return self.correct / self.count


def between_zero_and_one(logits: Tensor) -> Tensor:
    """An increasing function of the logits, with values that torchmetrics takes as they are.

    Of others it would take the sigmoid, which in float32 is 1 for every logit above 17.

    >>> bool(between_zero_and_one(torch.tensor([20.0, 20.1])).diff() > 0)
    True
    """
    logits = logits.double()
    return 0.5 + 0.5 * logits / (1 + logits.abs())


class Kept(Metric):
    """Base of the metrics of all examples together, whose values are kept.

    Args:
        names: of the values.
    """

    full_state_update = False

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self.add_state(name, [], dist_reduce_fx="cat")

    def keep(self, **values: Tensor) -> None:
        """Add values ``[...]`` by name, as real numbers in a row.

        A process that has no examples gives torchmetrics such a row of length 0, and values of
        another type or shape would not fit it.
        """
        for name, value in values.items():
            getattr(self, name).append(value.detach().to(self.dtype).flatten())

    def kept(self, name: str) -> Tensor:
        """All values of a name, ``[values]``."""
        return dim_zero_cat(getattr(self, name))


class AUC(Kept):
    """Area under the ROC curve of two classes; labels of -100 are ignored."""

    def __init__(self) -> None:
        super().__init__("margins", "labels")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch of logits ``[..., 2]`` and labels ``[...]``."""
        self.keep(margins=logits[..., 1] - logits[..., 0], labels=labels)

    def compute(self) -> Tensor:
        """The area over all labels so far."""
        scores, labels = between_zero_and_one(self.kept("margins")), self.kept("labels").long()
        return binary_auroc(scores, labels, ignore_index=IGNORED).float()


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """``F.cross_entropy`` over the last dimension, whose errors describe the labels.

    The shapes are checked first, because torch would take real numbers of the logits' shape for
    class probabilities. The range of the labels is checked only after torch has refused them,
    because the check would synchronise an accelerator; there torch does not refuse them, so data
    modules check their labels once.

    Args:
        logits: ``[..., out_channels]``.
        labels: ``[...]``; those of -100 are ignored.
        label_smoothing: share of the target distribution that is uniform over the classes, in
            [0, 1].
    Shape:
        -> the mean over all labels that are not ignored, a scalar
    Raises:
        ValueError: the labels are not integers ``[...]`` in ``[0, out_channels)``.
    """
    if labels.is_floating_point() or logits.ndim < 2 or labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels {list(labels.shape)} of {labels.dtype} do not fit logits "
            f"{list(logits.shape)}: give integers {list(logits.shape[:-1])}, one for each row of "
            f"the logits, or a network with a row of logits for each label"
        )
    logits, labels = logits.flatten(0, -2), labels.flatten()
    try:
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    except IndexError as error:
        known = labels[labels != IGNORED]
        low, high = int(known.min()), int(known.max())
        raise ValueError(
            f"labels lie in [{low}, {high}], but the network has out_channels={logits.size(1)}: "
            f"expected 0 to {logits.size(1) - 1}"
        ) from error
