"""Autoencoders: the linear one against principal components of real digits, the tied one."""

from functools import partial

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import Tensor, nn

from trellis.networks.generative.autoencoder import ConvolutionalAutoencoder, MLPAutoencoder

SHAPE, L, B = (1, 4, 8), 3, 5
NETWORKS = {
    "mlp": partial(MLPAutoencoder, hidden_channels=(12, 8)),
    "tied": partial(MLPAutoencoder, hidden_channels=(12, 8), tied=True),
    "convolutional": partial(ConvolutionalAutoencoder, channels=(4, 6)),
}
NAMES = list(NETWORKS)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def digits() -> Tensor:
    """300 digits of 8x8 pixels in [0, 1]."""
    return torch.from_numpy(load_digits().data[:300]).div(16)


@pytest.mark.parametrize("tied", [False, True])
def test_the_linear_autoencoder_finds_principal_components(digits: Tensor, tied: bool) -> None:
    """The loss is the sum of the eigenvalues left out, the codes span the leading subspace."""
    components = 4
    pca = PCA().fit(digits.numpy())
    rest = pca.explained_variance_[components:].sum() * (len(digits) - 1) / len(digits)
    network = MLPAutoencoder((64,), latent_dim=components, hidden_channels=(), tied=tied).double()
    optimizer = torch.optim.LBFGS(
        network.parameters(),
        max_iter=400,
        history_size=20,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = (network(digits) - digits).square().sum(1).mean()
        value.backward()
        return value

    optimizer.step(loss)
    error = (network(digits) - digits).square().sum(1).mean().item()
    assert error == pytest.approx(rest, rel=1e-4)
    with torch.no_grad():
        ends = network.decode(torch.eye(components, dtype=torch.double))
        ours, _ = torch.linalg.qr((ends - network.decode(torch.zeros(1, components).double())).t())
    theirs = torch.from_numpy(pca.components_[:components]).t()
    cosines = torch.linalg.svdvals(ours.t() @ theirs)  # of the angles between the subspaces
    assert cosines.min() > 1 - 1e-3


def test_other_subspaces_are_worse(digits: Tensor) -> None:
    """The control of the test above: the best codes are those of the leading components."""
    pca = PCA().fit(digits.numpy())
    centred = digits - digits.mean(0)
    errors = []
    for first in (0, 1):
        chosen = torch.from_numpy(pca.components_[first : first + 8])
        network = MLPAutoencoder((64,), latent_dim=8, hidden_channels=(), tied=True).double()
        with torch.no_grad():
            network.encoder[0].weight.copy_(chosen)
            network.encoder[0].bias.zero_()
            network.decoder[0].bias.zero_()
        errors.append((network(centred) - centred).square().sum(1).mean().item())
    left = torch.from_numpy(pca.explained_variance_) * (len(digits) - 1) / len(digits)
    assert errors[0] == pytest.approx(left[8:].sum().item())
    assert errors[1] == pytest.approx((left[0] + left[9:].sum()).item())


@pytest.mark.parametrize("name", NAMES)
def test_shapes(name: str) -> None:
    network, x = NETWORKS[name](SHAPE, latent_dim=L), torch.rand(B, *SHAPE)
    code = network.encode(x)
    assert code.shape == (B, L)
    assert network.latent_dim == L
    assert network(x).shape == x.shape
    torch.testing.assert_close(network(x), network.decode(code))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name: str) -> None:
    network = NETWORKS[name](SHAPE, latent_dim=L, activation="tanh")
    network(torch.rand(B, *SHAPE)).square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key


def test_tied_weights_are_the_transposed_ones() -> None:
    """The untied network with the transposed matrices is the same function."""
    tied = NETWORKS["tied"](SHAPE, latent_dim=L, activation="tanh")
    free = NETWORKS["mlp"](SHAPE, latent_dim=L, activation="tanh")
    assert not [key for key, _ in tied.named_parameters() if key in ("decoder.0.weight",)]
    x = torch.rand(B, *SHAPE)
    with torch.no_grad():
        for _ in range(2):  # and stay so when the weights change
            for mine, theirs in zip(tied.encoder, free.encoder, strict=True):
                mine.weight.add_(torch.randn_like(mine.weight))
                theirs.load_state_dict(mine.state_dict())
            for mine, theirs, mirror in zip(
                tied.decoder, free.decoder, reversed(tied.encoder), strict=True
            ):
                theirs.weight.copy_(mirror.weight.t())
                theirs.bias.copy_(mine.bias)
            torch.testing.assert_close(tied(x), free(x))


def test_gradients_of_tied_weights_come_from_both_ends() -> None:
    tied, free = (
        MLPAutoencoder((6,), latent_dim=2, hidden_channels=(), tied=choice).double()
        for choice in (True, False)
    )
    with torch.no_grad():
        free.encoder[0].load_state_dict(tied.encoder[0].state_dict())
        free.decoder[0].weight.copy_(tied.encoder[0].weight.t())
        free.decoder[0].bias.copy_(tied.decoder[0].bias)
    x = torch.randn(B, 6, dtype=torch.double)
    for network in (tied, free):
        (network(x) - x).square().sum().backward()
    both = free.encoder[0].weight.grad + free.decoder[0].weight.grad.t()
    torch.testing.assert_close(tied.encoder[0].weight.grad, both)


@pytest.mark.parametrize("name", NAMES)
def test_the_code_has_its_own_activation(name: str) -> None:
    network = NETWORKS[name](SHAPE, latent_dim=L, code_activation="sigmoid")
    plain = NETWORKS[name](SHAPE, latent_dim=L)
    plain.load_state_dict(network.state_dict())
    x = torch.randn(B, *SHAPE)
    torch.testing.assert_close(network.encode(x), plain.encode(x).sigmoid())
    code = torch.randn(B, L)
    torch.testing.assert_close(network.decode(code), plain.decode(code))


def test_an_mlp_is_torchs_layers_in_a_row() -> None:
    network = NETWORKS["mlp"](SHAPE, latent_dim=L)
    a, b, c = network.encoder
    d, e, f = network.decoder
    peer = nn.Sequential(
        nn.Flatten(), a, nn.ReLU(), b, nn.ReLU(), c, d, nn.ReLU(), e, nn.ReLU(), f
    )
    x = torch.randn(B, *SHAPE)
    torch.testing.assert_close(network(x).flatten(1), peer(x))


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_fit_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="latent_dim=0: give at least 1"):
        NETWORKS[name](SHAPE, latent_dim=0)
    with pytest.raises(ValueError, match="give that of one example"):
        NETWORKS[name]((0, 4, 8))
    network = NETWORKS[name](SHAPE, latent_dim=L)
    with pytest.raises(ValueError, match=r"x \[5, 32\] does not fit .*Autoencoder\(shape="):
        network(torch.zeros(B, 32))
    with pytest.raises(ValueError, match=r"x \[5, 4\] does not fit .*decoder\(shape=\(3,\)\)"):
        network.decode(torch.zeros(B, L + 1))
    with pytest.raises(ValueError, match="a width of hidden_channels=0"):
        MLPAutoencoder(SHAPE, hidden_channels=(4, 0))
    with pytest.raises(ValueError, match="activation='step'"):
        NETWORKS[name](SHAPE, activation="step")
