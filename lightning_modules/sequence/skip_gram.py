"""Embeddings of words or nodes from the company they keep."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.functional.skip_gram import Probe, SkipGramBatch, skip_gram_loss
from trellis.lightning_modules.engine.evaluation import Accuracy, BatchMean
from trellis.lightning_modules.engine.objective import Objective, Stage
from trellis.metrics.linear_probe import linear_probe
from trellis.networks.sequence.skip_gram_embedding import SkipGramEmbedding
from trellis.spec import EmbeddingSpec


class EmbeddingFactory(Protocol):
    """Builds two tables of vectors for this many ids; called by keyword."""

    def __call__(self, num_tokens: int) -> nn.Module: ...


class SkipGram(Objective):
    r"""Skip-gram with negative sampling: which of these ids stood near the centre, which not.

    .. math:: L = -\ln \sigma(u_c^\top v_o) - \sum_k \ln \sigma(-u_c^\top v_k)

    as a mean over the pairs of a centre c with a context o, in nats; the k are negatives. Of words
    this is word2vec, of the nodes of random walks DeepWalk (uniform) or node2vec.

    Batch: a ``SkipGramBatch`` of ids; the data draws the negatives. To evaluate, the data may have
    a ``Probe`` among its batches: then ``accuracy`` is that of a logistic regression on the frozen
    embeddings. To predict, batches are ids ``[B]``, and predictions their embeddings.

    Args:
        network: from ``num_tokens`` to a module ``(center, context) -> logits``, whose ``embed``
            maps ids to vectors.
    Raises:
        ValueError: a network without ``embed``.

    Source: Mikolov et al. 2013b, eq. 4; Perozzi et al. 2014; Grover and Leskovec 2016. Deviates:
    DeepWalk has a hierarchical softmax in place of negatives.
    """

    spec_type = EmbeddingSpec
    network: Any  # with embed, which nn.Module does not declare

    def __init__(
        self,
        network: EmbeddingFactory = SkipGramEmbedding,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: EmbeddingSpec | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.network_factory = network

    def build(self, spec: EmbeddingSpec) -> None:
        self.build_network({"num_tokens": spec.num_tokens}, "center", "context")
        if not callable(getattr(self.network, "embed", None)):
            raise ValueError(
                f"SkipGram evaluates network.embed(ids), which {type(self.network).__name__} does "
                f"not have: choose SkipGramEmbedding, or give it one"
            )

    def metrics(self, spec: EmbeddingSpec) -> Mapping[str, Metric]:
        return {"loss": BatchMean(), **({"accuracy": Accuracy()} if spec.out_channels else {})}

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings of ids ``[...]`` -> ``[..., D]``."""
        return self.network.embed(ids)

    def loss(self, batch: SkipGramBatch) -> Tensor:
        """Mean over the pairs of a batch, a scalar."""
        center, context, negatives = batch
        ids = torch.cat([context.clamp(min=0), negatives], 1)
        positive, negative = self.network(center, ids).split(
            [context.size(1), negatives.size(1)], 1
        )
        return skip_gram_loss(positive, negative, context >= 0)

    def training_step(self, batch: SkipGramBatch, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: SkipGramBatch | Probe, stage: Stage) -> None:
        metrics = self.evaluated(stage)
        if isinstance(batch, Probe):
            predicted = linear_probe(self(batch.train_ids), batch.train_labels, self(batch.ids))
            metrics["accuracy"].update(predicted, batch.labels)
        else:
            metrics["loss"].update(self.loss(batch), (batch.context >= 0).sum())

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Embeddings ``[B, D]`` of ids ``[B]``."""
        return self(batch)
