"""LeNet-5 and the small CNN: counts, shapes, a naive convolution, learning, errors."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trellis.networks.image.cnn import LeNet5, SmallCNN


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def counts(network: nn.Module) -> list[int]:
    """Parameters of each layer that has any."""
    sizes = (sum(p.numel() for p in m.parameters(recurse=False)) for m in network.modules())
    return [size for size in sizes if size]


def naive_convolution(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """Position by position, every filter over its patch."""
    x = nn.functional.pad(x, [layer.padding[0]] * 4)
    k = layer.kernel_size[0]
    bias = 0 if layer.bias is None else layer.bias
    rows = [
        torch.stack(
            [
                (layer.weight * x[:, None, :, i : i + k, j : j + k]).sum((2, 3, 4)) + bias
                for j in range(x.size(3) - k + 1)
            ],
            -1,
        )
        for i in range(x.size(2) - k + 1)
    ]
    return torch.stack(rows, -2)


def naive_pool(x: Tensor) -> Tensor:
    corners = (x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1))
    return torch.stack(list(corners)).amax(0)


def test_lenet5_counts_its_parameters() -> None:
    assert counts(LeNet5(1, 10)) == [156, 2416, 48120, 10164, 850]
    assert sum(counts(LeNet5(1, 10))) == 61_706


def test_lenet5_is_convolutions_by_hand() -> None:
    network, x = LeNet5(2, 4), torch.randn(2, 2, 28, 28)
    conv1, conv2 = network.features[0], network.features[3]
    a = naive_pool(naive_convolution(x, conv1).relu())
    b = naive_pool(naive_convolution(a, conv2).relu())
    assert a.shape == (2, 6, 14, 14)
    assert b.shape == (2, 16, 5, 5)
    dense = [m for m in network.classifier if isinstance(m, nn.Linear)]
    h = b.flatten(1)
    for layer in dense[:-1]:
        h = (h @ layer.weight.t() + layer.bias).relu()
    expected = h @ dense[-1].weight.t() + dense[-1].bias
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "padding"), [(28, 2), (32, 0), (30, 1)])
def test_lenet5_takes_the_size_its_padding_fits(size: int, padding: int) -> None:
    assert LeNet5(3, 7, padding=padding)(torch.zeros(2, 3, size, size)).shape == (2, 7)


@pytest.mark.parametrize(
    ("size", "padding", "takes"), [((32, 32), 2, 28), ((28, 28), 0, 32), ((28, 27), 2, 28)]
)
def test_lenet5_names_other_sizes(size: tuple[int, int], padding: int, takes: int) -> None:
    with pytest.raises(
        ValueError, match=rf"LeNet5\(padding={padding}\): give x \[B, 1, {takes}, {takes}\]"
    ):
        LeNet5(1, 10, padding=padding)(torch.zeros(1, 1, *size))


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (4, 4), (17, 40)])
def test_small_cnn_takes_any_size(size: tuple[int, int]) -> None:
    assert SmallCNN(3, 5).eval()(torch.randn(2, 3, *size)).shape == (2, 5)


def test_small_cnn_counts_its_parameters() -> None:
    # Two convolutions without biases, their norms, two dense layers.
    expected = [9 * 32, 64, 9 * 32 * 64, 128, 64 * 16 * 128 + 128, 128 * 10 + 10]
    assert counts(SmallCNN(1, 10)) == expected


@pytest.mark.parametrize("factory", [LeNet5, SmallCNN])
def test_it_tells_lying_bars_from_standing_ones(factory: Callable[..., nn.Module]) -> None:
    """New positions in the test images: half the bars are never seen in training."""
    network = factory(1, 2)
    x = torch.zeros(48, 1, 28, 28)
    for row in range(24):
        x[row, 0, row + 2] = 1
        x[24 + row, 0, :, row + 2] = 1
    y = torch.arange(48) // 24
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    network.train()
    for _ in range(25):
        loss = nn.functional.cross_entropy(network(x[::2]), y[::2])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    accuracy = (network.eval()(x[1::2]).argmax(1) == y[1::2]).float().mean()
    assert accuracy > 0.9


@pytest.mark.parametrize("factory", [LeNet5, SmallCNN])
def test_every_parameter_learns(factory: Callable[..., nn.Module]) -> None:
    network = factory(1, 2)
    (network(torch.randn(4, 1, 28, 28)) * torch.randn(4, 2)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda: LeNet5(0, 10), "in_channels=0"),
        (lambda: LeNet5(1, 10, padding=-1), "padding=-1: give 2 for 28 x 28"),
        (lambda: SmallCNN(1, 0), "out_channels=0"),
        (lambda: SmallCNN(1, 10, channels=0), "channels=0"),
        (lambda: SmallCNN(1, 10, hidden_channels=0), "hidden_channels=0"),
        (lambda: SmallCNN(1, 10, dropout=1.1), "dropout=1.1"),
    ],
)
def test_impossible_sizes_are_named(factory: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        factory()


def test_an_x_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"x \[2, 3, 28, 28\] does not fit LeNet5\(in_channels=1"):
        LeNet5(1, 10)(torch.zeros(2, 3, 28, 28))
    with pytest.raises(ValueError, match=r"x \[2, 784\] does not fit SmallCNN"):
        SmallCNN(1, 10)(torch.zeros(2, 784))
    with pytest.raises(ValueError, match="H and W at least 4"):
        SmallCNN(1, 10)(torch.zeros(2, 1, 3, 8))
