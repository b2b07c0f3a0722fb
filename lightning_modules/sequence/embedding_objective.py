"""The base of the objectives whose result is a vector for each word or node."""

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.functional import spearman_corrcoef

from trellis.functional.skip_gram import Probe
from trellis.lightning_modules.engine.build_network import if_taken
from trellis.lightning_modules.engine.evaluation import Accuracy, BatchMean, Kept, Totals
from trellis.lightning_modules.engine.objective import Objective, Stage
from trellis.metrics.linear_probe import linear_probe
from trellis.sequence.word_tests import WordTests, solve_analogies
from trellis.sequence.word_vectors import WordVectors
from trellis.spec import EmbeddingSpec

BLOCK = 8192  # ids whose vectors are computed at once


class EmbeddingObjective(Objective):
    """Base of the objectives whose result is a vector for each id.

    A subclass says in ``inputs`` what it calls its network with, and defines ``loss`` and
    ``weight``.

    Evaluations report ``loss``, and what the data has among its batches: of a ``Probe``
    ``accuracy``, that of a logistic regression on the frozen embeddings; of ``WordTests``, by the
    name of each set, Spearman's correlation of the cosine of two vectors with people's ratings,
    and the share of ``analogies`` that is solved; ``NAME_unknown`` is how many pairs or questions
    have a word that the data does not know: these are not counted. To predict, batches are ids
    ``[B]``, and predictions their embeddings.

    Args:
        network: from ``num_tokens``, and ``words`` if it takes them, to a module whose ``embed``
            maps ids to vectors.
    Raises:
        ValueError: a network without ``embed``, or with ``words`` where the data has none.
    """

    spec_type = EmbeddingSpec
    inputs: ClassVar[tuple[str, ...]] = ("center", "context")
    needs: ClassVar[tuple[str, ...]] = ("embed",)
    network: Any  # with embed, which nn.Module does not declare

    def __init__(
        self,
        network: Callable[..., nn.Module],
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: EmbeddingSpec | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.network_factory = network

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """Mean over what a batch has, a scalar."""

    @abstractmethod
    def weight(self, batch: Any) -> Tensor | int:
        """How much a batch has of what ``loss`` is the mean over."""

    def build(self, spec: EmbeddingSpec) -> None:
        sizes: dict[str, Any] = {"num_tokens": spec.num_tokens}
        if if_taken(spec, self.network_factory, "words"):
            if not spec.words:
                raise ValueError(
                    f"{type(self).__name__}: the network is made of words, and the data has ids "
                    f"without words: choose SkipGramEmbedding"
                )
            sizes["words"] = json.loads(spec.words)
        self.build_network(sizes, *self.inputs)
        for method in self.needs:
            if not callable(getattr(self.network, method, None)):
                raise ValueError(
                    f"{type(self).__name__} evaluates network.{method}, which "
                    f"{type(self.network).__name__} does not have: choose SkipGramEmbedding, or "
                    f"give it one"
                )

    def metrics(self, spec: EmbeddingSpec) -> Mapping[str, Metric]:
        found: dict[str, Metric] = {"loss": BatchMean()}
        if spec.out_channels:
            found["accuracy"] = Accuracy()
        for name in spec.scales:
            found |= {name: RankCorrelation(), f"{name}_unknown": Number()}
        if spec.analogies:
            found |= {"analogies": Accuracy(), "analogies_unknown": Number()}
        return found

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings of ids ``[...]`` -> ``[..., D]``."""
        return self.network.embed(ids)

    def all_vectors(self) -> Tensor:
        """Embeddings of all ids, ``[num_tokens, D]``."""
        ids = torch.arange(self.spec.num_tokens, device=self.device)
        return torch.cat([self(some) for some in ids.split(BLOCK)])

    def word_vectors(self) -> WordVectors:
        """The vectors of all words, for a file.

        Raises:
            ValueError: it was trained on ids that are no words.
        """
        if not self.spec.words:
            raise ValueError(
                f"word2vec: {type(self).__name__} was trained on ids that are no words"
            )
        with torch.no_grad():
            return WordVectors(json.loads(self.spec.words), self.all_vectors())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: Any, stage: Stage) -> None:
        metrics = self.evaluated(stage)
        if isinstance(batch, Probe):
            predicted = linear_probe(self(batch.train_ids), batch.train_labels, self(batch.ids))
            metrics["accuracy"].update(predicted, batch.labels)
        elif isinstance(batch, WordTests):
            self._judge(batch, metrics)
        else:
            metrics["loss"].update(self.loss(batch), self.weight(batch))

    def _judge(self, tests: WordTests, metrics: MetricCollection) -> None:
        vectors = self.all_vectors().float()
        for pairs in tests.pairs:
            one, other = vectors[pairs.ids].unbind(1)
            metrics[pairs.name].update(torch.cosine_similarity(one, other), pairs.ratings)
            metrics[f"{pairs.name}_unknown"].update(pairs.unknown)
        if (asked := tests.analogies) is not None:
            solved = solve_analogies(vectors, asked.ids[:, :3])
            metrics["analogies"].update(solved, asked.ids[:, 3])
            metrics["analogies_unknown"].update(asked.unknown)

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Embeddings ``[B, D]`` of ids ``[B]``."""
        return self(batch)


class RankCorrelation(Kept):
    """Spearman's correlation of all numbers with their ratings; ties have their mean rank."""

    def __init__(self) -> None:
        super().__init__("found", "ratings")

    def update(self, found: Tensor, ratings: Tensor) -> None:
        """Keep numbers ``[B]`` and their ratings."""
        self.keep(found=found, ratings=ratings)

    def compute(self) -> Tensor:
        """The correlation over all pairs so far."""
        if not self.update_called:  # an evaluation that was cut short
            return torch.tensor(torch.nan, device=self.device)
        return spearman_corrcoef(self.kept("found"), self.kept("ratings"))


class Number(Totals):
    """A number of the data, once."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__("count")

    def update(self, number: int) -> None:
        """Add it up."""
        self.count += number

    def compute(self) -> Tensor:
        """The number."""
        return self.count.float()
