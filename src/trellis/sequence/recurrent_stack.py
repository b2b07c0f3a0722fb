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

from trellis.checks import at_least_one, choose_from, probability
from trellis.torch_private import scan

CellName = Literal["elman", "lstm", "gru"]
State = tuple[Tensor, ...]

_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
# Inputs that open (+) or close (-) the gates i, f, g, o and r, z, n whatever their other inputs.
_PADDING_GATES = {"lstm": (-1e4, 1e4, 0.0, 0.0), "gru": (0.0, 1e4, 0.0)}
_LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


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
        layers = _LAYERS[cell](in_features, hidden_size, num_layers, bidirectional=bidirectional)
        # Their parameters alone: torch.compile makes no graph of what belongs to such a module.
        self.rnn = nn.Module()
        for name, parameter in layers.named_parameters():
            self.rnn.register_parameter(name, parameter)
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
        if lengths is not None:
            return self._read_padded(x, state, lengths)
        weights = [each for layer in range(self.num_layers) for each in self._layer_weights(layer)]
        outputs, last = self._kernel(
            x, self._hidden(x, state), weights, self._directions == 2, self.num_layers
        )
        return outputs, tuple(s.transpose(0, 1) for s in last)  # [B, L * D, H]

    @property
    def _directions(self) -> int:
        return self.out_features // self.hidden_size

    def _hidden(self, x: Tensor, state: State | None) -> State:
        """The state as torch takes it, ``[L * D, B, H]``; zeros for ``None``."""
        if state is not None:
            return tuple(s.transpose(0, 1).contiguous() for s in state)
        zeros = x.new_zeros(self.num_layers * self._directions, x.size(0), self.hidden_size)
        return (zeros, zeros) if self.cell == "lstm" else (zeros,)

    def _kernel(
        self,
        x: Tensor,
        hidden: State,
        weights: list[Tensor],
        bidirectional: bool,
        num_layers: int = 1,
    ) -> tuple[Tensor, State]:
        """Torch's fused layers; in an export, loops over a number of steps that stays open."""
        if torch.compiler.is_exporting():
            return self._loops(x, hidden, weights, 2 if bidirectional else 1)
        dropout = self.dropout if num_layers > 1 else 0.0
        options = (True, num_layers, dropout, self.training, bidirectional, True)
        if self.cell == "lstm":
            outputs, *last = torch.lstm(x, hidden, weights, *options)
            return outputs, tuple(last)
        kernel = torch.gru if self.cell == "gru" else torch.rnn_tanh
        outputs, end = kernel(x, hidden[0], weights, *options)
        return outputs, (end,)

    def _loops(
        self, x: Tensor, hidden: State, weights: list[Tensor], directions: int
    ) -> tuple[Tensor, State]:
        """What the fused layers compute, of which torch would unroll a fixed number of steps."""
        ends = []
        for first in range(0, len(weights) // len(_WEIGHTS), directions):
            if first > 0:
                x = F.dropout(x, self.dropout, self.training)
            read = []
            for direction in range(directions):
                row = first + direction
                own = weights[row * len(_WEIGHTS) : (row + 1) * len(_WEIGHTS)]
                start = tuple(part[row] for part in hidden)
                end, outputs = self._loop(x, start, own, backwards=direction == 1)
                ends.append(end)
                read.append(outputs)
            x = torch.cat(read, dim=-1)
        return x, tuple(torch.stack(part) for part in zip(*ends, strict=True))

    def _loop(
        self, x: Tensor, start: State, weights: list[Tensor], backwards: bool
    ) -> tuple[State, Tensor]:
        """One direction of one layer: its last state and its outputs ``[B, T, H]``."""
        of_input, of_state, input_bias, state_bias = weights

        def step(state: State, gates: Tensor) -> Any:
            after = _STEPS[self.cell](gates, F.linear(state[0], of_state, state_bias), state)
            return after, after[0]

        gates = F.linear(x, of_input, input_bias).transpose(0, 1)  # [T, B, gates * H]
        end, outputs = scan(step, start, gates, backwards=backwards)
        return end, outputs.transpose(0, 1)

    def _read_padded(
        self, x: Tensor, state: State | None, lengths: Tensor
    ) -> tuple[Tensor, State]:
        """The same as packing, whose lengths have to be on the CPU.

        There its backward pass takes a time quadratic in T, too. In layers with gates an
        additional input is 1 at padding, where its weights open the gate that keeps a state and
        close the one that writes: steps after the end of a sequence do not change its state.
        """
        padding = (torch.arange(x.size(1), device=x.device) >= lengths.unsqueeze(1)).unsqueeze(2)
        read = (
            self._read_both if self.cell in _PADDING_GATES and state is None else self._read_each
        )
        starts = self._hidden(x, state)
        outputs, ends = x.masked_fill(padding, 0), []
        for layer in range(self.num_layers):
            if layer > 0:
                outputs = F.dropout(outputs, self.dropout, self.training)
            rows = slice(layer * self._directions, (layer + 1) * self._directions)
            start, weights = tuple(part[rows] for part in starts), self._layer_weights(layer)
            if self.cell in _PADDING_GATES:
                outputs = torch.cat((outputs, padding.to(outputs.dtype)), dim=-1)
                weights = self._with_padding(weights)
            outputs, end = read(outputs, start, weights, lengths)
            ends.append(end)
        last = (torch.cat(part).transpose(0, 1) for part in zip(*ends, strict=True))
        return outputs.masked_fill(padding, 0), tuple(last)

    def _read_both(
        self, x: Tensor, start: State, weights: list[Tensor], lengths: Tensor
    ) -> tuple[Tensor, State]:
        """Both directions at once: the second meets padding first, and starts from 0 after it."""
        outputs, end = self._kernel(x, start, weights, self._directions == 2)
        forward, *backward = outputs.split(self.hidden_size, dim=-1)
        last = torch.stack([_at_end(forward, lengths), *(x[:, 0] for x in backward)])
        return outputs, (last, *end[1:])

    def _read_each(
        self, x: Tensor, start: State, weights: list[Tensor], lengths: Tensor
    ) -> tuple[Tensor, State]:
        """Each direction by itself, the second on sequences that are reversed without padding."""
        steps = torch.arange(x.size(1), device=x.device)
        ends_before = lengths.unsqueeze(1)
        back = ends_before - 1 - steps
        order = back.where(back >= 0, ends_before + steps.flip(0)).unsqueeze(2)  # padding behind
        outputs, ends = [], []
        for direction in range(self._directions):
            inputs = x.gather(1, order.expand(-1, -1, x.size(2))) if direction else x
            own = weights[direction * len(_WEIGHTS) : (direction + 1) * len(_WEIGHTS)]
            hidden = tuple(part[direction, None] for part in start)
            each, end = self._kernel(inputs, hidden, own, bidirectional=False)
            ends.append((_at_end(each, lengths)[None], *end[1:]))
            own_order = order.expand(-1, -1, each.size(2))
            outputs.append(each.gather(1, own_order) if direction else each)
        state = tuple(torch.cat(part) for part in zip(*ends, strict=True))
        return torch.cat(outputs, -1), state

    def _layer_weights(self, layer: int) -> list[Tensor]:
        """Weights and biases of both directions, in torch's order."""
        directions = ("", "_reverse")[: self._directions]
        names = (f"{kind}_l{layer}{direction}" for direction in directions for kind in _WEIGHTS)
        return [self.rnn.get_parameter(name) for name in names]

    def _with_padding(self, weights: list[Tensor]) -> list[Tensor]:
        """Weights of a layer, extended by those of the input that is 1 at padding."""
        extended = list(weights)
        for index in range(0, len(weights), len(_WEIGHTS)):
            column = [
                weights[index].new_full((self.hidden_size, 1), gate)
                for gate in _PADDING_GATES[self.cell]
            ]
            extended[index] = torch.cat((weights[index], torch.cat(column)), dim=1)
        return extended

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


def _at_end(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Output ``[B, H]`` at the last step of each sequence."""
    return outputs[torch.arange(outputs.size(0), device=outputs.device), lengths - 1]


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
