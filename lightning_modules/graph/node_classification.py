"""Classes for the nodes of one graph, learned from the few that are labelled."""

from collections.abc import Mapping

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch_geometric.data import Data
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
from trellis.networks.graph.gnn import GCN
from trellis.spec import NodeSpec


class NodeClassification(Objective):
    """Transductive node classification: cross-entropy on the labelled nodes of the whole graph.

    Batch: a PyG ``Data`` with ``x``, ``edge_index``, ``y`` and boolean ``train_mask``,
    ``val_mask``, ``test_mask``. One batch is one optimisation step; a data module that yields the
    graph several times makes that many steps an epoch.

    Args:
        network: from ``(in_channels, out_channels)`` to a module ``(x, edge_index) -> logits``.
        optimizer: from parameters to an optimiser.
        lr_scheduler: from the optimiser to a scheduler, stepped once an epoch.
        spec: sizes of the data; ``None`` asks the data module.
    """

    spec_type = NodeSpec

    def __init__(
        self,
        network: NetworkFactory = GCN,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: NodeSpec | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.save_hyperparameters()
        self.network_factory = network

    def build(self, spec: NodeSpec) -> None:
        self.network = build_network(
            self.network_factory, channels(spec), "x", "edge_index", objective=self
        )

    def metrics(self, spec: NodeSpec) -> Mapping[str, Metric]:
        return classification_metrics(spec.out_channels)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.network(x, edge_index)

    def _labelled(self, graph: Data, split: str) -> tuple[Tensor, Tensor]:
        mask = graph[f"{split}_mask"]
        return self(graph.x, graph.edge_index)[mask], graph.y[mask]

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        loss = cross_entropy(*self._labelled(batch, "train"))
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: Data, stage: Stage) -> None:
        update_classification(self.evaluated(stage), *self._labelled(batch, stage))

    def predict_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Class probabilities of every node, ``[N, out_channels]``."""
        return self(batch.x, batch.edge_index).softmax(-1)
