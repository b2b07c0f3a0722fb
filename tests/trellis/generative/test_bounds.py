"""Bounds on a linear-Gaussian model, whose likelihood is known.

z ~ N(0, I), x | z ~ N(W z, s^2 I), so x ~ N(0, W W' + s^2 I), and the posterior is Gaussian too.
"""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from trellis.generative.bounds import elbo, iwae
from trellis.generative.gaussian import gaussian_kl, gaussian_log_prob

L, D, S = 2, 3, 0.7


class Model:
    """The exact value, and samples from an approximate posterior that is somewhat wrong."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.w = torch.randn(D, L, generator=generator, dtype=torch.double)
        self.x = torch.randn(4, D, generator=generator, dtype=torch.double)
        precision = torch.eye(L, dtype=torch.double) + self.w.t() @ self.w / S**2
        self.true = MultivariateNormal(
            self.x @ self.w @ torch.linalg.inv(precision) / S**2, precision_matrix=precision
        )
        self.mean = self.true.mean + 0.2
        self.log_scale = -0.5 * precision.diagonal().log().expand(4, L) + 0.2
        covariance = self.w @ self.w.t() + S**2 * torch.eye(D, dtype=torch.double)
        zeros = torch.zeros(D, dtype=torch.double)
        self.evidence = MultivariateNormal(zeros, covariance).log_prob(self.x)

    def log_weights(self, num_samples: int, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(num_samples, 4, L, generator=generator, dtype=torch.double)
        z = self.mean + self.log_scale.exp() * noise
        return (
            gaussian_log_prob(self.x, z @ self.w.t(), torch.full_like(self.x, math.log(S)))
            + gaussian_log_prob(z)
            - gaussian_log_prob(z, self.mean, self.log_scale)
        )


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


def test_one_sample_gives_the_evidence_lower_bound(model: Model) -> None:
    weights = model.log_weights(1)
    assert iwae(weights).equal(elbo(weights))


def test_the_elbo_gap_is_the_divergence_of_the_posteriors(model: Model) -> None:
    ours = MultivariateNormal(model.mean, torch.diag_embed((2 * model.log_scale).exp()))
    gap = torch.distributions.kl_divergence(ours, model.true)
    assert gap.min() > 0.1
    torch.testing.assert_close(
        elbo(model.log_weights(200_000)), model.evidence - gap, atol=0.01, rtol=0
    )


def test_more_samples_tighten_the_bound_and_none_exceeds_the_evidence(model: Model) -> None:
    weights = model.log_weights(100_000)
    bounds = [iwae(weights.view(k, -1, 4)).mean(0) for k in (1, 2, 5, 50, 1000)]
    for looser, tighter in zip(bounds, bounds[1:], strict=False):
        assert (looser < tighter).all()
    for bound in bounds:
        assert (bound < model.evidence + 0.02).all()


def test_importance_sampling_converges_to_the_evidence(model: Model) -> None:
    torch.testing.assert_close(iwae(model.log_weights(200_000)), model.evidence, atol=0.01, rtol=0)


def test_the_true_posterior_leaves_no_gap() -> None:
    """With the exact posterior every importance weight is p(x)."""
    w, x = torch.tensor([1.5], dtype=torch.double), torch.tensor([[0.3]], dtype=torch.double)
    variance = 1 / (1 + w**2 / S**2)
    mean, log_scale = x * w * variance / S**2, 0.5 * variance.log().expand(1, 1)
    z = mean + log_scale.exp() * torch.randn(7, 1, 1, dtype=torch.double)
    weights = (
        gaussian_log_prob(x, z * w, torch.full_like(x, math.log(S)))
        + gaussian_log_prob(z)
        - gaussian_log_prob(z, mean, log_scale)
    )
    evidence = gaussian_log_prob(x, log_scale=0.5 * (w**2 + S**2).log().expand(1, 1))
    torch.testing.assert_close(weights, evidence.expand(7, 1))


def test_the_two_forms_of_the_elbo_agree(model: Model) -> None:
    """Reconstruction term minus KL divergence is the mean of the log weights."""
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(200_000, 4, L, generator=generator, dtype=torch.double)
    z = model.mean + model.log_scale.exp() * noise
    scale = torch.full_like(model.x, math.log(S))
    reconstruction = gaussian_log_prob(model.x, z @ model.w.t(), scale).mean(0)
    torch.testing.assert_close(
        reconstruction - gaussian_kl(model.mean, model.log_scale),
        elbo(model.log_weights(200_000)),
        atol=0.02,
        rtol=0,
    )


def test_small_weights_do_not_underflow() -> None:
    weights = torch.tensor([[-2000.0], [-2001.0]])
    expected = -2000 + math.log((1 + math.exp(-1)) / 2)
    torch.testing.assert_close(iwae(weights), torch.tensor([expected]))
