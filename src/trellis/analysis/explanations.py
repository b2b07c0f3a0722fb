"""Pictures of what a prediction rests on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from trellis.analysis.layout import graph_layout
from trellis.analysis.pictures import PALETTE, empty_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def explanation_picture(
    edge_index: Tensor,
    importance: Tensor,
    labels: Sequence[str],
    classes: Tensor,
    title: str = "",
) -> "Figure":
    """A small graph: the more important an edge, the wider; the first node is ringed.

    Args:
        edge_index: ``[2, E]``.
        importance: of each edge, from 0 to 1, ``[E]``.
        labels: what stands beside each node.
        classes: of each node ``[N]``, for its colour.
        title: above.
    Raises:
        ValueError: there are not as many numbers as edges, or not as many labels as nodes.
    """
    if len(importance) != edge_index.size(1) or len(labels) != len(classes):
        raise ValueError(
            f"{len(importance)} importances for {edge_index.size(1)} edges and {len(labels)} "
            f"labels for {len(classes)} nodes: give one for each"
        )
    from matplotlib.collections import LineCollection

    figure = empty_figure(8, 7)
    axes = figure.subplots()
    position = graph_layout(edge_index, len(classes))
    strength = importance.clamp(0, 1).tolist()
    axes.add_collection(
        LineCollection(
            position[edge_index.t()].tolist(),
            linewidths=[0.4 + 4 * each for each in strength],
            colors=[(0, 0, 0, 0.15 + 0.7 * each) for each in strength],
            zorder=1,
        )
    )
    colours = [PALETTE[int(number) % len(PALETTE)] for number in classes]
    rings = ["black", *["none"] * (len(classes) - 1)]
    x, y = position.t().numpy()
    axes.scatter(x, y, s=420, c=colours, edgecolors=rings, linewidths=2, zorder=2)
    for place, label in zip(position.tolist(), labels, strict=True):
        axes.annotate(label, place, ha="center", va="center", fontsize=7, zorder=3)
    axes.set_axis_off()
    axes.set_title(title)
    return figure
