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

__all__ = [
    "GAT",
    "GCN",
    "GIN",
    "GatedGraphNet",
    "GraphNetwork",
    "GraphSAGE",
    "NodeMLP",
]
