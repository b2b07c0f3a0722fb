"""How similar two sentences are: the cosine of their vectors, learnt from people's ratings."""

from collections.abc import Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Objective, Stage
from trellis.lightning_modules.sequence.embedding_objective import RankCorrelation
from trellis.lightning_modules.sequence.sequence_classification import vocabulary_sizes
from trellis.networks.sequence.sentence_encoder import SentenceEncoder
from trellis.sequence.batches import SentencePair
from trellis.spec import RatedPairSpec


class SentenceEncoderFactory(Protocol):
    """Builds a network, tokens ``[B, T]`` -> vectors ``[B, D]``; called by keyword."""

    def __call__(self, num_tokens: int, *, pad_id: int) -> nn.Module: ...


class SentenceSimilarity(Objective):
    r"""Squared error of the cosine of two sentences' vectors u and v.

    .. math:: (\cos(u, v) - \mathrm{rating})^2

    Batch: ``(SentencePair, ratings)`` with ratings ``[B]`` in [0, 1]. Evaluation reports ``loss``
    and ``spearman``, the correlation of the ranks of cosines and ratings.

    Args:
        network: from ``(num_tokens, pad_id)`` to a module tokens ``[B, T]`` -> vectors ``[B, D]``.
    Raises:
        ValueError: the tokens of the data have no ``pad_id``.

    Source: Reimers and Gurevych 2019, section 3, regression objective.
    """

    spec_type = RatedPairSpec
    monitor = "val/spearman"
    monitor_mode = "max"

    def __init__(
        self,
        network: SentenceEncoderFactory = SentenceEncoder,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: RatedPairSpec | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.network_factory = network

    def build(self, spec: RatedPairSpec) -> None:
        self.build_network(vocabulary_sizes(spec.tokens, self), "tokens")

    def metrics(self, spec: RatedPairSpec) -> Mapping[str, Metric]:
        return {"loss": BatchMean(), "spearman": RankCorrelation()}

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Cosines ``[B]`` of sentences ``[B, S]`` and ``[B, T]``."""
        return torch.cosine_similarity(self.network(first), self.network(second))

    def training_step(self, batch: tuple[SentencePair, Tensor], batch_idx: int) -> Tensor:
        pair, ratings = batch
        loss = F.mse_loss(self(*pair), ratings)
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: tuple[SentencePair, Tensor], stage: Stage) -> None:
        pair, ratings = batch
        cosines, metrics = self(*pair), self.evaluated(stage)
        metrics["loss"].update(F.mse_loss(cosines, ratings), len(ratings))
        metrics["spearman"].update(cosines, ratings)

    def predict_step(
        self, batch: tuple[SentencePair, Tensor], batch_idx: int
    ) -> dict[str, Tensor]:
        """``cosine`` of each pair, ``[B]``."""
        return {"cosine": self(*batch[0])}
