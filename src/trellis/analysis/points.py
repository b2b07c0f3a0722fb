"""Figures of points in the plane: samples, densities, and the image of a grid under a map.

Legend: N points, R rows and columns of a grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trellis.analysis.pictures import PALETTE, empty_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def scatter_picture(x: Tensor, labels: Tensor | None = None) -> Figure:
    """Scatter plot, coloured by label; points that are not finite are counted instead.

    Args:
        x: points.
        labels: of the points; ``None`` draws all in one colour.
    Shape:
        x ``[N, 2]``, labels ``[N]``
    Raises:
        ValueError: x has another shape.
    """
    x = _points("x", x)
    figure = empty_figure(6, 6)
    axes = figure.subplots()
    finite = x.isfinite().all(1)
    colours = [PALETTE[0]] * len(x)
    if labels is not None:
        colours = [PALETTE[int(label) % len(PALETTE)] for label in labels]
    shown = [colour for colour, kept in zip(colours, finite.tolist(), strict=True) if kept]
    _dots(axes, x[finite], shown)
    lost = int((~finite).sum())
    axes.set_title(f"{len(x)} points" + (f", {lost} of them not finite" if lost else ""))
    return figure


def density_picture(
    log_prob: Callable[[Tensor], Tensor], x: Tensor, *, resolution: int = 200
) -> Figure:
    """A density in the plane beside the data it was fitted to.

    Args:
        log_prob: from points ``[N, 2]`` on the CPU to log-densities ``[N]`` in nats.
        x: the data.
        resolution: R, points of the grid along each axis.
    Shape:
        x ``[N, 2]``
    Raises:
        ValueError: x has another shape, or holds no points.
    """
    x = _points("x", x)
    low, high = _window(x)
    grid, area = _grid(low, high, resolution)
    with torch.no_grad():
        density = torch.cat([log_prob(part).cpu() for part in grid.split(10_000)]).exp()
    figure = empty_figure(11, 5.2)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    image = left.imshow(
        density.view(resolution, resolution).T.numpy(),
        origin="lower",
        extent=extent,
        cmap="viridis",
    )
    figure.colorbar(image, ax=left, fraction=0.046, pad=0.03)
    left.set_title(f"density; {float(density.sum() * area):.3f} of it in this window")
    _dots(right, x, PALETTE[0])
    right.set(title=f"{len(x)} points of the data", xlim=extent[:2], ylim=extent[2:])
    return figure


def flow_grid_picture(
    transform: Callable[[Tensor], Tensor], *, reach: float = 3.0, lines: int = 21
) -> Figure:
    """A square grid and its image under a map of the plane.

    Args:
        transform: from points ``[N, 2]`` on the CPU to points ``[N, 2]``.
        reach: the grid covers ``[-reach, reach]`` along both axes.
        lines: number of grid lines along each axis.
    """
    figure = empty_figure(11, 5.2)
    before, after = figure.subplots(1, 2)
    ticks, fine = torch.linspace(-reach, reach, lines), torch.linspace(-reach, reach, 200)
    for colour, turned in ((PALETTE[0], False), (PALETTE[5], True)):
        across = torch.stack(torch.meshgrid(ticks, fine, indexing="ij"), -1)  # [lines, 200, 2]
        across = across.flip(-1) if turned else across
        with torch.no_grad():
            bent = transform(across.flatten(0, 1)).detach().cpu().view_as(across)
        for axes, drawn in ((before, across), (after, bent)):
            for line in drawn:
                axes.plot(*line.T.numpy(), color=colour, linewidth=0.8)
    before.set_title("grid")
    after.set_title("the same, transformed")
    for axes in (before, after):
        axes.set_aspect("equal")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _points(name: str, x: Tensor) -> Tensor:
    if x.dim() != 2 or x.size(1) != 2 or len(x) == 0:
        raise ValueError(f"{name} {list(x.shape)}: give points in the plane, [N, 2]")
    return x.detach().float().cpu()


def _window(x: Tensor) -> tuple[Tensor, Tensor]:
    """Corners of a square around all points, with a margin of a tenth."""
    low, high = x.amin(0), x.amax(0)
    middle, half = (low + high) / 2, (high - low).amax().clamp(min=1e-3) * 0.6
    return middle - half, middle + half


def _grid(low: Tensor, high: Tensor, resolution: int) -> tuple[Tensor, float]:
    """Midpoints ``[R * R, 2]`` of a square's cells, the first axis slowest, and a cell's area."""
    side = (high - low) / resolution
    ticks = (torch.arange(resolution) + 0.5)[:, None] * side + low  # [R, 2]
    first, second = torch.meshgrid(ticks[:, 0], ticks[:, 1], indexing="ij")
    return torch.stack([first, second], -1).flatten(0, 1), float(side.prod())


def _dots(axes: Axes, x: Tensor, colours: str | list[str]) -> None:
    size = min(max(20_000 / max(len(x), 1), 2), 30)
    axes.scatter(x[:, 0].numpy(), x[:, 1].numpy(), s=size, c=colours, alpha=0.6, linewidths=0)
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(False)
