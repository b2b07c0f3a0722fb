"""Classes for the nodes of one graph, learned from the few that are labelled."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch_geometric.data import Data
from torchmetrics import Metric
from torchmetrics.aggregation import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from trellis.lightning_modules.base import NetworkFactory, Objective, fitting
from trellis.networks.gnn import GCN
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
        network = self.network_factory(
            in_channels=spec.in_channels, out_channels=spec.out_channels
        )
        self.network = fitting(network, "x", "edge_index", objective=self)

    def metrics(self, spec: NodeSpec) -> Mapping[str, Metric]:
        return {
            "loss": MeanMetric(),
            "accuracy": MulticlassAccuracy(
                spec.out_channels, average="micro", validate_args=False
            ),
        }

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.network(x, edge_index)

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        mask = batch.train_mask
        loss = F.cross_entropy(self(batch.x, batch.edge_index)[mask], batch.y[mask])
        self.log_train(loss=loss)
        return loss

    def _evaluate(self, batch: Data, stage: Literal["val", "test"]) -> None:
        mask = batch[f"{stage}_mask"]
        logits, y = self(batch.x, batch.edge_index)[mask], batch.y[mask]
        metrics = self.evaluated(stage)
        metrics["loss"].update(F.cross_entropy(logits, y), weight=len(y))
        metrics["accuracy"].update(logits, y)

    def validation_step(self, batch: Data, batch_idx: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: Data, batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def predict_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Class probabilities of every node, ``[N, out_channels]``."""
        return self(batch.x, batch.edge_index).softmax(-1)
