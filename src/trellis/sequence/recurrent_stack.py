"""Recurrent layers on torch's fused kernels: states are batch first, padding is ignored.

Legend: B sequences, T steps, L layers, D directions (1 or 2), H ``hidden_size``. A state is a
tuple of tensors ``[B, L * D, H]``: ``(h,)``, or ``(h, c)`` of an LSTM. The batch comes first, so
that decoding can select rows of a state as of any other tensor.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from trellis.checks import at_least_one, choose_from, probability

CellName = Literal["elman", "lstm", "gru"]
State = tuple[Tensor, ...]

_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
# Inputs that open (+) or close (-) the gates i, f, g, o and r, z, n whatever their other inputs.
_PADDING_GATES = {"lstm": (-1e4, 1e4, 0.0, 0.0), "gru": (0.0, 1e4, 0.0)}
_KERNELS: dict[str, Callable[..., nn.RNNBase]] = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class RecurrentStack(nn.Module):
    """Stacked recurrent layers, each on the outputs of the one below.

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
        ValueError: a size below 1, a dropout outside [0, 1], or an unknown cell.
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
        self.cell = choose_from("cell", cell, CellName)
        self.hidden_size, self.num_layers = hidden_size, num_layers
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
        """All steps; with ``lengths``, padding after the end of a sequence is ignored."""
        if self.cell == "lstm" and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # On a CPU without AVX-512, torch's LSTM raises an error instead of using bfloat16.
            with torch.autocast("cpu", enabled=False):
                state = None if state is None else tuple(s.float() for s in state)
                return self._run(x.float(), state, lengths)
        return self._run(x, state, lengths)

    def _run(self, x: Tensor, state: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        hidden = None if state is None else tuple(s.transpose(0, 1).contiguous() for s in state)
        if lengths is None:
            outputs, last = self.rnn(x, self._one_or_two(hidden))
        elif hidden is None and self.cell in _PADDING_GATES and not x.is_cuda:
            return self._read_padded(x, lengths)
        else:
            steps = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            outputs, last = self.rnn(steps, self._one_or_two(hidden))
            outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=x.size(1))
        last = last if self.cell == "lstm" else (last,)
        return outputs, tuple(s.transpose(0, 1) for s in last)  # [B, L * D, H]

    def _one_or_two(self, hidden: State | None) -> Any:
        """The state as torch takes it: a tensor, or a pair for an LSTM."""
        return hidden if hidden is None or self.cell == "lstm" else hidden[0]

    def _read_padded(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """The same as packing, which on a CPU has a backward pass quadratic in T.

        An additional input is 1 at padding, where its weights open the gate that keeps a state and
        close the one that writes: steps after the end of a sequence do not change its state.
        """
        padding = (torch.arange(x.size(1), device=x.device) >= lengths.unsqueeze(1)).unsqueeze(2)
        zeros = x.new_zeros((2 if self.rnn.bidirectional else 1), len(x), self.hidden_size)
        start = self._one_or_two((zeros, zeros))
        kernel: Any = torch.lstm if self.cell == "lstm" else torch.gru
        outputs, ends = x.masked_fill(padding, 0), []
        for layer in range(self.num_layers):
            if layer > 0:
                outputs = F.dropout(outputs, self.dropout, self.training)
            inputs = torch.cat((outputs, padding.to(outputs.dtype)), dim=-1)
            # With biases, one layer, no dropout after it, batch first.
            options = (True, 1, 0.0, self.training, self.rnn.bidirectional, True)
            outputs, *end = kernel(inputs, start, self._padding_weights(layer), *options)
            ends.append((self._last(outputs, lengths), *end[1:]))
        last = (torch.cat(part).transpose(0, 1) for part in zip(*ends, strict=True))
        return outputs.masked_fill(padding, 0), tuple(last)

    def _last(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        """Last output of each direction, ``[D, B, H]``: at the last step, or at the first."""
        rows = torch.arange(len(outputs), device=outputs.device)
        forward, *backward = outputs.split(self.hidden_size, dim=-1)
        return torch.stack([forward[rows, lengths - 1], *(x[:, 0] for x in backward)])

    def _padding_weights(self, layer: int) -> list[Tensor]:
        """Weights of a layer, extended by those of the input that is 1 at padding."""
        weights = []
        for direction in ("", "_reverse") if self.rnn.bidirectional else ("",):
            names = (f"{kind}_l{layer}{direction}" for kind in _WEIGHTS)
            first, *others = (self.rnn.get_parameter(name) for name in names)
            gates = first.new_tensor(_PADDING_GATES[self.cell])
            column = gates.repeat_interleave(self.hidden_size).unsqueeze(1)
            weights += [torch.cat((first, column), dim=1), *others]
        return weights

    def project(self, known: Tensor) -> tuple[Tensor, Tensor]:
        """Contribution to the first layer's gates of inputs that are known in advance.

        Args:
            known: the first columns of the inputs, of any number of steps ``[..., known]``.
        Returns:
            Their contribution to the gates ``[..., gates * H]``, bias included, and the matrix
            ``[in_features - known, gates * H]`` to multiply the other inputs with.
        """
        weight, bias = self._weights("ih", 0)
        first, rest = weight.split((known.size(-1), weight.size(1) - known.size(-1)), dim=1)
        gates = F.linear(known, first, bias)
        return gates, rest.t().to(gates.dtype)  # under autocast, cast once and not at each step

    def step(self, gates: Tensor, states: Sequence[State]) -> tuple[Tensor, list[State]]:
        """One step of all layers, for inputs that depend on the previous step; unidirectional.

        Args:
            gates: contribution of the inputs to the first layer's gates, ``[B, gates * H]``.
            states: of each layer, tensors ``[B, H]``.
        Returns:
            Output ``[B, H]`` of the last layer and the states of all layers.
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
