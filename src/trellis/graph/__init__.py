"""Graphs outside any network: how they are built, layers and readouts."""

from trellis.graph.layers import Alone, MeanAndSelf, SumAndSelf
from trellis.graph.neighbours import neighbour_graph
from trellis.graph.readout import Pooling, Readout, VirtualNode

__all__ = [
    "Alone",
    "MeanAndSelf",
    "Pooling",
    "Readout",
    "SumAndSelf",
    "VirtualNode",
    "neighbour_graph",
]
