"""Backpropagation with the numbers of the courses: circuits, small nets, closed forms."""

import math

import pytest
import torch
from torch import Tensor, nn

from trellis.networks.vector.mlp import MLP


def leaf(*values: float) -> list[Tensor]:
    return [torch.tensor(value, requires_grad=True) for value in values]


def gradients(*leaves: Tensor) -> list[float]:
    return [x.grad.item() for x in leaves]


def set_maps(network: MLP, *maps: tuple[list[list[float]], list[float]]) -> MLP:
    """Give the linear maps these weights ``[out][in]`` and biases."""
    layers = [layer for layer in network.layers if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers, maps, strict=True):
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
    return network


@pytest.mark.parametrize(
    ("values", "out", "expected"),
    [
        ((-2.0, 5.0, -4.0), -12, [-4, -4, 3]),  # Stanford CS231n 2018, lecture 4
        ((1.0, 2.0, 4.0), 12, [4, 4, 3]),  # Columbia COMS4995, tutorial on tapes
    ],
)
def test_circuit_of_a_sum_and_a_product(
    values: tuple[float, ...], out: float, expected: list[float]
) -> None:
    x, y, z = leaf(*values)
    f = (x + y) * z
    f.backward()
    assert f.item() == out
    assert gradients(x, y, z) == expected


def test_sigmoid_circuit_is_a_network_without_hidden_layers() -> None:
    """Stanford CS231n 2018, lecture 4: w = (2, -3, -3), x = (-1, -2)."""
    network = set_maps(MLP(2, 1, hidden_channels=()), ([[2.0, -3.0]], [-3.0]))
    x = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    f = network(x).sigmoid()
    f.backward()
    (layer,) = network.layers
    assert f.item() == pytest.approx(0.731, abs=5e-4)
    # The slide rounds the local gradient to 0.2, and prints 0.2, -0.39, -0.59 on its way.
    torch.testing.assert_close(
        layer.weight.grad, torch.tensor([[-0.197, -0.393]]), atol=5e-4, rtol=0
    )
    assert layer.bias.grad.item() == pytest.approx(0.197, abs=5e-4)
    torch.testing.assert_close(x.grad, torch.tensor([[0.393, -0.590]]), atol=5e-4, rtol=0)


def test_squared_norm_of_a_product() -> None:
    """Stanford CS231n 2018, lecture 4: f = |Wx|^2, dW = 2 q x^T, dx = 2 W^T q."""
    w = torch.tensor([[0.1, 0.5], [-0.3, 0.8]], requires_grad=True)
    x = torch.tensor([0.2, 0.4], requires_grad=True)
    f = (w @ x).square().sum()
    f.backward()
    assert f.item() == pytest.approx(0.116)
    torch.testing.assert_close(w.grad, torch.tensor([[0.088, 0.176], [0.104, 0.208]]))
    torch.testing.assert_close(x.grad, torch.tensor([-0.112, 0.636]))


def test_mean_of_three_squares() -> None:
    """Columbia COMS4995, PyTorch tutorial: the gradient is 4.5 everywhere."""
    x = torch.ones(2, 2, requires_grad=True)
    out = (3 * (x + 2) ** 2).mean()
    out.backward()
    assert out.item() == 27
    assert x.grad.tolist() == [[4.5, 4.5], [4.5, 4.5]]


def test_one_step_of_the_2_2_2_relu_network() -> None:
    """Bahng's "Deep Learning", chapter 2: the exercise with inputs 1 and 2, targets 2 and 4.

    The output units are ReLUs too: one of them is off, so the weights into it stand still.
    """
    network = set_maps(
        MLP(2, 2, hidden_channels=(2,)),
        ([[1.0, -0.5], [0.5, 1.0]], [-0.5, -0.5]),
        ([[0.5, -1.0], [-2.0, 0.5]], [1.0, 1.0]),
    )
    first, relu, last = network.layers
    x, target = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 4.0]])
    assert first(x).tolist() == [[-0.5, 2.0]]
    assert relu(first(x)).tolist() == [[0.0, 2.0]]
    assert network(x).tolist() == [[-1.0, 2.0]]
    loss = nn.functional.mse_loss(network(x).relu(), target)
    assert loss.item() == 4
    loss.backward()
    assert last.weight.grad.tolist() == [[0.0, 0.0], [0.0, -4.0]]
    assert first.weight.grad.tolist() == [[0.0, 0.0], [-1.0, -2.0]]
    torch.optim.SGD(network.parameters(), lr=0.01).step()
    assert last.weight[0, 0].item() == 0.5  # w31
    assert last.weight[1, 1].item() == pytest.approx(0.54)  # w42
    assert first.weight[1, 1].item() == pytest.approx(1.02)  # w22


def test_gradients_of_the_partly_connected_3_2_1_network() -> None:
    """Bahng's "Deep Learning", chapter 2: a sigmoid on three inputs, a tanh on two of them."""
    torch.manual_seed(0)
    x, y = torch.tensor([0.5, -1.0, 2.0]), torch.tensor(0.3)
    w1, w2, out = (torch.randn(n, requires_grad=True) for n in (3, 2, 2))
    b1, b2 = leaf(0.1, -0.2)
    a1, a2 = (w1 @ x + b1).sigmoid(), (w2 @ x[[0, 2]] + b2).tanh()
    h = out[0] * a1 + out[1] * a2
    (0.5 * (y - h) ** 2).backward()
    with torch.no_grad():
        error = h - y
        torch.testing.assert_close(out.grad, error * torch.stack((a1, a2)))
        torch.testing.assert_close(w1.grad, error * out[0] * a1 * (1 - a1) * x)
        torch.testing.assert_close(b1.grad, error * out[0] * a1 * (1 - a1))
        torch.testing.assert_close(w2.grad, error * out[1] * (1 - a2**2) * x[[0, 2]])
        torch.testing.assert_close(b2.grad, error * out[1] * (1 - a2**2))


def test_two_layer_network_by_hand() -> None:
    """Stanford CS231n 2018, lecture 4, exercise: dW2 = 2 h^T y, dW1 = x^T (2 y W2^T [z > 0])."""
    torch.manual_seed(0)
    network, x = MLP(6, 3, hidden_channels=(5,)).double(), torch.randn(8, 6).double()
    first, relu, last = network.layers
    y = network(x)
    y.square().sum().backward()
    with torch.no_grad():
        z = first(x)
        back = 2 * y @ last.weight * (z > 0)
        torch.testing.assert_close(last.weight.grad, (2 * relu(z).t() @ y).t())
        torch.testing.assert_close(last.bias.grad, 2 * y.sum(0))
        torch.testing.assert_close(first.weight.grad, (x.t() @ back).t())
        torch.testing.assert_close(first.bias.grad, back.sum(0))


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "elu", "gelu", "silu", "maxout"])
def test_backward_is_the_slope_of_forward(activation: str) -> None:
    """The numerical check of Stanford CS231n 2018, lecture 3."""
    torch.manual_seed(0)
    network = MLP(3, 2, hidden_channels=(4, 4), activation=activation).double()
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, (x,))


def test_equal_weights_stay_equal() -> None:
    """Columbia COMS4995, "Back propagation": without chance, neurons of a layer are one neuron."""
    torch.manual_seed(0)
    network = MLP(4, 3, hidden_channels=(6,), activation="tanh")
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    x, y = torch.randn(10, 4), torch.randint(3, (10,))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    weight = network.layers[0].weight
    assert (weight - 0.1).abs().max() > 0.01
    torch.testing.assert_close(weight, weight[:1].expand(6, -1))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((784, 10, 10), 7_960),  # Bahng's "Deep Learning", chapter 2, the NumPy network
        ((784, 512, 512, 10), 669_706),  # the same, its PyTorch network
        ((784, 128, 64, 10), 109_386),  # Columbia COMS4995, PyTorch tutorial
        ((784, 128, 128, 10), 118_282),  # the same, Keras tutorial
        ((784, 256, 256, 256, 10), 335_114),  # the same, eager and graph execution
    ],
)
def test_parameters_of_the_courses_networks(sizes: tuple[int, ...], expected: int) -> None:
    network = MLP(sizes[0], sizes[-1], hidden_channels=sizes[1:-1])
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize(
    ("threshold", "inside", "beside", "outside"),
    [
        (60.0, 1.0, 0.0, 0.0),
        (0.75, 1.0, 1.0, 0.32),  # the edge of the box is no threshold: no tower
    ],
)
def test_a_tower_of_sigmoids(
    threshold: float, inside: float, beside: float, outside: float
) -> None:
    """Bahng's "Deep Learning", chapter 2: two layers hold the indicator of a box.

    Four steps of slope 200 at the edges .25 and .75, one of slope 40 over their sum, which is 2
    in the box, 1 beside it and 0 elsewhere; the threshold lies between 40 and 80.
    """
    network = set_maps(
        MLP(2, 1, hidden_channels=(4, 1), activation="sigmoid"),
        ([[200.0, 0], [200, 0], [0, 200], [0, 200]], [-50.0, -150, -50, -150]),
        ([[40.0, -40, 40, -40]], [-threshold]),
        ([[1.0]], [0.0]),
    )
    out = network(torch.tensor([[0.5, 0.5], [0.5, 0.1], [0.1, 0.1]])).flatten()
    torch.testing.assert_close(out, torch.tensor([inside, beside, outside]), atol=5e-3, rtol=0)


def test_a_network_that_knows_nothing_pays_the_logarithm_of_the_classes() -> None:
    """Stanford CS231n 2018, lecture 6: 3072-50-10 with tiny weights costs 2.302612."""
    torch.manual_seed(0)
    network = MLP(3072, 10, hidden_channels=(50,))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=1e-4) if parameter.dim() > 1 else nn.init.zeros_(parameter)
    loss = nn.functional.cross_entropy(network(torch.randn(64, 3072)), torch.randint(10, (64,)))
    assert loss.item() == pytest.approx(math.log(10), abs=1e-4)


def test_it_memorises_twenty_examples() -> None:
    """The same lecture: cost from 2.3 to under .01 and accuracy 1 on twenty images."""
    torch.manual_seed(0)
    network = MLP(3072, 10, hidden_channels=(50,))
    x, y = torch.randn(20, 3072), torch.arange(20) % 10
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    for _ in range(60):
        loss = nn.functional.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01
    assert (network(x).argmax(1) == y).all()
