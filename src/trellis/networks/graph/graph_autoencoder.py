"""Graph autoencoders: a node network as the encoder, a score for pairs of nodes as the decoder.

Legend: N nodes, E edges, L pairs of nodes, D latent dimensions.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_graph
from trellis.functional.estimators import reparameterize
from trellis.generative.gaussian import gaussian_kl
from trellis.networks.factory import NetworkFactory
from trellis.networks.graph.gnn import GCN
from trellis.networks.graph.link_decoders import InnerProductDecoder, LinkDecoderFactory
from trellis.signature import reads

MAX_LOG_SCALE = 10.0


class LinkScores(NamedTuple):
    """What a network of links returns.

    Args:
        logits: of the pairs, ``[L]``, or of all of them, ``[N, N]``.
        kl: for each node KL(q(z) || p(z)) in nats, ``[N]``; ``None`` where no node has a
            distribution.
    """

    logits: Tensor
    kl: Tensor | None = None


class LinkNetwork(nn.Module, ABC):
    """Base of the networks that score pairs of nodes.

    Args:
        in_channels: features of a node.
    Shape:
        x ``[N, in_channels]``, edge_index ``[2, E]``, links ``[2, L]``, edge_weight ``[E]`` ->
        ``LinkScores``; links ``None`` is all pairs
    """

    in_channels: int

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        links: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> LinkScores:
        """Logits of the links in the graph of these edges."""


class _Autoencoder(LinkNetwork):
    """An encoder with ``outputs`` numbers for each latent dimension, and a decoder."""

    outputs = 1

    def __init__(
        self,
        in_channels: int,
        *,
        encoder: NetworkFactory = GCN,
        decoder: LinkDecoderFactory = InnerProductDecoder,
        latent_dim: int = 16,
    ) -> None:
        super().__init__()
        at_least_one("in_channels", in_channels)
        at_least_one("latent_dim", latent_dim)
        self.in_channels, self.latent_dim = in_channels, latent_dim
        self.encoder = encoder(in_channels=in_channels, out_channels=self.outputs * latent_dim)
        self.decoder = decoder(channels=latent_dim)
        self._weighted = reads(self.encoder, "edge_weight")

    def _encoded(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Tensor:
        check_graph(x, edge_index, self.in_channels, type(self).__name__)
        if edge_weight is None:
            return self.encoder(x, edge_index)
        if not self._weighted:
            raise ValueError(
                f"{type(self).__name__}: its encoder {type(self.encoder).__name__} takes no "
                f"edge_weight: choose GCN, or leave the weights of the data out"
            )
        return self.encoder(x, edge_index, edge_weight=edge_weight)


class GAE(_Autoencoder):
    r"""Graph autoencoder: the embeddings of two nodes say whether they are linked.

    .. math:: z = \mathrm{encoder}(x, A), \quad p(A_{uv} = 1) = \sigma(\mathrm{decoder}(z_u, z_v))

    Args:
        encoder: from ``(in_channels, out_channels)`` to a node network; the paper's GCN has
            ``hidden_channels=32`` and no dropout.
        decoder: from ``channels`` to a module ``(z, links) -> logits``.
        latent_dim: D.
    Raises:
        ValueError: a size below 1, tensors whose shapes do not fit, or weights of edges for an
            encoder that takes none.

    Source: Kipf and Welling 2016, "Variational graph auto-encoders", section 2.
    """

    def encode(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Embeddings ``[N, D]``."""
        return self._encoded(x, edge_index, edge_weight)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        links: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> LinkScores:
        return LinkScores(self.decoder(self.encode(x, edge_index, edge_weight), links))


class VGAE(_Autoencoder):
    r"""Variational graph autoencoder: every node has a Gaussian embedding.

    .. math:: q(z_i \mid x, A) = N(\mu_i, \mathrm{diag}\, s_i^2), \quad
        (\mu, \ln s) = \mathrm{encoder}(x, A)

    Means and log-scales share all layers of the encoder but the last. Training samples z;
    evaluation takes the means.

    Args:
        encoder: see ``GAE``; it is built with 2 D outputs.
        decoder: see ``GAE``.
        latent_dim: D.
    Raises:
        ValueError: see ``GAE``.

    Source: Kipf and Welling 2016, "Variational graph auto-encoders", eq. 1-4. Deviates: log-scales
    end at 10, as in PyG.
    """

    outputs = 2

    def encode(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Means and log-scales of q(z), ``[N, D]`` each."""
        mean, log_scale = self._encoded(x, edge_index, edge_weight).chunk(2, -1)
        return mean, log_scale.clamp(max=MAX_LOG_SCALE)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        links: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> LinkScores:
        mean, log_scale = self.encode(x, edge_index, edge_weight)
        z = mean
        if self.training:
            z = reparameterize(mean, log_scale, torch.randn_like(mean))
        return LinkScores(self.decoder(z, links), gaussian_kl(mean, log_scale))
