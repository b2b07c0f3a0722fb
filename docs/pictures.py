"""The picture of a family's results."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from trellis.analysis.pictures import PALETTE, empty_figure
from trellis.lightning_modules.commands.ledger import Row


def results_picture(rows: Sequence[Row], measured: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Runs, mean and published value of each row, in a strip with a scale of its own.

    Args:
        rows: those that were measured.
        measured: measurement of each, by name.
    """
    figure = empty_figure(7, 0.3 + 0.6 * len(rows))
    for row, axes in zip(rows, figure.subplots(len(rows), squeeze=False)[:, 0], strict=True):
        result = measured[row.name]
        runs = [_last(value) for value in result["values"]]
        axes.plot(runs, [0] * len(runs), "o", color=PALETTE[0], alpha=0.5, markersize=5)
        axes.plot([_last(result["mean"])], [0], "|", color=PALETTE[0], markersize=18, mew=2.5)
        if row.published is not None:
            axes.axvline(_last(row.published), color=PALETTE[5], linewidth=1.5)
        axes.margins(x=0.25)
        axes.set_yticks([0], [row.name])
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["left", "right", "top"]].set_visible(False)
    return figure


def _last(value: Any) -> float:
    """A number; of a curve its end."""
    return float(value[-1] if isinstance(value, (list, tuple)) else value)
