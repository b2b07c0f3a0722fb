"""Graph neural networks."""

from trellis.networks.graph.gnn import (
    GAT,
    GCN,
    GIN,
    GatedGraphNet,
    GraphSAGE,
    NodeMLP,
)
from trellis.networks.graph.graph_autoencoder import GAE, VGAE
from trellis.networks.graph.graph_network import GraphNetwork
from trellis.networks.graph.link_decoders import (
    BilinearDecoder,
    InnerProductDecoder,
    MLPDecoder,
)
from trellis.networks.graph.overlap_score import OverlapScore

__all__ = [
    "GAE",
    "GAT",
    "GCN",
    "GIN",
    "VGAE",
    "BilinearDecoder",
    "GatedGraphNet",
    "GraphNetwork",
    "GraphSAGE",
    "InnerProductDecoder",
    "MLPDecoder",
    "NodeMLP",
    "OverlapScore",
]
