"""One class for each node of a graph, learned from the nodes that are labelled."""

from collections.abc import Mapping

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch_geometric.data import Data
from torchmetrics import Metric

from trellis.lightning_modules.engine.build_network import require_targets
from trellis.lightning_modules.engine.classifier import Classifier, Split
from trellis.lightning_modules.engine.evaluation import AUC
from trellis.lightning_modules.graph.edge_inputs import edge_inputs, given_edges, graph_sizes
from trellis.networks.factory import NetworkFactory
from trellis.networks.graph.gnn import GCN
from trellis.spec import NodeSpec


class NodeClassification(Classifier):
    """Transductive node classification: cross-entropy on the labelled nodes of the whole graph.

    Batch: a PyG ``Data`` with ``x``, ``edge_index``, ``y`` and boolean ``train_mask``,
    ``val_mask``, ``test_mask``. One batch is one optimisation step; a data module that yields the
    graph several times makes that many steps an epoch. Predictions are of every node. Data of two
    classes are rated by the area under the ROC curve, too: ``val/auc``, ``test/auc``.

    A step reads which nodes are labelled, and so waits for an accelerator: a loss over all nodes
    takes three times as long on a CPU.

    Args:
        network: from ``(in_channels, out_channels)`` to a module ``(x, edge_index) -> logits``,
            which is also given ``edge_weight`` where the spec says that there are weights, and
            must take it, and ``edge_attr`` where there are features of edges, if it takes that
            (the factory then may take ``edge_channels``, how many).
    """

    spec_type = NodeSpec

    def __init__(
        self,
        network: NetworkFactory = GCN,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: NodeSpec | None = None,
    ) -> None:
        super().__init__(network, optimizer, lr_scheduler, spec)

    def build(self, spec: NodeSpec) -> None:
        advice = "use NodeRegression, or data with class labels"
        require_targets(spec, "labels", "NodeClassification predicts", advice)
        sizes = graph_sizes(spec, self.network_factory)
        self.build_network(sizes, "x", "edge_index", options=edge_inputs(spec))

    def metrics(self, spec: NodeSpec) -> Mapping[str, Metric]:
        """Those of ``Classifier``, and the area under the ROC curve of two classes."""
        auc = {"auc": AUC()} if spec.out_channels == 2 else {}
        return {**super().metrics(spec), **auc}

    def logits_and_labels(self, batch: Data, split: Split) -> tuple[Tensor, Tensor]:
        edges = given_edges(self.network, batch, self.spec)
        logits, y = self(batch.x, batch.edge_index, **edges), batch.y
        if split == "predict":
            return logits, y
        mask = batch[f"{split}_mask"]
        return logits[mask], y[mask]
