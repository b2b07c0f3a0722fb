"""PyG's convolutions as layers ``(x [N, in_channels], edge_index) -> [N, out_channels]``."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GINConv, MeanAggregation, MessagePassing, SAGEConv
from torch_geometric.nn.dense.linear import Linear as ChannelMap

from trellis.nn.sparse import SparseLinear

Convolution = TypeVar("Convolution", bound=nn.Module)


class SAGELayer(nn.Module):
    """PyG's ``SAGEConv`` with the linear map of the neighbours before their mean, not after it.

    The mean is linear, so the result is the same; but messages are as wide as the output instead
    of the input, and a sparse input is never aggregated.
    """

    def __init__(self, in_channels: int, out_channels: int, normalize: bool) -> None:
        super().__init__()
        self.convolution = sparse_input(SAGEConv(in_channels, out_channels))
        self.mean = MeanAggregation()
        self.normalize = normalize

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        source, target = edge_index
        neighbours, itself = self.convolution.lin_l, self.convolution.lin_r
        # Not by brackets: the threads of a CPU add their gradients in whatever order.
        messages = (x @ neighbours.weight.t()).index_select(0, source)  # [E, out]
        mean = self.mean(messages, target, dim_size=x.size(0))
        # The bias comes after the mean: a node without neighbours has it, too.
        out = mean + neighbours.bias + itself(x)
        return F.normalize(out, dim=-1) if self.normalize else out


class GINLayer(nn.Module):
    """PyG's ``GINConv``, which sums rows of x and therefore needs them dense."""

    def __init__(self, mlp: nn.Module, eps: float, train_eps: bool) -> None:
        super().__init__()
        self.convolution = GINConv(mlp, eps, train_eps)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.convolution(x if x.layout == torch.strided else x.to_dense(), edge_index)


class GatedLayer(MessagePassing):
    """PyG's ``GatedGraphConv`` of one update; that one allocates memory on the meta device, too.

    The same parameters, names and initial values.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(aggr="add")
        self.weight = nn.Parameter(torch.empty(1, channels, channels))
        self.rnn = nn.GRUCell(channels, channels)
        nn.init.uniform_(self.weight, -(channels**-0.5), channels**-0.5)
        self.rnn.reset_parameters()

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.rnn(self.propagate(edge_index, x=x @ self.weight[0]), x)


class NodewiseLinear(SparseLinear):
    """A linear map of each node in place of a convolution; the edges are ignored."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


def sparse_input(convolution: Convolution) -> Convolution:
    """``convolution`` with linear maps that take CSR, and with the same weights."""
    for name, child in list(convolution.named_children()):
        if isinstance(child, ChannelMap):
            linear = SparseLinear(child.in_channels, child.out_channels, child.bias is not None)
            linear.weight, linear.bias = child.weight, child.bias
            setattr(convolution, name, linear)
    return convolution
