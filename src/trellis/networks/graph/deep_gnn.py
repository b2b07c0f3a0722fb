"""Deep graph networks that train: with normalisation and residual connections.

See ``NodeNetwork`` for the legend. Two recipes under which classic convolutions are hard to beat.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GCN2Conv, GCNConv, SimpleConv

from trellis.checks import at_least_one, check_graph, check_sizes, choose_from, probability
from trellis.graph.adjacency import edges_for, normalized_adjacency
from trellis.graph.layers import SAGELayer, sparse_input
from trellis.networks.graph.gnn import NodeNetwork
from trellis.nn.sparse import SparseLinear, dropout

Convolution = Literal["gcn", "sage"]
Mixing = Literal["gcn", "sage", "none"]
Norm = Literal["none", "layer", "batch"]


class ClassicGNN(NodeNetwork):
    r"""A GCN or GraphSAGE with the parts that make it a strong baseline, and a linear head.

    .. math::
        h^{(l+1)} = \mathrm{Dropout}(\mathrm{ReLU}(\mathrm{Norm}(
        \mathrm{Conv}(h^{(l)}, A) + W_l h^{(l)}))), \quad Y = W h^{(L)} + b

    where ``norm`` and the linear term ``residual`` are options, and with ``jump`` the head reads
    the sum of all layers.

    Args:
        convolution: ``gcn``, or ``sage`` for the mean over neighbours beside the node itself.
        norm: of each layer before its ReLU.
        residual: add a linear map of the layer's input.
        jump: read the sum of the layers instead of the last.
        dropout: probability after each layer, not of the features.

    Source: Luo et al. 2024, section 2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 512,
        num_layers: int = 3,
        convolution: Convolution = "gcn",
        norm: Norm = "none",
        residual: bool = False,
        jump: bool = False,
        dropout: float = 0.7,
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        at_least_one("hidden_channels", hidden_channels)
        at_least_one("num_layers", num_layers)
        self.gcn = choose_from("convolution", convolution, Convolution) == "gcn"
        widths = [in_channels, *[hidden_channels] * (num_layers - 1)]
        self.convolutions = nn.ModuleList(
            sparse_input(GCNConv(width, hidden_channels, normalize=False))
            if self.gcn
            else SAGELayer(width, hidden_channels, normalize=False)
            for width in widths
        )
        self.residuals = nn.ModuleList(
            SparseLinear(width, hidden_channels) for width in widths if residual
        )
        self.norms = nn.ModuleList(_norm(norm, hidden_channels) for _ in widths)
        self.head = nn.Linear(hidden_channels, out_channels)
        self.jump, self.dropout = jump, probability("dropout", dropout)
        self.in_channels = in_channels
        self.channels = (*[hidden_channels] * num_layers, out_channels)

    def embeddings(self, x: Tensor, edge_index: Tensor) -> list[Tensor]:
        """Outputs of the layers, then those of the head."""
        check_graph(x, edge_index, self.in_channels, "ClassicGNN")
        edges: tuple[Tensor, ...] = (edge_index,)
        if self.gcn:
            edges = edges_for(self.convolutions, x, *normalized_adjacency(x, edge_index))
        layers: list[Tensor] = []
        for number, (convolution, norm) in enumerate(
            zip(self.convolutions, self.norms, strict=True)
        ):
            h = convolution(x, *edges)
            if self.residuals:
                h = h + self.residuals[number](x)
            x = F.dropout(norm(h).relu(), self.dropout, self.training)
            layers.append(x)
        return [*layers, self.head(torch.stack(layers).sum(0) if self.jump else x)]


class ResidualGNN(NodeNetwork):
    r"""Residual blocks: normalise, mix with the neighbours, and a feed-forward network.

    .. math::
        h^{(0)} = \mathrm{GELU}(W_0 x), \quad
        h^{(l+1)} = h^{(l)} + \mathrm{FFN}(\mathrm{Mix}(\mathrm{LayerNorm}(h^{(l)}), A))

    and a layer norm and a linear map at the end. ``mixing`` is ``gcn``:
    :math:`\hat D^{-1/2} \hat A \hat D^{-1/2} h`; ``sage``: the mean over neighbours beside h, so
    that the node and its neighbours stay apart; or ``none``: h, a network without the graph.

    Args:
        mixing: what a block knows of the neighbours.
        num_layers: blocks, at least 1.
        dropout: probability after the input map and after each map of the feed-forward networks.

    Source: Platonov et al. 2023, section 5 and appendix C.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 64,
        num_layers: int = 5,
        mixing: Mixing = "sage",
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        at_least_one("hidden_channels", hidden_channels)
        at_least_one("num_layers", num_layers)
        self.mixing = choose_from("mixing", mixing, Mixing)
        self.dropout = probability("dropout", dropout)
        self.input = SparseLinear(in_channels, hidden_channels)
        self.propagation = SimpleConv(aggr="mean" if mixing == "sage" else "sum")
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_channels) for _ in range(num_layers))
        mixed = hidden_channels * (2 if mixing == "sage" else 1)
        self.feed_forwards = nn.ModuleList(
            nn.Sequential(
                nn.Linear(mixed, hidden_channels),
                nn.Dropout(dropout),
                nn.GELU(),
                nn.Linear(hidden_channels, hidden_channels),
                nn.Dropout(dropout),
            )
            for _ in range(num_layers)
        )
        self.head = nn.Sequential(
            nn.LayerNorm(hidden_channels), nn.Linear(hidden_channels, out_channels)
        )
        self.in_channels = in_channels
        self.channels = (*[hidden_channels] * num_layers, out_channels)

    def embeddings(self, x: Tensor, edge_index: Tensor) -> list[Tensor]:
        """Outputs of the blocks, then those of the head."""
        check_graph(x, edge_index, self.in_channels, "ResidualGNN")
        h = F.gelu(dropout(self.input(x), self.dropout, self.training))
        known = normalized_adjacency(h, edge_index) if self.mixing == "gcn" else (edge_index,)
        edges = edges_for([self.propagation], h, *known)
        layers = []
        for norm, feed_forward in zip(self.norms, self.feed_forwards, strict=True):
            h = h + feed_forward(self._mixed(norm(h), *edges))
            layers.append(h)
        return [*layers, self.head(h)]

    def _mixed(self, h: Tensor, *edges: Tensor) -> Tensor:
        if self.mixing == "none":
            return h
        neighbours = self.propagation(h, *edges)
        return torch.cat((h, neighbours), 1) if self.mixing == "sage" else neighbours


class GCNII(NodeNetwork):
    r"""A deep GCN: each layer keeps a share of the first and is close to the identity.

    .. math::
        h^{(l)} = \mathrm{ReLU}\bigl(((1 - \alpha) S h^{(l-1)} + \alpha h^{(0)})
        ((1 - \beta_l) I + \beta_l W_l)\bigr), \quad \beta_l = \log(\theta / l + 1)

    with :math:`S = \hat D^{-1/2} \hat A \hat D^{-1/2}`, and a linear map before and after.

    Args:
        num_layers: convolutions, at least 1.
        alpha: share of the first layer.
        theta: strength of the maps, which falls with depth.
        dropout: probability before each map.

    Source: Chen et al. 2020, eq. 5 and table 7.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 64,
        num_layers: int = 16,
        alpha: float = 0.1,
        theta: float = 0.5,
        dropout: float = 0.6,
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        at_least_one("hidden_channels", hidden_channels)
        at_least_one("num_layers", num_layers)
        probability("alpha", alpha)
        self.dropout = probability("dropout", dropout)
        self.input = SparseLinear(in_channels, hidden_channels)
        self.convolutions = nn.ModuleList(
            GCN2Conv(hidden_channels, alpha, theta, layer, normalize=False)
            for layer in range(1, num_layers + 1)
        )
        self.output = nn.Linear(hidden_channels, out_channels)
        self.in_channels = in_channels
        self.channels = (*[hidden_channels] * num_layers, out_channels)

    def embeddings(self, x: Tensor, edge_index: Tensor) -> list[Tensor]:
        """Outputs of the convolutions, then the output."""
        check_graph(x, edge_index, self.in_channels, "GCNII")
        first = h = self.input(dropout(x, self.dropout, self.training)).relu()
        edges = edges_for(self.convolutions, h, *normalized_adjacency(h, edge_index))
        layers = []
        for convolution in self.convolutions:
            h = convolution(dropout(h, self.dropout, self.training), first, *edges).relu()
            layers.append(h)
        return [*layers, self.output(dropout(h, self.dropout, self.training))]


def _norm(name: Norm, channels: int) -> nn.Module:
    makers = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": nn.BatchNorm1d}
    return makers[choose_from("norm", name, Norm)](channels)
