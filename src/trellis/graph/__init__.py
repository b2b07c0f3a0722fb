"""Building blocks of graph learning: graph construction, layers and readouts."""

from trellis.graph.adjacency import edges_for, normalized_adjacency
from trellis.graph.factorization import factorized, proximity
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
from trellis.graph.neighbours import Neighbours
from trellis.graph.overlap import overlap_scores
from trellis.graph.readout import Pooling, Readout, VirtualNode
from trellis.graph.relational import RelationalLayer
from trellis.graph.sampling import NeighbourSampler, SampledGraph, drawn_neighbours
from trellis.graph.triples import KnownAnswers, Questions, ranks
from trellis.graph.walks import (
    anonymous_walk_kinds,
    anonymous_walk_shares,
    anonymous_walks,
    random_walks,
)
from trellis.graph.weisfeiler_lehman import subtree_colours

__all__ = [
    "GINLayer",
    "KnownAnswers",
    "NeighbourSampler",
    "Neighbours",
    "NodewiseLinear",
    "NonLinks",
    "Pooling",
    "Questions",
    "Readout",
    "RelationalLayer",
    "SAGELayer",
    "SampledGraph",
    "VirtualNode",
    "all_pairs_loss",
    "anonymous_walk_kinds",
    "anonymous_walk_shares",
    "anonymous_walks",
    "drawn_neighbours",
    "factorized",
    "knn_graph",
    "link_loss",
    "edges_for",
    "normalized_adjacency",
    "num_pairs",
    "numbered_pairs",
    "overlap_scores",
    "pair_numbers",
    "proximity",
    "random_walks",
    "ranks",
    "subtree_colours",
    "unique_links",
]
