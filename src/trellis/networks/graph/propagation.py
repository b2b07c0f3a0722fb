"""Networks that predict first and smooth over the graph afterwards.

See ``NodeNetwork`` for the legend. Propagation is linear and as wide as the classes, so bags of
words are never spread over the graph.
"""

import torch
from torch import Tensor, nn
from torch_geometric.nn import APPNP as PersonalizedPageRank

from trellis.checks import at_least_one, check_equal, check_graph, check_sizes, probability
from trellis.graph.adjacency import edges_for, normalized_adjacency
from trellis.networks.graph.gnn import NodeMLP, NodeNetwork
from trellis.nn.sparse import SparseLinear, dropout


class SGC(NodeNetwork):
    r"""Simplified graph convolution: a linear classifier of features averaged over ``num_hops``.

    .. math:: Y = S^K X W + b, \quad S = \hat D^{-1/2} \hat A \hat D^{-1/2}

    Args:
        num_hops: K, at least 1.
        dropout: probability of the features.

    Source: Wu et al. 2019, eq. 8. Here ``S^K (X W)``, the same numbers with fewer operations.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, num_hops: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        self.in_channels, self.channels = in_channels, (out_channels,)
        self.dropout = probability("dropout", dropout)
        self.linear = SparseLinear(in_channels, out_channels)
        self.propagation = _pagerank(at_least_one("num_hops", num_hops), restart=0.0)

    def embeddings(self, x: Tensor, edge_index: Tensor) -> list[Tensor]:
        """The output alone."""
        check_graph(x, edge_index, self.in_channels, "SGC")
        x = dropout(x, self.dropout, self.training) @ self.linear.weight.t()
        x = self.propagation(x, *_edges(self, x, edge_index))
        return [x + self.linear.bias]


class APPNP(NodeNetwork):
    r"""Predictions of each node by itself, spread by personalised PageRank.

    .. math:: Z^{(0)} = H = \mathrm{MLP}(X), \quad Z^{(k+1)} = (1 - \alpha) S Z^{(k)} + \alpha H

    Args:
        num_layers: linear maps of the MLP, at least 1.
        num_hops: steps of the propagation, at least 1.
        restart: the probability alpha to return to the node's own prediction.
        dropout: probability before each linear map.

    Source: Gasteiger et al. 2019 (Klicpera), eq. 4. Deviates: no dropout of edges; that of PyG's
    layer is not the paper's, because an edge that one step drops is missing in all later ones.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_hops: int = 10,
        restart: float = 0.1,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.predictor = NodeMLP(
            in_channels,
            out_channels,
            hidden_channels=hidden_channels,
            num_layers=num_layers,
            dropout=dropout,
        )
        self.in_channels = in_channels
        self.channels = (*self.predictor.channels, out_channels)
        self.propagation = _pagerank(at_least_one("num_hops", num_hops), restart)

    def embeddings(self, x: Tensor, edge_index: Tensor) -> list[Tensor]:
        """Outputs of the linear maps, then the output."""
        layers = self.predictor.embeddings(x, edge_index)
        edges = _edges(self, layers[-1], edge_index)
        return [*layers, self.propagation(layers[-1], *edges)]


class LabelPropagation(NodeNetwork):
    r"""Known labels spread over the graph; nothing but a temperature is learned.

    .. math:: Z^{(0)} = X, \quad Z^{(k+1)} = \alpha\, D^{-1/2} A D^{-1/2} Z^{(k)} + (1 - \alpha) X

    with X the one-hot labels of the training nodes and 0 elsewhere, which data modules give as
    ``features="labels"``. Logits are the rows of Z, scaled to a sum of 1, times the temperature:
    it makes probabilities of them, and the predicted classes do not depend on it.

    Args:
        in_channels: number of classes.
        out_channels: likewise.
        num_hops: steps, at least 1.
        alpha: weight of the neighbours.
    Raises:
        ValueError: the features are no labels: ``in_channels`` is not ``out_channels``.

    Source: Zhou et al. 2004, algorithm of section 2 (theirs is alpha = 0.99).
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, num_hops: int = 50, alpha: float = 0.99
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        advice = "; give it labels to propagate: data with features=labels"
        check_equal("LabelPropagation", advice, in_channels=in_channels, out_channels=out_channels)
        self.in_channels, self.channels = in_channels, (out_channels,)
        probability("alpha", alpha)
        self.propagation = _pagerank(at_least_one("num_hops", num_hops), restart=1 - alpha)
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def embeddings(self, x: Tensor, edge_index: Tensor) -> list[Tensor]:
        """The output alone."""
        check_graph(x, edge_index, self.in_channels, "LabelPropagation")
        x = x if x.layout == torch.strided else x.to_dense()
        spread = self.propagation(x, *_edges(self, x, edge_index, self_loops=False))
        # Nodes that no label reaches have 0 for all classes.
        total = spread.sum(1, keepdim=True)
        return [spread / total.where(total > 0, 1) * self.log_temperature.exp()]


def _edges(
    network: nn.Module, x: Tensor, edge_index: Tensor, self_loops: bool = True
) -> tuple[Tensor, ...]:
    weighted = normalized_adjacency(x, edge_index, self_loops=self_loops)
    return edges_for([network], x, *weighted)


def _pagerank(num_hops: int, restart: float) -> nn.Module:
    """PyG's propagation over edges that are normalised already."""
    return PersonalizedPageRank(num_hops, probability("restart", restart), normalize=False)
