"""Convolutions by the courses' arithmetic: sizes, counts, matrices, identities."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trellis.networks.image.cnn import LeNet5, SmallCNN
from trellis.networks.image.resnet import ResNet


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "expected"),
    [
        (32, 5, 1, 0, 28),  # Stanford CS231n 2018, lecture 5; Berkeley CS182, lecture 6
        (28, 5, 1, 0, 24),
        (7, 3, 1, 0, 5),
        (7, 3, 2, 0, 3),
        (7, 3, 1, 1, 7),
        (32, 5, 1, 2, 32),
        (227, 11, 4, 0, 55),  # AlexNet; the paper's 224 would leave 54
        (224, 11, 4, 0, 54),
        (224, 7, 2, 3, 112),  # the stem of a ResNet
        (28, 5, 1, 2, 28),  # Columbia COMS4995, "Convolutional neural networks"
    ],
)
def test_sizes(size: int, kernel: int, stride: int, padding: int, expected: int) -> None:
    assert (size + 2 * padding - kernel) // stride + 1 == expected
    layer = nn.Conv2d(1, 1, kernel, stride, padding)
    assert layer(torch.zeros(1, 1, size, size)).shape == (1, 1, expected, expected)


@pytest.mark.parametrize(
    ("channels", "kernel", "expected"),
    [
        ((3, 10), 5, 760),  # Stanford CS231n 2018, lecture 5
        ((3, 96), 11, 34_944),  # AlexNet: 34,848 weights and 96 biases
        ((1, 32), 5, 832),  # Columbia COMS4995, "Convolutional neural networks"
        ((32, 64), 5, 51_264),
    ],
)
def test_parameters(channels: tuple[int, int], kernel: int, expected: int) -> None:
    assert sum(p.numel() for p in nn.Conv2d(*channels, kernel).parameters()) == expected


def test_lenet_for_colour_images() -> None:
    """Bahng's "Deep Learning", chapter 5: 3x32x32, layer by layer."""
    network = LeNet5(3, 10, padding=0)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    counts = [sum(p.numel() for p in m.parameters()) for m in layers]
    assert counts == [456, 2416, 48_120, 10_164, 850]
    assert sum(counts) == 62_006


def test_three_small_filters_see_as_far_as_a_large_one() -> None:
    """Stanford CS231n 2018, lecture 9: 7 pixels for 27 C^2 weights instead of 49 C^2."""
    channels = 4
    stack = nn.Sequential(*(nn.Conv2d(channels, channels, 3, bias=False) for _ in range(3)))
    x = torch.zeros(1, channels, 15, 15, requires_grad=True)
    stack(x)[0, :, 4, 4].sum().backward()  # one output, behind the borders
    seen = x.grad[0].abs().sum(0) > 0
    assert seen.sum(0).max() == seen.sum(1).max() == 7
    assert sum(p.numel() for p in stack.parameters()) == 27 * channels**2
    assert nn.Conv2d(channels, channels, 7, bias=False).weight.numel() == 49 * channels**2


def test_a_convolution_is_a_banded_matrix() -> None:
    """Stanford CS231n 2018, lecture 11; Columbia COMS4995: kernel (x, y, z), padding 1."""
    x, y, z = 2.0, 3.0, 5.0
    kernel = torch.tensor([[[x, y, z]]])
    signal = torch.tensor([[[1.0, 10.0, 100.0, 1000.0]]])
    matrix = torch.tensor([[y, z, 0, 0], [x, y, z, 0], [0, x, y, z], [0, 0, x, y]])
    out = F.conv1d(signal, kernel, padding=1)
    assert out[0, 0].equal(matrix @ signal[0, 0])
    assert F.conv1d(signal, kernel, padding=1, stride=2)[0, 0].equal(out[0, 0, ::2])
    # A transposed convolution is the transposed matrix.
    back = F.conv_transpose1d(signal, kernel, padding=1)
    assert back[0, 0].equal(matrix.t() @ signal[0, 0])
    a, b = 7.0, 11.0
    spread = F.conv_transpose1d(torch.tensor([[[a, b]]]), kernel, stride=2, output_padding=1)
    assert spread[0, 0].tolist() == [a * x, a * y, a * z + b * x, b * y, b * z, 0]


def test_pooling_and_relu_commute() -> None:
    """Columbia COMS4995: pool first, and the ReLU has a quarter of the work."""
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert F.max_pool2d(x.relu(), 2).equal(F.max_pool2d(x, 2).relu())
    assert not F.avg_pool2d(x.relu(), 2).allclose(F.avg_pool2d(x, 2).relu())


def test_pooling_by_the_slides() -> None:
    """Stanford CS231n 2018, lecture 11; Berkeley CS182, lecture 8."""
    image = torch.tensor([[1.0, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]])[None, None]
    pooled, where = F.max_pool2d(image, 2, return_indices=True)
    assert pooled[0, 0].tolist() == [[5, 6], [7, 8]]
    values = torch.tensor([[[[1.0, 2], [3, 4]]]])
    unpooled = F.max_unpool2d(values, where, 2)
    assert unpooled[0, 0].tolist() == [[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]]


def test_a_separable_filter_is_two_thin_ones() -> None:
    """Columbia COMS4995: an outer product of n + n numbers does the work of n^2."""
    generator = torch.Generator().manual_seed(0)
    image, a, b = (torch.randn(n, generator=generator) for n in ((1, 1, 9, 9), (5,), (5,)))
    whole = F.conv2d(image, torch.outer(a, b)[None, None])
    thin = F.conv2d(F.conv2d(image, a.view(1, 1, 5, 1)), b.view(1, 1, 1, 5))
    torch.testing.assert_close(whole, thin)


@pytest.mark.parametrize("depth", [18, 50])
def test_a_shift_of_the_image_shifts_the_maps(depth: int) -> None:
    """Equivariance, the reason for sharing weights; with a stride of 4 in steps of 4 pixels."""
    torch.manual_seed(0)
    network = ResNet(1, 2, depth=depth).eval()
    image = torch.zeros(1, 1, 96, 96)
    image[..., 40:48, 40:48] = torch.randn(8, 8)

    def maps(x: torch.Tensor) -> torch.Tensor:
        x = network.maxpool(F.relu(network.bn1(network.conv1(x))))
        return network.layer1[0](x)

    with torch.no_grad():
        moved = maps(image.roll((4, 8), (2, 3)))
        torch.testing.assert_close(moved, maps(image).roll((1, 2), (2, 3)))


def test_the_classes_of_a_small_cnn_do_not_depend_on_the_rest_of_the_batch() -> None:
    torch.manual_seed(0)
    network, x = SmallCNN(1, 10).eval(), torch.randn(3, 1, 28, 28)
    torch.testing.assert_close(network(x)[:1], network(x[:1]), rtol=1e-4, atol=1e-5)
