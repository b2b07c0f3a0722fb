"""Where a network looked while it wrote: attention as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from trellis.analysis.pictures import empty_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = 60  # along an axis; more would overlap
LETTERS = 20  # of a name
INCHES = 0.28  # of a token


def alignment_picture(weights: Tensor, source: Sequence[str], target: Sequence[str]) -> Figure:
    """Attention weights, a row for each token written, a column for each token read.

    Args:
        weights: of the source tokens when a target token was written, shaded from 0 to 1.
        source: tokens read, along the top.
        target: tokens written, down the side.
    Shape:
        weights ``[T, S]``
    Raises:
        ValueError: the weights have another shape than the tokens, or there are none.

    Source: after Bahdanau et al. 2015, figure 3.
    """
    if tuple(weights.shape) != (len(target), len(source)) or not weights.numel():
        raise ValueError(
            f"weights has shape {tuple(weights.shape)}, expected a row for each of {len(target)} "
            f"target tokens and a column for each of {len(source)} source tokens"
        )
    width, height = (min(max(1.8 + INCHES * len(side), 3.2), 16) for side in (source, target))
    figure = empty_figure(width + 0.8, height)
    axes = figure.subplots()
    image = axes.imshow(
        weights.detach().float().cpu().numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto"
    )
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    for axis, tokens in ((axes.xaxis, source), (axes.yaxis, target)):
        every = math.ceil(len(tokens) / NAMES)
        names = [_visible(token) for token in tokens[::every]]
        axis.set_ticks(range(0, len(tokens), every), names, parse_math=False)
    if max(map(len, source)) > 2:
        axes.tick_params(axis="x", rotation=90)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="source", ylabel="target")
    figure.colorbar(image, ax=axes, label="attention", fraction=0.046, pad=0.03)
    return figure


def _visible(token: str) -> str:
    """The beginning of ``token``, with blanks that can be seen."""
    return token[:LETTERS].replace(" ", "\N{OPEN BOX}").replace("\n", "\N{RETURN SYMBOL}")
