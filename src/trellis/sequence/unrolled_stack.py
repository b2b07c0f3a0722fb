"""Layers of cells that torch has no kernel for, one step after the other."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one, choose_from, probability
from trellis.sequence.recurrent_cells import (
    MUT1,
    MUT2,
    MUT3,
    GatedCell,
    OutputRecurrentCell,
    RecurrentCell,
    State,
    unroll,
)

UnrolledName = Literal["gru_before", "output", "mut1", "mut2", "mut3"]
_CELLS: dict[str, Callable[[int, int], RecurrentCell]] = {
    "gru_before": partial(GatedCell, reset="before", update="replaces"),
    "output": OutputRecurrentCell,
    "mut1": MUT1,
    "mut2": MUT2,
    "mut3": MUT3,
}


class UnrolledStack(nn.Module):
    """Stacked recurrent layers of readable cells; ``RecurrentStack`` has those of torch.

    Args:
        in_features: width of the inputs.
        hidden_size: width H of a state.
        cell: ``gru_before`` resets the state before its linear map, as in the paper; ``output`` is
            Jordan's; ``mut1`` and ``mut2`` need ``in_features`` equal to ``hidden_size``.
        num_layers: L.
        dropout: probability between layers.
    Shape:
        x ``[B, T, in_features]``, state of ``[B, L, H]`` or None -> outputs ``[B, T, H]`` of the
        last layer, state
    Raises:
        ValueError: a size below 1, a dropout outside [0, 1], an unknown cell, or unequal widths
            of one that needs equal ones.

    >>> outputs, state = UnrolledStack(3, 4, cell="mut3", num_layers=2)(torch.ones(2, 5, 3))
    >>> outputs.shape, [part.shape for part in state]
    (torch.Size([2, 5, 4]), [torch.Size([2, 2, 4])])
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        *,
        cell: UnrolledName,
        num_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        build = _CELLS[choose_from("cell", cell, UnrolledName)]
        at_least_one("num_layers", num_layers)
        self.dropout = probability("dropout", dropout)
        self.out_features = hidden_size
        self.cells = nn.ModuleList(
            build(in_features if layer == 0 else hidden_size, hidden_size)
            for layer in range(num_layers)
        )

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        ends = []
        for layer, cell in enumerate(self.cells):
            if layer > 0:
                x = F.dropout(x, self.dropout, self.training)
            begun = None if state is None else tuple(part[:, layer] for part in state)
            x, end = unroll(cell, x, begun)  # type: ignore[arg-type]
            ends.append(end)
        return x, tuple(torch.stack(parts, 1) for parts in zip(*ends, strict=True))
