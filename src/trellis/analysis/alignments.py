"""Attention weights between two sequences as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from trellis.analysis.pictures import empty_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LABELS = 60  # along an axis; more would overlap
MAX_LETTERS = 20  # of a label
INCHES_PER_TOKEN = 0.28


def alignment_picture(weights: Tensor, source: Sequence[str], target: Sequence[str]) -> Figure:
    """Heat map of attention weights, a row for each target token, a column for each source token.

    Args:
        weights: of the source tokens at the step that produced a target token, in [0, 1].
        source: tokens along the top.
        target: tokens down the side.
    Shape:
        weights ``[T, S]``
    Raises:
        ValueError: the numbers of tokens do not match the shape of the weights, or are 0.

    Source: after Bahdanau et al. 2015, figure 3.
    """
    if tuple(weights.shape) != (len(target), len(source)) or not weights.numel():
        raise ValueError(
            f"weights has shape {tuple(weights.shape)}, expected a row for each of {len(target)} "
            f"target tokens and a column for each of {len(source)} source tokens"
        )
    width, height = (
        min(max(1.8 + INCHES_PER_TOKEN * len(side), 3.2), 16) for side in (source, target)
    )
    figure = empty_figure(width + 0.8, height)
    axes = figure.subplots()
    image = axes.imshow(
        weights.detach().float().cpu().numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto"
    )
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    for axis, tokens in ((axes.xaxis, source), (axes.yaxis, target)):
        every = math.ceil(len(tokens) / MAX_LABELS)
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
    """The beginning of ``token``, with visible white space."""
    return token[:MAX_LETTERS].replace(" ", "\N{OPEN BOX}").replace("\n", "\N{RETURN SYMBOL}")
