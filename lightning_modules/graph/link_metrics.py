"""How well scores tell links from other pairs; memory grows with the number of pairs alone."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from trellis.lightning_modules.engine.evaluation import Kept, Totals


class LinkLoss(Totals):
    """``link_loss`` over all pairs, however they are divided into batches."""

    linked: Tensor
    others: Tensor
    total_linked: Tensor
    total_others: Tensor

    def __init__(self) -> None:
        super().__init__("linked", "others", sums=("total_linked", "total_others"))

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count pairs ``[L]``; labels are 1 and 0."""
        of_links, of_others = F.softplus(-logits.float()), F.softplus(logits.float())
        self.total_linked += (of_links * labels).sum()
        self.total_others += (of_others * (1 - labels)).sum()
        self.linked += labels.sum()
        self.others += (1 - labels).sum()

    def compute(self) -> Tensor:
        """The loss over all pairs so far."""
        return (self.total_linked / self.linked + self.total_others / self.others) / 2


class LinkScores(Kept):
    """Base of the metrics of all scores together."""

    def __init__(self) -> None:
        super().__init__("scores", "labels")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Count pairs ``[L]``: scores in [0, 1]; labels are 1 and 0."""
        self.keep(scores=scores, labels=labels)

    def ranks(self) -> Tensor:
        """The rank of each link among all pairs that are none.

        1 more than the number of pairs with a higher score; those with the same count half.
        """
        scores, labels = self.kept("scores"), self.kept("labels").bool()
        links, others = scores[labels], scores[~labels].sort().values
        below = torch.searchsorted(others, links)
        not_above = torch.searchsorted(others, links, right=True)
        return 1 + len(others) - (below + not_above) / 2


class ScoresAUC(LinkScores):
    """Area under the ROC curve."""

    def compute(self) -> Tensor:
        """The area over all pairs so far."""
        return binary_auroc(self.kept("scores"), self.kept("labels").long(), validate_args=False)


class AveragePrecision(LinkScores):
    """Average precision."""

    def compute(self) -> Tensor:
        """The precision over all pairs so far."""
        labels = self.kept("labels").long()
        return binary_average_precision(self.kept("scores"), labels, validate_args=False)


class MeanReciprocalRank(LinkScores):
    """Mean over the links of 1 / rank."""

    def compute(self) -> Tensor:
        """The mean over all links so far."""
        return self.ranks().reciprocal().mean()


class HitsAt(LinkScores):
    """Share of the links whose rank is at most k.

    Args:
        k: such as 10.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def compute(self) -> Tensor:
        """The share of all links so far."""
        return (self.ranks() <= self.k).float().mean()


def link_metrics(hits_at: Sequence[int]) -> Mapping[str, Metric]:
    """Fresh metrics by name, each updated with scores in [0, 1] and labels, ``[L]`` each.

    Args:
        hits_at: each k of ``hits@k``.
    """
    return {
        "auc": ScoresAUC(),
        "ap": AveragePrecision(),
        "mrr": MeanReciprocalRank(),
        **{f"hits@{k}": HitsAt(k) for k in hits_at},
    }
