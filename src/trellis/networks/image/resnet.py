"""Residual networks for images: those for ImageNet, and the narrow ones for CIFAR."""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import check_images, check_sizes, choose_from

Depth = Literal[18, 34, 50]
Stem = Literal["imagenet", "cifar"]


class ResNet(nn.Module):
    r"""Residual network: each block adds a learned residual to its input.

    .. math:: y = \mathrm{ReLU}(F(x) + x)

    Four stages of 64, 128, 256 and 512 channels, each at half the resolution of the one before;
    global average pooling; one linear layer. Parameters have torchvision's names, so that its
    weights can be loaded.

    Args:
        in_channels: colour channels.
        out_channels: number of classes.
        depth: 18 and 34 have blocks of two 3x3 convolutions, 50 bottlenecks of 1x1, 3x3, 1x1.
        stem: ``imagenet`` reduces the image by a factor of 4 before the first stage (7x7
            convolution and max pooling, both of stride 2), ``cifar`` keeps its size (3x3
            convolution).
    Shape:
        x ``[B, in_channels, H, W]`` -> ``[B, out_channels]``
    Raises:
        ValueError: an unknown depth or stem, a size below 1, or an x of another shape.

    Source: He et al. 2016, table 1 and section 3.3; initial weights as in He et al. 2015, by the
    fan-out as in torchvision. Deviates: a bottleneck's stride is in its 3x3 convolution, also as
    in torchvision.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        depth: Depth = 18,
        stem: Stem = "imagenet",
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        choose_from("depth", depth, Depth)
        choose_from("stem", stem, Stem)
        self.in_channels = in_channels
        large = stem == "imagenet"
        self.conv1 = _convolution(in_channels, 64, 7 if large else 3, stride=2 if large else 1)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if large else nn.Identity()
        block: type[_Basic] | type[_Bottleneck] = _Bottleneck if depth == 50 else _Basic
        counts = (2, 2, 2, 2) if depth == 18 else (3, 4, 6, 3)
        grown = block.expansion
        self.layer1 = _stage(block, 64, 64 * grown, counts[0], 1)
        self.layer2 = _stage(block, 64 * grown, 128 * grown, counts[1], 2)
        self.layer3 = _stage(block, 128 * grown, 256 * grown, counts[2], 2)
        self.layer4 = _stage(block, 256 * grown, 512 * grown, counts[3], 2)
        self.fc = nn.Linear(512 * grown, out_channels)
        _initialize_(self)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels, "ResNet")
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class CifarResNet(nn.Module):
    """Narrow residual network for 32x32 images: ``6n + 2`` layers of 16, 32 and 64 channels.

    Three stages of n blocks. Where the number of channels doubles, the shortcut takes every
    second pixel and pads the new channels with zeros, so that shortcuts have no parameters
    (option A of the paper).

    Args:
        in_channels: colour channels.
        out_channels: number of classes.
        depth: number of layers with weights, ``6n + 2``; the paper has 20, 32, 44, 56 and 110.
    Shape:
        x ``[B, in_channels, H, W]`` -> ``[B, out_channels]``
    Raises:
        ValueError: a depth that is not ``6n + 2``, a size below 1, or an x of another shape.

    Source: He et al. 2016, section 4.2.

    >>> sum(p.numel() for p in CifarResNet(3, 10, depth=20).parameters())
    269722
    """

    def __init__(self, in_channels: int, out_channels: int, *, depth: int = 20) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth={depth}: give 6n + 2, such as 20, 32, 44 or 56")
        self.in_channels = in_channels
        blocks = (depth - 2) // 6
        self.conv1 = _convolution(in_channels, 16, 3)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(_Basic, 16, 16, blocks, 1, _ZeroPadded)
        self.layer2 = _stage(_Basic, 16, 32, blocks, 2, _ZeroPadded)
        self.layer3 = _stage(_Basic, 32, 64, blocks, 2, _ZeroPadded)
        self.fc = nn.Linear(64, out_channels)
        _initialize_(self)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels, "CifarResNet")
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


Shortcut = Callable[[int, int, int], nn.Module]


class _Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, shortcut: Shortcut
    ) -> None:
        super().__init__()
        self.conv1 = _convolution(in_channels, out_channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = _convolution(out_channels, out_channels, 3)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class _Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 ones, which reduce the channels to a quarter and back."""

    expansion = 4

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, shortcut: Shortcut
    ) -> None:
        super().__init__()
        width = out_channels // self.expansion
        self.conv1 = _convolution(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _convolution(width, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class _ZeroPadded(nn.Module):
    """Every ``stride``-th pixel, with zeros in the new channels."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.new, self.stride = out_channels - in_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        before = self.new // 2
        return F.pad(x, (0, 0, 0, 0, before, self.new - before))


def _projected(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """A 1x1 convolution where the shape changes, else the identity (option B of the paper)."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        _convolution(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels)
    )


def _stage(
    block: type[_Basic] | type[_Bottleneck],
    in_channels: int,
    out_channels: int,
    count: int,
    stride: int,
    shortcut: Shortcut = _projected,
) -> nn.Sequential:
    first = block(in_channels, out_channels, stride, shortcut)
    rest = (block(out_channels, out_channels, 1, shortcut) for _ in range(count - 1))
    return nn.Sequential(first, *rest)


def _convolution(in_channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the image size (up to its stride); batch norm has the bias."""
    return nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False)


def _initialize_(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
