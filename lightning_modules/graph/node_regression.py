"""Real numbers for each node of a graph, learned from the nodes whose numbers are known."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch_geometric.data import Data
from torchmetrics import Metric
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError

from trellis.lightning_modules.engine.build_network import (
    register_units,
    require_targets,
)
from trellis.lightning_modules.engine.objective import Objective, Stage
from trellis.lightning_modules.graph.edge_inputs import edge_inputs, given_edges, graph_sizes
from trellis.networks.factory import NetworkFactory
from trellis.networks.graph.gnn import GCN
from trellis.spec import NodeSpec


class NodeValues(NamedTuple):
    """Predicted real targets of all nodes, in their unit, ``[N, out_channels]``."""

    mean: Tensor


class NodeRegression(Objective):
    """Least squares on the nodes of the whole graph whose targets are known.

    Batch: as of ``NodeClassification``, with real targets ``y [N, out_channels]``. Where the spec
    has their means and scales, the network predicts standardised targets; ``rmse`` and ``mae``,
    over all targets, and predictions are in the unit of the data all the same. Predictions are of
    every node.

    Args:
        network: see ``NodeClassification``.
    Raises:
        ValueError: the targets of the data are class labels.
    """

    spec_type = NodeSpec
    monitor = "val/rmse"
    target_mean: Tensor
    target_scale: Tensor

    def __init__(
        self,
        network: NetworkFactory = GCN,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: NodeSpec | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.network_factory = network

    def build(self, spec: NodeSpec) -> None:
        advice = "use NodeClassification, or data with real targets"
        require_targets(spec, "real", "NodeRegression predicts", advice)
        sizes = graph_sizes(spec, self.network_factory)
        self.build_network(sizes, "x", "edge_index", options=edge_inputs(spec))
        register_units(self, spec)

    def metrics(self, spec: NodeSpec) -> Mapping[str, Metric]:
        return {"rmse": MeanSquaredError(squared=False), "mae": MeanAbsoluteError()}

    def _predicted(self, batch: Data) -> Tensor:
        """Standardised predictions ``[N, out_channels]``."""
        return self.network(
            batch.x, batch.edge_index, **given_edges(self.network, batch, self.spec)
        )

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        mask = batch.train_mask
        wanted = (batch.y[mask] - self.target_mean) / self.target_scale
        loss = F.mse_loss(self._predicted(batch)[mask], wanted)
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: Data, stage: Stage) -> None:
        mask = batch[f"{stage}_mask"]
        predicted = self._in_unit(self._predicted(batch)[mask])
        for metric in self.evaluated(stage).values():
            metric.update(predicted.contiguous(), batch.y[mask])

    def predict_step(self, batch: Data, batch_idx: int) -> NodeValues:
        """Targets of all nodes, in their unit."""
        return NodeValues(self._in_unit(self._predicted(batch)))

    def _in_unit(self, standardized: Tensor) -> Tensor:
        return standardized * self.target_scale + self.target_mean
