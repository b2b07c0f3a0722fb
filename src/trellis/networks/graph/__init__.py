"""Graph neural networks."""

from trellis.networks.graph.deep_gnn import GCNII, ClassicGNN, ResidualGNN
from trellis.networks.graph.gine import GINE
from trellis.networks.graph.gnn import GAT, GCN, GIN, GatedGraphNet, GraphSAGE, NodeMLP
from trellis.networks.graph.graph_autoencoder import GAE, VGAE
from trellis.networks.graph.graph_network import GraphNetwork
from trellis.networks.graph.graph_transformer import GraphTransformer
from trellis.networks.graph.knowledge_graph import RGCN, ComplEx, DistMult, TransE
from trellis.networks.graph.layer_wise import LayerWise
from trellis.networks.graph.link_decoders import BilinearDecoder, InnerProductDecoder, MLPDecoder
from trellis.networks.graph.overlap_score import OverlapScore
from trellis.networks.graph.pooled_network import SAGPoolNetwork
from trellis.networks.graph.propagation import APPNP, SGC, LabelPropagation
from trellis.networks.graph.spectral import ChebNet
from trellis.networks.graph.weisfeiler_lehman import WeisfeilerLehman

__all__ = [
    "APPNP",
    "BilinearDecoder",
    "ChebNet",
    "ClassicGNN",
    "ComplEx",
    "DistMult",
    "GAE",
    "GAT",
    "GCN",
    "GCNII",
    "GIN",
    "GINE",
    "GatedGraphNet",
    "GraphNetwork",
    "GraphSAGE",
    "GraphTransformer",
    "InnerProductDecoder",
    "LabelPropagation",
    "LayerWise",
    "MLPDecoder",
    "NodeMLP",
    "OverlapScore",
    "RGCN",
    "ResidualGNN",
    "SAGPoolNetwork",
    "SGC",
    "TransE",
    "VGAE",
    "WeisfeilerLehman",
]
