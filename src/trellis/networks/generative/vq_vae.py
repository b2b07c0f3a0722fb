"""Autoencoders of images with discrete codes.

Legend: B examples of shape ``(C, H, W)``, P parameters of the likelihood for each entry, h and w
the height and width of the map of codes.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one, check_examples, not_negative
from trellis.generative.convolution import halved
from trellis.generative.quantizer import VectorQuantizer


class DiscreteCodes(NamedTuple):
    """What a network with discrete codes says of examples.

    Args:
        parameters: of p(x | codes), ``[B, P, C, H, W]``.
        indices: of the codes, ``[B, h, w]``.
        codebook_loss: summed over the codes of an example, ``[B]``; see ``Quantized``.
        commitment_loss: likewise.
    """

    parameters: Tensor
    indices: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


class _Residual(nn.Module):
    """Convolutions of 3x3 and 1x1 beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class VQVAE(nn.Module):
    r"""Vector-quantised autoencoder: a map of codes, each one of K.

    Convolutions of 4x4 with stride 2 and residual blocks make a map of vectors, which become
    their nearest codes; residual blocks and transposed convolutions make the parameters of
    p(x | codes). An image has :math:`h w \log_2 K` bits.

    Args:
        shape: of an image, ``(C, H, W)``; each convolution halves H and W.
        num_parameters: P.
        num_codes: K.
        code_dim: dimensions of a code.
        channels: of each convolution of the encoder, in reverse those of the decoder.
        num_residuals: residual blocks on either side.
    Shape:
        x ``[B, C, H, W]`` -> ``DiscreteCodes``
    Raises:
        ValueError: a size below 1, an image that cannot be halved so often, or one of another
            shape.

    Source: van den Oord et al. 2017, section 4.1.

    >>> VQVAE((1, 28, 28), 1).map_size
    (7, 7)
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        num_parameters: int,
        *,
        num_codes: int = 512,
        code_dim: int = 64,
        channels: Sequence[int] = (32, 64),
        num_residuals: int = 2,
    ) -> None:
        super().__init__()
        width, *size = halved(shape, channels)
        not_negative("num_residuals", num_residuals)
        self.shape, self.map_size = tuple(shape), tuple(size)
        self.num_parameters = at_least_one("num_parameters", num_parameters)
        self.num_codes, self.code_dim = num_codes, code_dim
        down: list[nn.Module] = []
        for a, b in pairwise((shape[0], *channels)):
            down += [nn.Conv2d(a, b, 4, stride=2, padding=1), nn.ReLU()]
        blocks = (nn.Sequential(*map(_Residual, [width] * num_residuals)) for _ in range(2))
        self.encoder = nn.Sequential(*down[:-1], next(blocks), nn.Conv2d(width, code_dim, 1))
        self.quantizer = VectorQuantizer(num_codes, code_dim)
        up: list[nn.Module] = []
        for a, b in pairwise((*reversed(channels), num_parameters * shape[0])):
            up += [nn.ReLU(), nn.ConvTranspose2d(a, b, 4, stride=2, padding=1)]
        self.decoder = nn.Sequential(nn.Conv2d(code_dim, width, 3, padding=1), next(blocks), *up)

    def forward(self, x: Tensor) -> DiscreteCodes:
        check_examples(x, self.shape, "VQVAE")
        vectors = self.encoder(x).movedim(1, -1)  # [B, h, w, D]
        places = vectors.shape[:3]
        found = self.quantizer(vectors.flatten(0, 2))
        return DiscreteCodes(
            self._decode(found.values.view(*places, self.code_dim)),
            found.indices.view(places),
            found.codebook_loss.view(places).sum((1, 2)),
            found.commitment_loss.view(places).sum((1, 2)),
        )

    def encode(self, x: Tensor) -> Tensor:
        """Indices ``[B, h, w]`` of the codes of images."""
        return self(x).indices

    def decode(self, indices: Tensor) -> Tensor:
        """Parameters ``[B, P, C, H, W]`` of p(x | codes) from indices ``[B, h, w]``."""
        return self._decode(F.embedding(indices, self.quantizer.codes.weight))

    def _decode(self, vectors: Tensor) -> Tensor:
        parameters = self.decoder(vectors.movedim(-1, 1))
        return parameters.view(-1, self.num_parameters, *self.shape)
