"""Perceptrons of tables, in which categories are embedded."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_sizes, check_vectors
from trellis.networks.vector.mlp import MLP
from trellis.signature import options_of


class TableMLP(nn.Module):
    r"""An ``MLP`` of numbers and of embedded categories.

    .. math:: y = \mathrm{MLP}([x_{\mathrm{numbers}}, x_1 E_1, ..., x_K E_K])

    Args:
        in_channels: entries of an example, those of categories included.
        out_channels: number of classes, or of real targets.
        one_hot: start and width of the entries of each category, which a data module of tables
            knows; the others are numbers.
        embed_dim: of each category; ``None`` takes half as many as it has values, rounded up,
            and at most 50.
        hidden_channels: width of each hidden layer.
        options: of ``MLP``.
    Shape:
        x ``[B, in_channels]`` -> ``[B, out_channels]``
    Raises:
        ValueError: a size below 1, groups that overlap or lie outside of x, or an x of another
            width.

    Source: Guo and Berkhahn 2016, section 3.

    >>> network = TableMLP(5, 2, one_hot=[(1, 3)], embed_dim=2, hidden_channels=[4])
    >>> network(torch.tensor([[0.3, 0.0, 1.0, 0.0, -1.2]])).shape
    torch.Size([1, 2])
    """

    @options_of(MLP)
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        one_hot: Sequence[tuple[int, int]] = (),
        embed_dim: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        if embed_dim is not None:
            at_least_one("embed_dim", embed_dim)
        self.in_channels = in_channels
        self.sections = _sections(in_channels, one_hot)
        self.embeddings = nn.ModuleList(
            nn.Linear(width, embed_dim or min((width + 1) // 2, 50), bias=False)
            for width, is_category in self.sections
            if is_category
        )
        width = sum(width for width, is_category in self.sections if not is_category)
        for embedding in self.embeddings:
            assert isinstance(embedding, nn.Linear)
            nn.init.normal_(embedding.weight)  # as nn.Embedding: a row of x picks one vector
            width += embedding.out_features
        self.mlp = MLP(width, out_channels, **options)

    def forward(self, x: Tensor) -> Tensor:
        check_vectors(x, self.in_channels, "TableMLP")
        embeddings = iter(self.embeddings)
        parts = x.split([width for width, _ in self.sections], dim=-1)
        embedded = [
            next(embeddings)(part) if is_category else part
            for part, (_, is_category) in zip(parts, self.sections, strict=True)
        ]
        return self.mlp(torch.cat(embedded, dim=-1))


def _sections(
    in_channels: int, one_hot: Sequence[tuple[int, int]]
) -> tuple[tuple[int, bool], ...]:
    """Width of each section of x, and whether it is a category."""
    sections: list[tuple[int, bool]] = []
    end = 0
    for start, width in sorted(one_hot):
        if start < end or width < 1 or start + width > in_channels:
            raise ValueError(
                f"one_hot={list(one_hot)}: the group ({start}, {width}) overlaps another or lies "
                f"outside of in_channels={in_channels}: give start and width of each"
            )
        if start > end:
            sections.append((start - end, False))
        sections.append((width, True))
        end = start + width
    if end < in_channels:
        sections.append((in_channels - end, False))
    return tuple(sections)
