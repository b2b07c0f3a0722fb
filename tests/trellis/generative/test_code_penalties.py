"""Penalties on codes against torch.distributions, closed forms and autograd, row by row."""

import math

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian
from torch.distributions import Bernoulli, kl_divergence

from trellis.generative.code_penalties import activation_kl, squared_jacobian


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_the_divergence_is_that_of_torch_s_bernoullis() -> None:
    code = torch.rand(7, 4)
    expected = kl_divergence(Bernoulli(torch.tensor(0.1)), Bernoulli(code.mean(0))).sum()
    torch.testing.assert_close(activation_kl(code, 0.1), expected)


def test_the_penalty_is_zero_at_the_target_whatever_single_examples_do() -> None:
    code = torch.tensor([[0.0, 0.2], [1.0, 0.8]])
    torch.testing.assert_close(activation_kl(code, 0.5), torch.tensor(0.0))
    torch.testing.assert_close(
        activation_kl(code[:1] * 0 + 0.5, 0.25),
        torch.tensor(2 * (0.25 * math.log(0.5) + 0.75 * math.log(1.5))),
    )


def test_a_unit_that_is_always_off_still_learns() -> None:
    zeros = torch.zeros(3, 2)
    assert math.inf > activation_kl(zeros, 0.1) > activation_kl(zeros + 0.01, 0.1) > 0


@pytest.mark.parametrize("target", [0.0, 1.0, -0.5, 2.0])
def test_a_target_outside_the_unit_interval_is_named(target: float) -> None:
    with pytest.raises(ValueError, match=f"target={target}"):
        activation_kl(torch.rand(3, 2), target)


@pytest.mark.parametrize("wrong", [-0.1, 1.1])
def test_codes_outside_the_unit_interval_are_named(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"code lies in .*code_activation='sigmoid'"):
        activation_kl(torch.tensor([[0.3, wrong]]), 0.1)


def test_one_sigmoid_layer_has_a_closed_form() -> None:
    layer = nn.Linear(6, 4).double()
    x = torch.randn(5, 6, dtype=torch.double, requires_grad=True)
    code = layer(x).sigmoid()
    closed = ((code * (1 - code)).square() @ layer.weight.square().sum(1)).detach()
    torch.testing.assert_close(squared_jacobian(code, x), closed, check_dtype=False)


def test_deep_encoders_match_the_jacobian_of_each_example() -> None:
    encoder = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3), nn.Softplus()
    )
    x = torch.randn(4, 1, 4, 4, requires_grad=True)
    expected = [jacobian(encoder, one[None]).square().sum() for one in x]
    torch.testing.assert_close(squared_jacobian(encoder(x), x), torch.stack(expected))


def test_the_penalty_has_gradients_of_its_own() -> None:
    layer = nn.Linear(3, 2).double()
    x = torch.randn(4, 3, dtype=torch.double, requires_grad=True)

    def penalty(weight: torch.Tensor) -> torch.Tensor:
        code = torch.sigmoid(x @ weight.t() + layer.bias)
        return squared_jacobian(code, x).sum()

    assert torch.autograd.gradcheck(penalty, (layer.weight,))
