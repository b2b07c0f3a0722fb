"""What is missing in a triple of a knowledge graph."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.checks import at_least_one, not_negative
from trellis.graph.triples import Questions, ranks
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Objective, Stage
from trellis.networks.graph.knowledge_graph import ComplEx
from trellis.signature import reads
from trellis.spec import KnowledgeGraphSpec

NUM_ANSWERS = 10  # of a prediction


class TripleNetworkFactory(Protocol):
    """Builds a network of triples; called by keyword.

    The network has ``forward(entity, relation, candidates=...) -> scores`` and ``factors``, see
    ``trellis.networks.graph.knowledge_graph``; one whose ``forward`` takes ``edge_index`` and
    ``edge_type`` is given the training triples.
    """

    def __call__(self, num_entities: int, num_relations: int) -> nn.Module: ...


class KnowledgeGraphCompletion(Objective):
    r"""Cross-entropy of the missing entity of a triple, in nats, of tails and of heads.

    .. math:: -\ln \frac{e^{s(h, r, t)}}{\sum_{t'} e^{s(h, r, t')}}
        + \frac{\lambda}{3} \sum_d (|h_d|^3 + |r_d|^3 + |t_d|^3)

    Batch: ``Questions``. A relation and its inverse are two relations to the network. Reports, of
    the ranks of the answers among all entities (ties count half), ``mrr``, the mean of 1 / rank,
    and ``hits@k``, the share of the first k, without entities that also answer the question in
    any split ("filtered"); ``mrr_raw`` counts these, too.

    Args:
        network: from ``(num_entities, num_relations)``, inverse relations included.
        num_negatives: random entities that the answers of a batch are compared with in training,
            beside each other; ``None``: all entities.
        regularization: lambda.
        hits_at: each k of ``hits@k``.
    Raises:
        ValueError: an option out of range.

    Source: Lacroix et al. 2018 (loss, inverse relations, cubic norm); Bordes et al. 2013 (ranks).
    """

    spec_type = KnowledgeGraphSpec
    monitor = "val/mrr"
    monitor_mode = "max"

    def __init__(
        self,
        network: TripleNetworkFactory = ComplEx,
        optimizer: OptimizerCallable = torch.optim.Adagrad,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: KnowledgeGraphSpec | None = None,
        num_negatives: int | None = None,
        regularization: float = 0.0,
        hits_at: Sequence[int] = (1, 3, 10),
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.network_factory = network
        if num_negatives is not None:
            at_least_one("num_negatives", num_negatives)
        self.num_negatives = num_negatives
        self.regularization = not_negative("regularization", regularization)
        self.hits_at = [at_least_one("hits_at", k) for k in hits_at]

    def build(self, spec: KnowledgeGraphSpec) -> None:
        sizes = {"num_entities": spec.num_entities, "num_relations": 2 * spec.num_relations}
        self.build_network(sizes, "entity", "relation")

    def metrics(self, spec: KnowledgeGraphSpec) -> Mapping[str, Metric]:
        names = ("loss", "mrr", "mrr_raw", *(f"hits@{k}" for k in self.hits_at))
        return {name: BatchMean() for name in names}

    def forward(self, batch: Questions, candidates: Tensor | None = None) -> Tensor:
        """Scores of candidates ``[K]`` for each question, or of all entities: ``[Q, K]``."""
        edges = {}
        if reads(self.network, "edge_index"):
            edges = {"edge_index": batch.edge_index, "edge_type": batch.edge_type}
        return self.network(batch.entity, batch.relation, **edges, candidates=candidates)

    def training_step(self, batch: Questions, batch_idx: int) -> Tensor:
        if self.num_negatives is None:
            loss = F.cross_entropy(self(batch), batch.answer)
        else:
            loss = self._beside_some(batch, self.num_negatives)
        self.log_train(loss=loss)
        if not self.regularization:
            return loss
        factors = self.network.factors(batch.entity, batch.relation, batch.answer)
        cubes = torch.stack([factor.abs().pow(3).sum(-1).mean() for factor in factors])
        return loss + self.regularization * cubes.mean()

    def _beside_some(self, batch: Questions, num_negatives: int) -> Tensor:
        """Cross-entropy of each answer beside those of the batch and some random entities."""
        answers = batch.answer
        others = torch.randint(self.spec.num_entities, (num_negatives,), device=answers.device)
        candidates = torch.cat([answers, others])  # [Q + K], the same for all questions
        own = torch.arange(len(answers), device=answers.device)
        again = candidates == answers[:, None]  # the answer, drawn once more
        again[own, own] = False
        return F.cross_entropy(self(batch, candidates).masked_fill(again, -torch.inf), own)

    def evaluate(self, batch: Questions, stage: Stage) -> None:
        scores, answers = self(batch), batch.answer
        filtered = ranks(scores, answers, batch.known)
        values = {
            "loss": F.cross_entropy(scores, answers),
            "mrr": filtered.reciprocal().mean(),
            "mrr_raw": ranks(scores, answers).reciprocal().mean(),
            **{f"hits@{k}": (filtered <= k).float().mean() for k in self.hits_at},
        }
        for name, metric in self.evaluated(stage).items(keep_base=True):
            metric.update(values[name], len(answers))

    def predict_step(self, batch: Questions, batch_idx: int) -> list[str]:
        """The ten best answers to each question, best first, with tabs between them."""
        best = self(batch).topk(min(NUM_ANSWERS, self.spec.num_entities), dim=-1).indices
        return ["\t".join(self._names[i] for i in row) for row in best.tolist()]

    @cached_property
    def _names(self) -> Sequence[str]:
        names: list[str] = json.loads(self.spec.entities or "[]")
        return names or [str(number) for number in range(self.spec.num_entities)]
