"""Readable cells against torch's kernels and against their equations over plain numbers."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trellis.sequence.recurrent_cells import (
    MUT1,
    MUT2,
    MUT3,
    ElmanCell,
    GatedCell,
    LongShortTermCell,
    OutputRecurrentCell,
    RecurrentCell,
    unroll,
)

B, T, IN, H = 3, 5, 4, 4  # MUT1 and MUT2 need equal widths
CELLS: dict[str, Callable[[int, int], RecurrentCell]] = {
    "elman": ElmanCell,
    "lstm": LongShortTermCell,
    "gru": GatedCell,
    "gru_before": lambda i, h: GatedCell(i, h, reset="before", update="replaces"),
    "output": OutputRecurrentCell,
    "mut1": MUT1,
    "mut2": MUT2,
    "mut3": MUT3,
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(B, T, IN)


@pytest.fixture(params=CELLS)
def cell(request: pytest.FixtureRequest) -> RecurrentCell:
    return CELLS[request.param](IN, H)


# --- equality with torch's kernels ---------------------------------------------------------------


def like_torch(kernel: nn.RNNBase) -> RecurrentCell:
    """The cell of ours with the weights of one of torch's layers."""
    w_ih, w_hh, b_ih, b_hh = (p.detach().clone() for p in kernel.parameters())
    if isinstance(kernel, nn.GRU):
        cell: RecurrentCell = GatedCell(IN, H)
        parts = ((cell.hidden, slice(0, 2 * H)), (cell.candidate, slice(2 * H, None)))
    else:
        cell = LongShortTermCell(IN, H) if isinstance(kernel, nn.LSTM) else ElmanCell(IN, H)
        parts = ((cell.hidden, slice(None)),)
    with torch.no_grad():
        for linear, rows in ((cell.input, None), *parts):
            linear.weight.copy_(w_ih if rows is None else w_hh[rows])
            linear.bias.copy_(b_ih if rows is None else b_hh[rows])
    return cell


@pytest.mark.parametrize("kernel", [nn.RNN, nn.LSTM, nn.GRU])
def test_torchs_kernels_compute_these_cells(kernel: type[nn.RNNBase], x: Tensor) -> None:
    fused = kernel(IN, H, batch_first=True)
    cell = like_torch(fused)
    start = tuple(torch.randn(B, H) for _ in range(cell.parts))
    hidden = tuple(part[None] for part in start)
    expected, last = fused(x, hidden if cell.parts == 2 else hidden[0])
    outputs, state = unroll(cell, x, start)
    torch.testing.assert_close(outputs, expected)
    last = last if cell.parts == 2 else (last,)
    torch.testing.assert_close(state, tuple(part[0] for part in last))

    weights = torch.randn(B, T, H)
    (expected * weights).sum().backward()
    (outputs * weights).sum().backward()
    theirs = [g for p in fused.parameters() for g in p.grad.split(H)]
    ours = [g for p in cell.parameters() for g in p.grad.split(H)]
    assert len(ours) == len(theirs)
    for gradient in ours:  # the same gradients, in another order
        assert any(g.shape == gradient.shape and g.allclose(gradient, atol=1e-5) for g in theirs)


# --- equality with the equations -----------------------------------------------------------------


def sigma(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def times(linear: nn.Linear, vector: list[float]) -> list[float]:
    rows = linear.weight.tolist()
    bias = [0.0] * len(rows) if linear.bias is None else linear.bias.tolist()
    return [
        sum(w * v for w, v in zip(row, vector, strict=True)) + b
        for row, b in zip(rows, bias, strict=True)
    ]


def gru_by_hand(cell: GatedCell, x: list[float], h: list[float]) -> list[float]:
    inputs, hidden = times(cell.input, x), times(cell.hidden, h)
    r = [sigma(inputs[k] + hidden[k]) for k in range(H)]
    z = [sigma(inputs[H + k] + hidden[H + k]) for k in range(H)]
    if cell.reset == "before":
        past = times(cell.candidate, [a * b for a, b in zip(r, h, strict=True)])
    else:
        past = [a * b for a, b in zip(r, times(cell.candidate, h), strict=True)]
    new = [math.tanh(inputs[2 * H + k] + past[k]) for k in range(H)]
    if cell.update == "keeps":
        return [z[k] * h[k] + (1 - z[k]) * new[k] for k in range(H)]
    return [(1 - z[k]) * h[k] + z[k] * new[k] for k in range(H)]


@pytest.mark.parametrize("update", ["keeps", "replaces"])
@pytest.mark.parametrize("reset", ["before", "after"])
@pytest.mark.parametrize("bias", [True, False])
def test_gru_in_all_conventions_is_its_equations(
    reset: str, update: str, bias: bool, x: Tensor
) -> None:
    cell = GatedCell(IN, H, reset=reset, update=update, bias=bias)
    h = torch.randn(B, H)
    (after,) = cell(x[:, 0], (h,))
    for row in range(B):
        expected = gru_by_hand(cell, x[row, 0].tolist(), h[row].tolist())
        torch.testing.assert_close(after[row], torch.tensor(expected))
    assert sum(p.numel() for p in cell.parameters()) == 3 * H * (IN + H + (2 if bias else 0))


def mutant_by_hand(cell: RecurrentCell, x: list[float], h: list[float]) -> list[float]:
    """Jozefowicz et al. 2015, and Stanford CS231n 2018, lecture 10."""
    kind = type(cell)
    z, r = times(cell.update_input, x), times(cell.reset_hidden, h)
    if kind is not MUT1:
        seen = [math.tanh(v) for v in h] if kind is MUT3 else h
        z = [a + b for a, b in zip(z, times(cell.update_hidden, seen), strict=True)]
    shown = x if kind is MUT2 else times(cell.reset_input, x)
    r = [a + b for a, b in zip(r, shown, strict=True)]
    inputs = [math.tanh(v) for v in x] if kind is MUT1 else times(cell.input, x)
    past = times(cell.candidate, [sigma(a) * b for a, b in zip(r, h, strict=True)])
    return [
        math.tanh(past[k] + inputs[k]) * sigma(z[k]) + h[k] * (1 - sigma(z[k])) for k in range(H)
    ]


@pytest.mark.parametrize("kind", [MUT1, MUT2, MUT3])
def test_mutants_are_their_equations(kind: type[RecurrentCell], x: Tensor) -> None:
    cell = kind(IN, H)
    h = 2 * torch.randn(B, H)
    (after,) = cell(x[:, 0], (h,))
    for row in range(B):
        expected = mutant_by_hand(cell, x[row, 0].tolist(), h[row].tolist())
        torch.testing.assert_close(after[row], torch.tensor(expected))


def test_what_returns_in_an_output_recurrence_is_the_output(x: Tensor) -> None:
    cell, y = OutputRecurrentCell(IN, H), torch.randn(B, H)
    (after,) = cell(x[:, 0], (y,))
    for row in range(B):
        inputs, past = times(cell.input, x[row, 0].tolist()), times(cell.hidden, y[row].tolist())
        hidden = [math.tanh(a + b) for a, b in zip(inputs, past, strict=True)]
        expected = [math.tanh(v) for v in times(cell.output, hidden)]
        torch.testing.assert_close(after[row], torch.tensor(expected))


@pytest.mark.parametrize(("kind", "maps"), [(MUT1, 4), (MUT2, 5), (MUT3, 6)])
def test_mutants_have_a_bias_for_each_equation(kind: type[RecurrentCell], maps: int) -> None:
    assert sum(p.numel() for p in kind(H, H).parameters()) == maps * H * H + 3 * H


def test_elman_takes_any_activation(x: Tensor) -> None:
    cell = ElmanCell(IN, H, activation="sigmoid", bias=False)
    (h,) = cell(x[:, 0], cell.zero_state(x[:, 0]))
    torch.testing.assert_close(h, (x[:, 0] @ cell.input.weight.t()).sigmoid())


# --- properties ----------------------------------------------------------------------------------


def test_to_replace_is_to_keep_with_the_gate_turned_round(x: Tensor) -> None:
    keeps, replaces = GatedCell(IN, H), GatedCell(IN, H, update="replaces")
    replaces.load_state_dict(keeps.state_dict())
    with torch.no_grad():
        for linear in (replaces.input, replaces.hidden):
            linear.weight[H : 2 * H] *= -1
            linear.bias[H : 2 * H] *= -1
    torch.testing.assert_close(unroll(keeps, x)[0], unroll(replaces, x)[0])


def test_where_the_reset_gate_stands_matters_unless_the_map_is_diagonal(x: Tensor) -> None:
    before = GatedCell(IN, H, reset="before", bias=False)
    after = GatedCell(IN, H, reset="after", bias=False)
    after.load_state_dict(before.state_dict())
    assert not unroll(before, x)[0].allclose(unroll(after, x)[0], atol=1e-3)
    for cell in (before, after):
        cell.candidate.weight = nn.Parameter(torch.linspace(-1, 2, H).diag())
    torch.testing.assert_close(unroll(before, x)[0], unroll(after, x)[0])


def test_a_sequence_in_pieces_is_the_sequence(cell: RecurrentCell, x: Tensor) -> None:
    whole, last = unroll(cell, x)
    first, state = unroll(cell, x[:, :2])
    second, state = unroll(cell, x[:, 2:], state)
    torch.testing.assert_close(torch.cat((first, second), dim=1), whole)
    torch.testing.assert_close(state, last)
    assert len(state) == cell.parts
    assert state[0].equal(second[:, -1])


def test_every_parameter_learns(cell: RecurrentCell, x: Tensor) -> None:
    (unroll(cell, x)[0] * torch.randn(B, T, H)).sum().backward()
    for name, parameter in cell.named_parameters():
        assert parameter.grad.abs().max() > 0, name


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(B, T, IN + 1), (B, IN), (B, 0, IN)])
def test_inputs_of_a_wrong_shape_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"does not fit GatedCell\(in_features=4\): give x"):
        unroll(GatedCell(IN, H), torch.zeros(shape))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ElmanCell(0, 4), "in_features=0: give at least 1"),
        (lambda: GatedCell(4, 0), "hidden_size=0: give at least 1"),
        (lambda: GatedCell(4, 4, reset="never"), "reset='never': choose from before, after"),
        (lambda: GatedCell(4, 4, update="z"), "update='z': choose from keeps, replaces"),
        (lambda: GatedCell(4, 4, activation="sin"), "activation='sin'"),
        (lambda: MUT1(3, 4), "MUT1 adds x to the state: in_features=3 and hidden_size=4"),
        (lambda: MUT2(3, 4), "MUT2 adds x to the state"),
    ],
)
def test_impossible_cells_are_named(build: Callable[[], RecurrentCell], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
