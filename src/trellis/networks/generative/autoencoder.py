"""Autoencoders: an encoder to a code, and a decoder that reconstructs the example from it.

Legend: B examples of shape ``shape``, L dimensions of the code.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one, check_examples, check_widths, num_entries
from trellis.generative.convolution import ConvolutionalDecoder, ConvolutionalEncoder
from trellis.nn.activation import Activation, activation_module


class MLPAutoencoder(nn.Module):
    r"""Autoencoder of two multi-layer perceptrons that mirror each other.

    .. math::
        h = W x + b, \quad \hat x = W^\top h + c

    without hidden layers and with tied weights. A linear autoencoder, without hidden layers and
    activations, is optimal in squared error when its codes span the subspace of the principal
    components.

    Args:
        shape: of an example, which is flattened inside.
        latent_dim: L.
        hidden_channels: widths of the encoder, in reverse those of the decoder.
        activation: of the hidden layers.
        code_activation: of the code; ``sigmoid`` is usual with sparse and contractive penalties.
        tied: the weights of the decoder are those of the encoder, transposed; its biases are its
            own.
    Shape:
        x ``[B, *shape]`` -> reconstructions ``[B, *shape]``, or logits of a Bernoulli likelihood
    Raises:
        ValueError: a size below 1, an unknown activation, or an x of another shape.

    Source: Hinton and Salakhutdinov 2006; Vincent et al. 2010, section 2.2 (tied); Baldi and
    Hornik 1989 (linear).

    >>> network = MLPAutoencoder((784,), latent_dim=32, hidden_channels=(), tied=True)
    >>> sum(p.numel() for p in network.parameters())  # 784 * 32 + 32 + 784
    25904
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        latent_dim: int = 32,
        hidden_channels: Sequence[int] = (256,),
        activation: Activation = "relu",
        code_activation: Activation = "identity",
        tied: bool = False,
    ) -> None:
        super().__init__()
        entries = num_entries(shape)
        at_least_one("latent_dim", latent_dim)
        check_widths(hidden_channels)
        self.shape, self.latent_dim = tuple(shape), latent_dim
        widths = [entries, *hidden_channels, latent_dim]
        self.encoder = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(
            _Transposed(a, b) if tied else nn.Linear(a, b) for a, b in pairwise(widths[::-1])
        )
        self.tied = tied
        self.activation = activation_module(activation)
        self.code_activation = activation_module(code_activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        """Codes ``[B, L]``."""
        check_examples(x, self.shape, "MLPAutoencoder")
        h = x.flatten(1)
        for layer in self.encoder[:-1]:
            h = self.activation(layer(h))
        return self.code_activation(self.encoder[-1](h))

    def decode(self, code: Tensor) -> Tensor:
        """Examples ``[B, *shape]``, or logits, from codes ``[B, L]``."""
        check_examples(code, (self.latent_dim,), "MLPAutoencoder's decoder")
        h, mirrored = code, reversed(self.encoder)
        for number, (layer, mirror) in enumerate(zip(self.decoder, mirrored, strict=True)):
            h = self.activation(h) if number else h
            h = layer(h, mirror.weight) if self.tied else layer(h)
        return h.view(-1, *self.shape)


class _Transposed(nn.Module):
    """Affine map with the transposed weight of another layer and a bias of its own."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        bound = in_features**-0.5
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))

    def forward(self, h: Tensor, weight: Tensor) -> Tensor:
        return F.linear(h, weight.t(), self.bias)


class ConvolutionalAutoencoder(nn.Module):
    """Autoencoder of convolutions with stride 2 and, in the decoder, transposed convolutions.

    Args:
        shape: of an image, ``(C, H, W)``; each layer halves H and W.
        latent_dim: L.
        channels: of each convolution of the encoder, in reverse those of the decoder.
        activation: of the hidden layers.
        code_activation: of the code.
    Shape:
        x ``[B, C, H, W]`` -> reconstructions ``[B, C, H, W]``, or logits as in ``MLPAutoencoder``
    Raises:
        ValueError: see ``MLPAutoencoder``; or an image that cannot be halved so often.

    Source: Masci et al. 2011.
    Deviates: strides instead of pooling.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        latent_dim: int = 32,
        channels: Sequence[int] = (32, 64),
        activation: Activation = "relu",
        code_activation: Activation = "identity",
    ) -> None:
        super().__init__()
        num_entries(shape)
        self.shape, self.latent_dim = tuple(shape), at_least_one("latent_dim", latent_dim)
        self.encoder = ConvolutionalEncoder(
            shape, latent_dim, channels=channels, activation=activation
        )
        self.code_activation = activation_module(code_activation)
        self.decoder = ConvolutionalDecoder(
            latent_dim, shape, channels=channels, activation=activation
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        """Codes ``[B, L]``."""
        check_examples(x, self.shape, "ConvolutionalAutoencoder")
        return self.code_activation(self.encoder(x))

    def decode(self, code: Tensor) -> Tensor:
        """Images ``[B, C, H, W]``, or logits, from codes ``[B, L]``."""
        check_examples(code, (self.latent_dim,), "ConvolutionalAutoencoder's decoder")
        return self.decoder(code)
