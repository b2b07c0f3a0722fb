"""Graph convolutions as polynomials of the Laplacian; see ``NodeNetwork`` for the legend."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import SimpleConv
from torch_geometric.nn.inits import glorot

from trellis.checks import at_least_one, check_graph, check_sizes, probability
from trellis.graph.adjacency import edges_for, normalized_adjacency
from trellis.networks.graph.gnn import NodeNetwork
from trellis.nn.sparse import SparseLinear, dropout


class ChebNet(NodeNetwork):
    r"""Chebyshev polynomials of the normalised Laplacian, each term with its own map.

    .. math::
        X' = \sum_{k=0}^{K} T_k(\tilde L) X W_k + b, \quad
        \tilde L = L - I = -D^{-1/2} A D^{-1/2}

    with the largest eigenvalue of L taken as 2.

    Args:
        order: K, the hops that one layer reaches; at least 1.

    Source: Defferrard et al. 2016, eq. 4-5; Kipf and Welling 2017, table 3, whose K it is.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 16,
        num_layers: int = 2,
        order: int = 2,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        at_least_one("hidden_channels", hidden_channels)
        at_least_one("num_layers", num_layers)
        at_least_one("order", order)
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), out_channels]
        self.convolutions = nn.ModuleList(ChebLayer(a, b, order) for a, b in pairwise(widths))
        self.in_channels, self.channels = in_channels, tuple(widths[1:])
        self.dropout = probability("dropout", dropout)

    def embeddings(self, x: Tensor, edge_index: Tensor) -> list[Tensor]:
        """Outputs of the layers, after the ReLU except for the last."""
        check_graph(x, edge_index, self.in_channels, "ChebNet")
        edge_index, weights = normalized_adjacency(x, edge_index, self_loops=False)
        edges = edges_for(self.convolutions, x, edge_index, -weights)
        layers = []
        for number, convolution in enumerate(self.convolutions, 1):
            x = convolution(dropout(x, self.dropout, self.training), *edges)
            x = F.relu(x) if number < len(self.convolutions) else x
            layers.append(x)
        return layers


class ChebLayer(nn.Module):
    r"""PyG's ``ChebConv`` with the linear maps before the recurrence, by Clenshaw's algorithm.

    .. math:: B_k = X W_k + 2 \tilde L B_{k+1} - B_{k+2}, \quad X' = X W_0 + \tilde L B_1 - B_2 + b

    The same result; but what spreads over the graph is as wide as the output instead of the input.
    """

    def __init__(self, in_channels: int, out_channels: int, order: int) -> None:
        super().__init__()
        maps = [
            SparseLinear(in_channels, out_channels, bias=number == 0)
            for number in range(order + 1)
        ]
        for linear in maps:
            glorot(linear.weight)
        nn.init.zeros_(maps[0].bias)
        self.maps = nn.ModuleList(maps)
        self.propagation = SimpleConv(aggr="sum")

    def forward(self, x: Tensor, *edges: Tensor) -> Tensor:
        first, *others = [linear(x) for linear in self.maps]
        return self._clenshaw(first, others, edges)

    def _clenshaw(
        self, first: Tensor, others: Sequence[Tensor], edges: Sequence[Tensor]
    ) -> Tensor:
        after_next, current = None, others[-1]
        for term in reversed(others[:-1]):
            before = term + 2 * self.propagation(current, *edges)
            before = before if after_next is None else before - after_next
            after_next, current = current, before
        out = first + self.propagation(current, *edges)
        return out if after_next is None else out - after_next
