"""Decoders of links: from the embeddings of two nodes to the logit of a link between them.

Legend: N nodes, L pairs. A decoder is called with ``z [N, channels]`` and the pairs
``links [2, L]``; without pairs it scores all of them, as ``[N, N]``, if it can do so without a
copy of the embeddings for each.
"""

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one
from trellis.networks.vector.mlp import MLP


class LinkDecoder(nn.Module, ABC):
    """Base of the decoders of links.

    Args:
        channels: width of the embeddings.
    Shape:
        z ``[N, channels]``, links ``[2, L]`` -> ``[L]``; links ``None`` -> ``[N, N]``
    """

    @abstractmethod
    def forward(self, z: Tensor, links: Tensor | None = None) -> Tensor:
        """Logits of the links."""


class LinkDecoderFactory(Protocol):
    """Builds a decoder from the width of the embeddings; called by keyword."""

    def __call__(self, channels: int) -> nn.Module: ...


class InnerProductDecoder(LinkDecoder):
    r"""Inner product of the two embeddings, :math:`z_u^\top z_v`: no parameters, no direction.

    Source: Kipf and Welling 2016, "Variational graph auto-encoders", eq. 2.

    >>> InnerProductDecoder(2)(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0], [1]]))
    tensor([11.])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        at_least_one("channels", channels)

    def forward(self, z: Tensor, links: Tensor | None = None) -> Tensor:
        if links is None:
            return z @ z.t()
        return _inner(z, z, links)


class BilinearDecoder(LinkDecoder):
    r"""Bilinear form :math:`z_u^\top W z_v`: the two directions have logits of their own.

    ``W`` begins as the identity, so that training starts with the inner product.

    Source: Nickel et al. 2011, with one relation.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(at_least_one("channels", channels)))

    def forward(self, z: Tensor, links: Tensor | None = None) -> Tensor:
        mapped = z @ self.weight
        if links is None:
            return mapped @ z.t()
        return _inner(mapped, z, links)


class MLPDecoder(LinkDecoder):
    r"""Multi-layer perceptron of the products :math:`z_u \odot z_v`, without a direction.

    Args:
        hidden_channels: width of the hidden layers.
        num_layers: linear maps, at least 1.
        dropout: probability after each hidden layer.
    Raises:
        ValueError: a size below 1, or all pairs are wanted.

    Source: Hu et al. 2020 (OGB), the predictor of its examples for links.
    """

    def __init__(
        self,
        channels: int,
        *,
        hidden_channels: int = 64,
        num_layers: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        at_least_one("num_layers", num_layers)
        widths = [hidden_channels] * (num_layers - 1)
        self.mlp = MLP(channels, 1, hidden_channels=widths, dropout=dropout)

    def forward(self, z: Tensor, links: Tensor | None = None) -> Tensor:
        if links is None:
            raise ValueError(
                "MLPDecoder scores no N x N pairs at once: train with negatives=sampled, or take "
                "InnerProductDecoder or BilinearDecoder"
            )
        return self.mlp(_products(z, z, links)).squeeze(-1)


def _inner(left: Tensor, right: Tensor, links: Tensor) -> Tensor:
    return _products(left, right, links).sum(-1)


def _products(left: Tensor, right: Tensor, links: Tensor) -> Tensor:
    # Not by brackets: the threads of a CPU add their gradients in whatever order.
    return left.index_select(0, links[0]) * right.index_select(0, links[1])
