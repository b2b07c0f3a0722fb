"""Temporal convolutions: torch's own layers, no future, states, how far they see."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from trellis.sequence.temporal_convolution import CausalConvolution, TemporalStack


def stack(**options) -> TemporalStack:
    torch.manual_seed(0)
    return TemporalStack(3, 5, **{"num_layers": 3, "kernel_size": 3, **options}).double()


def signal(steps: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, steps, 3, generator=generator, dtype=torch.double)


def test_it_is_torchs_convolution_with_weight_norm_padded_in_the_past() -> None:
    torch.manual_seed(0)
    ours = CausalConvolution(3, 4, kernel_size=3, dilation=2)
    theirs = weight_norm(nn.Conv1d(3, 4, 3, dilation=2))
    with torch.no_grad():
        ours.length.uniform_(0.5, 2.0)
        theirs.parametrizations.weight.original0.copy_(ours.length[:, None, None])
        theirs.parametrizations.weight.original1.copy_(ours.direction)
        theirs.bias.copy_(ours.bias)
    x = torch.randn(2, 3, 9)
    torch.testing.assert_close(ours(x)[0], theirs(F.pad(x, (4, 0))))


def test_at_the_start_filters_have_the_lengths_of_torchs() -> None:
    torch.manual_seed(0)
    ours = CausalConvolution(3, 4, kernel_size=3, dilation=1)
    torch.manual_seed(0)
    theirs = nn.Conv1d(3, 4, 3)
    x = torch.randn(2, 3, 9)
    torch.testing.assert_close(ours(x)[0], theirs(F.pad(x, (2, 0))))


def test_a_block_adds_its_input_and_the_stack_doubles_dilations() -> None:
    network, x = stack(num_layers=2), signal(12)

    def convolved(y: torch.Tensor, layer: CausalConvolution, dilation: int) -> torch.Tensor:
        norm = layer.direction.flatten(1).norm(dim=1)
        weight = layer.direction * (layer.length / norm)[:, None, None]
        return F.conv1d(F.pad(y, (2 * dilation, 0)), weight, layer.bias, dilation=dilation)

    y = x.transpose(1, 2)
    for block, dilation in zip(network.blocks, (1, 2), strict=True):
        inner = y
        for layer in block.convolutions:
            inner = convolved(inner, layer, dilation).relu()
        by = y if dilation == 2 else F.conv1d(y, block.by.weight, block.by.bias)
        y = (inner + by).relu()
    torch.testing.assert_close(network(x)[0], y.transpose(1, 2))


@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_in_pieces_with_states_it_is_the_whole(kernel_size: int) -> None:
    network, x = stack(kernel_size=kernel_size), signal(40)
    whole, last = network(x)
    for sizes in ([1] * 40, [3, 1, 30, 6], [40]):
        state, outputs = None, []
        for piece in x.split(sizes, 1):
            output, state = network(piece, state)
            outputs.append(output)
        torch.testing.assert_close(torch.cat(outputs, 1), whole)
        for ours, right in zip(state, last, strict=True):
            torch.testing.assert_close(ours, right)


def test_an_output_depends_on_the_receptive_field_and_not_on_the_future() -> None:
    network = stack()
    assert network.receptive_field == 29
    x = signal(60).requires_grad_()
    network(x)[0][:, 40].square().sum().backward()
    read = x.grad.abs().sum((0, 2)).nonzero().squeeze(1)
    assert int(read.max()) == 40
    assert int(read.min()) == 40 - 29 + 1


def test_dropout_is_for_training_alone() -> None:
    network, x = stack(dropout=0.5), signal(10)
    assert not torch.equal(network(x)[0], network(x)[0])
    network.eval()
    assert torch.equal(network(x)[0], network(x)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers=0: give at least 1"),
        ({"kernel_size": 0}, "kernel_size=0: give at least 1"),
        ({"dropout": -0.1}, "dropout=-0.1: give a probability"),
    ],
)
def test_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stack(**options)
    with pytest.raises(ValueError, match=r"TemporalStack\(in_features=3\)"):
        stack()(torch.zeros(2, 5, 4))
