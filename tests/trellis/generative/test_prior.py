"""Priors and posteriors as parts: torch's mixtures, integrals, and linear Gaussian models.

A VAE of linear maps with unit noise is probabilistic PCA, whose ln p(x) is a Gaussian's
(Tipping and Bishop 1999).
"""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from trellis.generative.bounds import iwae
from trellis.generative.gaussian import gaussian_log_prob
from trellis.generative.pixel_likelihood import bernoulli, unit_gaussian
from trellis.generative.posterior import FlowPosterior
from trellis.generative.prior import FlowPrior, VampPrior
from trellis.generative.transform import Chain, Scaling
from trellis.networks.generative import IAF, NSF, VAE, ConvolutionalVAE, Flow

SHAPE, L, B = (1, 4, 8), 3, 5
spline = partial(FlowPrior, flow=partial(NSF, num_transforms=2, hidden_channels=(6,)))
vamp = partial(VampPrior, num_components=7)
iaf = partial(FlowPosterior, flow=partial(IAF, num_transforms=2, hidden_channels=(6,)))
PARTS = {
    "flow": {"prior": spline},
    "vamp": {"prior": vamp},
    "iaf": {"posterior": partial(iaf, context_features=4)},
    "both": {"prior": vamp, "posterior": partial(iaf, context_features=0)},
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def build(parts: str, kind: type[nn.Module] = VAE, **options: object) -> nn.Module:
    """A small network whose outputs depend on all of its inputs."""
    sizes = {"hidden_channels": (12,)} if kind is VAE else {"channels": (4,)}
    network = kind(SHAPE, 1, **{"latent_dim": L, **sizes, **PARTS[parts], **options})
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def identity(shape: tuple[int, ...], context_features: int = 0) -> Flow:
    return Flow(shape, Chain([Scaling(shape[0])]), context_features=context_features)


def linear(features: int = 6, **options: object) -> VAE:
    """Probabilistic PCA with two latent dimensions."""
    network = VAE((features,), 1, latent_dim=2, hidden_channels=(), **options)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.7)
    return network


def with_exact_posterior(network: VAE, scale: Tensor) -> None:
    """Sets the encoder to p(z | x) under the prior N(0, diag scale^2); the loadings become
    orthogonal, for which that Gaussian is diagonal."""
    layer, encoder = network.decoder.layers[0], network.encoder.layers[0]
    with torch.no_grad():
        layer.weight[:, 1] -= layer.weight[:, 0] * (
            (layer.weight[:, 0] @ layer.weight[:, 1]) / layer.weight[:, 0].square().sum()
        )
        precision = layer.weight.square().sum(0) + scale**-2
        encoder.weight[:2] = layer.weight.t() / precision[:, None]
        encoder.bias[:2] = -(encoder.weight[:2] @ layer.bias)
        encoder.weight[2:] = 0
        encoder.bias[2:] = -0.5 * precision.log()


def log_weights(network: VAE, x: Tensor, num_samples: int) -> Tensor:
    latents = network(x, None, num_samples)
    prior = latents.log_prior() - latents.log_posterior()
    return unit_gaussian(x, latents.parameters) + prior


def exact(network: VAE, x: Tensor, scale: Tensor) -> Tensor:
    """ln p(x) of probabilistic PCA whose prior has these standard deviations."""
    layer = network.decoder.layers[0]
    loadings = layer.weight * scale
    covariance = loadings @ loadings.t() + torch.eye(len(loadings))
    return MultivariateNormal(layer.bias, covariance).log_prob(x)


# --- against exact likelihoods ------------------------------------------------------------------


def test_every_weight_is_the_likelihood_of_probabilistic_pca() -> None:
    """If q(z | x) is exact, under N(0, I) and under a flow that is another Gaussian."""
    x = torch.randn(B, 6)
    scale = torch.tensor([0.5, 1.7])
    for network, std in (
        (linear(), torch.ones(2)),
        (linear(prior=partial(FlowPrior, flow=identity)), scale),
    ):
        if network.prior is not None:
            nn.init.zeros_(network.prior.flow.transform.transforms[0].log_scale)
            network.prior.flow.transform.transforms[0].log_scale.data -= scale.log()
        with_exact_posterior(network, std)
        weights = log_weights(network, x, 4)
        expected = exact(network, x, std).expand(4, B)
        torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-4)


def test_importance_sampling_reaches_the_likelihood_of_probabilistic_pca() -> None:
    """With a posterior that is too wide and off the mean, under a flow as prior."""
    x, scale = torch.randn(B, 6), torch.tensor([0.5, 1.7])
    network = linear(prior=partial(FlowPrior, flow=identity))
    network.prior.flow.transform.transforms[0].log_scale.data.copy_(-scale.log())
    with_exact_posterior(network, scale)
    network.encoder.layers[0].bias.data += torch.tensor([0.1, -0.1, 0.3, 0.3])
    with torch.no_grad():
        weights = log_weights(network, x, 20_000)
    expected = exact(network, x, scale)
    torch.testing.assert_close(iwae(weights), expected, atol=0.03, rtol=0)
    assert (weights.mean(0) < expected - 0.1).all()


def test_a_flow_makes_correlated_posteriors_exact() -> None:
    """A linear IAF has any covariance: the bound is tight where a diagonal Gaussian's is not."""
    part = partial(FlowPosterior, context_features=0)
    flow = partial(IAF, num_transforms=1, hidden_channels=())
    network, x = linear(posterior=partial(part, flow=flow)), torch.randn(B, 6)
    layer, encoder = network.decoder.layers[0], network.encoder.layers[0]
    covariance = torch.linalg.inv(torch.eye(2) + layer.weight.t() @ layer.weight)
    factor = torch.linalg.cholesky(covariance).detach()
    conditioner = network.posterior.flow.transform.transforms[0].transform.conditioner.layers[0]
    with torch.no_grad():
        log_scale = factor.diag().log()
        unbounded = log_scale / (1 - log_scale.abs() / math.log(1000.0))
        conditioner.weight.zero_()
        conditioner.weight[2, 0] = factor[1, 0]  # the shift of the second given the first
        conditioner.bias.copy_(torch.stack([torch.zeros(2), unbounded], 1).flatten())
        encoder.weight.zero_()
        encoder.bias.zero_()
        encoder.weight[:2] = torch.linalg.inv(factor) @ covariance @ layer.weight.t()
        encoder.bias[:2] = -(encoder.weight[:2] @ layer.bias)
    expected = exact(network, x, torch.ones(2))
    weights = log_weights(network, x, 6)
    torch.testing.assert_close(weights, expected.expand(6, B), rtol=1e-4, atol=1e-4)
    latents = network(x, None, 6)
    elbo = unit_gaussian(x, latents.parameters).mean(0) - latents.kl
    torch.testing.assert_close(elbo, expected, rtol=1e-4, atol=1e-4)
    posterior_mean = (x - layer.bias) @ (covariance @ layer.weight.t()).t()
    torch.testing.assert_close(network.encode(x)[0], posterior_mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        network.reconstruct(x), network.decode(posterior_mean), rtol=1e-4, atol=1e-4
    )
    assert abs(factor[1, 0]) > 0.02


@pytest.mark.parametrize("parts", ["flow", "vamp", "iaf"])
def test_the_likelihood_is_the_integral_over_z(parts: str) -> None:
    """With one latent dimension the integral is a sum over a grid."""
    network = build(parts, latent_dim=1)
    for parameter in network.decoder.parameters():
        nn.init.normal_(parameter, std=0.8)
    x, grid = torch.randint(2, (2, *SHAPE)).float(), torch.linspace(-9, 9, 1501)[:, None]
    step = math.log(18 / 1500)
    with torch.no_grad():
        if network.prior is None:
            log_prior = gaussian_log_prob(grid)
        else:
            log_prior = network.prior.log_prob(grid, network.encode)
        assert (log_prior.logsumexp(0) + step).exp().item() == pytest.approx(1, abs=1e-3)
        parameters = network.decoder(grid).view(1501, 1, 1, *SHAPE).expand(-1, 2, -1, -1, -1, -1)
        evidence = (bernoulli(x, parameters) + log_prior[:, None]).logsumexp(0) + step
        latents = network(x, None, 40_000)
        weights = bernoulli(x, latents.parameters) + latents.log_prior() - latents.log_posterior()
        torch.testing.assert_close(iwae(weights), evidence, atol=0.06, rtol=0)
        assert (weights.mean(0) < evidence).all()
        mean = (log_prior[:, None].exp() * network.decoder(grid).sigmoid()).sum(0) * math.exp(step)
        sampled = network.sample(40_000).sigmoid().mean(0)
        torch.testing.assert_close(sampled.flatten(), mean, atol=0.015, rtol=0)


# --- against torch.distributions ----------------------------------------------------------------


@pytest.mark.parametrize("kind", [VAE, ConvolutionalVAE])
def test_vamp_prior_is_the_mixture_of_torch(kind: type[nn.Module]) -> None:
    network = build("vamp", kind)
    mean, log_scale = network.encode(network.prior.pseudo_inputs)
    assert mean.shape == (7, L)
    mixture = MixtureSameFamily(
        Categorical(torch.ones(7)), Independent(Normal(mean, log_scale.exp()), 1)
    )
    z = 2 * torch.randn(4, B, L)
    found = network.prior.log_prob(z, network.encode)
    torch.testing.assert_close(found, mixture.log_prob(z), rtol=1e-4, atol=1e-4)
    drawn = network.prior.draw(40_000, network.encode, None)
    torch.testing.assert_close(drawn.mean(0), mixture.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.var(0), mixture.variance, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("part", ["prior", "posterior"])
def test_an_identity_changes_the_bound_by_noise_only(part: str) -> None:
    wrapped = {
        "prior": partial(FlowPrior, flow=identity),
        "posterior": partial(FlowPosterior, flow=identity, context_features=0),
    }
    plain = VAE(SHAPE, 1, latent_dim=L)
    other = VAE(SHAPE, 1, latent_dim=L, **{part: wrapped[part]})
    other.load_state_dict({**other.state_dict(), **plain.state_dict()})
    x = torch.rand(B, *SHAPE)
    with torch.no_grad():
        torch.manual_seed(1)
        closed = plain(x, None, 4000)
        torch.manual_seed(1)
        sampled = other(x, None, 4000)
    ratios = sampled.log_posterior() - sampled.log_prior()
    torch.testing.assert_close(sampled.kl, ratios.mean(0))
    assert ((sampled.kl - closed.kl).abs() < 4 * ratios.std(0) / math.sqrt(4000)).all()
    torch.testing.assert_close(sampled.parameters, closed.parameters)
    torch.testing.assert_close(sampled.log_prior(), closed.log_prior())
    torch.testing.assert_close(sampled.log_posterior(), closed.log_posterior())


def test_the_context_changes_the_flow() -> None:
    part = FlowPosterior(L, flow=partial(IAF, hidden_channels=(8,)), context_features=4)
    z0, context = torch.randn(1, 1, L).expand(6, B, L), torch.randn(B, 4)
    z, log_det = part(z0, context)
    assert z.shape == z0.shape
    assert log_det.shape == (6, B)
    torch.testing.assert_close(z[0], z[5])
    assert (z[0, 0] - z[0, 1]).abs().max() > 1e-3
    jacobian = torch.autograd.functional.jacobian(
        lambda each: part(each.view(1, 1, L), context[:1])[0].flatten(), z0[0, 0]
    )
    torch.testing.assert_close(log_det[0, 0], torch.linalg.slogdet(jacobian).logabsdet)


# --- learning and errors ------------------------------------------------------------------------


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("kind", [VAE, ConvolutionalVAE])
def test_every_parameter_learns(parts: str, kind: type[nn.Module]) -> None:
    network = build(parts, kind)
    latents = network(torch.rand(B, *SHAPE), None, 2)
    (latents.parameters.square().sum() + latents.kl.sum()).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        # Without a context the first feature of a flow has constants for parameters.
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("prior", [partial(FlowPrior, flow=partial(NSF, num_transforms=1)), vamp])
def test_a_learned_prior_finds_the_codes(prior: partial) -> None:
    """Two codes far apart: the least mean KL divergence is their information, ln 2, where that
    to N(0, I) is 2.57."""
    network = VAE((1,), 1, latent_dim=1, hidden_channels=(), prior=prior)
    encoder, x = network.encoder.layers[0], torch.tensor([[-1.0], [1.0]]).repeat(256, 1)
    encoder.bias.data[:] = torch.tensor([0.0, -1.0])
    encoder.weight.data[:] = torch.tensor([[2.0], [0.0]])
    optimizer = torch.optim.Adam(network.prior.parameters(), 0.05)
    for _ in range(80):
        loss = network(x).kl.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert math.log(2) - 0.1 < loss < math.log(2) + 0.15


def test_samples_are_a_function_of_the_generator() -> None:
    for parts in PARTS:
        network = build(parts)
        first, second, other = (
            network.sample(4, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
        )
        assert first.equal(second)
        assert not first.isclose(other).all()


def test_labels_go_with_flows_but_not_with_pseudo_inputs() -> None:
    y = torch.arange(B) % 3
    for parts in ("flow", "iaf"):
        network = build(parts, num_classes=3)
        assert network(torch.rand(B, *SHAPE), y, 2).kl.shape == (B,)
        assert network.sample(B, y).shape == (B, 1, *SHAPE)
    with pytest.raises(ValueError, match="pseudo-inputs have no labels, but num_classes=3"):
        build("vamp", num_classes=3)


def test_impossible_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="num_components=0: give at least 1"):
        VAE(SHAPE, 1, prior=partial(VampPrior, num_components=0))
    with pytest.raises(ValueError, match="context_features=-1: give at least 0"):
        VAE(SHAPE, 1, posterior=partial(iaf, context_features=-1))
