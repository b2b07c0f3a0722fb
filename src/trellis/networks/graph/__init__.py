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
from trellis.networks.graph.layer_wise import LayerWise
from trellis.networks.graph.weisfeiler_lehman import WeisfeilerLehman

__all__ = [
    "GAT",
    "GCN",
    "GIN",
    "GatedGraphNet",
    "GraphNetwork",
    "GraphSAGE",
    "LayerWise",
    "NodeMLP",
    "WeisfeilerLehman",
]
