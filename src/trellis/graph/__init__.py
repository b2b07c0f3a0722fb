"""Building blocks of graph learning: graph construction, layers and readouts."""

from trellis.graph.adjacency import normalized_adjacency
from trellis.graph.knn import knn_graph
from trellis.graph.layers import GINLayer, NodewiseLinear, SAGELayer
from trellis.graph.readout import Pooling, Readout, VirtualNode

__all__ = [
    "GINLayer",
    "NodewiseLinear",
    "Pooling",
    "Readout",
    "SAGELayer",
    "VirtualNode",
    "knn_graph",
    "normalized_adjacency",
]
