"""Convolutional recurrence against torch's cells at each pixel, and against loops over pixels."""

import pytest
import torch
from torch import Tensor, nn

from trellis.sequence.convolutional_cells import ConvGRUCell, ConvLSTMCell, ConvolutionalCell

B, C, D, H, W = 2, 3, 4, 5, 6
CELLS = {"gru": (ConvGRUCell, nn.GRUCell), "lstm": (ConvLSTMCell, nn.LSTMCell)}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def random_state(cell: ConvolutionalCell) -> tuple[Tensor, ...]:
    return tuple(torch.randn(B, D, H, W) for _ in range(cell.parts))


def as_torch(kind: type[nn.Module], weight_ih: Tensor, weight_hh: Tensor,
             cell: ConvolutionalCell) -> nn.Module:  # fmt: skip
    """torch's cell whose inputs are flattened neighbourhoods."""
    peer = kind(weight_ih.size(1), weight_hh.size(1))
    biases = {"bias_ih": cell.input.bias, "bias_hh": cell.hidden.bias}
    peer.load_state_dict({"weight_ih": weight_ih, "weight_hh": weight_hh, **biases})
    return peer


@torch.no_grad()
@pytest.mark.parametrize("name", CELLS)
def test_without_neighbours_each_pixel_is_a_cell_of_torch(name: str) -> None:
    ours, theirs = CELLS[name]
    cell = ours(C, D, kernel_size=1)
    flat = (cell.input.weight.flatten(1), cell.hidden.weight.flatten(1))
    peer = as_torch(theirs, *flat, cell)
    x, state = torch.randn(B, C, H, W), random_state(cell)
    after = cell(x, state)
    for row in range(H):
        for column in range(W):
            pixel = tuple(part[:, :, row, column] for part in state)
            expected = peer(x[:, :, row, column], pixel if name == "lstm" else pixel[0])
            expected = expected if name == "lstm" else (expected,)
            for part, want in zip(after, expected, strict=True):
                torch.testing.assert_close(part[:, :, row, column], want)


def correlated(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution by its definition: a loop over pixels and neighbours; zeros are outside."""
    out = bias[None, :, None, None].expand(x.size(0), -1, *x.shape[2:]).clone()
    middle = weight.size(2) // 2
    for row in range(x.size(2)):
        for column in range(x.size(3)):
            for i in range(weight.size(2)):
                for j in range(weight.size(3)):
                    k, m = row + i - middle, column + j - middle
                    if 0 <= k < x.size(2) and 0 <= m < x.size(3):
                        out[:, :, row, column] += x[:, :, k, m] @ weight[:, :, i, j].T
    return out


@torch.no_grad()
@pytest.mark.parametrize("name", CELLS)
def test_two_steps_are_the_printed_equations(name: str) -> None:
    cell = CELLS[name][0](C, D)
    state = tuple(torch.zeros(B, D, H, W) for _ in range(cell.parts))
    ours = cell.zero_state(torch.zeros(B, C, H, W))
    for x in torch.randn(2, B, C, H, W):
        ours = cell(x, ours)
        seen = correlated(x, cell.input.weight, cell.input.bias).split(D, dim=1)
        past = correlated(state[0], cell.hidden.weight, cell.hidden.bias).split(D, dim=1)
        gate = [torch.sigmoid(a + b) for a, b in zip(seen, past, strict=True)]
        if name == "gru":
            new = torch.tanh(seen[2] + gate[0] * past[2])
            state = (gate[1] * state[0] + (1 - gate[1]) * new,)
        else:
            memory = gate[1] * state[1] + gate[0] * torch.tanh(seen[2] + past[2])
            state = (gate[3] * torch.tanh(memory), memory)
        for part, want in zip(ours, state, strict=True):
            torch.testing.assert_close(part, want)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "in_channels=0: give at least 1"),
        ({"hidden_channels": 0}, "hidden_channels=0: give at least 1"),
        ({"kernel_size": 4}, "kernel_size=4: give an odd one"),
    ],
)
def test_impossible_sizes_are_named(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvGRUCell(**{"in_channels": 2, "hidden_channels": 3, **options})
