"""A graph isomorphism network that reads the features of edges; see ``gnn`` for the legend."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GINEConv

from trellis.checks import at_least_one, check_graph, check_shape, check_sizes, probability
from trellis.networks.graph.gnn import gin_maps
from trellis.nn.sparse import SparseLinear


class GINE(nn.Module):
    r"""Graph isomorphism network whose messages carry the features of their edges.

    .. math::
        h_i^{(0)} = W x_i, \quad h_i^{(l+1)} = \mathrm{MLP}_l\Bigl((1 + \epsilon) h_i^{(l)} +
        \textstyle\sum_{j \in N(i)} \mathrm{ReLU}\bigl(h_j^{(l)} + W_l e_{ji}\bigr)\Bigr)

    The linear maps have biases; MLPs and batch norms are those of ``GIN``. A network of nodes,
    and the encoder of a ``GraphNetwork`` for whole graphs.

    Args:
        in_channels: features of a node.
        out_channels: number of classes, or width of an embedding.
        edge_channels: features of an edge, at least 1; objectives know it from the data.
        hidden_channels: width of the hidden layers, and within each MLP.
        num_layers: convolutions, at least 1.
        dropout: probability before each convolution.
        eps: additional weight of the node itself.
        train_eps: learn ``eps`` in every layer.
        norm_output: batch norm and ReLU after the last layer, too; see ``GIN``.
    Shape:
        x ``[N, in_channels]``, edge_index ``[2, E]``, edge_attr ``[E, edge_channels]`` ->
        ``[N, out_channels]``
    Raises:
        ValueError: a size below 1, data without features of edges, or tensors whose shapes do
            not fit.

    Source: Hu et al. 2020, "Strategies for pre-training graph neural networks", appendix A.
    Deviates: the ReLU of each message, and no features of a node's edge to itself, as in the
    code of the Open Graph Benchmark and PyG's ``GINEConv``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        edge_channels: int = 0,
        hidden_channels: int = 64,
        num_layers: int = 4,
        dropout: float = 0.0,
        eps: float = 0.0,
        train_eps: bool = False,
        norm_output: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        at_least_one("hidden_channels", hidden_channels)
        at_least_one("num_layers", num_layers)
        advice = ", by data whose edges have features; GIN does without"
        at_least_one("edge_channels", edge_channels, advice)
        widths = [*[hidden_channels] * num_layers, out_channels]
        self.input = SparseLinear(in_channels, hidden_channels)
        self.convolutions = nn.ModuleList(
            GINEConv(mlp, eps, train_eps, edge_channels)
            for mlp in gin_maps(widths, hidden_channels, norm_output)
        )
        self.in_channels, self.edge_channels = in_channels, edge_channels
        self.channels, self.dropout = tuple(widths[1:]), probability("dropout", dropout)

    def embeddings(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> list[Tensor]:
        """Outputs of the convolutions, after the ReLU except for the last."""
        check_graph(x, edge_index, self.in_channels, "GINE")
        shape = (edge_index.size(1), self.edge_channels)
        check_shape("edge_attr", edge_attr, shape, one_for="each edge")
        h = self.input(x)
        *hidden, last = self.convolutions
        outputs = []
        for convolution in hidden:
            h = F.dropout(h, self.dropout, self.training)
            h = F.relu(convolution(h, edge_index, edge_attr))
            outputs.append(h)
        h = F.dropout(h, self.dropout, self.training)
        return [*outputs, last(h, edge_index, edge_attr)]

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        return self.embeddings(x, edge_index, edge_attr)[-1]
