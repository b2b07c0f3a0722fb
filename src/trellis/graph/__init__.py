"""Building blocks of graph learning: graph construction, layers and readouts."""

from trellis.graph.knn import knn_graph
from trellis.graph.layers import GINLayer, NodewiseLinear, SAGELayer
from trellis.graph.readout import Pooling, Readout, VirtualNode
from trellis.graph.relational import RelationalLayer
from trellis.graph.triples import KnownAnswers, Questions, ranks

__all__ = [
    "GINLayer",
    "KnownAnswers",
    "NodewiseLinear",
    "Pooling",
    "Questions",
    "Readout",
    "RelationalLayer",
    "SAGELayer",
    "VirtualNode",
    "knn_graph",
    "ranks",
]
