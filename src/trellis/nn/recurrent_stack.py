"""Layers of recurrent cells on torch's fused kernels: states batch first, padding left out.

Legend: B sequences, T steps, L layers, D directions (1 or 2), H ``hidden_size``. A state is a
tuple of tensors ``[B, L * D, H]``: ``(h,)``, and ``(h, c)`` of an LSTM. The batch stands first, so
that decoding picks rows of a state like those of any tensor.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

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

    def project(self, known: Tensor) -> tuple[Tensor, Tensor]:
        """What the first layer's gates take from the inputs that are known beforehand.

        Args:
            known: the first columns of the inputs, of any number of steps ``[..., known]``.
        Returns:
            Their share of the gates ``[..., gates * H]``, bias included, and the matrix
            ``[in_features - known, gates * H]`` that the other inputs are multiplied with.
        """
        weight, bias = self._weights("ih", 0)
        first, rest = weight.split((known.size(-1), weight.size(1) - known.size(-1)), dim=1)
        return F.linear(known, first, bias), rest.t()

    def step(self, gates: Tensor, states: Sequence[State]) -> tuple[Tensor, list[State]]:
        """One step of all layers, for inputs that depend on the step before; one direction.

        Args:
            gates: what the first layer's gates take from the inputs, ``[B, gates * H]``.
            states: of each layer, tensors ``[B, H]``.
        Returns:
            Output ``[B, H]`` of the last layer and the states of all.
        """
        after: list[State] = []
        for layer, state in enumerate(states):
            if layer > 0:
                below = F.dropout(after[-1][0], self.dropout, self.training)
                gates = F.linear(below, *self._weights("ih", layer))
            recurrent = F.linear(state[0], *self._weights("hh", layer))
            after.append(_STEPS[self.cell](gates, recurrent, state))
        return after[-1][0], after

    def _weights(self, name: str, layer: int) -> list[Tensor]:
        names = (f"weight_{name}_l{layer}", f"bias_{name}_l{layer}")
        return [self.rnn.get_parameter(name) for name in names]


def _elman(gates: Tensor, recurrent: Tensor, state: State) -> State:
    return ((gates + recurrent).tanh(),)


def _lstm(gates: Tensor, recurrent: Tensor, state: State) -> State:
    i, f, g, o = (gates + recurrent).chunk(4, dim=-1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(gates: Tensor, recurrent: Tensor, state: State) -> State:
    sizes = (2 * state[0].size(-1), state[0].size(-1))
    (known, candidate), (inner, reset_part) = gates.split(sizes, -1), recurrent.split(sizes, -1)
    reset, keep = (known + inner).sigmoid().chunk(2, dim=-1)
    new = (candidate + reset * reset_part).tanh()
    return (new + keep * (state[0] - new),)


_STEPS = {"elman": _elman, "lstm": _lstm, "gru": _gru}
