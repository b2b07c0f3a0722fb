"""Generators and discriminators: multi-layer perceptrons, and the convolutional ones of DCGAN.

Legend: B examples, Z latent dimensions, K classes of a conditional pair.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from trellis.checks import at_least_one, check_examples, choose_from, num_entries
from trellis.generative.conditioning import Condition
from trellis.networks.vector.mlp import MLP
from trellis.nn.activation import Activation, activation_module

Output = Literal["identity", "sigmoid", "tanh"]


class MLPGenerator(nn.Module):
    """Multi-layer perceptron from noise to examples of any shape.

    Args:
        shape: of an example.
        num_classes: K of a conditional generator, 0 for an unconditional one.
        latent_dim: Z.
        hidden_channels: width of each hidden layer.
        activation: of the hidden layers.
        batch_norm: normalise each hidden layer over the batch.
        output: activation of the output: ``sigmoid`` for data in [0, 1], ``tanh`` for [-1, 1].
        class_embed_dim: width of a learnt embedding of the labels; 0 uses one-hot vectors.
    Shape:
        z ``[B, Z]``, y ``[B]`` -> ``[B, *shape]``
    Raises:
        ValueError: a size below 1, an unknown output, noise of another width, or labels that are
            missing, superfluous or out of range.

    Source: Goodfellow et al. 2014; Mirza and Osindero 2014 (conditional).
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        latent_dim: int = 64,
        hidden_channels: Sequence[int] = (128, 128),
        activation: Activation = "relu",
        batch_norm: bool = False,
        output: Output = "identity",
        class_embed_dim: int = 0,
    ) -> None:
        super().__init__()
        self.shape, self.latent_dim = tuple(shape), at_least_one("latent_dim", latent_dim)
        self.condition = Condition("MLPGenerator", num_classes, class_embed_dim)
        self.layers = MLP(
            latent_dim + self.condition.width,
            num_entries(self.shape),
            hidden_channels=hidden_channels,
            activation=activation,
            batch_norm=batch_norm,
        )
        self.output = output_activation(output)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        _check_noise(z, self.latent_dim)
        return self.output(self.layers(self.condition(z, y))).view(-1, *self.shape)


class MLPDiscriminator(nn.Module):
    """Multi-layer perceptron from examples of any shape to a logit each.

    Args:
        shape: see ``MLPGenerator``.
        num_classes: see ``MLPGenerator``.
        hidden_channels: width of each hidden layer.
        activation: of the hidden layers.
        dropout: probability after each hidden layer.
        spectral_norm: divide each weight by its largest singular value.
        class_embed_dim: see ``MLPGenerator``.
    Shape:
        x ``[B, *shape]``, y ``[B]`` -> logits ``[B]``
    Raises:
        ValueError: a size below 1, an x of another shape, or labels that are missing, superfluous
            or out of range.

    Source: Goodfellow et al. 2014; Mirza and Osindero 2014 (conditional); Miyato et al. 2018
    (spectral norm).
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        hidden_channels: Sequence[int] = (128, 128),
        activation: Activation = "leaky_relu",
        dropout: float = 0.0,
        spectral_norm: bool = False,
        class_embed_dim: int = 0,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.condition = Condition("MLPDiscriminator", num_classes, class_embed_dim)
        self.layers = MLP(
            num_entries(self.shape) + self.condition.width,
            1,
            hidden_channels=hidden_channels,
            activation=activation,
            dropout=dropout,
        )
        if spectral_norm:
            _normalise_(self)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        check_examples(x, self.shape, self.condition.network)
        return self.layers(self.condition(x.flatten(1), y)).squeeze(1)


class DCGANGenerator(nn.Module):
    """Transposed convolutions from noise to square images.

    The noise becomes ``s x s`` feature maps; each further layer doubles the side and halves the
    channels, down to ``channels``. The side must be ``s * 2^n`` with s from 4 to 7: 28, 32, 64,
    128, ...

    Args:
        shape: ``(C, S, S)`` of an image.
        num_classes: see ``MLPGenerator``.
        latent_dim: Z.
        channels: of the input of the last layer.
        output: see ``MLPGenerator``.
        class_embed_dim: see ``MLPGenerator``.
    Shape:
        z ``[B, Z]``, y ``[B]`` -> ``[B, C, S, S]``
    Raises:
        ValueError: see ``MLPGenerator``; or a side that cannot be halved to 4 to 7.

    Source: Radford et al. 2016, section 3: no pooling, no hidden dense layers, batch norm and
    ReLU except at the output, weights from N(0, 0.02).

    >>> sum(p.numel() for p in DCGANGenerator((3, 64, 64)).parameters())
    3576704
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        latent_dim: int = 100,
        channels: int = 64,
        output: Output = "sigmoid",
        class_embed_dim: int = 0,
    ) -> None:
        super().__init__()
        side, doublings = _grid(shape)
        self.latent_dim = at_least_one("latent_dim", latent_dim)
        at_least_one("channels", channels)
        self.condition = Condition("DCGANGenerator", num_classes, class_embed_dim)
        widths = [channels * 2**i for i in reversed(range(doublings))]
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(latent_dim + self.condition.width, widths[0], side, bias=False)
        ]
        for before, after in zip(widths, [*widths[1:], shape[0]], strict=True):
            layers += [
                nn.BatchNorm2d(before),
                nn.ReLU(inplace=True),
                nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False),
            ]
        self.layers = nn.Sequential(*layers, output_activation(output))
        # In this format convolutions of few channels take half the time on a CPU.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        initialize_(self)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        _check_noise(z, self.latent_dim)
        return self.layers(self.condition(z, y)[:, :, None, None])


class DCGANDiscriminator(nn.Module):
    """Strided convolutions from square images to a logit each, which mirror ``DCGANGenerator``.

    Args:
        shape: ``(C, S, S)`` of an image, see ``DCGANGenerator``.
        num_classes: see ``MLPGenerator``.
        channels: of the output of the first layer; each further layer halves the side and doubles
            the channels.
        batch_norm: normalise all layers but the first and the last; leave it out with a gradient
            penalty, which is defined for each image by itself.
        spectral_norm: see ``MLPDiscriminator``.
        class_embed_dim: see ``MLPGenerator``; labels become channels, constant over the pixels.
    Shape:
        x ``[B, C, S, S]``, y ``[B]`` -> logits ``[B]``
    Raises:
        ValueError: see ``MLPDiscriminator``; or a side that cannot be halved to 4 to 7.

    Source: Radford et al. 2016, section 3; Miyato et al. 2018 (spectral norm).

    >>> sum(p.numel() for p in DCGANDiscriminator((3, 64, 64)).parameters())
    2765568
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        channels: int = 64,
        batch_norm: bool = True,
        spectral_norm: bool = False,
        class_embed_dim: int = 0,
    ) -> None:
        super().__init__()
        side, halvings = _grid(shape)
        at_least_one("channels", channels)
        self.shape = tuple(shape)
        self.condition = Condition("DCGANDiscriminator", num_classes, class_embed_dim)
        before = shape[0] + self.condition.width
        layers: list[nn.Module] = []
        for level in range(halvings):
            after, norm = channels * 2**level, batch_norm and level > 0
            # A bias before a norm has no effect; without norms it is the only shift.
            bias = not batch_norm
            layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1, bias=bias))
            layers += [nn.BatchNorm2d(after)] if norm else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            before = after
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, side, bias=False))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        initialize_(self)
        if spectral_norm:
            _normalise_(self)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        check_examples(x, self.shape, self.condition.network)
        return self.layers(self.condition(x, y)).flatten()


def _grid(shape: Sequence[int]) -> tuple[int, int]:
    """Side of the smallest feature maps, and how often it doubles up to that of an image."""
    if len(shape) == 3 and shape[1] == shape[2] and min(shape) >= 1:
        side, doublings = shape[1], 0
        while side > 7 and side % 2 == 0:
            side, doublings = side // 2, doublings + 1
        if 4 <= side <= 7 and doublings:
            return side, doublings
    raise ValueError(
        f"shape={tuple(shape)}: give square images (channels, side, side) with a side of 4 to 7 "
        f"times a power of two, such as 28, 32 or 64"
    )


def output_activation(name: Output) -> nn.Module:
    """The activation of a generator's output.

    Raises:
        ValueError: an unknown name.
    """
    return activation_module(choose_from("output", name, Output))


def _check_noise(z: Tensor, latent_dim: int) -> None:
    if z.dim() != 2 or z.size(1) != latent_dim:
        raise ValueError(f"z {list(z.shape)}: give noise [B, {latent_dim}]")


def initialize_(network: nn.Module) -> None:
    """Weights as in the authors' code of DCGAN: N(0, 0.02), and N(1, 0.02) of batch norm."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)


def _normalise_(network: nn.Module) -> None:
    for layer in list(network.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            parametrizations.spectral_norm(layer)
