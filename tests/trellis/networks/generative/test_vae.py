"""Variational autoencoders against torch.distributions and against integrals over a grid."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from trellis.generative.bounds import iwae
from trellis.generative.gaussian import gaussian_log_prob
from trellis.generative.pixel_likelihood import bernoulli
from trellis.networks.generative.hierarchical_vae import HierarchicalVAE
from trellis.networks.generative.vae import VAE, ConvolutionalVAE

SHAPE, L, B = (1, 4, 8), 3, 5
NETWORKS = {
    "vae": partial(VAE, hidden_channels=(12, 8)),
    "convolutional": partial(ConvolutionalVAE, channels=(4, 6)),
    "hierarchical": partial(
        HierarchicalVAE, lower_dim=4, hidden_channels=(12,), upper_channels=(8,)
    ),
}
NAMES = list(NETWORKS)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def build(name: str, shape: tuple[int, ...] = SHAPE, **options: object) -> nn.Module:
    """A small network whose outputs depend on all of its inputs."""
    network = NETWORKS[name](shape=shape, **{"num_parameters": 1, "latent_dim": L, **options})
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def written(network: nn.Module, *args: object) -> tuple[tuple, Tensor]:
    """The result of the network, and the latent variables that its decoder was given."""
    codes: list[Tensor] = []
    hook = network.decoder.register_forward_pre_hook(lambda _, inputs: codes.append(inputs[0]))
    latents = network(*args)
    hook.remove()
    return latents, codes[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("num_parameters", [1, 2])
def test_shapes(name: str, num_classes: int, num_parameters: int) -> None:
    network = build(name, num_classes=num_classes, num_parameters=num_parameters)
    x, y = torch.rand(B, *SHAPE), torch.arange(B) % 3 if num_classes else None
    latents = network(x, y, 7)
    assert latents.parameters.shape == (7, B, num_parameters, *SHAPE)
    assert latents.log_prior().shape == latents.log_posterior().shape == (7, B)
    assert latents.kl.shape == (B,)
    assert [t.shape for t in network.encode(x, y)] == [(B, L)] * 2
    z, y = torch.randn(2, L), None if y is None else y[:2]
    assert network.decode(z, y).shape == (2, num_parameters, *SHAPE)
    assert network.sample(2, y).shape == (2, num_parameters, *SHAPE)
    assert network.latent_dim == L


@pytest.mark.parametrize("name", ["vae", "convolutional"])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_densities_are_those_of_torch_at_the_samples_of_z(name: str, num_classes: int) -> None:
    network = build(name, num_classes=num_classes)
    x, y = torch.rand(B, *SHAPE), torch.arange(B) % 3 if num_classes else None
    latents, z = written(network, x, y, 6)
    z = z.view(6, B, -1)[..., :L]
    mean, log_scale = network.encode(x, y)
    posterior = Independent(Normal(mean, log_scale.exp()), 1)
    prior = Independent(Normal(torch.zeros_like(mean), 1.0), 1)
    torch.testing.assert_close(
        latents.log_posterior(), posterior.log_prob(z), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(latents.log_prior(), prior.log_prob(z))
    torch.testing.assert_close(latents.kl, torch.distributions.kl_divergence(posterior, prior))
    for k in range(6):
        torch.testing.assert_close(latents.parameters[k], network.decode(z[k], y))
    torch.testing.assert_close(network.reconstruct(x, y), network.decode(mean, y))


def test_densities_of_both_levels_are_those_of_torch() -> None:
    network = build("hierarchical")
    codes: dict[str, Tensor] = {}
    hooks = [
        getattr(network, part).register_forward_pre_hook(
            lambda _, inputs, part=part: codes.update({part: inputs[0].view(6, B, -1)})
        )
        for part in ("upper_encoder", "upper_decoder", "decoder")
    ]
    x = torch.rand(B, *SHAPE)
    latents = network(x, None, 6)
    for hook in hooks:
        hook.remove()
    z1, z2 = codes["upper_encoder"], codes["upper_decoder"]
    assert z1.equal(codes["decoder"])
    assert (z1.shape, z2.shape) == ((6, B, 4), (6, B, L))

    def normal(network: nn.Module, given: Tensor) -> Independent:
        mean, log_scale = network(given).chunk(2, -1)
        return Independent(Normal(mean, log_scale.exp()), 1)

    def flat(network: nn.Module, given: Tensor) -> Independent:
        return normal(lambda z: network(z.flatten(0, 1)).view(6, B, -1), given)

    lower = normal(network.encoder, x.flatten(1))
    upper = flat(network.upper_encoder, z1)
    above = flat(network.upper_decoder, z2)
    prior = Independent(Normal(torch.zeros(L), 1.0), 1)
    expected = lower.log_prob(z1) + upper.log_prob(z2)
    torch.testing.assert_close(latents.log_posterior(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(latents.log_prior(), prior.log_prob(z2) + above.log_prob(z1))
    kl = torch.distributions.kl_divergence(upper, prior.expand((6, B)))
    kl = (kl + lower.log_prob(z1) - above.log_prob(z1)).mean(0)
    torch.testing.assert_close(latents.kl, kl, rtol=1e-4, atol=1e-4)
    mean = lower.mean
    torch.testing.assert_close(network.reconstruct(x).flatten(1), network.decoder(mean))
    torch.testing.assert_close(network.encode(x)[0], normal(network.upper_encoder, mean).mean)
    mean = normal(network.upper_decoder, z2[0]).mean
    torch.testing.assert_close(network.decode(z2[0]).flatten(1), network.decoder(mean))


@pytest.mark.parametrize("name", NAMES)
def test_log_ratios_average_to_the_divergence(name: str) -> None:
    network, x = build(name), torch.rand(B, *SHAPE)
    with torch.no_grad():
        latents = network(x, None, 10_000)
    ratio = latents.log_posterior() - latents.log_prior()
    error = ratio.std(0) / math.sqrt(10_000)
    assert ((ratio.mean(0) - latents.kl).abs() < 4 * error).all()
    assert (latents.kl > 10 * error).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_likelihood_is_the_integral_over_z(name: str) -> None:
    """With one latent dimension the integral is a sum over a grid."""
    lower = {"lower_dim": 1} if name == "hierarchical" else {}
    network = build(name, (1, 4, 4), latent_dim=1, **lower)
    for parameter in network.decoder.parameters():
        nn.init.normal_(parameter, std=0.8)
    x = torch.randint(2, (2, 1, 4, 4)).float()
    grid = torch.linspace(-9, 9, 1501)[:, None]
    step = math.log(18 / 1500)
    with torch.no_grad():
        log_prior = gaussian_log_prob(grid)
        if name == "hierarchical":
            mean, log_scale = network.upper_decoder(grid).chunk(2, -1)  # of z1 for each z2
            given = gaussian_log_prob(grid[:, None, :], mean, log_scale)  # [z1, z2]
            log_prior = (given + log_prior).logsumexp(1) + step
        parameters = network.decoder(grid).view(1501, 1, 1, 1, 4, 4).expand(-1, 2, -1, -1, -1, -1)
        evidence = (bernoulli(x, parameters) + log_prior[:, None]).logsumexp(0) + step
        latents = network(x, None, 40_000)
        weights = bernoulli(x, latents.parameters) + latents.log_prior() - latents.log_posterior()
        torch.testing.assert_close(iwae(weights), evidence, atol=0.05, rtol=0)
        assert (weights.mean(0) < evidence).all()
        probs = network.decoder(grid).flatten(1).sigmoid()
        mean = (log_prior[:, None].exp() * probs).sum(0) * math.exp(step)
        sampled = network.sample(40_000).sigmoid().mean(0)
        torch.testing.assert_close(sampled.flatten(), mean, atol=0.01, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_a_function_of_the_generator(name: str) -> None:
    network = build(name)
    first, second, other = (
        network.sample(4, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first.equal(second)
    assert not first.isclose(other).any()
    assert not first.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_labels_reach_both_directions(name: str) -> None:
    network, x = build(name, num_classes=3), torch.rand(1, *SHAPE).expand(3, *SHAPE)
    y, z = torch.arange(3), torch.zeros(3, L)
    for values in (network.encode(x, y)[0], network.decode(z, y)):
        for a, b in ((0, 1), (1, 2), (0, 2)):
            assert (values[a] - values[b]).abs().max() > 1e-3
    alone, together = network.decode(z[1:2], y[1:2]), network.decode(z, y)[1:2]
    torch.testing.assert_close(alone, together)


@pytest.mark.parametrize("name", NAMES)
def test_labels_stay_with_their_examples(name: str) -> None:
    """With many samples, too: a posterior without variance shows the label of the decoder."""
    network = build(name, num_classes=3)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, y = torch.rand(3, *SHAPE), torch.arange(3)
    _, z = written(network, x, y, 4)
    assert z[:, -3:].argmax(1).equal(y.repeat(4))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name: str) -> None:
    network = build(name, num_classes=3, num_parameters=2)
    latents = network(torch.rand(B, *SHAPE), torch.arange(B) % 3, 2)
    weights = (latents.parameters * torch.randn(2, *SHAPE)).sum() + latents.kl.sum()
    weights.backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_gradients_flow_through_the_samples_of_z(name: str) -> None:
    """Mean and scale have gradients from the reconstruction alone."""
    network = build(name)
    network(torch.rand(B, *SHAPE)).parameters.square().sum().backward()
    output = [p for p in network.encoder.parameters() if p.ndim == 1][-1].grad
    assert (output != 0).all()


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_impossible_sizes_are_named(name: str) -> None:
    with pytest.raises(ValueError, match="latent_dim=0: give at least 1"):
        build(name, latent_dim=0)
    with pytest.raises(ValueError, match="num_parameters=0"):
        build(name, num_parameters=0)
    with pytest.raises(ValueError, match=r"shape=\(0, 4, 4\)"):
        build(name, (0, 4, 4))
    with pytest.raises(ValueError, match=r"shape=\(\): give that of one example"):
        build(name, ())
    with pytest.raises(ValueError, match="lower_dim=0"):
        build("hierarchical", lower_dim=0)


@pytest.mark.parametrize("shape", [(784,), (1, 28, 30), (1, 30, 28), (4, 4)])
def test_images_that_cannot_be_halved_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="2 convolutions take images .* divisible by 4"):
        build("convolutional", shape)
    with pytest.raises(ValueError, match="channels="):
        build("convolutional", channels=())


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_fit_is_named(name: str) -> None:
    network, x = build(name), torch.rand(B, *SHAPE)
    with pytest.raises(ValueError, match=r"x \[5, 32\] does not fit .*VAE\(shape=\(1, 4, 8\)\)"):
        network(x.flatten(1))
    with pytest.raises(ValueError, match=r"x \[2, 4\] does not fit .* give x \[B, 3\]"):
        network.decode(torch.zeros(2, L + 1))
    with pytest.raises(ValueError, match="y is given, but .* is not conditional"):
        network(x, torch.zeros(B, dtype=torch.long))
    network = build(name, num_classes=3)
    with pytest.raises(ValueError, match="is conditional: give labels"):
        network(x)
    with pytest.raises(ValueError, match=r"label 3 is out of range: .*takes 0 to 2"):
        network(x, torch.tensor([0, 1, 3, 2, 1]))
    with pytest.raises(ValueError, match="label -1 is out of range"):
        network.sample(1, torch.tensor([-1]))
    with pytest.raises(ValueError, match=r"y \[5\] of torch.float32: give labels"):
        network(x, torch.zeros(B))
