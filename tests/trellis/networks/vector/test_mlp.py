"""MLP against scikit-learn and a formula; its options and argument checks."""

import pytest
import torch
from sklearn.neural_network import MLPClassifier
from torch import nn

from trellis.networks.vector.mlp import MLP
from trellis.nn.activation import Maxout
from trellis.nn.sparse import to_csr


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("ours", "theirs"), [("relu", "relu"), ("tanh", "tanh"), ("sigmoid", "logistic")]
)
def test_forward_is_scikit_learns(ours: str, theirs: str) -> None:
    """Random weights from one library in the other; softmax probabilities must agree."""
    x = torch.randn(30, 6, dtype=torch.float64)
    y = torch.arange(30) % 3
    peer = MLPClassifier((5, 4), activation=theirs, max_iter=1, batch_size=30, random_state=0)
    with pytest.warns(match="Maximum iterations"):
        peer.fit(x.numpy(), y.numpy())
    network = MLP(6, 3, hidden_channels=(5, 4), activation=ours).double()
    maps = [layer for layer in network.layers if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, weight, bias in zip(maps, peer.coefs_, peer.intercepts_, strict=True):
            layer.weight.copy_(torch.from_numpy(weight.T))
            layer.bias.copy_(torch.from_numpy(bias))
    expected = torch.from_numpy(peer.predict_proba(x.numpy()))
    torch.testing.assert_close(network(x).softmax(-1), expected)


def test_no_hidden_layer_is_a_linear_model() -> None:
    network, x = MLP(4, 2, hidden_channels=()), torch.randn(3, 4)
    (layer,) = network.layers
    torch.testing.assert_close(network(x), x @ layer.weight.t() + layer.bias)


def test_identity_activations_collapse_into_one_map() -> None:
    network = MLP(4, 2, hidden_channels=(6, 5), activation="identity").double()
    x, y = torch.randn(2, 7, 4, dtype=torch.float64)
    zero = network(torch.zeros(7, 4, dtype=torch.float64))
    torch.testing.assert_close(network(x + y) - zero, network(x) - zero + network(y) - zero)


@pytest.mark.parametrize("norm", [False, True])
def test_a_hidden_layer_is_map_norm_activation_dropout(norm: bool) -> None:
    network = MLP(4, 2, hidden_channels=(6, 5), dropout=0.5, batch_norm=norm)
    hidden = ["SparseLinear", *["BatchNorm1d"] * norm, "ReLU", "Dropout"]
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == [*hidden, *hidden, "SparseLinear"]


def test_maxout_is_the_larger_of_two_networks_layers() -> None:
    network, x = MLP(4, 2, hidden_channels=(3,), activation="maxout"), torch.randn(8, 4)
    first, last = network.layers
    assert isinstance(first, Maxout)
    weight, bias = first.linear.weight.view(3, 2, 4), first.linear.bias.view(3, 2)
    a, b = (x @ weight[:, k].t() + bias[:, k] for k in (0, 1))
    torch.testing.assert_close(network(x), last(torch.maximum(a, b)))
    assert parameters(network) == 2 * (4 * 3 + 3) + 3 * 2 + 2


@pytest.mark.parametrize("activation", ["relu", "maxout"])
def test_a_sparse_x_gives_what_the_dense_one_gives(activation: str) -> None:
    network = MLP(6, 2, hidden_channels=(5,), activation=activation)
    x = torch.randn(9, 6) * (torch.rand(9, 6) < 0.4)
    gradients = []
    for layout in (x, to_csr(x)):
        network.zero_grad()
        network(layout).square().sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    torch.testing.assert_close(network(to_csr(x)), network(x))
    torch.testing.assert_close(*gradients)


@pytest.mark.long
@pytest.mark.parametrize("activation", ["relu", "tanh", "leaky_relu", "gelu", "maxout"])
@pytest.mark.parametrize("norm", [False, True])
def test_it_fits_twenty_examples(activation: str, norm: bool) -> None:
    """A network that cannot memorise a handful of examples has a broken gradient."""
    network = MLP(5, 3, hidden_channels=(32, 32), activation=activation, batch_norm=norm)
    x, y = torch.randn(20, 5), torch.randint(3, (20,))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(120):
        loss = nn.functional.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (network(x).argmax(1) == y).all()
    assert loss < 0.05


@pytest.mark.parametrize("initialization", ["xavier", "he"])
def test_initialization_reaches_every_map(initialization: str) -> None:
    network = MLP(300, 200, hidden_channels=(400,), initialization=initialization)
    for layer in network.layers[::2]:
        fan_out, fan_in = layer.weight.shape
        variance = 2 / fan_in if initialization == "he" else 2 / (fan_in + fan_out)
        assert layer.weight.std().item() == pytest.approx(variance**0.5, rel=0.02)
        assert layer.bias.abs().max() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_channels": (8, 0)}, "a width of hidden_channels=0: give at least 1"),
        ({"activation": "rleu"}, "activation='rleu': choose from relu, tanh"),
        ({"initialization": "kaiming"}, "initialization='kaiming': choose from torch, xavier, he"),
        ({"dropout": 2.0}, "dropout=2.0: give a probability"),
    ],
)
def test_impossible_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLP(4, 2, **options)


@pytest.mark.parametrize("sizes", [(0, 2), (4, 0)])
def test_impossible_sizes_are_named(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="_channels=0: give at least 1"):
        MLP(*sizes)


def test_an_x_that_does_not_fit_is_named() -> None:
    network = MLP(4, 2)
    with pytest.raises(ValueError, match=r"x \[3, 5\] does not fit MLP\(in_channels=4\): give x"):
        network(torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"x \[3, 1, 2, 2\] .* flatten images first"):
        network(torch.zeros(3, 1, 2, 2))
    with pytest.raises(ValueError, match=r"x \[4\] does not fit"):
        network(torch.zeros(4))
