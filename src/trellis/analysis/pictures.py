"""Figures of results, in matplotlib; no function opens a window or writes a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trellis.analysis.layout import graph_layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito 2008: distinguishable with all kinds of colour vision.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P")  # a further shape for every eight classes
SPLITS = {"train": "#0072B2", "val": "#D55E00", "test": "#009E73"}


def confusion_matrix(counts: Tensor, classes: Sequence[str] = ()) -> Figure:
    """Counts of predicted classes for each true class, shaded by their share of the true class.

    Args:
        counts: examples of class i (row) predicted as class j (column).
        classes: names; the numbers of the classes if empty.
    Shape:
        counts ``[C, C]``
    Raises:
        ValueError: counts are not square, or the number of names differs.
    """
    if counts.dim() != 2 or counts.size(0) != counts.size(1):
        raise ValueError(f"counts has shape {tuple(counts.shape)}, expected [C, C]")
    names = _names(classes, len(counts), "counts")
    counts = counts.detach().cpu()
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    side = min(max(3.0 + 0.55 * len(names), 4.5), 16)
    figure = empty_figure(side + 0.8, side)
    axes = figure.subplots()
    image = axes.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    every = math.ceil(len(names) / 40)  # at most 40 tick labels
    ticks = range(0, len(names), every)
    axes.set_yticks(ticks, names[::every])
    axes.set_xticks(ticks, names[::every])
    if max(map(len, names)) > 3:
        axes.tick_params(axis="x", rotation=45)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(names) <= 20:
        _write_counts(axes, counts, share)
    total, right = int(counts.sum()), int(counts.diagonal().sum())
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{right} of {total} right ({right / max(total, 1):.1%})")
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046, pad=0.03)
    return figure


def _write_counts(axes: Axes, counts: Tensor, share: Tensor) -> None:
    for row, column in counts.nonzero().tolist():
        axes.text(
            column,
            row,
            f"{int(counts[row, column])}",
            ha="center",
            va="center",
            color="white" if share[row, column] > 0.5 else "black",
        )


def graph_picture(
    edge_index: Tensor,
    predictions: Tensor,
    labels: Tensor | None = None,
    *,
    position: Tensor | None = None,
    classes: Sequence[str] = (),
) -> Figure:
    """A graph with its nodes coloured by predicted class; wrong ones have a black ring.

    Args:
        edge_index: edges.
        predictions: predicted class of each node.
        labels: true classes; negative where unknown. ``None``: all are unknown.
        position: of the nodes; ``None`` uses ``graph_layout``.
        classes: names; the numbers of the classes if empty.
    Shape:
        edge_index ``[2, E]``, predictions and labels ``[N]``, position ``[N, 2]``
    Raises:
        ValueError: shapes differ, or there are fewer names than classes.
    """
    if predictions.dim() != 1:
        raise ValueError(f"predictions has shape {tuple(predictions.shape)}, expected [N]")
    for name, value in (("labels", labels), ("position", position)):
        if value is not None and len(value) != len(predictions):
            raise ValueError(f"{name} is for {len(value)} nodes, predictions for "
                             f"{len(predictions)}")  # fmt: skip
    edge_index, predictions = edge_index.detach().cpu(), predictions.detach().cpu()
    if position is None:
        position = graph_layout(edge_index, len(predictions))
    position = position.detach().cpu()
    highest = max(int(predictions.max()) + 1, len(classes))
    names = _names(classes, highest, "predictions")
    labels = torch.full_like(predictions, -1) if labels is None else labels.detach().cpu()
    wrong = (labels >= 0) & (labels != predictions)
    figure = empty_figure(9.5, 7)
    axes = figure.subplots()
    _draw_edges(axes, position, edge_index)
    size = min(max(25_000 / len(predictions), 10), 200)
    _draw_nodes(axes, position, predictions, wrong, names, size)
    axes.set_axis_off()
    axes.set_aspect("equal")
    known = int((labels >= 0).sum())
    right = known - int(wrong.sum())
    title = f"{len(predictions)} nodes, coloured by predicted class"
    if known:
        title += f"; {right} of {known} correct ({right / known:.1%})"
    axes.set_title(title)
    figure.legend(
        loc="outside right center", frameon=False, markerscale=max((40 / size) ** 0.5, 1)
    )
    return figure


def _draw_edges(axes: Axes, position: Tensor, edge_index: Tensor) -> None:
    from matplotlib.collections import LineCollection

    once = torch.unique(edge_index.sort(0).values, dim=1)  # not in both directions
    width = 0.8 if once.size(1) < 500 else 0.35
    lines = position[once.T].tolist()  # [E, 2, 2]
    axes.add_collection(LineCollection(lines, colors="#00000038", linewidths=width, zorder=1))


def _draw_nodes(
    axes: Axes, position: Tensor, predictions: Tensor, wrong: Tensor, names: list[str], size: float
) -> None:
    for index, name in enumerate(names):
        chosen = predictions == index
        style: dict[str, Any] = {
            "s": size,
            "marker": MARKERS[index // len(PALETTE) % len(MARKERS)],
            "color": PALETTE[index % len(PALETTE)],
        }
        right = position[chosen & ~wrong]
        axes.scatter(*right.T.numpy(), **style, linewidths=0, zorder=2, label=name)
        ringed = position[chosen & wrong]
        axes.scatter(*ringed.T.numpy(), **style, edgecolors="black", linewidths=0.7, zorder=3)
    if wrong.any():
        axes.scatter([], [], s=size, facecolors="none", edgecolors="black", linewidths=1,
                     label=f"wrong ({int(wrong.sum())})")  # fmt: skip


def learning_curves(rows: Iterable[Mapping[str, Any]]) -> Figure:
    """The metrics of a run over its steps: a panel for each metric, a line for each split.

    Those of an agent are drawn over environment steps if ``train/env_steps`` was logged at least
    twice; between two of its values it is interpolated linearly.

    Args:
        rows: of ``metrics.csv``: ``step`` and values named ``SPLIT/METRIC``; a value may be
            missing or empty. A value logged once is drawn as a point.
    Raises:
        ValueError: no row holds a value.
    """
    panels = _series(rows)
    known = sorted(panels.pop("env_steps", {}).get("train", []))
    if not panels:
        raise ValueError("there is no metric to draw: no row has a step and a value")
    columns = min(len(panels), 3)
    lines = math.ceil(len(panels) / columns)
    figure = empty_figure(4.2 * columns + 0.4, 3.1 * lines + 0.3)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True).flatten()
    for axes, (metric, splits) in zip(grid, panels.items(), strict=False):
        for split in sorted(splits, key=lambda name: [*SPLITS, name].index(name)):
            steps, values = zip(*splits[split], strict=True)
            axes.plot(
                np.interp(steps, *np.array(known).T) if len(known) > 1 else steps,
                values,
                label=f"{split} {values[-1]:.4g}" if split else f"{values[-1]:.4g}",
                color=SPLITS.get(split, "#000000"),
                linewidth=1.5,
                marker="D" if len(values) == 1 else None,
            )
        axes.set_title(metric.replace("_", " "))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, title="last value", alignment="left")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes in grid[max(len(panels) - columns, 0) : len(panels)]:
        axes.set_xlabel("step of the environments" if len(known) > 1 else "step")
        axes.tick_params(labelbottom=True)
    return figure


def _series(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Points ``(step, value)`` by metric and split."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        if row.get("step") in (None, ""):
            continue
        for key, value in row.items():
            if key in ("step", "epoch") or value in (None, ""):
                continue
            split, _, metric = key.rpartition("/") if key.count("/") == 1 else ("", "", key)
            point = (float(row["step"]), float(value))
            panels.setdefault(metric, {}).setdefault(split, []).append(point)
    return dict(sorted(panels.items(), key=lambda item: (item[0] != "loss", item[0])))


def _names(classes: Sequence[str], number: int, what: str) -> list[str]:
    if classes and len(classes) != number:
        raise ValueError(f"classes has {len(classes)} names, but {what} has {number} classes")
    return list(classes) or [str(index) for index in range(number)]


def empty_figure(width: float, height: float) -> Figure:
    """An empty figure without a window.

    Raises:
        ImportError: matplotlib is missing; says how to install it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "figures need matplotlib: pip install 'torch-trellis[viz]'", name="matplotlib"
        ) from error
    return Figure(figsize=(width, height), dpi=120, layout="constrained")
