"""One class for each graph of a collection."""

from collections.abc import Mapping

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch_geometric.data import Batch
from torchmetrics import Metric

from trellis.lightning_modules.engine.evaluation import (
    classification_metrics,
    cross_entropy,
    update_classification,
)
from trellis.lightning_modules.engine.objective import (
    NetworkFactory,
    Objective,
    Stage,
    build_network,
    channels,
)
from trellis.networks.graph.graph_network import GraphNetwork
from trellis.spec import GraphSpec


class GraphClassification(Objective):
    """Cross-entropy of one label per graph.

    Batch: a PyG ``Batch`` of B graphs with ``x [N, in_channels]``, ``edge_index [2, E]``,
    ``batch [N]`` (the graph of each node) and labels ``y [B]``. Evaluation weighs each graph
    alike, however many nodes it has.

    Args:
        network: from ``(in_channels, out_channels)`` to a module
            ``(x, edge_index, batch) -> logits [B, out_channels]``.
        optimizer: from parameters to an optimiser.
        lr_scheduler: from the optimiser to a scheduler, stepped once an epoch.
        spec: sizes of the data; ``None`` asks the data module.
    """

    spec_type = GraphSpec

    def __init__(
        self,
        network: NetworkFactory = GraphNetwork,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: GraphSpec | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.save_hyperparameters()
        self.network_factory = network

    def build(self, spec: GraphSpec) -> None:
        self.network = build_network(
            self.network_factory, channels(spec), "x", "edge_index", "batch", objective=self
        )

    def metrics(self, spec: GraphSpec) -> Mapping[str, Metric]:
        return classification_metrics(spec.out_channels)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return self.network(x, edge_index, batch)

    def _logits(self, graphs: Batch) -> Tensor:
        return self(graphs.x, graphs.edge_index, graphs.batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = cross_entropy(self._logits(batch), batch.y)
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: Batch, stage: Stage) -> None:
        update_classification(self.evaluated(stage), self._logits(batch), batch.y)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Class probabilities of every graph, ``[B, out_channels]``."""
        return self._logits(batch).softmax(-1)
