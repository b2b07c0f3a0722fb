"""Natural gradients beside matrices made entry by entry, and the bandit with two arms."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence

from trellis.functional.estimators import score_function
from trellis.rl.natural_gradient import (
    conjugate_gradient,
    fisher_vector_product,
    flatten,
    trust_region_step,
)

ACTIONS, FEATURES = 3, 2


def symmetric(size: int, seed: int = 0) -> torch.Tensor:
    root = torch.randn(size, size, generator=torch.Generator().manual_seed(seed)).double()
    return root @ root.T + torch.eye(size).double()


class SoftmaxPolicy:
    """Preferences linear in two features of four states, and what its actions are worth."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.states = torch.randn(4, FEATURES, generator=generator).double()
        self.worth = torch.randn(4, ACTIONS, generator=generator).double()
        self.weight = torch.randn(ACTIONS, FEATURES, generator=generator).double()
        self.bias = torch.randn(ACTIONS, generator=generator).double()
        self.parameters = [self.weight.requires_grad_(), self.bias.requires_grad_()]

    def __call__(self, change: torch.Tensor | None = None) -> Categorical:
        weight, bias = self.parameters
        if change is not None:
            weight = weight + change[: weight.numel()].view_as(weight)
            bias = bias + change[weight.numel() :]
        return Categorical(logits=self.states @ weight.T + bias)

    def kl(self, change: torch.Tensor | None = None) -> torch.Tensor:
        old = Categorical(logits=self().logits.detach())
        return kl_divergence(old, self(change)).mean()

    def gradient(self) -> torch.Tensor:
        expected = (self().probs * self.worth).sum(-1).mean()
        return flatten(torch.autograd.grad(expected, self.parameters))

    def fisher(self) -> torch.Tensor:
        """By definition: the mean over states and actions of the score times itself."""
        size = sum(p.numel() for p in self.parameters)
        total = torch.zeros(size, size).double()
        for state in range(4):
            for action in range(ACTIONS):
                log_prob = self().logits.log_softmax(-1)[state, action]
                score = flatten(torch.autograd.grad(log_prob, self.parameters))
                total += log_prob.detach().exp() * torch.outer(score, score) / 4
        return total


@pytest.mark.parametrize("size", [1, 2, 5, 12])
def test_conjugate_gradients_solve_what_numpy_does(size) -> None:
    matrix = symmetric(size)
    target = torch.randn(size, generator=torch.Generator().manual_seed(1)).double()
    found = conjugate_gradient(lambda x: matrix @ x, target, iterations=2 * size, tolerance=1e-24)
    expected = np.linalg.solve(matrix.numpy(), target.numpy())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8)


def test_as_many_iterations_as_there_are_eigenvalues() -> None:
    """Three eigenvalues, however often each: three products. Then it stops by itself."""
    diagonal = torch.tensor([1.0, 5.0, 20.0]).double().repeat(10)
    target, calls = torch.ones(30).double(), []

    def product(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return diagonal * x

    torch.testing.assert_close(conjugate_gradient(product, target, 30, 1e-20), target / diagonal)
    assert len(calls) == 3
    calls.clear()
    rough = conjugate_gradient(product, target, iterations=2)
    assert len(calls) == 2
    assert not torch.allclose(rough, target / diagonal)
    calls.clear()
    assert conjugate_gradient(product, 0 * target).abs().sum() == 0
    assert not calls


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_products_are_those_of_the_fisher_matrix(damping) -> None:
    policy = SoftmaxPolicy()
    product = fisher_vector_product(policy.kl(), policy.parameters, damping)
    size = len(policy.gradient())
    found = torch.stack([product(column) for column in torch.eye(size).double()])
    torch.testing.assert_close(found, policy.fisher() + damping * torch.eye(size).double())


def test_natural_gradient_by_brute_force() -> None:
    """Damped it is numpy's solution; without, the shortest of many, for F is singular here."""
    policy = SoftmaxPolicy()
    gradient, fisher = policy.gradient(), policy.fisher().numpy()
    size = len(gradient)
    damped = fisher_vector_product(policy.kl(), policy.parameters, damping=0.05)
    expected = np.linalg.solve(fisher + 0.05 * np.eye(size), gradient.numpy())
    found = conjugate_gradient(damped, gradient, 50, 1e-24)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    plain = fisher_vector_product(policy.kl(), policy.parameters)
    found = conjugate_gradient(plain, gradient, 6, 1e-24)
    shortest = np.linalg.pinv(fisher, 1e-10) @ gradient.numpy()
    np.testing.assert_allclose(found.numpy(), shortest, rtol=1e-6, atol=1e-9)


def test_of_a_table_it_is_the_advantage() -> None:
    """With a preference for each action of one state: Kakade's result for natural gradients."""
    logits = torch.tensor([0.3, -1.0, 0.8]).double().requires_grad_()
    worth = torch.tensor([1.0, 5.0, 2.0]).double()
    probabilities = logits.softmax(0)
    value = (probabilities * worth).sum()
    [gradient] = torch.autograd.grad(value, logits, retain_graph=True)
    kl = kl_divergence(Categorical(logits=logits.detach()), Categorical(logits=logits))
    found = conjugate_gradient(fisher_vector_product(kl, [logits]), gradient, 3, 1e-24)
    advantages = worth - value.detach()
    torch.testing.assert_close(found - found.mean(), advantages - advantages.mean())


def test_fisher_of_a_gaussian() -> None:
    """By mean and logarithm of the standard deviation it is diag(1 / s^2, 2)."""
    mean, log_std = torch.tensor(0.7).double(), torch.tensor(-0.4).double()
    parameters = [mean.requires_grad_(), log_std.requires_grad_()]
    old = Normal(mean.detach(), log_std.detach().exp())
    product = fisher_vector_product(kl_divergence(old, Normal(mean, log_std.exp())), parameters)
    found = torch.stack([product(column) for column in torch.eye(2).double()])
    torch.testing.assert_close(found, torch.tensor([np.exp(0.8), 2.0]).double().diag())


def test_a_parameter_that_does_not_matter() -> None:
    logits, other = torch.zeros(2, requires_grad=True), torch.zeros(3, requires_grad=True)
    kl = kl_divergence(Categorical(logits=logits.detach()), Categorical(logits=logits))
    for damping in (0.0, 2.0):  # nor does a constant added to all preferences
        found = fisher_vector_product(kl, [logits, other], damping)(torch.ones(5))
        assert found.tolist() == [damping] * 5
    # With no curvature at all there is no step to take, rather than an infinite one.
    flat = fisher_vector_product(kl, [logits, other])
    assert conjugate_gradient(flat, torch.ones(5)).tolist() == [0.0] * 5


def test_the_step_is_as_long_as_the_policy_may_change() -> None:
    """And no other step of that divergence gains as much, to first order."""
    policy, max_kl = SoftmaxPolicy(), 1e-4
    gradient = policy.gradient()
    product = fisher_vector_product(policy.kl(), policy.parameters)
    direction = conjugate_gradient(product, gradient, 6, 1e-24)
    step = trust_region_step(direction, product, max_kl)
    assert policy.kl(step).item() == pytest.approx(max_kl, rel=0.02)
    gain = float(gradient @ step)
    # The closed form of the maximum: sqrt(2 epsilon g F^-1 g).
    assert gain == pytest.approx(float((2 * max_kl * gradient @ direction).sqrt()))
    generator = torch.Generator().manual_seed(2)
    for _ in range(50):
        other = torch.randn(len(gradient), generator=generator).double()
        assert float(gradient @ trust_region_step(other, product, max_kl)) < gain
    euclidean = trust_region_step(gradient, product, max_kl)
    assert float(gradient @ euclidean) < gain
    assert trust_region_step(0 * step, product, max_kl).abs().sum() == 0


@pytest.mark.parametrize(
    ("baseline", "estimates", "variance"),
    [(None, (0.5, 0.0), 0.0625), (0.5, (0.25, 0.25), 0.0), (1.0, (0.0, 0.5), 0.0625)],
)
def test_a_bandit_with_two_arms(baseline, estimates, variance) -> None:
    """Arms that pay 1 and 0, chosen evenly: the first one's preference has the gradient 1/4.

    A baseline of the mean reward changes no expectation and here takes away all variance.
    """
    found = []
    for arm in (0, 1):
        logits = torch.zeros(2, requires_grad=True)
        log_prob = Categorical(logits=logits).log_prob(torch.tensor([arm]))
        constant = None if baseline is None else torch.tensor([baseline])
        loss = score_function(torch.tensor([1.0 - arm]), log_prob, constant)
        [gradient] = torch.autograd.grad(loss, logits)
        assert gradient[0] == -gradient[1]
        found.append(float(gradient[0]))
    assert found == list(estimates)
    mean = (found[0] + found[1]) / 2
    assert mean == 0.25
    assert sum((estimate - mean) ** 2 for estimate in found) / 2 == variance


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="iterations=0: give at least 1"):
        conjugate_gradient(lambda x: x, torch.ones(2), iterations=0)
    with pytest.raises(ValueError, match="max_kl=0.0: give a positive"):
        trust_region_step(torch.ones(2), lambda x: x, 0.0)
    with pytest.raises(ValueError, match="kl has no gradient"):
        fisher_vector_product(torch.zeros(()), [torch.zeros(2, requires_grad=True)])


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_the_tolerance_is_a_share_of_the_target(scale: float) -> None:
    """A gradient in other units takes as many products, to a solution in those units."""
    matrix, target = symmetric(12), scale * torch.ones(12).double()
    calls: list[int] = []

    def product(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return matrix @ x

    found = conjugate_gradient(product, target, iterations=50, tolerance=1e-4)
    expected = conjugate_gradient(lambda x: matrix @ x, target / scale, 50, 1e-4)
    torch.testing.assert_close(found / scale, expected)
    residual = matrix @ found - target
    assert residual @ residual <= 1e-4 * (target @ target)
    assert 1 < len(calls) < 12
