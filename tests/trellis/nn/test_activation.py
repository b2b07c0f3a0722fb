"""Activations at chosen points, and maxout."""

import math

import pytest
import torch

from trellis.nn.activation import Maxout, activation_module


@pytest.mark.parametrize(
    ("name", "at_two", "at_minus_one"),
    [
        ("relu", 2, 0),
        ("tanh", math.tanh(2), -math.tanh(1)),
        ("sigmoid", 1 / (1 + math.exp(-2)), 1 / (1 + math.e)),
        ("leaky_relu", 2, -0.01),
        ("elu", 2, math.exp(-1) - 1),
        ("gelu", 1 + math.erf(2**0.5), -(1 - math.erf(0.5**0.5)) / 2),
        (
            "gelu_tanh",
            1 + math.tanh((2 / math.pi) ** 0.5 * (2 + 0.044715 * 8)),
            -(1 + math.tanh(-((2 / math.pi) ** 0.5) * 1.044715)) / 2,
        ),
        ("silu", 2 / (1 + math.exp(-2)), -1 / (1 + math.e)),
        ("identity", 2, -1),
    ],
)
def test_each_name_is_its_formula(name: str, at_two: float, at_minus_one: float) -> None:
    out = activation_module(name)(torch.tensor([2.0, -1.0]))
    torch.testing.assert_close(out, torch.tensor([at_two, at_minus_one], dtype=torch.float32))


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="activation='swish': choose from relu, .*, identity"):
        activation_module("swish")


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_maxout_is_the_largest_affine_map(pieces: int) -> None:
    torch.manual_seed(0)
    layer, x = Maxout(4, 3, pieces), torch.randn(6, 4)
    weight, bias = layer.linear.weight.view(3, pieces, 4), layer.linear.bias.view(3, pieces)
    for b in range(6):
        for i in range(3):
            values = [(weight[i, k] @ x[b] + bias[i, k]).item() for k in range(pieces)]
            assert layer(x)[b, i].item() == pytest.approx(max(values), abs=1e-6)


def test_maxout_can_be_a_relu_and_an_absolute_value() -> None:
    """Goodfellow et al. 2013, figure 1."""
    layer, x = Maxout(1, 2), torch.tensor([[-2.0], [0.5], [3.0]])
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[1.0], [0.0], [1.0], [-1.0]]))
        layer.linear.bias.zero_()
    torch.testing.assert_close(layer(x), torch.cat((x.relu(), x.abs()), 1))
