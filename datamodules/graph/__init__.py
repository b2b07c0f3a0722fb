"""Graphs."""

from trellis.datamodules.graph.digits_graph import DigitsGraph
from trellis.datamodules.graph.graph_from_files import GraphFromFiles
from trellis.datamodules.graph.karate_club import KarateClub
from trellis.datamodules.graph.node_walks import NodeWalks
from trellis.datamodules.graph.planetoid import Planetoid
from trellis.datamodules.graph.sampled_nodes import SampledNodes
from trellis.datamodules.graph.tu_dataset import TUDataset

__all__ = [
    "DigitsGraph",
    "GraphFromFiles",
    "KarateClub",
    "NodeWalks",
    "Planetoid",
    "SampledNodes",
    "TUDataset",
]
