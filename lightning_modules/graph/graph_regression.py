"""Real numbers and yes-or-no answers about whole graphs, some of them not measured."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch_geometric.data import Batch
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric
from torchmetrics.functional.classification import binary_auroc

from trellis.lightning_modules.engine.build_network import register_units
from trellis.lightning_modules.engine.evaluation import BatchMean, Kept, between_zero_and_one
from trellis.lightning_modules.engine.objective import Objective, Stage
from trellis.lightning_modules.graph.edge_inputs import edge_inputs, graph_sizes
from trellis.lightning_modules.graph.whole_graphs import of_graphs, require_graph_targets
from trellis.networks.factory import NetworkFactory
from trellis.networks.graph.graph_network import GraphNetwork
from trellis.spec import GraphSpec


class GraphValues(NamedTuple):
    """Predicted real targets of graphs, in their unit, ``[B, T]``."""

    mean: Tensor


class GraphProbabilities(NamedTuple):
    """Predicted probabilities of yes, ``[B, T]``."""

    probability: Tensor


class GraphRegression(Objective):
    """Least squares of the real targets of graphs, those that were measured.

    Batch: a PyG ``Batch`` of B graphs with ``x``, ``edge_index``, ``batch`` and ``y [B, T]``, NaN
    where a target was not measured. The network predicts standardised targets; ``rmse`` and
    ``mae``, over all that were measured, and predictions are in their unit.

    Args:
        network: from ``(in_channels, out_channels)`` to a module
            ``(x, edge_index, batch) -> [B, T]``, see ``GraphClassification``.
    Raises:
        ValueError: the targets of the data are no real numbers.
    """

    spec_type = GraphSpec
    monitor = "val/rmse"
    target_mean: Tensor
    target_scale: Tensor

    def __init__(
        self,
        network: NetworkFactory = GraphNetwork,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: GraphSpec | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.network_factory = network

    def build(self, spec: GraphSpec) -> None:
        require_graph_targets(spec, "real", "GraphRegression")
        sizes = graph_sizes(spec, self.network_factory)
        self.build_network(sizes, "x", "edge_index", "batch", options=edge_inputs(spec))
        register_units(self, spec)

    def metrics(self, spec: GraphSpec) -> Mapping[str, Metric]:
        return {"rmse": MeanSquaredError(squared=False), "mae": MeanAbsoluteError()}

    def forward(self, batch: Batch) -> Tensor:
        """Standardised targets ``[B, T]``."""
        return of_graphs(self.network, batch, self.spec, type(self).__name__)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        predicted, known = self(batch), ~batch.y.isnan()
        wanted = ((batch.y - self.target_mean) / self.target_scale).where(known, 0.0)
        squares = (predicted - wanted).square() * known
        loss = squares.sum() / known.sum().clamp(min=1)
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: Batch, stage: Stage) -> None:
        known = ~batch.y.isnan()
        predicted = self._in_unit(self(batch))
        for metric in self.evaluated(stage).values():
            metric.update(predicted[known], batch.y[known])

    def predict_step(self, batch: Batch, batch_idx: int) -> GraphValues:
        """Targets of all graphs of a batch, in their unit."""
        return GraphValues(self._in_unit(self(batch)))

    def _in_unit(self, standardized: Tensor) -> Tensor:
        return standardized * self.target_scale + self.target_mean


class GraphTasks(Objective):
    """Cross-entropy of yes-or-no answers about graphs, those that are known, in nats.

    Batch: a PyG ``Batch`` of B graphs with ``x``, ``edge_index``, ``batch`` and ``y [B, T]`` of 0
    and 1, NaN where an answer is not known. Reports ``loss``, the mean over known answers, and
    ``auc``, the mean over the tasks of the area under the ROC curve.

    Args:
        network: from ``(in_channels, out_channels)`` to a module
            ``(x, edge_index, batch) -> logits [B, T]``, see ``GraphClassification``.
    Raises:
        ValueError: the targets of the data are not 0 and 1.

    Source: Wu et al. 2018 (MoleculeNet).
    """

    spec_type = GraphSpec
    monitor = "val/auc"
    monitor_mode = "max"

    def __init__(
        self,
        network: NetworkFactory = GraphNetwork,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: GraphSpec | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.network_factory = network

    def build(self, spec: GraphSpec) -> None:
        require_graph_targets(spec, "binary", "GraphTasks")
        sizes = graph_sizes(spec, self.network_factory)
        self.build_network(sizes, "x", "edge_index", "batch", options=edge_inputs(spec))

    def metrics(self, spec: GraphSpec) -> Mapping[str, Metric]:
        return {"loss": BatchMean(), "auc": TaskAUC(spec.out_channels)}

    def forward(self, batch: Batch) -> Tensor:
        """Logits ``[B, T]``."""
        return of_graphs(self.network, batch, self.spec, type(self).__name__)

    def _loss(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over the known answers, and their number."""
        known = ~y.isnan()
        losses = F.binary_cross_entropy_with_logits(logits, y.where(known, 0.0), reduction="none")
        count = known.sum()
        return (losses * known).sum() / count.clamp(min=1), count

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss, _ = self._loss(self(batch), batch.y)
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: Batch, stage: Stage) -> None:
        logits = self(batch)
        metrics = self.evaluated(stage)
        metrics["loss"].update(*self._loss(logits, batch.y))
        metrics["auc"].update(logits, batch.y)

    def predict_step(self, batch: Batch, batch_idx: int) -> GraphProbabilities:
        """Probabilities of yes for all graphs of a batch."""
        return GraphProbabilities(self(batch).sigmoid())


class TaskAUC(Kept):
    """Mean over tasks of the area under the ROC curve, NaN where no task has both answers.

    Args:
        num_tasks: T.
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__("logits", "answers")
        self.num_tasks = num_tasks

    def update(self, logits: Tensor, answers: Tensor) -> None:
        """Count a batch of logits and answers, ``[B, T]`` each; NaN: not known."""
        self.keep(logits=logits, answers=answers)

    def compute(self) -> Tensor:
        """The mean over the tasks with both answers."""
        areas = []
        by_task = (self.kept(name).view(-1, self.num_tasks).t() for name in ("logits", "answers"))
        for logits, answers in zip(*by_task, strict=True):
            known = ~answers.isnan()
            yes = answers[known]
            if (yes == 0).any() and (yes == 1).any():
                scores = between_zero_and_one(logits[known])
                areas.append(binary_auroc(scores, yes.long(), validate_args=False).float())
        return torch.stack(areas).mean() if areas else torch.tensor(torch.nan)
