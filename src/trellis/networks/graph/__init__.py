"""Graph neural networks."""

from trellis.networks.graph.gnn import (
    GAT,
    GCN,
    GIN,
    GatedGraphNet,
    GraphSAGE,
    NodeMLP,
)
from trellis.networks.graph.graph_network import GraphNetwork
from trellis.networks.graph.propagation import APPNP, SGC, LabelPropagation

__all__ = [
    "APPNP",
    "GAT",
    "GCN",
    "GIN",
    "GatedGraphNet",
    "GraphNetwork",
    "GraphSAGE",
    "LabelPropagation",
    "NodeMLP",
    "SGC",
]
