"""One class for each graph of a collection."""

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch_geometric.data import Batch

from trellis.lightning_modules.engine.classifier import Classifier, Split
from trellis.lightning_modules.graph.edge_inputs import edge_inputs, graph_sizes
from trellis.lightning_modules.graph.whole_graphs import of_graphs, require_graph_targets
from trellis.networks.factory import NetworkFactory
from trellis.networks.graph.graph_network import GraphNetwork
from trellis.spec import GraphSpec


class GraphClassification(Classifier):
    """Cross-entropy of one label per graph.

    Batch: a PyG ``Batch`` of B graphs with ``x [N, in_channels]``, ``edge_index [2, E]``,
    ``batch [N]`` (the graph of each node) and labels ``y [B]``; ``edge_attr [E, edge_channels]``
    where the spec says so. All graphs have the same weight, however many nodes they have, none
    included.

    Args:
        network: from ``(in_channels, out_channels)`` to a module
            ``(x, edge_index, batch) -> logits [B, out_channels]``; a module that also takes
            ``num_graphs`` is given B, which ``batch`` does not tell where the last graphs have
            no nodes, and one that takes ``edge_attr`` the features of edges where there are some
            (the factory then may take ``edge_channels``, how many).
    Raises:
        ValueError: see ``Classifier``; or the network returns another number of rows than there
            are graphs.
    """

    spec_type = GraphSpec

    def __init__(
        self,
        network: NetworkFactory = GraphNetwork,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: GraphSpec | None = None,
    ) -> None:
        super().__init__(network, optimizer, lr_scheduler, spec)

    def build(self, spec: GraphSpec) -> None:
        require_graph_targets(spec, "labels", "GraphClassification")
        sizes = graph_sizes(spec, self.network_factory)
        self.build_network(sizes, "x", "edge_index", "batch", options=edge_inputs(spec))

    def logits_and_labels(self, batch: Batch, split: Split) -> tuple[Tensor, Tensor]:
        return of_graphs(self.network, batch, self.spec, "GraphClassification"), batch.y
