"""Generators and discriminators: labels, norms, and the sizes of the literature."""

from functools import partial

import pytest
import torch
from torch import nn

from trellis.networks.generative.gan import (
    DCGANDiscriminator,
    DCGANGenerator,
    MLPDiscriminator,
    MLPGenerator,
)

torch.set_num_threads(1)
SMALL = {
    "mlp": (
        (2, 3),
        partial(MLPGenerator, latent_dim=4, hidden_channels=(6,)),
        partial(MLPDiscriminator, hidden_channels=(6,)),
    ),
    "dcgan": (
        (1, 28, 28),
        partial(DCGANGenerator, latent_dim=4, channels=3),
        partial(DCGANDiscriminator, channels=3),
    ),
}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_are_those_of_the_pytorch_tutorial():
    # "DCGAN Tutorial": 64 x 64 colours, nz = 100, ngf = ndf = 64.
    assert parameters(DCGANGenerator((3, 64, 64))) == 3_576_704
    assert parameters(DCGANDiscriminator((3, 64, 64))) == 2_765_568


def test_layers_are_those_of_the_paper():
    """Radford et al. 2016, section 3 and figure 1: 4x4x8c, 8x8x4c, 16x16x2c, 32x32xc, 64x64."""
    network = DCGANGenerator((3, 64, 64), channels=4, latent_dim=5)
    sizes = []
    for layer in network.layers:
        if isinstance(layer, nn.ConvTranspose2d):
            layer.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[1:])))
    network(torch.randn(2, 5))
    assert sizes == [(32, 4, 4), (16, 8, 8), (8, 16, 16), (4, 32, 32), (3, 64, 64)]
    hidden = [nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU]
    kinds = [type(layer) for layer in network.layers]
    assert kinds == [*hidden * 4, nn.ConvTranspose2d, nn.Sigmoid]
    sizes.clear()
    network = DCGANDiscriminator((1, 28, 28), channels=4)
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[1:])))
    network(torch.randn(2, 1, 28, 28))
    assert sizes == [(4, 14, 14), (8, 7, 7), (1, 1, 1)]
    kinds = [type(layer) for layer in network.layers]
    assert kinds == [
        nn.Conv2d, nn.LeakyReLU, nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU, nn.Conv2d,
    ]  # fmt: skip


def test_options_reach_the_perceptrons():
    g = MLPGenerator((2,), hidden_channels=(3,), activation="tanh", batch_norm=True)
    assert any(isinstance(layer, nn.BatchNorm1d) for layer in g.modules())
    assert any(isinstance(layer, nn.Tanh) for layer in g.modules())
    d = MLPDiscriminator((2,), hidden_channels=(3,), activation="elu", dropout=0.4)
    assert [layer.p for layer in d.modules() if isinstance(layer, nn.Dropout)] == [0.4]
    assert any(isinstance(layer, nn.ELU) for layer in d.modules())
    assert not any(isinstance(layer, nn.BatchNorm1d) for layer in d.modules())


def test_weights_start_from_the_paper_s_normal():
    torch.manual_seed(0)
    for network in (DCGANGenerator((1, 28, 28)), DCGANDiscriminator((1, 28, 28))):
        weights = [layer.weight for layer in network.layers if hasattr(layer, "kernel_size")]
        values = torch.cat([weight.detach().flatten() for weight in weights])
        assert float(values.std()) == pytest.approx(0.02, rel=0.02)
        assert float(values.mean()) == pytest.approx(0.0, abs=1e-3)
        norm = next(layer for layer in network.layers if isinstance(layer, nn.BatchNorm2d))
        assert float(norm.weight.detach().mean()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("side", [28, 32, 64, 96])
def test_images_have_the_given_side(side):
    z = torch.randn(2, 3)
    images = DCGANGenerator((2, side, side), latent_dim=3, channels=2)(z)
    assert images.shape == (2, 2, side, side)
    assert DCGANDiscriminator((2, side, side), channels=2)(images).shape == (2,)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("embedding", [0, 2])
def test_labels_matter_in_both(name, embedding):
    shape, generator, discriminator = SMALL[name]
    g = generator(shape, num_classes=3, class_embed_dim=embedding).eval()
    d = discriminator(shape, num_classes=3, class_embed_dim=embedding).eval()
    z = torch.randn(1, 4).expand(3, 4)
    x = g(z, torch.tensor([0, 1, 1]))
    assert x.shape == (3, *shape)
    assert not torch.allclose(x[0], x[1], atol=1e-7)
    torch.testing.assert_close(x[1], x[2])
    logits = d(x[1:2].expand(3, *shape), torch.tensor([0, 2, 2]))
    assert logits.shape == (3,)
    assert abs(float((logits[0] - logits[1]).detach())) > 1e-7
    torch.testing.assert_close(logits[1], logits[2])


def test_a_one_hot_label_is_a_bias_of_its_own():
    """The channel of the label is 1, the others are 0: the label adds its weights."""
    network = DCGANDiscriminator((1, 28, 28), num_classes=3, channels=2, batch_norm=False)
    first, x = network.layers[0], torch.randn(1, 1, 28, 28)
    seen = []
    first.register_forward_hook(lambda _, inputs, out: seen.append((inputs[0], out)))
    network(x, torch.tensor([2]))
    maps, out = seen[0]
    expected = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(3, 28, 28)
    torch.testing.assert_close(maps[0, 1:], expected)
    by_hand = nn.functional.conv2d(x, first.weight[:, :1], first.bias, 2, 1)
    label = first.weight[:, 3].sum((1, 2))  # where the kernel lies inside the image
    torch.testing.assert_close((out - by_hand)[0, :, 5, 5], label, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("output", "least", "most"), [("sigmoid", 0, 1), ("tanh", -1, 1), ("identity", -99, 99)]
)
@pytest.mark.parametrize("make", [MLPGenerator, DCGANGenerator])
def test_outputs_lie_in_their_range(make, output, least, most):
    torch.manual_seed(0)
    network = make((1, 28, 28), output=output)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= 4
    x = network(torch.randn(20, network.latent_dim)).detach()
    assert float(x.min()) >= least
    assert float(x.max()) <= most
    if output == "identity":
        assert float(x.abs().max()) > 1
    else:
        assert float(x.max() - x.min()) > 0.5 * (most - least)


@pytest.mark.parametrize("name", SMALL)
def test_spectral_norm_bounds_every_layer(name):
    shape, _, discriminator = SMALL[name]
    network = discriminator(shape, num_classes=2, spectral_norm=True)
    x, y = torch.randn(3, *shape), torch.tensor([0, 1, 1])
    for _ in range(100):  # power iteration
        network(x, y)
    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len(layers) == {"mlp": 2, "dcgan": 3}[name]
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert float(largest) == pytest.approx(1.0, abs=1e-3)
    plain = discriminator(shape, num_classes=2)
    assert not any("parametrizations" in key for key in plain.state_dict())


def test_without_batch_norm_each_logit_depends_on_its_own_image():
    """As a gradient penalty needs it."""
    x = torch.randn(4, 1, 28, 28)
    network = DCGANDiscriminator((1, 28, 28), channels=2, batch_norm=False)
    torch.testing.assert_close(network(x)[:1], network(x[:1]))
    network = DCGANDiscriminator((1, 28, 28), channels=2)
    assert not torch.allclose(network(x)[:1], network(x[:1]))


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient(name):
    shape, generator, discriminator = SMALL[name]
    g, d = generator(shape, 3, class_embed_dim=2), discriminator(shape, 3, class_embed_dim=2)
    y = torch.tensor([0, 1, 2, 0])
    d(g(torch.randn(4, 4), y), y).sum().backward()
    for network in (g, d):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLPGenerator((2,), latent_dim=0), "latent_dim=0: give at least 1"),
        (lambda: DCGANGenerator((1, 28, 28), latent_dim=0), "latent_dim=0: give at least 1"),
        (lambda: DCGANGenerator((1, 28, 28), channels=0), "channels=0: give at least 1"),
        (lambda: DCGANDiscriminator((1, 28, 28), channels=0), "channels=0: give at least 1"),
        (lambda: MLPGenerator(()), r"shape=\(\)"),
        (lambda: MLPDiscriminator((2, 0)), r"shape=\(2, 0\)"),
        (lambda: DCGANGenerator((784,)), r"shape=\(784,\): give square images"),
        (lambda: DCGANGenerator((1, 28, 32)), r"shape=\(1, 28, 32\): give square images"),
        (lambda: DCGANDiscriminator((1, 30, 30)), r"shape=\(1, 30, 30\): give square images"),
        (lambda: DCGANDiscriminator((1, 7, 7)), r"shape=\(1, 7, 7\): give square images"),
        (lambda: MLPGenerator((2,), -1), "num_classes=-1: give at least 0"),
        (lambda: MLPGenerator((2,), 2, class_embed_dim=-1), "class_embed_dim=-1: give at least 0"),
        (lambda: MLPGenerator((2,), output="softmax"), "output='softmax': choose from identity"),
    ],
)
def test_sizes_that_make_no_network(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", SMALL)
def test_inputs_that_do_not_fit(name):
    shape, generator, discriminator = SMALL[name]
    z, x, y = torch.randn(2, 4), torch.randn(2, *shape), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"z \[2, 5\]: give noise \[B, 4\]"):
        generator(shape)(torch.randn(2, 5))
    with pytest.raises(ValueError, match=r"does not fit \w+Discriminator\(shape="):
        discriminator(shape)(x[:, :, :1])
    for network, first in (
        (generator(shape, 3), z),
        (discriminator(shape, 3), x),
    ):
        with pytest.raises(ValueError, match="is conditional: give labels y"):
            network(first)
        with pytest.raises(ValueError, match="label 3 is out of range.*takes 0 to 2"):
            network(first, torch.tensor([1, 3]))
        with pytest.raises(ValueError, match="label -1 is out of range"):
            network(first, torch.tensor([-1, 0]))
        with pytest.raises(ValueError, match=r"y \[3\]: give one label for each of 2"):
            network(first, torch.tensor([0, 1, 1]))
    for network, first in ((generator(shape), z), (discriminator(shape), x)):
        with pytest.raises(ValueError, match="is not conditional"):
            network(first, y)


@pytest.mark.parametrize("options", [{}, {"batch_norm": False}, {"spectral_norm": True}])
def test_slopes_are_those_of_the_paper(options):
    """Radford et al. 2016, section 4: "the slope of the leak was set to 0.2 in all models"."""
    network = DCGANDiscriminator((3, 64, 64), channels=2, **options)
    slopes = [layer.negative_slope for layer in network.layers if hasattr(layer, "negative_slope")]
    assert slopes == [0.2] * 4
