"""Readouts: one vector per graph from the vectors of its nodes.

A batch of graphs is one large graph without edges between its parts; ``batch [N]`` holds the graph
of each node. A readout may extend the graph first; then it reads the embeddings of its nodes.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch_geometric.nn import MaxAggregation, MeanAggregation, SumAggregation
from torch_geometric.nn.aggr import Aggregation

from trellis.checks import check_graph, choose_from

ReadoutName = Literal["sum", "mean", "max", "virtual_node"]

_AGGREGATIONS: dict[str, type[Aggregation]] = {
    "sum": SumAggregation,
    "mean": MeanAggregation,
    "max": MaxAggregation,
}


class Readout(nn.Module, ABC):
    """From the nodes of a batch of graphs to one vector per graph."""

    @abstractmethod
    def extend(
        self, x: Tensor, edge_index: Tensor, batch: Tensor, num_graphs: int
    ) -> tuple[Tensor, Tensor]:
        """The ``x`` and ``edge_index`` to compute node embeddings for."""

    @abstractmethod
    def forward(self, embeddings: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
        """``[B, C]`` from the embeddings ``[N', C]`` of the extended graph."""


class Pooling(Readout):
    """Sum, mean or maximum over the nodes of each graph.

    Sums distinguish multisets of nodes that means and maxima do not.

    Args:
        name: sum, mean or max.

    Source: Xu et al. 2019, section 5.
    """

    def __init__(self, name: Literal["sum", "mean", "max"]) -> None:
        super().__init__()
        self.aggregation = _AGGREGATIONS[name]()

    def extend(
        self, x: Tensor, edge_index: Tensor, batch: Tensor, num_graphs: int
    ) -> tuple[Tensor, Tensor]:
        """Nothing to add."""
        return x, edge_index

    def forward(self, embeddings: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
        return self.aggregation(embeddings, batch, dim_size=num_graphs)


class VirtualNode(Readout):
    """An additional node per graph, linked to all others; its embedding is the readout.

    The new nodes come after the old ones, in the order of their graphs, and have one learned
    feature vector in common.

    Args:
        in_channels: features of a node.

    Source: Gilmer et al. 2017, section 5.2 ("master node"); Columbia COMS4995, "Graph neural
    networks".
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.features = nn.Parameter(torch.empty(in_channels))
        nn.init.normal_(self.features, std=in_channels**-0.5)  # about as long as a one-hot x

    def extend(
        self, x: Tensor, edge_index: Tensor, batch: Tensor, num_graphs: int
    ) -> tuple[Tensor, Tensor]:
        """Append the virtual nodes and their edges."""
        nodes = torch.arange(x.size(0), device=x.device)
        spokes = torch.stack((nodes, x.size(0) + batch))  # [2, N], node to virtual node
        x = torch.cat((x, self.features.expand(num_graphs, -1)))
        return x, torch.cat((edge_index, spokes, spokes.flip(0)), dim=1)

    def forward(self, embeddings: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
        return embeddings[batch.size(0) :]


def readout_module(name: ReadoutName, in_channels: int) -> Readout:
    """The readout of this name.

    Args:
        name: sum, mean, max or virtual_node.
        in_channels: features of a node, and of a virtual node.
    Raises:
        ValueError: an unknown name.
    """
    choose_from("readout", name, ReadoutName)
    return VirtualNode(in_channels) if name == "virtual_node" else Pooling(name)


def check_batch(
    x: Tensor,
    edge_index: Tensor,
    batch: Tensor,
    num_graphs: int | None,
    in_channels: int,
    network: str,
) -> tuple[Tensor, int]:
    """Check the inputs of a network of whole graphs; ``x`` dense, and the number of graphs.

    Args:
        x: features of the nodes, dense or CSR.
        edge_index: from sources to targets.
        batch: the graph of each node.
        num_graphs: how many; ``None`` for the largest entry of ``batch`` plus 1, which waits for
            an accelerator.
        in_channels: of the network.
        network: its name, for the message.
    Raises:
        ValueError: a shape does not fit; names it.
    """
    check_graph(x, edge_index, in_channels, network)
    if batch.shape != x.shape[:1]:
        raise ValueError(f"batch {list(batch.shape)}: give the graph of each node, [N]")
    if num_graphs is None:
        num_graphs = int(batch.max()) + 1
    return x if x.layout == torch.strided else x.to_dense(), num_graphs
