"""Building blocks of graph learning: graph construction, layers and readouts."""

from trellis.graph.adjacency import normalized_adjacency
from trellis.graph.knn import knn_graph
from trellis.graph.layers import GINLayer, NodewiseLinear, SAGELayer
from trellis.graph.links import (
    NonLinks,
    all_pairs_loss,
    link_loss,
    num_pairs,
    numbered_pairs,
    pair_numbers,
    unique_links,
)
from trellis.graph.overlap import overlap_scores
from trellis.graph.readout import Pooling, Readout, VirtualNode
from trellis.graph.relational import RelationalLayer
from trellis.graph.triples import KnownAnswers, Questions, ranks

__all__ = [
    "GINLayer",
    "KnownAnswers",
    "NodewiseLinear",
    "NonLinks",
    "Pooling",
    "Questions",
    "Readout",
    "RelationalLayer",
    "SAGELayer",
    "VirtualNode",
    "all_pairs_loss",
    "knn_graph",
    "link_loss",
    "normalized_adjacency",
    "num_pairs",
    "numbered_pairs",
    "overlap_scores",
    "pair_numbers",
    "ranks",
    "unique_links",
]
