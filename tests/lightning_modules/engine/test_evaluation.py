"""Metrics that several objectives share, against torchmetrics and definitions."""

import math

import pytest
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from trellis.lightning_modules.engine.evaluation import (
    AUC,
    Accuracy,
    BatchMean,
    Perplexity,
    cross_entropy,
)
from trellis.lightning_modules.graph.graph_regression import TaskAUC
from trellis.lightning_modules.graph.link_metrics import link_metrics


def test_accuracy_is_that_of_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = Accuracy(), MulticlassAccuracy(4, average="micro", ignore_index=-100)
    for shape in ((9,), (3, 5), (2, 3)):
        predicted, labels = torch.randint(4, (2, *shape), generator=generator)
        labels[torch.rand(shape, generator=generator) < 0.3] = -100
        ours.update(predicted, labels)
        theirs.update(predicted, labels)
    assert ours.compute() == theirs.compute()
    assert 0 < ours.compute() < 1


def test_means_weigh_batches_by_their_examples_and_keep_nan():
    mean, perplexity = BatchMean(), Perplexity()
    for metric in (mean, perplexity):
        metric.update(torch.tensor(1.0), 3)
        metric.update(torch.tensor(5.0), torch.tensor(1))
    assert mean.compute() == 2
    torch.testing.assert_close(perplexity.compute(), torch.tensor(math.exp(2)))
    mean.update(torch.tensor(math.nan), 1)
    assert mean.compute().isnan()


def test_cross_entropy_ignores_labels_of_minus_100_wherever_they_stand():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, generator=generator)
    labels = torch.tensor([[0, -100, 3], [2, -100, -100]])
    pairs = [(0, 0, 0), (0, 2, 3), (1, 0, 2)]
    losses = [-logits[row, column].log_softmax(-1)[label] for row, column, label in pairs]
    torch.testing.assert_close(cross_entropy(logits, labels), sum(losses) / 3)


KEPT = {
    "AUC": (AUC(), (torch.randn(5, 2), torch.tensor([0, 1, 1, 0, -100]))),
    "TaskAUC": (TaskAUC(2), (torch.randn(5, 2), torch.randint(2, (5, 2)).float())),
    **{
        name: (metric, (torch.rand(4), torch.tensor([1.0, 0.0, 1.0, 0.0])))
        for name, metric in link_metrics([3]).items()
    },
}


@pytest.mark.parametrize("name", KEPT)
def test_a_process_without_examples_has_what_fits_those_of_others(name: str) -> None:
    metric, batch = KEPT[name]
    metric.reset()
    metric.update(*batch)
    alone = metric.compute()

    def gathered(own: Tensor, group: object) -> list[Tensor]:
        other = torch.tensor([], dtype=metric.dtype)  # torchmetrics' of a process without any
        assert (own.dtype, own.dim()) == (other.dtype, 1)
        return [own, other]

    metric.reset()
    metric.update(*batch)
    with metric.sync_context(gathered, distributed_available=lambda: True):
        assert torch.equal(type(metric).compute(metric), alone)
