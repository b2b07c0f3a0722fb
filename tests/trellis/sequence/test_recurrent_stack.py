"""Recurrent stacks: padding as if it were not there, steps as the whole, states batch first."""

import warnings
from collections.abc import Callable

import pytest
import torch
from recurrent_cases import torch_layers
from torch import Tensor

from trellis.sequence.recurrent_stack import RecurrentStack

B, T, IN, H = 4, 6, 3, 5
LENGTHS = torch.tensor([4, 6, 1, 3])
CELLS = ("elman", "lstm", "gru")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(B, T, IN)


@pytest.fixture(params=CELLS)
def cell(request: pytest.FixtureRequest) -> str:
    return request.param


def alone(stack: RecurrentStack, x: Tensor, hidden: list[Tensor] | None) -> tuple:
    """One sequence through torch's own layer."""
    start = None if hidden is None else [part[:, None] for part in hidden]
    if start is not None and stack.cell != "lstm":
        start = start[0]
    outputs, last = torch_layers(stack)(
        x[None], tuple(start) if isinstance(start, list) else start
    )
    return outputs[0], last if stack.cell == "lstm" else (last,)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_a_padded_batch_is_each_sequence_alone(
    cell: str, bidirectional: bool, with_state: bool, x: Tensor
) -> None:
    stack = RecurrentStack(IN, H, cell=cell, num_layers=2, bidirectional=bidirectional)
    rows = 4 if bidirectional else 2
    parts = 2 if cell == "lstm" else 1
    state = tuple(torch.randn(B, rows, H) for _ in range(parts)) if with_state else None
    outputs, last = stack(x, state, LENGTHS)
    assert outputs.shape == (B, T, stack.out_features)
    for row, length in enumerate(LENGTHS.tolist()):
        hidden = None if state is None else [part[row] for part in state]
        expected, end = alone(stack, x[row, :length], hidden)
        torch.testing.assert_close(outputs[row, :length], expected)
        for ours, theirs in zip(last, end, strict=True):
            torch.testing.assert_close(ours[row], theirs[:, 0])


def test_both_directions_are_two_stacks(cell: str, x: Tensor) -> None:
    """Separate runs, the second on each sequence reversed."""
    both = RecurrentStack(IN, H, cell=cell, bidirectional=True)
    forward, backward = (RecurrentStack(IN, H, cell=cell) for _ in range(2))
    weights = both.state_dict()
    forward.load_state_dict({k: v for k, v in weights.items() if "reverse" not in k})
    backward.load_state_dict(
        {k.removesuffix("_reverse"): v for k, v in weights.items() if "reverse" in k}
    )
    outputs, state = both(x, None, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        sequence = x[row : row + 1, :length]
        right, end = forward(sequence)
        left, start = backward(sequence.flip(1))
        expected = torch.cat((right, left.flip(1)), dim=-1)[0]
        torch.testing.assert_close(outputs[row, :length], expected)
        torch.testing.assert_close(state[0][row], torch.cat((end[0], start[0]), dim=1)[0])


def test_padding_is_never_read(cell: str, x: Tensor) -> None:
    stack = RecurrentStack(IN, H, cell=cell, bidirectional=True)
    outside = torch.arange(T) >= LENGTHS[:, None]
    first, state = stack(x, None, LENGTHS)
    second, again = stack(x.masked_fill(outside[..., None], torch.nan), None, LENGTHS)
    torch.testing.assert_close((first, state), (second, again), rtol=0, atol=0)
    assert first[outside].abs().max() == 0


def test_gradients_of_a_padded_batch_are_those_of_each_sequence(cell: str, x: Tensor) -> None:
    stack = RecurrentStack(IN, H, cell=cell, num_layers=2, bidirectional=True)
    weights, ends, gradients = torch.randn(B, T, 2 * H), torch.randn(B, 4, H), []
    for padded in (True, False):
        stack.zero_grad()
        x = x.detach().requires_grad_()
        for rows in (slice(0, B),) if padded else (slice(b, b + 1) for b in range(B)):
            length = int(LENGTHS[rows].max())
            outputs, state = stack(x[rows, :length], None, LENGTHS[rows])
            loss = (outputs * weights[rows, :length]).sum()
            (loss + sum((part * ends[rows]).sum() for part in state)).backward()
        gradients.append([x.grad, *(p.grad.clone() for p in stack.parameters())])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    assert gradients[0][0][torch.arange(T) >= LENGTHS[:, None]].abs().max() == 0


def test_a_thousand_steps_of_padding_leave_no_trace(cell: str, x: Tensor) -> None:
    stack = RecurrentStack(IN, H, cell=cell, num_layers=2, bidirectional=True)
    wide = torch.cat((x, 100 * torch.randn(B, 1000, IN)), dim=1)
    outputs, state = stack(x, None, LENGTHS)
    long, last = stack(wide, None, LENGTHS)
    torch.testing.assert_close(long[:, :T], outputs)
    torch.testing.assert_close(last, state)


def test_layers_of_a_padded_batch_are_dropped_too(cell: str, x: Tensor) -> None:
    stack = RecurrentStack(IN, H, cell=cell, num_layers=2, dropout=1.0)
    outputs, _ = stack(x, None, torch.full((B,), T))
    torch.testing.assert_close(outputs, stack(x)[0])
    stack.eval()
    outputs, _ = stack(x, None, torch.full((B,), T))
    torch.testing.assert_close(outputs, stack(x)[0])


def test_steps_with_the_state_passed_on_are_the_whole(cell: str, x: Tensor) -> None:
    stack = RecurrentStack(IN, H, cell=cell, num_layers=2)
    whole, last = stack(x)
    state, outputs = None, []
    for piece in x.split((1, 3, 2), dim=1):
        output, state = stack(piece, state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole)
    torch.testing.assert_close(state, last)
    assert all(part.shape == (B, 2, H) for part in state)


def test_rows_of_a_state_are_rows_of_the_batch(cell: str, x: Tensor) -> None:
    stack = RecurrentStack(IN, H, cell=cell, num_layers=2)
    _, state = stack(x[:, :3])
    rows = torch.tensor([2, 0, 2])
    outputs, _ = stack(x[rows, 3:], tuple(part.index_select(0, rows) for part in state))
    torch.testing.assert_close(outputs, stack(x)[0][rows, 3:])


def by_steps(stack: RecurrentStack, x: Tensor, known: int) -> tuple[Tensor, list]:
    """All steps by ``project`` and ``step``, from zeros."""
    parts = 2 if stack.cell == "lstm" else 1
    states = [(torch.zeros(B, H),) * parts for _ in range(stack.num_layers)]
    gates, rest = stack.project(x[..., :known])
    outputs = []
    for t in range(T):
        output, states = stack.step(gates[:, t] + x[:, t, known:] @ rest, states)
        outputs.append(output)
    return torch.stack(outputs, dim=1), states


def test_single_steps_are_torchs_kernels(cell: str, x: Tensor) -> None:
    stack = RecurrentStack(IN, H, cell=cell, num_layers=2)
    weights, gradients = torch.randn(B, T, H), []
    outputs, state = stack(x)
    stepped, states = by_steps(stack, x, known=2)
    torch.testing.assert_close(stepped, outputs)
    for part, values in enumerate(state):
        torch.testing.assert_close(torch.stack([s[part] for s in states], dim=1), values)
    for result in (outputs, stepped):
        stack.zero_grad()
        (result * weights).sum().backward()
        gradients.append([p.grad.clone() for p in stack.parameters()])
    torch.testing.assert_close(*gradients)


def test_steps_drop_what_goes_from_layer_to_layer(cell: str, x: Tensor) -> None:
    """With all of it dropped the second layer sees nothing but its biases, in both ways."""
    stack = RecurrentStack(IN, H, cell=cell, num_layers=2, dropout=1.0)
    outputs, _ = by_steps(stack, x, known=2)
    torch.testing.assert_close(outputs, stack(x)[0])
    torch.testing.assert_close(outputs[0], outputs[1])
    stack.eval()
    outputs, _ = by_steps(stack, x, known=2)
    torch.testing.assert_close(outputs, stack(x)[0])
    assert not outputs[0].allclose(outputs[1], atol=1e-3)


def test_bfloat16_products_leave_the_state_in_full_precision(cell: str, x: Tensor) -> None:
    stack = RecurrentStack(IN, H, cell=cell, num_layers=2)
    exact, _ = by_steps(stack, x, known=2)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, states = by_steps(stack, x, known=2)
    if cell != "elman":  # which has nothing but its gates
        assert states[0][-1].dtype == torch.float32
    torch.testing.assert_close(outputs.float(), exact, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("lengths", [None, [3, 1]])
def test_it_runs_under_bfloat16_autocast_on_every_cpu(
    cell: str, x: Tensor, lengths: list[int] | None
) -> None:
    """torch's own LSTM raises an error there without AVX-512."""
    stack = RecurrentStack(IN, H, cell=cell, num_layers=2)
    ends = None if lengths is None else torch.tensor(lengths)
    exact, _ = stack(x[:2], lengths=ends)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, state = stack(x[:2], lengths=ends)
        again, _ = stack(x[:2], state)
    torch.testing.assert_close(outputs.float(), exact, rtol=0.1, atol=0.05)
    again.float().square().mean().backward()
    assert stack.rnn.weight_hh_l0.grad.isfinite().all()


def test_one_layer_takes_a_dropout_it_has_no_use_for() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch's
        assert RecurrentStack(IN, H, dropout=0.5)(torch.randn(B, T, IN))[0].isfinite().all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RecurrentStack(IN, 0), "hidden_size=0: give at least 1"),
        (lambda: RecurrentStack(IN, H, num_layers=0), "num_layers=0: give at least 1"),
        (lambda: RecurrentStack(IN, H, dropout=-1), "dropout=-1: give a probability"),
        (lambda: RecurrentStack(IN, H, cell="mgu"), "cell='mgu': choose from elman, lstm, gru"),
    ],
)
def test_impossible_stacks_are_named(build: Callable[[], RecurrentStack], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
