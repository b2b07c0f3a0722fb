"""Convolutional encoder and decoder, from an image to a vector and back.

Legend: B examples, C channels, H and W height and width.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from trellis.checks import at_least_one
from trellis.nn.activation import Activation, activation_module


class ConvolutionalEncoder(nn.Module):
    """4x4 convolutions of stride 2, each halving the image, then one affine map.

    Args:
        shape: of an image, ``(C, H, W)``; each layer halves H and W.
        out_features: of the vector.
        channels: of each convolution.
        activation: after each convolution.
    Shape:
        x ``[B, C, H, W]`` -> ``[B, out_features]``
    Raises:
        ValueError: a shape that is not that of an image, or cannot be halved so often.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        out_features: int,
        *,
        channels: Sequence[int],
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        inner = halved(shape, channels)
        layers: list[nn.Module] = []
        for a, b in pairwise((shape[0], *channels)):
            layers += [nn.Conv2d(a, b, 4, stride=2, padding=1), activation_module(activation)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.output = nn.Linear(inner[0] * inner[1] * inner[2], out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.layers(x))


class ConvolutionalDecoder(nn.Module):
    """An affine map, then 4x4 transposed convolutions of stride 2: the encoder in reverse.

    Args:
        in_features: of the vector.
        shape: of the output, ``(C, H, W)``.
        channels: those of the encoder, which are used in reverse.
        activation: after each layer but the last.
    Shape:
        z ``[B, in_features]`` -> ``[B, C, H, W]``
    Raises:
        ValueError: see ``ConvolutionalEncoder``.
    """

    def __init__(
        self,
        in_features: int,
        shape: tuple[int, ...],
        *,
        channels: Sequence[int],
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        inner = halved(shape, channels)
        layers: list[nn.Module] = [
            nn.Linear(in_features, inner[0] * inner[1] * inner[2]),
            nn.Unflatten(1, inner),
        ]
        for a, b in pairwise((*reversed(channels), shape[0])):
            layers += [
                activation_module(activation),
                nn.ConvTranspose2d(a, b, 4, stride=2, padding=1),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


def halved(shape: tuple[int, ...], channels: Sequence[int]) -> tuple[int, int, int]:
    """Shape of the feature maps after one halving for each of ``channels``.

    Raises:
        ValueError: ``shape`` is not that of an image or cannot be halved so often, or
            ``channels`` is empty.

    >>> halved((1, 28, 28), (32, 64))
    (64, 7, 7)
    """
    if not channels:
        raise ValueError("channels=(): give the width of at least one convolution")
    for width in channels:
        at_least_one("a width of channels", width)
    parts = 2 ** len(channels)
    if len(shape) != 3 or shape[1] % parts or shape[2] % parts:
        raise ValueError(
            f"shape={tuple(shape)}: {len(channels)} convolutions take images (C, H, W) with H and "
            f"W divisible by {parts}; give fewer channels, or use an MLP network for vectors"
        )
    return channels[-1], shape[1] // parts, shape[2] // parts
