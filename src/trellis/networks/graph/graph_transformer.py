"""A transformer over the nodes of each graph, beside message passing along its edges."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GINConv, GPSConv

from trellis.checks import at_least_one, check_sizes, probability
from trellis.graph.readout import Pooling, check_batch


class GraphTransformer(nn.Module):
    r"""General, powerful, scalable graph transformer (GPS) with a classifier of graphs.

    .. math::
        h' = \mathrm{MLP}\bigl(\mathrm{GIN}(h, A) + \mathrm{Attention}(h)\bigr)

    with residual connections, dropout and batch norm around each of the three. Attention reaches
    all nodes of a graph and does not see its edges: give the data ``encodings`` of a node's place.
    The attention needs each graph's number of nodes, so that ``forward`` waits for a GPU, does not
    run on the meta device and is not one graph of ``torch.compile`` or ``torch.export``.

    Args:
        in_channels: features of a node, with its encodings; a sparse x is converted to dense.
        out_channels: number of classes of graphs.
        hidden_channels: width of the layers, a multiple of ``num_heads``.
        num_layers: at least 1.
        num_heads: attention heads.
        dropout: probability in the layers and in the classifier.
        attention_dropout: probability of the attention weights.
    Shape:
        x ``[N, in_channels]``, edge_index ``[2, E]``, batch ``[N]`` with the graph of each node
        -> ``[B, out_channels]``; B is ``num_graphs``, else the largest entry of batch plus 1
    Raises:
        ValueError: a size below 1, heads that do not divide the width, or tensors whose shapes do
            not fit.

    Source: Rampasek et al. 2022, eq. 3-6.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 64,
        num_layers: int = 3,
        num_heads: int = 4,
        dropout: float = 0.1,
        attention_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        at_least_one("hidden_channels", hidden_channels)
        at_least_one("num_layers", num_layers)
        if hidden_channels % at_least_one("num_heads", num_heads):
            raise ValueError(
                f"hidden_channels={hidden_channels}: give a multiple of num_heads={num_heads}"
            )
        self.in_channels = in_channels
        self.dropout = probability("dropout", dropout)
        attention = {"dropout": probability("attention_dropout", attention_dropout)}
        self.input = nn.Linear(in_channels, hidden_channels)
        self.layers = nn.ModuleList(
            GPSConv(
                hidden_channels,
                GINConv(_two_maps(hidden_channels)),
                heads=num_heads,
                dropout=dropout,
                attn_kwargs=attention,
            )
            for _ in range(num_layers)
        )
        self.readout = Pooling("mean")
        self.classifier = nn.Linear(hidden_channels, out_channels)

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor, num_graphs: int | None = None
    ) -> Tensor:
        x, num_graphs = check_batch(
            x, edge_index, batch, num_graphs, self.in_channels, "GraphTransformer"
        )
        # Attention lays the graphs side by side, so their nodes must stand together.
        order = batch.argsort(stable=True)
        place = order.argsort()
        h, edge_index, batch = self.input(x[order]), place[edge_index], batch[order]
        for layer in self.layers:
            h = layer(h, edge_index, batch)
        h = self.readout(h, batch, num_graphs)
        return self.classifier(F.dropout(h, self.dropout, self.training))


def _two_maps(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels))
