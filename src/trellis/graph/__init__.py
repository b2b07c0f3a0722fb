"""Building blocks of graph learning: graph construction, layers and readouts."""

from trellis.graph.factorization import factorized, proximity
from trellis.graph.knn import knn_graph
from trellis.graph.layers import GINLayer, NodewiseLinear, SAGELayer
from trellis.graph.neighbours import Neighbours
from trellis.graph.readout import Pooling, Readout, VirtualNode
from trellis.graph.sampling import NeighbourSampler, SampledGraph, drawn_neighbours
from trellis.graph.walks import anonymous_walk_shares, anonymous_walks, random_walks
from trellis.graph.weisfeiler_lehman import subtree_colours

__all__ = [
    "GINLayer",
    "NeighbourSampler",
    "Neighbours",
    "NodewiseLinear",
    "Pooling",
    "Readout",
    "SAGELayer",
    "SampledGraph",
    "VirtualNode",
    "anonymous_walk_shares",
    "anonymous_walks",
    "drawn_neighbours",
    "factorized",
    "knn_graph",
    "proximity",
    "random_walks",
    "subtree_colours",
]
