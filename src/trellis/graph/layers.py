"""PyG's convolutions as layers ``(x [N, in_channels], edge_index) -> [N, out_channels]``."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GINConv, MeanAggregation, SAGEConv
from torch_geometric.nn.dense.linear import Linear as ChannelMap

from trellis.nn.sparse import SparseLinear

Convolution = TypeVar("Convolution", bound=nn.Module)


class MeanAndSelf(nn.Module):
    """PyG's ``SAGEConv`` with its linear maps before the mean instead of after it.

    The mean is linear, so the result is the same, but messages have ``out_channels`` entries
    instead of ``in_channels``, and a sparse x is never aggregated.
    """

    def __init__(self, in_channels: int, out_channels: int, normalize: bool) -> None:
        super().__init__()
        self.convolution = sparse_input(SAGEConv(in_channels, out_channels))
        self.mean = MeanAggregation()
        self.normalize = normalize

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        source, target = edge_index
        neighbours, itself = self.convolution.lin_l, self.convolution.lin_r
        messages = (x @ neighbours.weight.t())[source]  # [E, out]
        mean = self.mean(messages, target, dim_size=x.size(0))
        # The bias is added after the mean, so that nodes without neighbours get it too.
        out = mean + neighbours.bias + itself(x)
        return F.normalize(out, dim=-1) if self.normalize else out


class SumAndSelf(nn.Module):
    """PyG's ``GINConv``, which sums rows of x and so needs a dense x."""

    def __init__(self, mlp: nn.Module, eps: float, train_eps: bool) -> None:
        super().__init__()
        self.convolution = GINConv(mlp, eps, train_eps)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.convolution(x if x.layout == torch.strided else x.to_dense(), edge_index)


class NodewiseLinear(SparseLinear):
    """A linear map of every node on its own, with a convolution's arguments."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


def sparse_input(convolution: Convolution) -> Convolution:
    """``convolution`` whose input maps accept CSR matrices; their initial weights stay."""
    for name, child in list(convolution.named_children()):
        if isinstance(child, ChannelMap):
            linear = SparseLinear(child.in_channels, child.out_channels, child.bias is not None)
            linear.weight, linear.bias = child.weight, child.bias
            setattr(convolution, name, linear)
    return convolution
