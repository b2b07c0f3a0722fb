"""Likelihoods against torch.distributions and closed forms."""

import math

import pytest
import torch
from torch.distributions import Gumbel, Normal

from trellis.functional.likelihood import (
    gaussian_nll,
    gumbel_nll,
    heteroscedastic_gaussian_nll,
)


@pytest.fixture
def sample():
    generator = torch.Generator().manual_seed(0)
    x, location, log_scale = torch.randn(3, 7, 4, generator=generator, dtype=torch.float64)
    return x, location.requires_grad_(), log_scale.requires_grad_()


def expected(distribution, x):
    """Summed over an example's targets, averaged over the examples, one at a time."""
    return -sum(row.sum() for row in distribution.log_prob(x)) / len(x)


def assert_same_value_and_gradients(ours, theirs, *inputs):
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, retain_graph=True),
        torch.autograd.grad(theirs, inputs, retain_graph=True),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_gaussian(sample, scale):
    x, mean, _ = sample
    ours, theirs = gaussian_nll(x, mean, scale), expected(Normal(mean, scale), x)
    assert_same_value_and_gradients(ours, theirs, mean)


def test_unit_gaussian_is_half_the_squared_error(sample):
    x, mean, _ = sample
    squares = (x - mean).square().sum(1).mean()
    torch.testing.assert_close(gaussian_nll(x, mean), squares / 2 + 4 * 0.5 * math.log(math.tau))


def test_heteroscedastic_gaussian(sample):
    x, mean, log_scale = sample
    ours = heteroscedastic_gaussian_nll(x, mean, log_scale)
    assert_same_value_and_gradients(
        ours, expected(Normal(mean, log_scale.exp()), x), mean, log_scale
    )


def test_gumbel(sample):
    x, location, log_scale = sample
    ours = gumbel_nll(x, location, log_scale)
    assert_same_value_and_gradients(
        ours, expected(Gumbel(location, log_scale.exp()), x), location, log_scale
    )


def test_gumbel_of_a_sample_and_its_gradients_in_closed_form():
    # Gumbel maximum likelihood, worked out on paper in course 3.
    x = torch.tensor([0.5, 1.2, -0.3, 2.5, 0.9], dtype=torch.float64)
    mu = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    beta = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    n = len(x)
    nll = n * gumbel_nll(x, mu.expand(n), beta.log().expand(n))
    z = (x - 0.4) / 0.8
    closed = n * math.log(0.8) + (x.sum() - n * 0.4) / 0.8 + torch.exp(-z).sum()
    torch.testing.assert_close(nll, closed)
    d_mu, d_beta = torch.autograd.grad(nll, (mu, beta))
    torch.testing.assert_close(d_mu, -n / 0.8 + torch.exp(-z).sum() / 0.8)
    torch.testing.assert_close(
        d_beta,
        n / 0.8 - (x.sum() - n * 0.4) / 0.8**2 + ((x - 0.4) * torch.exp(-z)).sum() / 0.8**2,
    )


def test_tiny_scales_keep_their_logarithm():
    x = torch.zeros(1, 1)
    nll = heteroscedastic_gaussian_nll(x, x, torch.full((1, 1), -80.0))
    assert nll.item() == pytest.approx(-80 + 0.5 * math.log(math.tau))


def test_batch_is_the_mean_of_its_examples(sample):
    x, location, log_scale = sample
    for nll in (heteroscedastic_gaussian_nll, gumbel_nll):
        alone = [nll(x[i : i + 1], location[i : i + 1], log_scale[i : i + 1]) for i in range(7)]
        torch.testing.assert_close(nll(x, location, log_scale), torch.stack(alone).mean())


def test_shapes_must_agree():
    x, column = torch.zeros(5), torch.zeros(5, 1)
    for wrong in (
        lambda: gaussian_nll(x, column),
        lambda: heteroscedastic_gaussian_nll(column, column, x),
        lambda: gumbel_nll(column, x, column),
    ):
        with pytest.raises(ValueError, match=r"\[5\].*\[5, 1\]|\[5, 1\].*\[5\]"):
            wrong()


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_scale_is_positive(scale):
    with pytest.raises(ValueError, match="give a standard deviation above 0"):
        gaussian_nll(torch.zeros(1, 1), torch.zeros(1, 1), scale)
