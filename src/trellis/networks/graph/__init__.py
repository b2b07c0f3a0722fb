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
from trellis.networks.graph.knowledge_graph import RGCN, ComplEx, DistMult, TransE

__all__ = [
    "ComplEx",
    "DistMult",
    "GAT",
    "GCN",
    "GIN",
    "GatedGraphNet",
    "GraphNetwork",
    "GraphSAGE",
    "NodeMLP",
    "RGCN",
    "TransE",
]
