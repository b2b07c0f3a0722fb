"""Graph neural networks."""

from trellis.networks.graph.deep_gnn import GCNII, ClassicGNN, ResidualGNN
from trellis.networks.graph.gnn import (
    GAT,
    GCN,
    GIN,
    GatedGraphNet,
    GraphSAGE,
    NodeMLP,
)
from trellis.networks.graph.graph_network import GraphNetwork
from trellis.networks.graph.graph_transformer import GraphTransformer
from trellis.networks.graph.pooled_network import SAGPoolNetwork
from trellis.networks.graph.propagation import APPNP, SGC, LabelPropagation
from trellis.networks.graph.spectral import ChebNet

__all__ = [
    "APPNP",
    "ChebNet",
    "ClassicGNN",
    "GAT",
    "GCN",
    "GCNII",
    "GIN",
    "GatedGraphNet",
    "GraphNetwork",
    "GraphSAGE",
    "GraphTransformer",
    "LabelPropagation",
    "NodeMLP",
    "ResidualGNN",
    "SAGPoolNetwork",
    "SGC",
]
