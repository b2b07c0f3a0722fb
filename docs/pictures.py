"""The picture of a family's results."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trellis.analysis.pictures import PALETTE, empty_figure
from trellis.lightning_modules.commands.ledger import Row


def results_picture(rows: Sequence[Row], measured: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Runs, mean, published value and tolerance of each row, in a strip with its own scale.

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
        _shade(axes, row)
        axes.set_yticks([0], [_title(row)])
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["left", "right", "top"]].set_visible(False)
    return figure


def _shade(axes: Axes, row: Row) -> None:
    """Shade what holds; a tolerance without an end goes on to that of the axis."""
    low, high = _last(row.at_least), _last(row.at_most)
    if row.published is not None:
        low = max(low, _last(row.published) - _last(row.within))
        high = min(high, _last(row.published) + _last(row.within))
    for bound in filter(math.isfinite, (low, high)):
        axes.axvline(bound, color=PALETTE[2], linewidth=0.5, alpha=0.5)
    left, right = axes.get_xlim()
    if math.isfinite(low) or math.isfinite(high):
        axes.axvspan(max(low, left), min(high, right), color=PALETTE[2], alpha=0.12, zorder=0)
    axes.set_xlim(left, right)


def _title(row: Row) -> str:
    """Its name, with the metric that is shown where it has several."""
    *others, shown = row.metric.split()
    return f"{row.name}\n{shown}" if others else row.name


def _last(value: Any) -> float:
    """A number; of a curve, or of several metrics, the last."""
    return float(value[-1] if isinstance(value, (list, tuple)) else value)
