"""A network of whole graphs that leaves out nodes layer by layer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GCNConv, SAGPooling

from trellis.checks import at_least_one, check_sizes, fraction, probability
from trellis.graph.readout import Pooling, check_batch


class SAGPoolNetwork(nn.Module):
    r"""Self-attention graph pooling: after each convolution the highest-scored nodes stay.

    .. math::
        h = \mathrm{ReLU}(\mathrm{GCN}(h, A)), \quad s = \tanh(\mathrm{GCN}_s(h, A)), \quad
        (h, A) = (h \odot s, A)[\mathrm{top}_k(s)], \quad
        r = \sum_l \mathrm{mean}(h^{(l)}) \| \max(h^{(l)})

    and an MLP of r. Which nodes stay depends on values, so ``forward`` waits for a GPU and does
    not run on the meta device.

    Args:
        in_channels: features of a node; a sparse x is converted to dense.
        out_channels: number of classes of graphs.
        hidden_channels: width of the layers.
        num_layers: convolutions, each with a pooling; at least 1.
        ratio: share of each graph's nodes that stays, rounded up.
        dropout: probability inside the classifier.
    Shape:
        x ``[N, in_channels]``, edge_index ``[2, E]``, batch ``[N]`` with the graph of each node
        -> ``[B, out_channels]``; B is ``num_graphs``, else the largest entry of batch plus 1
    Raises:
        ValueError: a size below 1, a share that is none, or tensors whose shapes do not fit.

    Source: Lee et al. 2019, eq. 3-6, the hierarchical architecture.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 64,
        num_layers: int = 3,
        ratio: float = 0.5,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        at_least_one("hidden_channels", hidden_channels)
        at_least_one("num_layers", num_layers)
        fraction("ratio", ratio)
        probability("dropout", dropout)
        self.in_channels, self.width = in_channels, 2 * hidden_channels
        widths = [in_channels, *[hidden_channels] * (num_layers - 1)]
        self.convolutions = nn.ModuleList(GCNConv(width, hidden_channels) for width in widths)
        self.poolings = nn.ModuleList(SAGPooling(hidden_channels, ratio, GCNConv) for _ in widths)
        self.readouts = nn.ModuleList((Pooling("mean"), Pooling("max")))
        self.classifier = nn.Sequential(
            nn.Linear(self.width, hidden_channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_channels, out_channels),
        )

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor, num_graphs: int | None = None
    ) -> Tensor:
        h, num_graphs = check_batch(
            x, edge_index, batch, num_graphs, self.in_channels, "SAGPoolNetwork"
        )
        total = h.new_zeros(num_graphs, self.width)
        for convolution, pooling in zip(self.convolutions, self.poolings, strict=True):
            h = F.relu(convolution(h, edge_index))
            h, edge_index, _, batch, *_ = pooling(h, edge_index, batch=batch)
            read = [readout(h, batch, num_graphs) for readout in self.readouts]
            total = total + torch.cat(read, dim=1)
        return self.classifier(total)
