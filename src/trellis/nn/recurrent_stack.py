"""Layers of recurrent cells on torch's fused kernels: states batch first, padding left out.

Legend: B sequences, T steps, L layers, D directions (1 or 2), H ``hidden_size``. A state is a
tuple of tensors ``[B, L * D, H]``: ``(h,)``, and ``(h, c)`` of an LSTM. The batch stands first, so
that decoding picks rows of a state like those of any tensor.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from trellis.nn.checks import at_least_one, probability

CellName = Literal["elman", "lstm", "gru"]
State = tuple[Tensor, ...]

_KERNELS: dict[str, Callable[..., nn.RNNBase]] = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class RecurrentStack(nn.Module):
    """Recurrent layers, each reading the outputs of the one below.

    Args:
        in_features: width of the inputs.
        hidden_size: width H of a state, in each direction.
        cell: elman (tanh), lstm or gru, in torch's conventions.
        num_layers: L.
        dropout: probability between layers.
        bidirectional: a second stack reads backwards; outputs are ``[forward, backward]``.
    Shape:
        x ``[B, T, in_features]``, state of ``[B, L * D, H]``, lengths ``[B]`` ->
        outputs ``[B, T, D * H]`` of the last layer, state after each sequence's last step
    Raises:
        ValueError: a size below 1, a dropout that is no probability, an unknown cell.
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        *,
        cell: CellName = "lstm",
        num_layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        at_least_one("hidden_size", hidden_size)
        at_least_one("num_layers", num_layers)
        probability("dropout", dropout)
        if cell not in _KERNELS:
            raise ValueError(f"cell={cell!r}: choose from {', '.join(get_args(CellName))}")
        self.cell, self.hidden_size, self.num_layers = cell, hidden_size, num_layers
        self.dropout = dropout
        self.rnn = _KERNELS[cell](
            in_features,
            hidden_size,
            num_layers,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,  # torch warns of one that does nothing
            bidirectional=bidirectional,
        )
        self.out_features = hidden_size * (2 if bidirectional else 1)

    def forward(
        self, x: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """All steps; with ``lengths``, what stands behind a sequence's end is never read."""
        hidden = None if state is None else tuple(s.transpose(0, 1).contiguous() for s in state)
        packed = hidden if hidden is None or self.cell == "lstm" else hidden[0]
        if lengths is None:
            outputs, last = self.rnn(x, packed)
        else:
            steps = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            outputs, last = self.rnn(steps, packed)
            outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=x.size(1))
        last = last if self.cell == "lstm" else (last,)
        return outputs, tuple(s.transpose(0, 1) for s in last)  # [B, L * D, H]

    def project(self, x: Tensor) -> Tensor:
        """The first columns of the first layer's input-to-hidden map, bias included.

        What ``step`` needs of the part of the inputs that is known beforehand, for all steps in
        one product: ``[..., in_features - rest] -> [..., gates * H]``.
        """
        weight, bias = (self.rnn.get_parameter(name) for name in ("weight_ih_l0", "bias_ih_l0"))
        return F.linear(x, weight[:, : x.size(-1)], bias)

    def step(
        self, projected: Tensor, rest: Tensor, states: Sequence[State]
    ) -> tuple[Tensor, list[State]]:
        """One step of a stack of one direction, some of whose inputs were projected beforehand.

        Args:
            projected: ``project`` of the known part of the inputs, ``[B, gates * H]``.
            rest: the other part, ``[B, rest]``.
            states: of each layer, tensors ``[B, H]``.
        Returns:
            Output ``[B, H]`` of the last layer and the states of all.
        """
        weight = self.rnn.get_parameter("weight_ih_l0")[:, -rest.size(-1) :]
        gates = torch.addmm(projected, rest, weight.t())
        after: list[State] = []
        for layer, state in enumerate(states):
            if layer > 0:
                below = F.dropout(after[-1][0], self.dropout, self.training)
                gates = self._linear("ih", layer, below)
            recurrent = self._linear("hh", layer, state[0])
            after.append(_STEPS[self.cell](gates, recurrent, state))
        return after[-1][0], after

    def _linear(self, name: str, layer: int, x: Tensor) -> Tensor:
        weight, bias = (self.rnn.get_parameter(f"{k}_{name}_l{layer}") for k in ("weight", "bias"))
        return F.linear(x, weight, bias)


def _elman(gates: Tensor, recurrent: Tensor, state: State) -> State:
    return ((gates + recurrent).tanh(),)


def _lstm(gates: Tensor, recurrent: Tensor, state: State) -> State:
    i, f, g, o = (gates + recurrent).chunk(4, dim=-1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(gates: Tensor, recurrent: Tensor, state: State) -> State:
    size = state[0].size(-1)
    known, candidate = gates.split((2 * size, size), dim=-1)
    reset_keep, inner = recurrent.split((2 * size, size), dim=-1)
    reset, keep = (known + reset_keep).sigmoid().chunk(2, dim=-1)
    new = torch.addcmul(candidate, reset, inner).tanh()
    return (torch.lerp(new, state[0], keep),)


_STEPS = {"elman": _elman, "lstm": _lstm, "gru": _gru}
