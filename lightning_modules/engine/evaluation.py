"""What objectives share when they classify: one loss, one pair of metrics, one way to say no."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy


class BatchMean(Metric):
    """Mean of batch means, each weighted with its number of examples; one NaN makes it NaN.

    ``torchmetrics.MeanMetric`` leaves NaN out with a warning, or else leaves the weights out.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, mean: Tensor, num_examples: int) -> None:
        """Count a batch."""
        self.total += mean.detach() * num_examples
        self.count += num_examples

    def compute(self) -> Tensor:
        """The mean over all examples so far."""
        return self.total / self.count


class Perplexity(BatchMean):
    """Exponential of the mean loss per token: how many tokens it is like guessing among."""

    def compute(self) -> Tensor:
        """The perplexity over all tokens so far."""
        return super().compute().exp()


def classification_metrics(num_classes: int) -> Mapping[str, Metric]:
    """Mean cross-entropy in nats and share of correct labels, over all examples of a split.

    Args:
        num_classes: columns of the logits.
    Raises:
        ValueError: there are fewer than two.
    """
    if num_classes < 2:
        raise ValueError(f"out_channels={num_classes}: to classify takes at least 2 classes")
    accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
    return {"loss": BatchMean(), "accuracy": accuracy}


def update_classification(metrics: MetricCollection, logits: Tensor, y: Tensor) -> None:
    """Count one batch; a short last batch weighs as much as it has examples.

    Args:
        metrics: from ``classification_metrics``.
        logits: ``[B, out_channels]``.
        y: labels ``[B]``.
    Raises:
        ValueError: see ``cross_entropy``.
    """
    metrics["loss"].update(cross_entropy(logits, y), len(y))
    metrics["accuracy"].update(logits, y)


def cross_entropy(logits: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """``F.cross_entropy`` whose complaints name the labels.

    Shapes are checked first: torch would take real numbers ``[B, out_channels]`` for targets of
    another kind. The labels are looked at only after torch has refused them: looking costs a
    synchronisation on an accelerator. There torch itself cannot refuse; a data module checks its
    labels once.

    Args:
        logits: ``[B, out_channels]``.
        y: labels ``[B]``.
        label_smoothing: share of the target spread evenly over the classes, in [0, 1].
    Raises:
        ValueError: the labels are no integers ``[B]`` in ``[0, out_channels)``.
    """
    if y.is_floating_point() or y.ndim != 1 or logits.ndim != 2 or len(y) != len(logits):
        raise ValueError(
            f"labels are {y.dtype} {list(y.shape)}, expected integers [{len(logits)}], one for "
            f"each row of the logits {list(logits.shape)}"
        )
    try:
        return F.cross_entropy(logits, y, label_smoothing=label_smoothing)
    except IndexError as error:
        low, high = int(y.min()), int(y.max())
        raise ValueError(
            f"labels lie in [{low}, {high}], but the network has out_channels={logits.size(1)}: "
            f"expected 0 to {logits.size(1) - 1}"
        ) from error
