"""Recurrent cells, one equation per line: for study, tests, and kinds torch has no kernel for.

Legend: B sequences, T steps, x the input ``[B, in_features]``, h the state ``[B, H]``. A cell maps
``(x, state)`` to the next state, a tuple of tensors whose first is the output; ``unroll`` applies
it to a sequence. Networks use ``RecurrentStack``: the same equations on torch's kernels.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_equal, choose_from, does_not_fit
from trellis.nn.activation import Activation, activation_module

State = tuple[Tensor, ...]
Reset = Literal["before", "after"]
Update = Literal["keeps", "replaces"]


class RecurrentCell(nn.Module, ABC):
    """One step of a recurrent layer.

    Args:
        in_features: width of the input.
        hidden_size: width H of the state.
    Shape:
        x ``[B, in_features]``, state: tensors ``[B, H]`` -> the next state
    Raises:
        ValueError: a size below 1.
    """

    parts = 1  # number of tensors in a state

    def __init__(self, in_features: int, hidden_size: int) -> None:
        super().__init__()
        self.in_features = at_least_one("in_features", in_features)
        self.hidden_size = at_least_one("hidden_size", hidden_size)

    def zero_state(self, x: Tensor) -> State:
        """State of zeros, with a row for each row of ``x``."""
        return (x.new_zeros(x.size(0), self.hidden_size),) * self.parts

    @abstractmethod
    def forward(self, x: Tensor, state: State) -> State:
        """The state after x."""


def unroll(cell: RecurrentCell, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """Apply a cell to all steps of ``x [B, T, in_features]``, from ``state`` or from zeros.

    Returns:
        Outputs ``[B, T, H]`` and the last state.
    Raises:
        ValueError: x has another shape or no steps.

    >>> outputs, (h,) = unroll(ElmanCell(3, 4), torch.ones(2, 5, 3))
    >>> outputs.shape, outputs[:, -1].equal(h)
    (torch.Size([2, 5, 4]), True)
    """
    if x.dim() != 3 or x.size(2) != cell.in_features or x.size(1) == 0:
        owner = f"{type(cell).__name__}(in_features={cell.in_features})"
        raise does_not_fit("x", x, owner, f"[B, T, {cell.in_features}] with T at least 1")
    state = cell.zero_state(x) if state is None else state
    outputs = []
    for step in x.unbind(1):
        state = cell(step, state)
        outputs.append(state[0])
    return torch.stack(outputs, dim=1), state


class ElmanCell(RecurrentCell):
    r"""Plain recurrence.

    .. math:: h' = \phi(U x + W h + b)

    Args:
        in_features: width of the input.
        hidden_size: width of the state.
        activation: :math:`\phi`.
        bias: whether the linear maps have biases.

    Source: Elman 1990.
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        *,
        activation: Activation = "tanh",
        bias: bool = True,
    ) -> None:
        super().__init__(in_features, hidden_size)
        self.activation = activation_module(activation)
        self.input = nn.Linear(in_features, hidden_size, bias)
        self.hidden = nn.Linear(hidden_size, hidden_size, bias)

    def forward(self, x: Tensor, state: State) -> State:
        return (self.activation(self.input(x) + self.hidden(state[0])),)


class OutputRecurrentCell(RecurrentCell):
    r"""Output recurrence: what returns is the output of a step, not its hidden units.

    .. math:: h = \tanh(U x + W y + b), \quad y' = \tanh(V h + c)

    The state is ``(y,)``, as wide as h.

    Source: Jordan 1986.
    """

    def __init__(self, in_features: int, hidden_size: int) -> None:
        super().__init__(in_features, hidden_size)
        self.input = nn.Linear(in_features, hidden_size)
        self.hidden = nn.Linear(hidden_size, hidden_size, bias=False)
        self.output = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, state: State) -> State:
        h = (self.input(x) + self.hidden(state[0])).tanh()
        return (self.output(h).tanh(),)


class LongShortTermCell(RecurrentCell):
    r"""LSTM: a memory cell c with input, forget and output gates.

    .. math::
        i, f, o = \sigma(U x + W h + b), \quad g = \tanh(U_g x + W_g h + b_g), \\
        c' = f c + i g, \quad h' = o \tanh(c')

    The state is ``(h, c)``; the rows of ``input`` and ``hidden`` are those of i, f, g, o.

    Source: Hochreiter and Schmidhuber 1997; Gers et al. 2000 (the forget gate f).
    """

    parts = 2

    def __init__(self, in_features: int, hidden_size: int) -> None:
        super().__init__(in_features, hidden_size)
        self.input = nn.Linear(in_features, 4 * hidden_size)
        self.hidden = nn.Linear(hidden_size, 4 * hidden_size)

    def forward(self, x: Tensor, state: State) -> State:
        h, c = state
        i, f, g, o = (self.input(x) + self.hidden(h)).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class GatedCell(RecurrentCell):
    r"""GRU: a reset gate r for the candidate, and an update gate z that mixes old and new states.

    .. math::
        r, z = \sigma(U x + W h + b), \quad
        \tilde h = \phi(U_n x + b_n + W_n (r h)), \quad
        h' = z h + (1 - z) \tilde h

    Args:
        in_features: width of the input.
        hidden_size: width of the state.
        reset: whether r multiplies the state ``before`` :math:`W_n` is applied, as above and in
            the paper, or ``after``, :math:`r (W_n h)`, as in torch and its kernels.
        update: z = 1 ``keeps`` the old state, as above and in torch, or ``replaces`` it by the
            candidate.
        activation: :math:`\phi`.
        bias: whether the linear maps have biases.
    Raises:
        ValueError: an unknown ``reset``, ``update`` or activation.

    Source: Cho et al. 2014, eq. 5-8; Chung et al. 2014, eq. 4-7 (``replaces``).
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        *,
        reset: Reset = "after",
        update: Update = "keeps",
        activation: Activation = "tanh",
        bias: bool = True,
    ) -> None:
        super().__init__(in_features, hidden_size)
        self.reset = choose_from("reset", reset, Reset)
        self.update = choose_from("update", update, Update)
        self.activation = activation_module(activation)
        self.input = nn.Linear(in_features, 3 * hidden_size, bias)  # rows of r, z, n
        self.hidden = nn.Linear(hidden_size, 2 * hidden_size, bias)  # of r, z
        self.candidate = nn.Linear(hidden_size, hidden_size, bias)

    def forward(self, x: Tensor, state: State) -> State:
        (h,) = state
        known_r, known_z, known = self.input(x).chunk(3, dim=1)
        hidden_r, hidden_z = self.hidden(h).chunk(2, dim=1)
        r, z = (known_r + hidden_r).sigmoid(), (known_z + hidden_z).sigmoid()
        past = self.candidate(r * h) if self.reset == "before" else r * self.candidate(h)
        new = self.activation(known + past)
        keep = z if self.update == "keeps" else 1 - z
        return (keep * h + (1 - keep) * new,)


class _EvolvedCell(RecurrentCell):
    r"""Base of the cells found by an evolutionary search; they differ in the inputs of the gates.

    .. math:: h' = z \tanh(W (r h) + \tilde x) + (1 - z) h

    where z = 1 replaces the old state.
    """

    def __init__(self, in_features: int, hidden_size: int) -> None:
        super().__init__(in_features, hidden_size)
        self.candidate = nn.Linear(hidden_size, hidden_size)
        self.reset_hidden = nn.Linear(hidden_size, hidden_size)
        self.update_input = nn.Linear(in_features, hidden_size)

    def _mix(self, h: Tensor, z: Tensor, r: Tensor, x: Tensor) -> State:
        new = (self.candidate(r.sigmoid() * h) + x).tanh()
        return (z.sigmoid() * new + (1 - z.sigmoid()) * h,)

    def _same_width(self) -> None:
        owner = f"{type(self).__name__} adds x to the state"
        check_equal(owner, in_features=self.in_features, hidden_size=self.hidden_size)


class MUT1(_EvolvedCell):
    r"""The first of three evolved cells: its update gate depends only on the input.

    .. math::
        z = \sigma(W_{xz} x + b_z), \quad r = \sigma(W_{xr} x + W_{hr} h + b_r), \quad
        h' = z \tanh(W_{hh} (r h) + \tanh(x) + b_h) + (1 - z) h

    Raises:
        ValueError: ``in_features`` is not ``hidden_size``.

    Source: Jozefowicz et al. 2015.
    """

    def __init__(self, in_features: int, hidden_size: int) -> None:
        super().__init__(in_features, hidden_size)
        self._same_width()
        self.reset_input = nn.Linear(in_features, hidden_size, bias=False)

    def forward(self, x: Tensor, state: State) -> State:
        (h,) = state
        r = self.reset_input(x) + self.reset_hidden(h)
        return self._mix(h, self.update_input(x), r, x.tanh())


class MUT2(_EvolvedCell):
    r"""The second: its reset gate takes the input without a linear map.

    .. math::
        z = \sigma(W_{xz} x + W_{hz} h + b_z), \quad r = \sigma(x + W_{hr} h + b_r), \quad
        h' = z \tanh(W_{hh} (r h) + W_{xh} x + b_h) + (1 - z) h

    Raises:
        ValueError: ``in_features`` is not ``hidden_size``.

    Source: Jozefowicz et al. 2015.
    """

    def __init__(self, in_features: int, hidden_size: int) -> None:
        super().__init__(in_features, hidden_size)
        self._same_width()
        self.update_hidden = nn.Linear(hidden_size, hidden_size, bias=False)
        self.input = nn.Linear(in_features, hidden_size, bias=False)

    def forward(self, x: Tensor, state: State) -> State:
        (h,) = state
        z = self.update_input(x) + self.update_hidden(h)
        return self._mix(h, z, x + self.reset_hidden(h), self.input(x))


class MUT3(_EvolvedCell):
    r"""The third: a GRU whose update gate takes the tanh of the state.

    .. math::
        z = \sigma(W_{xz} x + W_{hz} \tanh(h) + b_z), \quad
        r = \sigma(W_{xr} x + W_{hr} h + b_r), \quad
        h' = z \tanh(W_{hh} (r h) + W_{xh} x + b_h) + (1 - z) h

    Source: Jozefowicz et al. 2015.
    """

    def __init__(self, in_features: int, hidden_size: int) -> None:
        super().__init__(in_features, hidden_size)
        self.update_hidden = nn.Linear(hidden_size, hidden_size, bias=False)
        self.reset_input = nn.Linear(in_features, hidden_size, bias=False)
        self.input = nn.Linear(in_features, hidden_size, bias=False)

    def forward(self, x: Tensor, state: State) -> State:
        (h,) = state
        z = self.update_input(x) + self.update_hidden(h.tanh())
        r = self.reset_input(x) + self.reset_hidden(h)
        return self._mix(h, z, r, self.input(x))
