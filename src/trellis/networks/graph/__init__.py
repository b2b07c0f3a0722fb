"""Graph neural networks."""

from trellis.networks.graph.gnn import GAT, GCN, GIN, GatedGraphNet, GraphSAGE, NodeMLP
from trellis.networks.graph.graph_autoencoder import GAE, VGAE
from trellis.networks.graph.graph_network import GraphNetwork
from trellis.networks.graph.knowledge_graph import RGCN, ComplEx, DistMult, TransE
from trellis.networks.graph.link_decoders import BilinearDecoder, InnerProductDecoder, MLPDecoder
from trellis.networks.graph.overlap_score import OverlapScore

__all__ = [
    "BilinearDecoder",
    "ComplEx",
    "DistMult",
    "GAE",
    "GAT",
    "GCN",
    "GIN",
    "GatedGraphNet",
    "GraphNetwork",
    "GraphSAGE",
    "InnerProductDecoder",
    "MLPDecoder",
    "NodeMLP",
    "OverlapScore",
    "RGCN",
    "TransE",
    "VGAE",
]
