"""Graph construction, graph layers and readouts."""

from trellis.graph.layers import MeanAndSelf, NodewiseLinear, SumAndSelf
from trellis.graph.neighbours import neighbour_graph
from trellis.graph.readout import Pooling, Readout, VirtualNode

__all__ = [
    "MeanAndSelf",
    "NodewiseLinear",
    "Pooling",
    "Readout",
    "SumAndSelf",
    "VirtualNode",
    "neighbour_graph",
]
