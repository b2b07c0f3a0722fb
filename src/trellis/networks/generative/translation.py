"""Generators from images to images, and the discriminator that judges patches of them.

Legend: B images of C channels, H x W pixels.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from trellis.checks import at_least_one, check_images, check_sizes, choose_from, probability
from trellis.networks.generative.gan import Output, initialize_, output_activation

Norm = Literal["batch", "instance", "none"]


class TranslationUNet(nn.Module):
    """Strided convolutions down to small images and up again, joined at each resolution.

    Each level halves the image; the channels double up to eight times those of the first level.

    Args:
        in_channels: of the inputs.
        out_channels: of the outputs.
        channels: of the first level.
        num_levels: H and W are divisible by 2 to this power.
        norm: of all levels, but the first and the last on the way down, and the output.
        dropout: probability after each of the first three levels on the way up, but not of the
            output; the only noise of pix2pix.
        output: activation of the output: ``sigmoid`` for data in [0, 1], ``tanh`` for [-1, 1].
    Shape:
        x ``[B, in_channels, H, W]`` -> ``[B, out_channels, H, W]``
    Raises:
        ValueError: a size below 1, an option out of range, or images of other channels or with
            sides that cannot be halved so often.

    Source: Isola et al. 2017, section 6.1.1. Deviates: evaluation is without dropout and by the
    running statistics of the norm, as everywhere here; the paper's is as training.

    >>> sum(p.numel() for p in TranslationUNet(3, 3).parameters())
    54413955
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: int = 64,
        num_levels: int = 8,
        norm: Norm = "batch",
        dropout: float = 0.5,
        output: Output = "tanh",
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        at_least_one("channels", channels)
        probability("dropout", dropout)
        self.in_channels, self.factor = in_channels, 2 ** at_least_one("num_levels", num_levels)
        widths = [channels * min(2**level, 8) for level in range(num_levels)]
        last, bias = num_levels - 1, norm != "batch"
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            before = widths[level - 1] if level else in_channels
            layers: list[nn.Module] = [nn.LeakyReLU(0.2)] if level else []
            layers.append(nn.Conv2d(before, width, 4, stride=2, padding=1, bias=bias))
            layers += _norm(norm, width) if 0 < level < last else []
            self.down.append(nn.Sequential(*layers))
        for level in reversed(range(1, num_levels)):
            inputs, width = widths[level] * (1 if level == last else 2), widths[level - 1]
            layers = [nn.ReLU()]
            layers.append(nn.ConvTranspose2d(inputs, width, 4, stride=2, padding=1, bias=bias))
            layers += _norm(norm, width)
            layers += [nn.Dropout(dropout)] if level > last - 3 else []
            self.up.append(nn.Sequential(*layers))
        inputs = widths[0] * (1 if last == 0 else 2)
        self.output = nn.Sequential(
            nn.ReLU(),
            nn.ConvTranspose2d(inputs, out_channels, 4, stride=2, padding=1),
            output_activation(output),
        )
        initialize_(self)

    def forward(self, x: Tensor) -> Tensor:
        _check_divisible(x, self.in_channels, self.factor, "TranslationUNet")
        kept = []
        for layer in self.down:
            x = layer(x)
            kept.append(x)
        x = kept.pop()
        for layer in self.up:
            x = torch.cat([kept.pop(), layer(x)], 1)
        return self.output(x)


class TranslationResNet(nn.Module):
    """Residual blocks on images of a quarter of the height and width.

    Args:
        in_channels: of the inputs.
        out_channels: of the outputs.
        channels: at the full resolution; doubled each time that the image is halved.
        num_blocks: residual blocks; 9 for images of 256 pixels, 6 for 128.
        norm: after each convolution but the last.
        output: see ``TranslationUNet``.
    Shape:
        x ``[B, in_channels, H, W]`` -> ``[B, out_channels, H, W]``, H and W divisible by 4
    Raises:
        ValueError: a size below 1, an unknown option, or images of other channels or with sides
            that are not divisible by 4.

    Source: Zhu et al. 2017, section 7.2; Johnson et al. 2016.

    >>> sum(p.numel() for p in TranslationResNet(3, 3).parameters())
    11378179
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: int = 64,
        num_blocks: int = 9,
        norm: Norm = "instance",
        output: Output = "tanh",
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        self.in_channels = in_channels
        width, bias = at_least_one("channels", channels), norm != "batch"

        def normalised(layer: nn.Module, outputs: int) -> list[nn.Module]:
            return [layer, *_norm(norm, outputs), nn.ReLU()]

        layers = normalised(_reflecting(in_channels, width, 7, bias), width)
        for _ in range(2):
            halve = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=bias)
            layers += normalised(halve, width := 2 * width)
        for _ in range(at_least_one("num_blocks", num_blocks)):
            layers.append(_Block(width, norm, bias))
        for _ in range(2):
            double = nn.ConvTranspose2d(
                width, width // 2, 3, stride=2, padding=1, output_padding=1, bias=bias
            )
            layers += normalised(double, width := width // 2)
        last = _reflecting(width, out_channels, 7, True)
        self.layers = nn.Sequential(*layers, last, output_activation(output))
        initialize_(self)

    def forward(self, x: Tensor) -> Tensor:
        _check_divisible(x, self.in_channels, 4, "TranslationResNet")
        return self.layers(x)


class _Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int, norm: Norm, bias: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _reflecting(width, width, 3, bias),
            *_norm(norm, width),
            nn.ReLU(),
            _reflecting(width, width, 3, bias),
            *_norm(norm, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class PatchDiscriminator(nn.Module):
    """Strided convolutions to one logit for each of many overlapping patches of an image.

    The sides of a patch are 16, 34, 70, 142, ... pixels with 1, 2, 3, 4, ... layers. To judge an
    image beside another one, give both as channels.

    Args:
        in_channels: of the images.
        channels: of the first layer; they double with each layer, up to eight times as many.
        num_layers: that halve the image.
        norm: of all layers but the first and the last.
        spectral_norm: divide each weight by its largest singular value.
    Shape:
        x ``[B, in_channels, H, W]`` -> logits ``[B, H', W']``
    Raises:
        ValueError: a size below 1, an unknown norm, or images of other channels or so small that
            nothing is left of them.

    Source: Isola et al. 2017, section 6.1.2 (70 pixels: C64-C128-C256-C512).

    >>> sum(p.numel() for p in PatchDiscriminator(6).parameters())
    2768705
    """

    def __init__(
        self,
        in_channels: int,
        *,
        channels: int = 64,
        num_layers: int = 3,
        norm: Norm = "batch",
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = at_least_one("in_channels", in_channels)
        at_least_one("channels", channels)
        # Two convolutions without a stride take a pixel each; one row must be left for a logit.
        self.least = 3 * 2 ** at_least_one("num_layers", num_layers)
        layers: list[nn.Module] = []
        before = in_channels
        for level in range(num_layers + 1):
            width, stride = channels * min(2**level, 8), 2 if level < num_layers else 1
            bias = level == 0 or norm != "batch"
            layers.append(nn.Conv2d(before, width, 4, stride, padding=1, bias=bias))
            layers += [*(_norm(norm, width) if level else []), nn.LeakyReLU(0.2)]
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, 4, padding=1))
        initialize_(self)
        if spectral_norm:
            for layer in list(self.layers):
                if isinstance(layer, nn.Conv2d):
                    parametrizations.spectral_norm(layer)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels, "PatchDiscriminator", self.least)
        return self.layers(x).squeeze(1)


def _norm(norm: Norm, channels: int) -> list[nn.Module]:
    choose_from("norm", norm, Norm)
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    return [nn.InstanceNorm2d(channels)] if norm == "instance" else []


def _reflecting(inputs: int, outputs: int, size: int, bias: bool) -> nn.Conv2d:
    """A convolution whose border repeats the pixels inside of it, so that it makes no frame."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, padding_mode="reflect", bias=bias)


def _check_divisible(x: Tensor, in_channels: int, factor: int, network: str) -> None:
    check_images(x, in_channels, network, factor)
    if any(side % factor for side in x.shape[2:]):
        raise ValueError(
            f"{network}: images of {x.size(2)} x {x.size(3)} pixels cannot be halved as often: "
            f"give sides divisible by {factor}, or fewer levels"
        )
