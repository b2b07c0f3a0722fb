"""Graphs."""

from trellis.datamodules.graph.amazon import Amazon
from trellis.datamodules.graph.digits_graph import DigitsGraph
from trellis.datamodules.graph.edge_split import EdgeSplit
from trellis.datamodules.graph.gin_dataset import GINDataset
from trellis.datamodules.graph.graph_from_files import GraphFromFiles
from trellis.datamodules.graph.heterophilous_graph import HeterophilousGraph
from trellis.datamodules.graph.karate_club import KarateClub
from trellis.datamodules.graph.knn_graph import KNNGraph
from trellis.datamodules.graph.knowledge_graph import KnowledgeGraph, KnowledgeGraphFromFiles
from trellis.datamodules.graph.molecules import MoleculeNet, MoleculesFromFile
from trellis.datamodules.graph.node_walks import NodeWalks
from trellis.datamodules.graph.planetoid import Planetoid
from trellis.datamodules.graph.sampled_nodes import SampledNodes
from trellis.datamodules.graph.tu_dataset import TUDataset

__all__ = [
    "Amazon",
    "DigitsGraph",
    "EdgeSplit",
    "GINDataset",
    "GraphFromFiles",
    "HeterophilousGraph",
    "KNNGraph",
    "KarateClub",
    "KnowledgeGraph",
    "KnowledgeGraphFromFiles",
    "MoleculeNet",
    "MoleculesFromFile",
    "NodeWalks",
    "Planetoid",
    "SampledNodes",
    "TUDataset",
]
