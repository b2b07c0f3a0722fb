"""Figures of data and of trained networks: tensors in, matplotlib figures out."""

from trellis.analysis.alignments import alignment_picture
from trellis.analysis.images import image_grid, image_picture
from trellis.analysis.layout import graph_layout
from trellis.analysis.pictures import confusion_matrix, graph_picture, learning_curves
from trellis.analysis.points import density_picture, flow_grid_picture, scatter_picture
from trellis.analysis.searches import Tried, search_picture

__all__ = [
    "Tried",
    "alignment_picture",
    "confusion_matrix",
    "density_picture",
    "flow_grid_picture",
    "graph_layout",
    "graph_picture",
    "image_grid",
    "image_picture",
    "learning_curves",
    "scatter_picture",
    "search_picture",
]
