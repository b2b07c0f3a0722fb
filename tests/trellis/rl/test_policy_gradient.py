"""Losses of policies against their definitions, step by step and by differentiation."""

import math

import pytest
import torch
from torch.distributions import Categorical

from trellis.rl.policy_gradient import (
    clipped_surrogate_loss,
    clipped_value_loss,
    policy_gradient_loss,
    standardized,
)


def test_standardized() -> None:
    values = torch.randn(50, generator=torch.Generator().manual_seed(0)) * 7 + 3
    found = standardized(values)
    assert found.mean().abs() < 1e-6
    assert found.std() == pytest.approx(1, abs=1e-6)
    assert torch.equal(found.argsort(), values.argsort())
    assert standardized(torch.tensor([4.0])).tolist() == [0.0]
    assert standardized(torch.full((3,), 2.0)).tolist() == [0.0] * 3


def test_policy_gradient_of_a_bandit_with_two_arms() -> None:
    """From equal probabilities, and rewards 1 and 0: d E[r] / d logit = p (1 - p) = 1/4."""
    logits = torch.zeros(2, requires_grad=True)
    log_prob = Categorical(logits=logits).log_prob(torch.tensor([0, 1]))
    # Each arm once is its probability: the mean over both is the expectation.
    (-policy_gradient_loss(log_prob, torch.tensor([1.0, 0.0]))).backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [0.25, -0.25]


def test_what_is_learned_from_gets_no_gradient() -> None:
    """Advantages and returns come from a value that the loss is not to change."""
    learned, goal = torch.zeros(3, requires_grad=True), torch.ones(3, requires_grad=True)
    for loss in (
        policy_gradient_loss(learned, goal),
        clipped_surrogate_loss(learned, torch.zeros(3), goal, clip=0.2),
        clipped_value_loss(learned, torch.zeros(3), goal, clip=0.2),
    ):
        loss.backward()
        assert learned.grad is not None
        assert goal.grad is None


@pytest.mark.parametrize("advantage", [2.0, -2.0])
@pytest.mark.parametrize("ratio", [0.5, 0.95, 1.0, 1.1, 1.7])
def test_clipped_surrogate_case_by_case(advantage: float, ratio: float) -> None:
    """Table 1 of Schulman et al. 2017's figure 1: no gradient where it has gone far enough."""
    log_prob = torch.tensor([math.log(ratio) - 3], requires_grad=True)
    old = torch.full((1,), -3.0, requires_grad=True)
    loss = clipped_surrogate_loss(log_prob, old, torch.tensor([advantage]), clip=0.2)
    loss.backward()
    beyond = ratio > 1.2 if advantage > 0 else ratio < 0.8
    edge = 1.2 if advantage > 0 else 0.8
    expected = edge * advantage if beyond else ratio * advantage
    assert -loss.item() == pytest.approx(expected, rel=1e-5)
    assert log_prob.grad is not None
    assert -log_prob.grad.item() == pytest.approx(0 if beyond else ratio * advantage, rel=1e-5)
    assert old.grad is None


def test_surrogate_begins_as_the_policy_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    advantages = torch.randn(9, generator=generator)
    log_prob = torch.randn(9, generator=generator).requires_grad_()
    (one,) = torch.autograd.grad(policy_gradient_loss(log_prob, advantages), log_prob)
    surrogate = clipped_surrogate_loss(log_prob, log_prob.detach(), advantages, clip=0.1)
    (other,) = torch.autograd.grad(surrogate, log_prob)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("value", "expected", "derivative"),
    [
        (1.1, 0.405, -0.9),  # within the clip: (2 - 1.1)^2 / 2
        (1.5, 0.32, 0.0),  # beyond it: as from 1.2, and no further
        (0.5, 1.125, -1.5),  # away from the target: unclipped is worse
        (2.0, 0.32, 0.0),
    ],
)
def test_clipped_value_loss_by_hand(value: float, expected: float, derivative: float) -> None:
    values = torch.tensor([value], requires_grad=True)
    loss = clipped_value_loss(values, torch.ones(1), torch.tensor([2.0]), clip=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert values.grad is not None
    assert values.grad.item() == pytest.approx(derivative, rel=1e-5)


def test_values_unclipped_are_half_the_squared_error() -> None:
    values, old, returns = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    found = clipped_value_loss(values, old, returns, clip=math.inf)
    torch.testing.assert_close(found, torch.nn.functional.mse_loss(values, returns) / 2)


@pytest.mark.parametrize("loss", [policy_gradient_loss, clipped_surrogate_loss])
def test_shapes_are_one_number_a_step(loss) -> None:
    more = (torch.zeros(3), torch.zeros(3, 1), 0.1) if loss is clipped_surrogate_loss else ()
    with pytest.raises(ValueError, match=r"log_prob \[3\] and advantages \[3, 1\]: give one"):
        loss(torch.zeros(3), *(more or (torch.zeros(3, 1),)))
